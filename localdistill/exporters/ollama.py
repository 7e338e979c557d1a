"""Writes an Ollama Modelfile beside an exported GGUF, with a TEMPLATE that was proved to render what was trained. A
guessed one is the usual reason for gibberish: where none is proved, none is written, and the version of Ollama is named
that reads the file's own. Text that could add instructions is refused."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from localdistill.core.errors import InputError, TemplateRefused
from localdistill.core.events import Cancel, Emit, Noted, Warned
from localdistill.core.messages import Message
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import ExporterSample
from localdistill.exporters.gguf import GgufExporter
from localdistill.exporters.gguf_parts.card import licences_of
from localdistill.exporters.job import ExportJob, ExportPlan
from localdistill.exporters.ollama_parts.go_template import KNOWS_THINKING, READS_JINJA, GoTemplate, go_template
from localdistill.exporters.parity_report import PARITY_FILE, ParityReport
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.templates import ChatTemplate

_PREFERRED = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "Q4_K_S", "Q4_0", "F16", "BF16", "F32")
_DEFAULT_CONTEXT = 4096


class OllamaExporter:
    """Writes Modelfile for the GGUF that the gguf exporter left in the same folder."""

    name: ClassVar[str] = "ollama"

    class Options(BaseOptions):
        """What the Modelfile says."""

        quant: str = ""
        """File type to serve, for example Q8_0; empty takes the one that the measurement of the files recommends, else
        the smallest usual one that is there."""
        num_ctx: int = Field(0, ge=0)
        """Context length in tokens, at most the model's own. 0 takes the longest text that the student was trained on
        or measured with, or 4096 where that is unknown (Ollama's own default is short)."""
        stop: tuple[str, ...] = ()
        """Further stop strings beside the model's end-of-turn tokens."""
        temperature: float = Field(0.0, ge=0, le=2)
        """Sampling temperature; 0 is greedy, as students are measured."""
        system: str = ""
        """System message; empty writes none."""

        @field_validator("temperature", mode="before")
        @classmethod
        def _older(cls, value: Any) -> Any:
            """Runs of versions that had no temperature of their own hold none."""
            return 0.0 if value is None else value

    @classmethod
    def samples(cls) -> Sequence[ExporterSample]:
        """Students and the files that must come of them."""
        return (
            ExporterSample(given=["NAME-F16.gguf", "NAME-Q8_0.gguf"], made={"Modelfile": "FROM ./NAME-Q8_0.gguf\n"}),
            ExporterSample(given=["NAME-F16.gguf"], made={"Modelfile": 'TEMPLATE """{{- $before := "begin" }}'}),
            ExporterSample(given=["NAME-F16.gguf"], made={"Modelfile": 'SYSTEM "Be brief."'},
                           options={"quant": "F16", "system": "Be brief."}),
            ExporterSample(refused="there is no NAME-Q4_K_M.gguf"),
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self, plan: ExportPlan) -> None:
        """Refuse a system message for a student whose chat template takes none, and a Modelfile without a file."""
        if plan.before is not None:
            self._require_file(plan.before)
        if not self.options.system:
            return
        try:
            ask = [Message("system", self.options.system), Message("user", "?")]
            ChatTemplate.from_folder(plan.student).prompt(ask, plan.thinks)
        except TemplateRefused as refusal:
            raise InputError(f"the student takes no system message: {refusal.reason}",
                             "leave `system` of the exporter away") from None

    def export(self, job: ExportJob, emit: Emit, cancel: Cancel) -> list[Path]:
        """Write Modelfile. Raises InputError when the GGUF is missing or a value cannot be written safely."""
        cancel.check()
        weights = self._weights(job)
        folder, tokenizer = ModelFolder.open(job.merged), StudentTokenizer(job.merged)
        stops = [text for token in tokenizer.stop_token_ids if (text := tokenizer.token(token))]
        context = min(folder.gguf_context_length,
                      self.options.num_ctx or max(job.used_tokens, job.evaluated_tokens) or _DEFAULT_CONTEXT)
        lead = "".join(tokenizer.token(token) or "" for token in tokenizer.leading_ids)
        template = go_template(ChatTemplate.from_folder(job.merged), job.thinks, lead, job.adapter is not None)
        text = modelfile(weights.name, context, list(dict.fromkeys([*stops, *self.options.stop])),
                         self.options.temperature, self.options.system, ", ".join(licences_of(job.card)), template,
                         _weighed(weights))
        target = job.output / "Modelfile"
        partial = job.output / "Modelfile.partial"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, target)
        if template is None:
            emit(Warned("Modelfile has no TEMPLATE: none was found that renders what was trained. Ollama "
                        f"{READS_JINJA} or later renders the chat template in the file",
                        "earlier versions ask without a chat format"))
        emit(Noted(f"wrote Modelfile for {weights.name}: ollama create {job.name.lower()} -f Modelfile"))
        return [target]

    def _require_file(self, before: Mapping[str, BaseOptions]) -> None:
        """InputError when the exporter gguf writes no file that a Modelfile could name."""
        written, wanted = before.get(GgufExporter.name), self.options.quant
        if not isinstance(written, GgufExporter.Options) or (wanted and wanted not in written.quants):
            raise InputError(f"no {wanted or 'GGUF'} is written before the Modelfile that is to name it",
                             f"list the gguf exporter before ollama{', with this quant' if wanted else ''}")
        if written.split_gb:
            raise InputError("Ollama reads no model in parts, and the gguf exporter is told to cut files",
                             "leave split_gb away, or ollama")

    def _weights(self, job: ExportJob) -> Path:
        choice = job.measure.choice if job.measure else None
        best = [choice.form] if choice and choice.form else []
        wanted = [*best, *_PREFERRED]
        if self.options.quant:
            wanted = [self.options.quant, *(["BF16"] if self.options.quant == "F16" else [])]
        for quant in wanted:
            file = job.output / f"{job.name}-{quant}.gguf"
            if file.is_file():
                return file
        raise InputError(f"there is no {job.name}-{wanted[0]}.gguf to write a Modelfile for",
                         "list the gguf exporter before ollama, with this quant")


def modelfile(weights: str, num_ctx: int, stops: list[str], temperature: float = 0.0, system: str = "",
              licence: str = "", template: GoTemplate | None = None, weighed: str = "") -> str:
    """The Modelfile's text. `weights` is a file name in the same folder; `weighed` is what the importance matrix rests
    on that it was rounded by. Raises InputError for text that could not be read back as one value."""
    if "/" in weights or "\\" in weights or _breaks(weights):
        raise InputError(f"'{weights!r}' is not a plain file name")
    rounded = [f"# The weights were rounded by an importance matrix from {weighed}."] if weighed else []
    lines = [*_preamble(template), *rounded, f"FROM ./{weights}", f"PARAMETER num_ctx {num_ctx}",
             f"PARAMETER temperature {temperature:g}", "PARAMETER repeat_penalty 1"]
    for stop in stops:
        if _breaks(stop) or not stop:
            raise InputError(f"the stop string {stop!r} is empty or holds a line break, which a Modelfile cannot say")
        lines.append(f"PARAMETER stop {_quoted(stop)}")
    if template is not None:
        lines.append(f'TEMPLATE """{template.text}"""')
    if system:
        lines.append(f"SYSTEM {_quoted(system)}")
    if licence:
        lines.append(f"LICENSE {_quoted(licence)}")
    return "\n".join(lines) + "\n"


def _preamble(template: GoTemplate | None) -> list[str]:
    """Which version of Ollama it takes, as remarks: the instruction for it is unknown to earlier ones."""
    if template is None:
        return [f"# Needs Ollama {READS_JINJA} or later, which renders the chat template in the GGUF file.",
                "# No TEMPLATE was found that renders what was trained."]
    version = [f"# Needs Ollama {KNOWS_THINKING} or later."] if template.names_thinking else []
    return ["# TEMPLATE was compared with the chat template of the training, and rendered the same prompts.", *version]


def _weighed(weights: Path) -> str:
    """What the importance matrix of a file rests on, as the exporter gguf says beside it; empty without one."""
    report = weights.with_name(PARITY_FILE)
    files = ParityReport.from_bytes(report.read_bytes(), PARITY_FILE).files if report.is_file() else ()
    return next((file.weighed for file in files if file.name == weights.name), "")


def _breaks(text: str) -> bool:
    return any(ord(character) < 32 or ord(character) in (0x7F, 0x85, 0x2028, 0x2029) for character in text)


def _quoted(text: str) -> str:
    """`text` as one value. Modelfiles know no escapes: a value that would end its own quotes is refused."""
    if '"""' in text or text.endswith('"') or text.startswith('"'):
        raise InputError(f"{text[:40]!r} would end its quotes in a Modelfile", 'write it without """ and outer quotes')
    plain = '"' not in text and not _breaks(text)
    return f'"{text}"' if plain else f'"""{text}"""'
