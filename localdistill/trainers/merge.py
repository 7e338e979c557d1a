"""Merges an adapter into its student: a complete model folder, written in pieces of its tensors, so that
memory holds no whole one. Must not load the model, and must not change anything but weights and their dtype."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from localdistill.core.errors import LocalDistillError, MissingExtra
from localdistill.core.events import Cancel, Emit, Progressed, silent
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.held import Held
from localdistill.modelfiles.tensors import read_pieces, write_in_pieces

if TYPE_CHECKING:
    import torch

_SPARE = 1.05
_COPIED = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
           "chat_template.jinja", "chat_template.json")



def merge(student: Path, adapter: Path | None, output: Path,
          dtype: Literal["same", "float32", "float16", "bfloat16"] = "same", emit: Emit = silent,
          cancel: Cancel | None = None, held: Held | None = None) -> ModelFolder:
    """Write the model `student` with `adapter` merged in (or none) into the folder `output`, in `dtype`. `held` says
    what values stored weights have while the base is held in another way; without it, they are as stored.

    The sum is taken in float32. `output` appears whole or not at all. Raises ModelFileError when the parts do not fit.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra.of("train", "torch") from error
    folder = ModelFolder.open(student)
    update = None if adapter is None else AdapterFolder.open(adapter, folder)
    if update is not None and held is None:
        update.require_fitted_to("")
    wanted: torch.dtype = getattr(torch, folder.dtype if dtype == "same" else dtype)
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _write_weights(folder, update, partial, wanted, emit, cancel or Cancel(), held)
        config = {**folder.config, "dtype": str(wanted).removeprefix("torch.")}
        config.pop("torch_dtype", None)
        (partial / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True))
        for name in _COPIED:
            if (folder.path / name).is_file():
                shutil.copyfile(folder.path / name, partial / name)
        shutil.rmtree(output, ignore_errors=True)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return ModelFolder.open(output)


def _write_weights(folder: ModelFolder, update: AdapterFolder | None, output: Path, dtype: torch.dtype, emit: Emit,
                   cancel: Cancel, held: Held | None) -> None:
    names = sorted(name for name in folder.tensors if not (folder.tied_embeddings and name == "lm_head.weight"))
    done = 0

    def produce(name: str) -> Iterator[torch.Tensor]:
        nonlocal done
        for first, rows in read_pieces(*folder.tensors[name]):
            cancel.check()
            weight = rows.float()
            if held is not None:
                weight = held(name, weight)
            yield (weight if update is None else update.apply(name, weight, first)).to(dtype)
        done += 1
        emit(Progressed("merge", done, len(names), "tensors"))

    plan = [(name, folder.tensors[name][1].shape, dtype) for name in names]
    _require_space(output, sum(folder.tensors[name][1].count for name in names) * dtype.itemsize)
    write_in_pieces(output / "model.safetensors", plan, produce)


def _require_space(output: Path, needed: int) -> None:
    """Raise LocalDistillError when what is written does not fit on the disk."""
    free = shutil.disk_usage(output).free
    if free < needed * _SPARE:
        raise LocalDistillError(f"the merged model takes {needed / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB",
                                "free some disk space and go on with localdistill resume")
