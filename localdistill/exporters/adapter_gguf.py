"""Exports the adapter alone, as llama.cpp takes it beside a GGUF of the base (`--lora`): a few megabytes instead of a
whole model. Trained rows of tokens do not fit into such a file, and are refused rather than left out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from localdistill.core.errors import InputError, MissingExtra
from localdistill.core.events import Cancel, Emit, Noted, Warned
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import ExporterSample
from localdistill.exporters.gguf_parts.hyper_parameters import HyperParameters, read_hyper_parameters
from localdistill.exporters.gguf_parts.writer import rotated
from localdistill.exporters.job import ExportJob, ExportPlan
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.gguf_files import ADAPTER_SUFFIX
from localdistill.safety.files import writing

if TYPE_CHECKING:
    import numpy.typing as npt


class AdapterGgufExporter:
    """Writes NAME-lora.gguf."""

    name: ClassVar[str] = "adapter_gguf"

    class Options(BaseOptions):
        """How the factors are stored."""

        file_type: Literal["F32", "F16"] = "F32"
        """Of the factors: F32 is exact, F16 half as large."""

    @classmethod
    def samples(cls) -> Sequence[ExporterSample]:
        """Students and the files that must come of them."""
        return (
            ExporterSample(made={"NAME-lora.gguf": "adapter.lora.alpha"}),
            ExporterSample({"hidden_act": "gelu"}, refused="hidden_act"),
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self, plan: ExportPlan) -> None:
        """Refuse a student whose layers llama.cpp does not know, and what such a file cannot hold."""
        read_hyper_parameters(ModelFolder.open(plan.student), plan.used_tokens)
        _refuse(plan.trained_rows, plan.adapter == "dora")

    def export(self, job: ExportJob, emit: Emit, cancel: Cancel) -> list[Path]:
        """Write the adapter. Raises InputError when there is none, or when it holds what such a file cannot."""
        if job.adapter is None:
            raise InputError("the base itself has no adapter to export", "export an arm, or leave out adapter_gguf")
        folder = ModelFolder.open(job.merged)
        adapter = AdapterFolder.open(job.adapter, folder)
        adapter.require_fitted_to("")
        _refuse(len(adapter.token_ids), adapter.is_dora)
        hyper = read_hyper_parameters(folder, job.used_tokens)
        output = job.output / f"{job.name}{ADAPTER_SUFFIX}"
        partial = output.with_name(output.name + ".partial")
        try:
            with writing(partial, "the adapter"):
                self._write(partial, hyper, adapter, job.name, cancel)
                os.replace(partial, output)
        finally:
            partial.unlink(missing_ok=True)
        if job.trained is not None and job.trained.held:
            emit(Warned(f"the adapter was trained on {job.trained.held.upper()} weights: beside other ones it answers "
                        "differently"))
        emit(Noted(f"wrote {output.name}: llama-cli -m BASE.gguf --lora {output.name}, where BASE.gguf is the base "
                   "alone, in 16 bits"))
        return [output]

    def _write(self, output: Path, hyper: HyperParameters, adapter: AdapterFolder, name: str, cancel: Cancel) -> None:
        try:
            import gguf
        except ImportError as error:
            raise MissingExtra.of("llama", "gguf") from error
        writer = gguf.GGUFWriter(path=output, arch=hyper.kind.name)
        try:
            writer.add_type("adapter")
            writer.add_name(name)
            writer.add_string("adapter.type", "lora")
            writer.add_float32("adapter.lora.alpha", adapter.scaling * adapter.rank)
            for tensor, values in self._factors(hyper, adapter):
                cancel.check()
                writer.add_tensor(tensor, values)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()

    def _factors(self, hyper: HyperParameters, adapter: AdapterFolder) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Name and values of both factors (r, in) and (out, r) of every layer."""
        import numpy as np

        dtype = {"F32": np.float32, "F16": np.float16}[self.options.file_type]
        for layer in sorted(adapter.layers):
            target = hyper.gguf_name(f"{layer}.weight")
            assert target is not None
            down, up = (factor.numpy() for factor in adapter.factors(layer))
            yield f"{target}.lora_a", down.astype(dtype)
            yield f"{target}.lora_b", rotated(up, hyper.rotated_heads(target)).astype(dtype)


def _refuse(count: int, is_dora: bool) -> None:
    if is_dora:
        raise InputError("an adapter for llama.cpp is a sum of two factors, and DoRA scales the rows of layers beside",
                         'export the merged model with gguf, or train with adapter = "lora"')
    if count:
        raise InputError(f"training to think trains the rows of {count} tokens, the marks of thinking, which an "
                         "adapter for llama.cpp cannot hold",
                         "export the merged model with gguf, or an arm that does not think")
