"""A model computed on the CPU in float32 with the weights of one block in memory at a time: for comparing, not for
writing. Every pass reads all of its files once, so texts are read together. Must not import torch at import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import ModelFileError
from localdistill.core.events import Cancel
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.held import Held
from localdistill.modelfiles.loading import import_torch, import_transformers
from localdistill.modelfiles.tensors import read_pieces, read_rows, read_tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

_SMALL_PARAMETERS = 30_000_000
_EMBEDDING, _HEAD = "model.embed_tokens", "lm_head"


class StreamedModel:
    """The model in a folder, with an adapter beside its weights where one is given."""

    def __init__(self, folder: ModelFolder, adapter: AdapterFolder | None = None, held: Held | None = None) -> None:
        """held: what stored weights are worth; without it, what they are."""
        self._folder, self._adapter, self._held = folder, adapter, held

    def hidden(self, texts: Sequence[Sequence[int]], cancel: Cancel) -> list[torch.Tensor]:
        """For each of `texts` (token ids) float32 (T, H): every position behind the last norm. Raises ModelFileError
        when the weights do not fit the configuration."""
        torch, found = import_torch(), list[Any]()
        for group in groups_of(texts, BORDERS.streamed_tokens):
            longest = max(map(len, group))
            # What stands behind a text is not seen by it: no mask is needed.
            given = torch.zeros(len(group), longest, self._folder.hidden_size)
            for row, text in enumerate(group):
                given[row, :len(text)] = self._embedded(text)
            with torch.inference_mode(), few_threads(self._folder), self._streaming(cancel):
                behind = self._body(inputs_embeds=given, use_cache=False).last_hidden_state
            found += [behind[row, :len(text)].clone() for row, text in enumerate(group)]
        return found

    @property
    def rows_at_once(self) -> int:
        """Positions whose logits may be asked for together."""
        return logit_rows_at_once(self._folder)

    def logits(self, hidden: torch.Tensor) -> npt.NDArray[np.float32]:
        """Float32 (T, V) of positions (T, H) that `hidden` returned."""
        torch = import_torch()
        layer = _EMBEDDING if self._folder.tied_embeddings else _HEAD
        path, info = self._folder.tensors[f"{layer}.weight"]
        with torch.inference_mode(), few_threads(self._folder):
            result = torch.empty(len(hidden), info.shape[0])
            for first, rows in read_pieces(path, info):
                rows = self._trained(f"{layer}.weight", self._worth(f"{layer}.weight", rows), first)
                result[:, first:first + len(rows)] = hidden @ rows.t()
            if cap := self._folder.kind.logit_cap(self._folder.config):
                result = torch.tanh(result / cap) * cap
        found: npt.NDArray[np.float32] = result.numpy()
        return found

    def _embedded(self, text: Sequence[int]) -> Any:
        path, info = self._folder.tensors[f"{_EMBEDDING}.weight"]
        places = sorted(set(text))
        rows = self._worth(f"{_EMBEDDING}.weight", read_rows(path, info, places))
        if self._adapter is not None:
            for place, token in enumerate(places):
                rows[place:place + 1] = self._trained(f"{_EMBEDDING}.weight", rows[place:place + 1], token)
        scale = self._folder.kind.embedding_scale(self._folder.config)
        at = {token: place for place, token in enumerate(places)}
        return rows[[at[token] for token in text]] * scale

    def _worth(self, name: str, stored: Any) -> Any:
        return stored.float() if self._held is None else self._held(name, stored.float())

    def _trained(self, name: str, rows: Any, first: int) -> Any:
        return rows if self._adapter is None else self._adapter.apply(name, rows, first)

    @cached_property
    def _body(self) -> Any:
        """The blocks and the last norm, which has its weights; the blocks and the embedding have none."""
        transformers = import_transformers()
        from accelerate import init_empty_weights

        folder = self._folder
        config = getattr(transformers, folder.kind.config_class).from_dict(dict(folder.config))
        config._attn_implementation = folder.kind.attention
        with init_empty_weights(include_buffers=False):
            body = getattr(transformers, folder.architecture)(config).model
        self._fill(body.norm, "model.norm")
        if self._adapter is not None:
            self._adapter.set_beside(body, "model.")
        return body.requires_grad_(False).eval()

    @contextmanager
    def _streaming(self, cancel: Cancel) -> Iterator[None]:
        """Blocks get their weights just before they compute, and lose them behind it."""
        with ExitStack() as hooks:
            for number, block in enumerate(self._body.layers):
                def load(module: Any, _: Any, number: int = number) -> None:
                    cancel.check()
                    self._fill(module, f"model.layers.{number}")

                for hook in (block.register_forward_pre_hook(load), block.register_forward_hook(_empty)):
                    hooks.callback(hook.remove)
            yield

    def _fill(self, module: Any, prefix: str) -> None:
        import torch

        for name, parameter in list(module.named_parameters()):
            found = self._folder.tensors.get(f"{prefix}.{name}")
            if found is None or found[1].shape != tuple(parameter.shape):
                raise ModelFileError(f"{self._folder.path} lacks the weight '{prefix}.{name}', or it has another shape",
                                     "download the model again")
            weight = self._worth(f"{prefix}.{name}", read_tensor(*found))
            _set(module, name, torch.nn.Parameter(weight, requires_grad=False))


def _set(module: Any, name: str, parameter: Any) -> None:
    owner, _, last = name.rpartition(".")
    module.get_submodule(owner)._parameters[last] = parameter


def _empty(module: Any, *_: Any) -> None:
    import torch

    for name, parameter in list(module.named_parameters()):
        _set(module, name, torch.nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False))


def logit_rows_at_once(folder: ModelFolder) -> int:
    """Positions of the model in `folder` whose logits may be held together."""
    return max(BORDERS.logit_rows, BORDERS.streamed_bytes // (4 * folder.vocab_size))


def groups_of(texts: Sequence[Sequence[int]], most: int) -> Iterator[list[Sequence[int]]]:
    """Neighbours that together, padded to the longest, have at most `most` tokens; at least one."""
    group: list[Sequence[int]] = []
    for text in texts:
        if group and (len(group) + 1) * max(len(text), *map(len, group)) > most:
            yield group
            group = []
        group.append(text)
    if group:
        yield group


@contextmanager
def few_threads(folder: ModelFolder) -> Iterator[None]:
    """One torch thread for a small model: several would mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    if folder.parameter_count < _SMALL_PARAMETERS:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
