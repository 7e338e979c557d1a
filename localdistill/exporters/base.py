"""The contract of exporters: a merged model folder becomes files for another program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from localdistill.core.events import Cancel, Emit
from localdistill.core.options import Options
from localdistill.core.samples import ExporterSample
from localdistill.exporters.job import ExportJob


class Exporter(Protocol):
    """Writes exports. Built as `Member(options)`."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]

    @classmethod
    def samples(cls) -> Sequence[ExporterSample]:
        """Students and the files that must come of them."""

    def check(self, student: Path, thinks: bool | None, used_tokens: int) -> None:
        """Raise ModelFileError when no export of a student trained from the folder `student` could work, as far as its
        files say before the training. `thinks` and `used_tokens` are as in `ExportJob`."""

    def export(self, job: ExportJob, emit: Emit, cancel: Cancel) -> list[Path]:
        """Write the files and return their paths."""
