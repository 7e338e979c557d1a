"""A base that is loaded once, and the adapters that are put on it one after the other. What it computes with one is bit
for bit what a fresh copy of the base would with that adapter alone, and without any what the bare base does. Must not
import torch at import."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Any

from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tensors import read_tensor


class AdaptedBase(ABC):
    """A loaded base and the adapter that it answers with."""

    def __init__(self, model: Any, folder: ModelFolder, merges: bool) -> None:
        """merges: adapters go into the weights, which must be held as they are stored; else they stay beside them,
        which is needed where the weights are quantized: an adapter was fitted to them like that."""
        self.model = model
        self._folder, self._merges = folder, merges
        self._merged: frozenset[str] = frozenset()
        """Weights that may hold something else than what is stored."""
        self._beside = ExitStack()
        """Takes off again what was put beside the weights."""

    def put_on(self, adapter: AdapterFolder | None) -> Any:
        """The model with this adapter and no other; without any where it is None. After an error it has to be put on
        again, or another one."""
        self._beside.close()
        if self._merges:
            changed = frozenset() if adapter is None else adapter.weights
            stale, self._merged = self._merged - changed, self._merged | changed
            self._merge(adapter, self._merged)
            self._merged -= stale
        elif adapter is not None:
            self._beside = self._attach(adapter)
        return self.model

    @abstractmethod
    def _merge(self, adapter: AdapterFolder | None, names: frozenset[str]) -> None:
        """Make each of these weights in float32 of the one that is stored, one at a time, with the adapter where it
        changes that, and round it once to what the model holds, as if all had been in float32. Nothing is taken away
        from a weight: what another adapter changed is read again."""

    @abstractmethod
    def _attach(self, adapter: AdapterFolder) -> ExitStack:
        """Put the adapter beside the weights; closing what comes back takes all of it off again."""


class AdaptedModel(AdaptedBase):
    """One in torch."""

    def _merge(self, adapter: AdapterFolder | None, names: frozenset[str]) -> None:
        import torch

        with torch.no_grad():
            for name, weight in self.model.named_parameters():
                if name in names:
                    stored = read_tensor(*self._folder.tensors[name]).float()
                    weight.copy_(stored if adapter is None else adapter.apply(name, stored))

    def _attach(self, adapter: AdapterFolder) -> ExitStack:
        return adapter.attach(self.model)
