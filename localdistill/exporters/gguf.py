"""Exports a merged student as GGUF: converted by us, proved equal by the parity gate, quantized by llama.cpp.

Files appear under their final names only when they are complete and checked; a failed gate, a full disk or a dead
child leaves none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Cancel, Emit, Measured, Noted, Progressed, Warned
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import ExporterSample
from localdistill.exporters.gguf_parts.card import checksums, licences_of, model_card
from localdistill.exporters.gguf_parts.corpus import PROMPTS
from localdistill.exporters.gguf_parts.divergence import Divergence, divergences
from localdistill.exporters.gguf_parts.holding import holding_of
from localdistill.exporters.gguf_parts.importance import WEIGHED, ImportanceMatrix, importance_of
from localdistill.exporters.gguf_parts.quantizer import quantize
from localdistill.exporters.gguf_parts.reference import Reference
from localdistill.exporters.gguf_parts.splitting import split_gguf
from localdistill.exporters.gguf_parts.writer import FileType, TooLarge, convert_to_gguf, require_convertible
from localdistill.exporters.job import ExportJob, ExportPlan
from localdistill.exporters.parity import GREEDY_TOKENS, NOT_COMPUTED, check_parity
from localdistill.exporters.parity_report import PARITY_FILE, FileFigures, ParityReport
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.gguf_files import is_model_file
from localdistill.safety.files import writing
from localdistill.safety.scratch import scratch_folder
from localdistill.scorecard import ScoreCard

__all__ = ["GgufExporter", "convert_to_gguf"]

Quant = Literal["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S", "Q4_0"]

_BITS = {"F32": 32.0, "F16": 16.0, "BF16": 16.0, "Q8_0": 8.5, "Q6_K": 6.6, "Q5_K_M": 5.7, "Q4_K_M": 4.9,
         "Q4_K_S": 4.6, "Q4_0": 4.6}
_SPARE = 1.1


class GgufExporter:
    """Writes NAME-F16.gguf and its quantized forms, parity.json, README.md and SHA256SUMS."""

    name: ClassVar[str] = "gguf"

    class Options(BaseOptions):
        """What to write and how strictly to compare."""

        quants: tuple[Quant, ...] = Field(("F16", "Q8_0", "Q4_K_M"), min_length=1)
        """File types to write. F16 is always made and gated, or BF16 where a weight is too large for F16; it is kept
        only when F16 is in this list."""
        parity_strings: tuple[str, ...] = ()
        """Strings that the tokenizers are compared on, beside the 1,000 built-in ones."""
        parity_prompts: tuple[str, ...] = ()
        """User messages for comparing logits and greedy text; empty uses the built-in ones."""
        greedy_tokens: int = Field(GREEDY_TOKENS, ge=1, le=512)
        """Length in tokens of the greedy texts that are compared."""
        imatrix: bool = False
        """Let the quantizer round by an importance matrix: how large the values are that each weight is multiplied by,
        on rows of the training. K-quants mostly come closer to the 16-bit file at the same size (the divergence of each
        file is said); it takes as long as reading `imatrix_tokens` tokens."""
        imatrix_tokens: int = Field(32_768, ge=256)
        """Tokens of training rows that an importance matrix is measured on, at most."""
        split_gb: float = Field(0.0, ge=0.0)
        """Cut files into parts whose tensors take at most so many gigabytes (10^9 bytes), NAME-Q8_0-00001-of-00003.gguf
        and so on: some places take no larger ones. llama.cpp and LM Studio read them by the first, Ollama does not.
        0: one file."""
        measure: bool = True
        """Run every written file, and the merged weights, on the recipe's benchmarks and show the scores beside the
        files, each compared with the trained model. Takes as long as evaluating that many models once more."""

    @classmethod
    def samples(cls) -> Sequence[ExporterSample]:
        """Students and the files that must come of them."""
        options = {"quants": ["F16"], "greedy_tokens": 2, "parity_prompts": ["Hi"]}
        return (
            ExporterSample(made={"NAME-F16.gguf": "GGUF", "SHA256SUMS": "NAME-F16.gguf"}, options=options),
            ExporterSample({"hidden_act": "gelu"}, options=options, refused="hidden_act"),
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self, plan: ExportPlan) -> None:
        """Refuse a student that GGUF could not say exactly."""
        require_convertible(plan.student, plan.thinks, plan.used_tokens)

    def export(self, job: ExportJob, emit: Emit, cancel: Cancel) -> list[Path]:
        """Write the files of `job` and return their paths. Raises LocalDistillError when the gate fails, naming the
        check; `parity.json` stays then, and no GGUF does."""
        job.output.mkdir(parents=True, exist_ok=True)
        self._require_space(job)
        source = job.output / f"{job.name}-16bit.gguf.partial"
        written: list[Path] = []
        try:
            with writing(source, "the export"), scratch_folder(job.output) as scratch:
                kind = self._convert(job, source, emit, cancel)
                report = self._gate(job, source, kind, emit, cancel)
                matrix = self._matrix(job, source, scratch, emit, cancel)
                written += self._others(job, source, kind, matrix, emit, cancel)
                if {"F16", kind} & set(self.options.quants):
                    os.replace(source, job.output / f"{job.name}-{kind}.gguf")
                    written.insert(0, job.output / f"{job.name}-{kind}.gguf")
                report = self._figured(job, report, written, source, matrix, emit, cancel)
                measured = job.measure(written) if job.measure and self.options.measure else ()
                written, report = self._split(job, written, report, cancel)
                beside = self._write_beside(job, written, report, measured)
        except BaseException:
            _remove(written)
            raise
        finally:
            source.unlink(missing_ok=True)
        emit(Noted("parity gate passed; wrote " + ", ".join(file.name for file in written if is_model_file(file.name))))
        return [*written, *beside]

    def _convert(self, job: ExportJob, source: Path, emit: Emit, cancel: Cancel) -> Literal["F16", "BF16"]:
        """Write the 16-bit file, and say of which type it is."""
        try:
            self._write(job, source, "F16", emit, cancel)
        except TooLarge as error:
            emit(Warned(f"{error.message}: the 16-bit file is BF16"))
            self._write(job, source, "BF16", emit, cancel)
            return "BF16"
        return "F16"

    def _write(self, job: ExportJob, output: Path, kind: Literal["F32", "F16", "BF16"], emit: Emit,
               cancel: Cancel) -> None:
        facts = {"license": ", ".join(licences_of(job.card))} if licences_of(job.card) else {}
        convert_to_gguf(job.merged, output, kind, name=job.name, thinks=job.thinks, facts=facts,
                        used_tokens=job.used_tokens, tick=_ticker(emit, cancel))

    def _gate(self, job: ExportJob, source: Path, kind: Literal["F16", "BF16"], emit: Emit,
              cancel: Cancel) -> ParityReport:
        emit(Progressed("comparing the GGUF with the trained model", 0, 0))
        report = check_parity(job.merged, source, cancel, thinks=job.thinks, strings=self.options.parity_strings,
                              prompts=self.options.parity_prompts, greedy_tokens=self.options.greedy_tokens,
                              trained=job.trained, file_type=kind)
        report.write(job.output / PARITY_FILE)
        for item in report.items:
            emit(Measured(f"parity {item.name}", float(item.figure)))
        if report.passed and report.compute == NOT_COMPUTED:
            emit(Warned("memory ran out before the file's logits were compared with those of the trained model",
                        "its tokens, template and stops were compared; free some memory and export again for the rest"))
        if job.trained is not None and job.trained.held:
            held = job.trained.held.upper()
            emit(Warned(f"the adapter was trained on {held} weights and is merged into the full ones, which "
                                  "answer differently", "the line 'trained' of the gate says by how much; "
                                  "quantization = \"none\" in [train] avoids it"))
        report.require()
        return report

    def _matrix(self, job: ExportJob, source: Path, scratch: Path, emit: Emit,
                cancel: Cancel) -> ImportanceMatrix | None:
        """The importance matrix that was asked for; files are quantized without one that cannot be measured."""
        if not self.options.imatrix or not WEIGHED.intersection(self.options.quants):
            return None
        emit(Progressed("measuring which weights matter", 0, 0))
        rows = job.trained.others() if job.trained else ()
        try:
            made = importance_of(source, rows, self.options.imatrix_tokens, scratch / "imatrix.npz", cancel)
        except LocalDistillError as error:
            cancel.check()
            emit(Warned(f"files are quantized without an importance matrix: {error.message}", error.hint))
            return None
        emit(Noted(f"importance matrix from {made.said}"))
        return made

    def _others(self, job: ExportJob, source: Path, made: FileType, matrix: ImportanceMatrix | None, emit: Emit,
                cancel: Cancel) -> list[Path]:
        """The files beside the 16-bit one: whole ones from the model, the others from it."""
        wanted = [kind for kind in dict.fromkeys(self.options.quants) if kind not in ("F16", made)]
        written: list[Path] = []
        try:
            for number, kind in enumerate(wanted):
                cancel.check()
                file = job.output / f"{job.name}-{kind}.gguf"
                if kind in ("F32", "BF16"):
                    self._write(job, file, kind, emit, cancel)
                else:
                    emit(Progressed(f"quantizing to {kind}", number, len(wanted), "files"))
                    quantize(source, file, kind, cancel, matrix if kind in WEIGHED else None)
                written.append(file)
        except BaseException:
            _remove(written)
            raise
        return written

    def _figured(self, job: ExportJob, report: ParityReport, files: list[Path], source: Path,
                 matrix: ImportanceMatrix | None, emit: Emit, cancel: Cancel) -> ParityReport:
        """The report with figures of the written files, kept. A divergence that cannot be computed costs no file."""
        kinds = {file: file.stem.removeprefix(f"{job.name}-") for file in files}
        smaller = {file.name: file for file, kind in kinds.items() if kind not in ("F32", "F16", "BF16")}
        found: dict[str, Divergence] = {}
        if smaller:
            whole = source if source.is_file() else files[0]
            emit(Progressed("comparing the files with the 16-bit one", 0, len(smaller), "files"))
            try:
                for name, divergence in divergences(whole, smaller, self._texts(job), cancel):
                    found[name] = divergence
                    emit(Measured(f"KL of {kinds[smaller[name]]}", divergence.kl))
            except LocalDistillError as error:
                cancel.check()
                emit(Warned(f"how far the files are from the 16-bit one is not known: {error.message}", error.hint))
        figures = []
        for file, kind in kinds.items():
            holding, beside = holding_of(file, kind), found.get(file.name)
            kl, top1 = (beside.kl, beside.top1) if beside else (None, None)
            weighed = matrix.said if matrix and kind in WEIGHED else ""
            figures.append(FileFigures(file.name, holding.bits_per_weight, kl, top1, weighed))
            emit(Noted("; ".join(filter(None, (holding.sentence(file.name), figures[-1].sentence)))))
        report = replace(report, files=tuple(figures))
        report.write(job.output / PARITY_FILE)
        return report

    def _split(self, job: ExportJob, files: list[Path], report: ParityReport,
               cancel: Cancel) -> tuple[list[Path], ParityReport]:
        """The files in parts of the size that was asked for, and the report by the names of the first ones."""
        if not self.options.split_gb:
            return files, report
        most, made, first = int(self.options.split_gb * 1e9), list[Path](), dict[str, str]()
        try:
            for file in files:
                parts = split_gguf(file, most, cancel)
                first[file.name] = parts[0].name
                made += parts
        except BaseException:
            _remove(made)
            raise
        report = replace(report, files=tuple(replace(one, name=first[one.name]) for one in report.files))
        report.write(job.output / PARITY_FILE)
        return made, report

    def _texts(self, job: ExportJob) -> list[Sequence[int]]:
        """Token ids on which files are compared: training rows, else the prompts of the gate."""
        if job.trained is not None and job.trained.rows:
            return [row.ids for row in job.trained.rows]
        reference = Reference(job.merged, job.thinks)
        return [reference.encode_prompt(reference.render(text)) for text in self.options.parity_prompts or PROMPTS]

    def _write_beside(self, job: ExportJob, files: list[Path], report: ParityReport,
                      measured: Sequence[ScoreCard]) -> list[Path]:
        card = model_card(job, files, report.to_json(), measured)
        (job.output / "README.md").write_text(card, encoding="utf-8")
        (job.output / "SHA256SUMS").write_text(checksums(files), encoding="utf-8")
        return [job.output / name for name in (PARITY_FILE, "README.md", "SHA256SUMS")]

    def _require_space(self, job: ExportJob) -> None:
        parameters = ModelFolder.open(job.merged).parameter_count
        kinds = {"F16", *self.options.quants}
        bits = sum(_BITS[kind] for kind in kinds) + (max(_BITS[kind] for kind in kinds) if self.options.split_gb else 0)
        needed = int(bits / 8 * parameters * _SPARE)
        free = shutil.disk_usage(job.output).free
        if free < needed:
            raise LocalDistillError(f"the export needs about {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB",
                                    "free some disk space, or ask for fewer quants")


def _remove(files: list[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _ticker(emit: Emit, cancel: Cancel) -> Callable[[int, int], None]:
    def tick(done: int, total: int) -> None:
        cancel.check()
        emit(Progressed("converting to GGUF", done, total, "bytes"))

    return tick
