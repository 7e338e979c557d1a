"""The folder in the layout of the hub appears whole, and is made anew by an export that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from localdistill.core.events import Cancel, silent
from localdistill.exporters.folder import FolderExporter
from localdistill.exporters.job import ExportJob
from tests.tiny_models import tiny_model

pytest.importorskip("torch")


def test_an_export_that_goes_on_writes_the_folder_anew(tmp_path: Path) -> None:
    job = ExportJob(tiny_model(tmp_path / "student"), tmp_path / "out", "mine", False, {"num_ctx": 64})
    job.output.mkdir()
    exporter = FolderExporter(FolderExporter.Options())
    made = exporter.export(job, silent, Cancel())
    first = {file.name: file.read_bytes() for file in made}
    (job.output / "mine-hf" / "model.safetensors").unlink()
    (job.output / "mine-hf.partial").mkdir()
    (job.output / "mine-hf.partial" / "of-before").write_text("x")
    assert {file.name: file.read_bytes() for file in exporter.export(job, silent, Cancel())} == first
    assert [path.name for path in job.output.iterdir()] == ["mine-hf"]
