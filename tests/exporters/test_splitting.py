"""Models in several files, as llama.cpp and the hub name them, are the same models, read by the first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from localdistill.core.errors import Cancelled, InputError, LocalDistillError
from localdistill.core.events import Cancel, silent
from localdistill.core.messages import Message
from localdistill.core.records import Request, Sampling
from localdistill.engines.llama_cpp import LlamaCppEngine
from localdistill.engines.llama_cpp_native.options import LlamaCppOptions
from localdistill.exporters.folder import FolderExporter
from localdistill.exporters.gguf import GgufExporter
from localdistill.exporters.gguf_parts.splitting import split_gguf
from localdistill.exporters.gguf_parts.writer import convert_to_gguf
from localdistill.exporters.job import ExportJob, ExportPlan
from localdistill.exporters.ollama import OllamaExporter
from localdistill.exporters.parity_report import PARITY_FILE, ParityReport
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.gguf_files import is_model_file, open_gguf, part_names, whole_name
from localdistill.modelfiles.gguf_header import read_header
from tests.helpers import files_of_at_most
from tests.tiny_models import tiny_model

pytest.importorskip("gguf")
pytest.importorskip("torch")


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("merged"))


def tensors_of(file: Path) -> dict[str, bytes]:
    """The bytes of every tensor of a model in one or more files."""
    found = {}
    for part in open_gguf(file).parts:
        for tensor in read_header(part).tensors:
            with part.open("rb") as stream:
                stream.seek(tensor.offset)
                found[tensor.name] = stream.read(tensor.size_bytes)
    return found


def test_parts_hold_what_the_whole_held(merged: Path, tmp_path: Path) -> None:
    file = tmp_path / "m-F16.gguf"
    convert_to_gguf(merged, file)
    before, said, content = tensors_of(file), read_header(file).metadata, file.read_bytes()
    parts = split_gguf(file, 60_000, Cancel())
    assert len(parts) > 2 and not file.exists()
    assert [part.name for part in parts] == part_names(parts[0].name) and whole_name(parts[1].name) == file.name
    assert [is_model_file(part.name) for part in parts] == [True] + [False] * (len(parts) - 1)
    opened = open_gguf(parts[0])
    assert opened.parts == tuple(parts) and tensors_of(parts[0]) == before
    assert {**said, "split.no": 0, "split.count": len(parts), "split.tensors.count": len(before)} == dict(
        opened.header.metadata)
    assert all(sum(tensor.size_bytes for tensor in read_header(part).tensors) <= 60_000 or
               len(read_header(part).tensors) == 1 for part in parts)
    file.write_bytes(content)
    assert split_gguf(file, 10_000_000, Cancel()) == [file] and file.read_bytes() == content


def test_parts_are_those_that_the_library_of_llama_cpp_writes(merged: Path, tmp_path: Path) -> None:
    import gguf

    convert_to_gguf(merged, tmp_path / "m.gguf")
    writer = gguf.GGUFWriter(tmp_path / "theirs.gguf", "llama", split_max_tensors=5)
    for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    theirs = sorted(tmp_path.glob("theirs-*.gguf"))
    assert [part.name for part in theirs] == part_names(theirs[0].name) and len(theirs) > 2
    assert tensors_of(theirs[0]).keys() == tensors_of(tmp_path / "m.gguf").keys()
    ours = split_gguf(tmp_path / "m.gguf", 60_000, Cancel())
    keys = [set(gguf.GGUFReader(part).fields) for part in (ours[1], theirs[1])]
    assert keys[0] == keys[1]


def test_a_full_disk_or_a_cancel_leaves_the_whole_file(merged: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    convert_to_gguf(merged, file)
    with files_of_at_most(30_000), pytest.raises(LocalDistillError, match=r"00001-of-0000\d\.gguf\.partial"):
        split_gguf(file, 60_000, Cancel())
    with pytest.raises(Cancelled):
        split_gguf(file, 60_000, Cancel(lambda: True))
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_an_export_in_parts_is_answered_by_the_engine(merged: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    options = GgufExporter.Options(quants=("F16", "Q8_0"), greedy_tokens=2, parity_prompts=("Hi",), split_gb=0.00006)
    paths = GgufExporter(options).export(ExportJob(merged, tmp_path, "mine", False), silent, Cancel())
    firsts = [path for path in paths if is_model_file(path.name)]
    assert [whole_name(path.name) for path in firsts] == ["mine-F16.gguf", "mine-Q8_0.gguf"]
    sums = (tmp_path / "SHA256SUMS").read_text()
    assert all(part in sums for first in firsts for part in part_names(first.name))
    report = ParityReport.from_bytes((tmp_path / PARITY_FILE).read_bytes(), PARITY_FILE)
    assert [file.name for file in report.files] == [first.name for first in firsts]
    assert f"llama-server -m {firsts[1].name} --jinja" in (tmp_path / "README.md").read_text()
    whole = tmp_path / "whole"
    GgufExporter(options.model_copy(update={"split_gb": 0.0})).export(ExportJob(merged, whole, "mine", False), silent,
                                                                       Cancel())
    assert answer(firsts[0]) == answer(whole / "mine-F16.gguf") != ""


def answer(model: Path) -> str:
    engine = LlamaCppEngine(LlamaCppOptions(model=str(model), tune="off", threads=1))
    try:
        [reply] = engine.answer([Request("r", (Message("user", "Hi"),), Sampling(max_tokens=8))], silent, Cancel())
    finally:
        engine.close()
    return reply.answer + reply.reasoning


def test_a_folder_in_shards_is_the_same_model(merged: Path, tmp_path: Path) -> None:
    made = FolderExporter(FolderExporter.Options(split_gb=0.0002)).export(
        ExportJob(merged, tmp_path, "mine", False), silent, Cancel())
    folder, whole = ModelFolder.open(tmp_path / "mine-hf"), ModelFolder.open(merged)
    files = [path for path in made if path.suffix == ".safetensors"]
    assert len(files) == 3 and not (folder.path / "model.safetensors").exists()
    assert folder.tensors.keys() == whole.tensors.keys()
    index = json.loads((folder.path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(info.end - info.start for _, info in whole.tensors.values())
    from transformers import AutoModelForCausalLM

    one, other = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (merged, folder.path))
    assert one.keys() == other.keys() and all(bool((one[name] == other[name]).all()) for name in one)
    single = FolderExporter(FolderExporter.Options(split_gb=1.0)).export(
        ExportJob(merged, tmp_path, "one", False), silent, Cancel())
    assert "model.safetensors" in {path.name for path in single}


@pytest.mark.parametrize(("quant", "before", "said"), [
    ("", {}, "no GGUF is written before"),
    ("Q6_K", {"gguf": GgufExporter.Options()}, "no Q6_K is written before"),
    ("", {"gguf": GgufExporter.Options(split_gb=2.0)}, "Ollama reads no model in parts"),
    ("", {"gguf": GgufExporter.Options()}, ""),
    ("", None, ""),
])
def test_a_modelfile_without_a_file_that_ollama_reads_is_refused_before_the_training(
        merged: Path, quant: str, before: dict[str, GgufExporter.Options] | None, said: str) -> None:
    exporter = OllamaExporter(OllamaExporter.Options(quant=quant))
    plan = ExportPlan(merged, False, 64, before=before)
    if said:
        with pytest.raises(InputError, match=said):
            exporter.check(plan)
    else:
        exporter.check(plan)
