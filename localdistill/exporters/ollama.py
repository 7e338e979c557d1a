"""Writes an Ollama Modelfile beside an exported GGUF. It names no TEMPLATE: Ollama reads the chat template from the
file, and a guessed one is the usual reason for gibberish. Text that could add instructions is refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from localdistill.core.errors import InputError
from localdistill.core.events import Cancel, Emit, Noted
from localdistill.core.options import Options as BaseOptions
from localdistill.core.samples import ExporterSample
from localdistill.exporters.base import ExportJob
from localdistill.exporters.gguf_parts.card import licences_of
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tokenizer import StudentTokenizer

_PREFERRED = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "Q4_K_S", "Q4_0", "F16", "BF16", "F32")
_DEFAULT_CONTEXT = 4096


class OllamaExporter:
    """Writes Modelfile for the GGUF that the gguf exporter left in the same folder."""

    name: ClassVar[str] = "ollama"

    class Options(BaseOptions):
        """What the Modelfile says."""

        quant: str = ""
        """File type to serve, for example Q8_0; empty takes the smallest good one that is there."""
        num_ctx: int = Field(0, ge=0)
        """Context length in tokens, at most the model's own. 0 takes the length that the student was trained with, or
        4096 where that is unknown (Ollama's own default is short)."""
        stop: tuple[str, ...] = ()
        """Further stop strings beside the model's end-of-turn tokens."""
        temperature: float | None = Field(None, ge=0, le=2)
        """Sampling temperature; absent leaves Ollama's default, 0 is greedy."""
        system: str = ""
        """System message; empty writes none."""

    @classmethod
    def samples(cls) -> Sequence[ExporterSample]:
        """Students and the files that must come of them."""
        return (
            ExporterSample(given=["NAME-F16.gguf", "NAME-Q8_0.gguf"], made={"Modelfile": "FROM ./NAME-Q8_0.gguf\n"}),
            ExporterSample(given=["NAME-F16.gguf"], made={"Modelfile": 'SYSTEM "Be brief."'},
                           options={"quant": "F16", "system": "Be brief."}),
            ExporterSample(refused="there is no NAME-Q4_K_M.gguf"),
        )

    def __init__(self, options: Options) -> None:
        self.options = options

    def check(self, student: Path, thinks: bool | None, used_tokens: int) -> None:
        """A Modelfile can be written for every student."""

    def export(self, job: ExportJob, emit: Emit, cancel: Cancel) -> list[Path]:
        """Write Modelfile. Raises InputError when the GGUF is missing or a value cannot be written safely."""
        cancel.check()
        weights = self._weights(job)
        folder = ModelFolder.open(job.merged)
        tokenizer = StudentTokenizer(job.merged)
        stops = [text for token in tokenizer.stop_token_ids if (text := tokenizer.token(token))]
        context = min(folder.gguf_context_length,
                      self.options.num_ctx or job.used_tokens or _DEFAULT_CONTEXT)
        text = modelfile(weights.name, context, list(dict.fromkeys([*stops, *self.options.stop])),
                         self.options.temperature, self.options.system, ", ".join(licences_of(job.card)))
        target = job.output / "Modelfile"
        partial = job.output / "Modelfile.partial"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, target)
        emit(Noted(f"wrote Modelfile for {weights.name}: ollama create {job.name.lower()} -f Modelfile"))
        return [target]

    def _weights(self, job: ExportJob) -> Path:
        wanted = [self.options.quant] if self.options.quant else list(_PREFERRED)
        for quant in wanted:
            file = job.output / f"{job.name}-{quant}.gguf"
            if file.is_file():
                return file
        raise InputError(f"there is no {job.name}-{wanted[0]}.gguf to write a Modelfile for",
                         "list the gguf exporter before ollama, with this quant")


def modelfile(weights: str, num_ctx: int, stops: list[str], temperature: float | None = None, system: str = "",
              licence: str = "") -> str:
    """The Modelfile's text. `weights` is a file name in the same folder. Raises InputError for text that could not be
    read back as one value."""
    if "/" in weights or "\\" in weights or _breaks(weights):
        raise InputError(f"'{weights!r}' is not a plain file name")
    lines = [f"FROM ./{weights}", f"PARAMETER num_ctx {num_ctx}"]
    if temperature is not None:
        lines.append(f"PARAMETER temperature {temperature:g}")
    for stop in stops:
        if _breaks(stop) or not stop:
            raise InputError(f"the stop string {stop!r} is empty or holds a line break, which a Modelfile cannot say")
        lines.append(f"PARAMETER stop {_quoted(stop)}")
    if system:
        lines.append(f"SYSTEM {_quoted(system)}")
    if licence:
        lines.append(f"LICENSE {_quoted(licence)}")
    return "\n".join(lines) + "\n"


def _breaks(text: str) -> bool:
    return any(ord(character) < 32 or ord(character) in (0x7F, 0x85, 0x2028, 0x2029) for character in text)


def _quoted(text: str) -> str:
    """`text` as one value. Modelfiles know no escapes: a value that would end its own quotes is refused."""
    if '"""' in text or text.endswith('"') or text.startswith('"'):
        raise InputError(f"{text[:40]!r} would end its quotes in a Modelfile", 'write it without """ and outer quotes')
    plain = '"' not in text and not _breaks(text)
    return f'"{text}"' if plain else f'"""{text}"""'
