"""Exports the merged model as a folder in the layout of the hub: weights, configuration, tokenizer, the chat template
with its switch as the student was trained, a model card, and checksums."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Cancel, Emit, Noted
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import ExporterSample
from localdistill.exporters.gguf_parts.card import checksums, model_card
from localdistill.exporters.gguf_parts.vocabulary import serving_template
from localdistill.exporters.job import ExportJob, ExportPlan
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.shards import WEIGHTS, write_shards
from localdistill.safety.files import atomic_write_text, writing

_TEMPLATE = "chat_template.jinja"


class FolderExporter:
    """Writes NAME-hf/, a folder that transformers, vLLM and others load."""

    name: ClassVar[str] = "folder"

    class Options(BaseOptions):
        """How the weights lie; they are those of the merged model, in its own type."""

        split_gb: float = Field(0.0, ge=0.0)
        """Cut the weights into files of at most so many gigabytes (10^9 bytes), model-00001-of-00003.safetensors and so
        on, with an index; a larger tensor has one to itself. 0: one file."""

    @classmethod
    def samples(cls) -> Sequence[ExporterSample]:
        """Students and the files that must come of them."""
        return (
            ExporterSample(made={
                "NAME-hf/README.md": "library_name: transformers", "NAME-hf/config.json": "hidden_size",
                "NAME-hf/SHA256SUMS": "model.safetensors", f"NAME-hf/{_TEMPLATE}": "set enable_thinking = false"}),
            ExporterSample(made={
                "NAME-hf/model-00002-of-00003.safetensors": "model.", "NAME-hf/SHA256SUMS": "-00003-of-00003.safe",
                "NAME-hf/model.safetensors.index.json": "weight_map"}, options={"split_gb": 0.0002}),
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self, plan: ExportPlan) -> None:
        """Every student that can be merged can be written."""

    def export(self, job: ExportJob, emit: Emit, cancel: Cancel) -> list[Path]:
        """Write the folder. Raises DiskFull or LocalDistillError when the disk refuses; no folder is left then."""
        folder, target = ModelFolder.open(job.merged), job.output / f"{job.name}-hf"
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(target, ignore_errors=True)  # of an export that was ended after it was written
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with writing(partial, "the folder of the model"):
                partial.mkdir(parents=True)
                most = int(self.options.split_gb * 1e9)
                cut = most > 0 and write_shards(folder.tensors, partial, most, cancel.check)
                for file in sorted(path for path in job.merged.iterdir() if path.is_file()):
                    cancel.check()
                    if not cut or not file.name.startswith(WEIGHTS):
                        _place(file, partial / file.name)
                (partial / _TEMPLATE).unlink(missing_ok=True)  # it may be the same file as that of the merged model
                atomic_write_text(partial / _TEMPLATE, serving_template(folder, job.thinks))
                files = sorted(path for path in partial.iterdir() if path.name != "README.md")
                weights = [path for path in files if path.suffix == ".safetensors"]
                if not weights:
                    raise LocalDistillError("the merged model has no safetensors to put into a folder")
                (partial / "README.md").unlink(missing_ok=True)
                atomic_write_text(partial / "README.md", model_card(job, weights, {}, library="transformers"))
                atomic_write_text(partial / "SHA256SUMS", checksums(files))
                os.replace(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        emit(Noted(f"wrote {target.name}: {len(files) + 2} files"))
        return sorted(target.iterdir())


def _place(file: Path, target: Path) -> None:
    """The same file under another name, without a second copy where the file system can."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
