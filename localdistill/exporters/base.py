"""The contract of exporters: a merged model folder becomes files for another program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from localdistill.core.events import Cancel, Emit
from localdistill.core.options import Options
from localdistill.core.samples import ExporterSample
from localdistill.exporters.job import ExportJob, ExportPlan


class Exporter(Protocol):
    """Writes exports. Built as `Member(options)`."""

    Options: ClassVar[type[Options]]
    name: ClassVar[str]
    options: Any
    """The options that it was built with."""

    @classmethod
    def samples(cls) -> Sequence[ExporterSample]:
        """Students and the files that must come of them."""

    def check(self, plan: ExportPlan) -> None:
        """Raise LocalDistillError when no export of what `plan` says could work, as far as that is known before the
        training."""

    def export(self, job: ExportJob, emit: Emit, cancel: Cancel) -> list[Path]:
        """Write the files and return their paths."""
