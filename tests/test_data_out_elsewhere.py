"""Files that went out, opened by those who are to read them: their own loaders, where they are installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localdistill import Workspace, data_layouts, export_data
from localdistill.core.errors import UsageError
from tests.odd_texts import filled
from tests.tiny_models import CHAT_TEMPLATE, tiny_model


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A right and a wrong answer to every question, with metadata of other types in every row."""
    return filled(tmp_path / "ws")


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
def test_the_hub_library_reads_every_layout(workspace: Workspace, tmp_path: Path, ending: str) -> None:
    datasets = pytest.importorskip("datasets", reason="the library `datasets` is not installed")
    for one in data_layouts():
        if one.name == "tokens":
            continue
        done = export_data(workspace, tmp_path / one.name / f"train.{ending}", layout=one.name)
        kind = "parquet" if ending == "parquet" else "json"
        read = datasets.load_dataset(kind, data_files=str(done.file), split="train", cache_dir=str(tmp_path / "cache"))
        assert len(read) == done.rows and set(read.column_names) <= set(one.writing.columns)


@pytest.mark.slow
def test_mlx_lm_reads_a_folder_and_renders_every_row(workspace: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm", reason="mlx-lm is not installed")
    from mlx_lm.tuner.datasets import load_local_dataset
    from transformers import AutoTokenizer

    done = export_data(workspace, tmp_path / "data/train.jsonl", tool="mlx-lm")
    tiny_model(tmp_path / "student", "llama", hidden=32, chat_template=CHAT_TEMPLATE)
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "student"))

    class Config:
        mask_prompt = True

    train, _, _ = load_local_dataset(tmp_path / "data", tokenizer, Config())
    assert len(train) == done.rows
    for number in range(len(train)):
        ids, offset = train.process(train[number])
        assert 0 < offset < len(ids)


def test_llama_factory_gets_an_entry_that_names_the_columns(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"mine": {"file_name": "mine.json"}}')
    export_data(workspace, tmp_path / "a.jsonl", tool="llama-factory")
    export_data(workspace, tmp_path / "b.jsonl", layout="alpaca", tool="llama-factory")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert list(info) == ["mine", "a", "b"] and info["mine"] == {"file_name": "mine.json"}
    for name in "ab":
        rows = [json.loads(line) for line in (tmp_path / info[name]["file_name"]).read_text().splitlines()]
        assert all(column in row for column in info[name]["columns"].values() for row in rows), name
    tags = info["a"]["tags"]
    turns = [turn for line in (tmp_path / "a.jsonl").read_text().splitlines()
             for turn in json.loads(line)[info["a"]["columns"]["messages"]]]
    assert {turn[tags["role_tag"]] for turn in turns} == {
        tags["user_tag"], tags["assistant_tag"], tags["system_tag"]}
    assert all(isinstance(turn[tags["content_tag"]], str) for turn in turns)


def test_an_entry_of_another_file_stays(workspace: Workspace, tmp_path: Path) -> None:
    info = tmp_path / "dataset_info.json"
    for text, said in (('{"a": {"file_name": "other.json"}}', "another entry 'a'"), ("[", "cannot be read")):
        info.write_text(text)
        with pytest.raises(UsageError, match=said):
            export_data(workspace, tmp_path / "a.jsonl", tool="llama-factory")
        assert info.read_text() == text and not (tmp_path / "a.jsonl").exists()
