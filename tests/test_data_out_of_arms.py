"""An arm's rows on their way out: as the texts that its format teaches, and as tokens with their masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from localdistill import DataChoice, export_data
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.records import Fact, Trace
from localdistill.interchange.files import read_file
from localdistill.stages import format as formatting
from localdistill.stages.context import StageContext
from tests.stages.test_format import RECIPE, prompt_of, rows_of, staged
from tests.tiny_models import CHAT_TEMPLATE

FULL = RECIPE.replace('format = "original"', 'format = "full_trace"\nreasoning_weight = 0.5')
PAIRS = RECIPE.replace('[[arm]]\nname = "original"\nformat = "original"\n', "").replace(
    'format = "answer_only"', 'format = "preference"').replace(
    'dtype = "float32"', 'dtype = "float32"\nobjective = { use = "dpo" }')


def laid_out(folder: Path, text: str = FULL) -> StageContext:
    """Three prompts with a thought right answer and a wrong one each; those of the last do not fit."""
    prompts = [prompt_of(n) for n in range(3)]
    context = staged(folder, [(prompt, 0) for prompt in prompts], CHAT_TEMPLATE, text)
    made = [Trace(f"{prompt.id}-{n}", prompt.id, "replay", "m", "it adds up" + " far" * 300 * (at == 2),
                  f"it is {n}", trace_kind="raw", terms="allowed:us", source="first.jsonl")
            for at, prompt in enumerate(prompts) for n in range(2)]
    context.store.add_traces(made)
    context.store.add_facts([Fact(one.id, "exact", value=1.0 - n % 2, passed=n % 2 == 0) for n, one in enumerate(made)])
    context.run.write_ids("select", [one.id for one in made])
    formatting.run(context)
    return context


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_arm_goes_out_as_its_format_teaches_it_and_without_what_did_not_fit(tmp_path: Path) -> None:
    context = laid_out(tmp_path)
    out, run = tmp_path / "out.jsonl", context.run.id
    done = export_data(context.workspace, out, DataChoice(run=run, arm="original"), reasoning="tags")
    assert done.rows == len(rows_of(context, "original")) == 4
    said = [row["messages"][-1]["content"] for row in rows_in(out)]
    assert said[0] == "<think>\nit adds up\n</think>\n\nit is 0" and not any("far" in text for text in said)
    export_data(context.workspace, out, DataChoice(run=run, arm="answers"), force=True)
    assert [row["messages"][-1] for row in rows_in(out)][:2] == [
        {"role": "assistant", "content": "it is 0", "reasoning_content": ""},
        {"role": "assistant", "content": "it is 1", "reasoning_content": ""}]
    assert done.verdicts == {"right": 2, "wrong": 2}
    card = done.card.read_text()
    assert "answer_only" in card and "allowed" in card and str(tmp_path) not in card


def test_pairs_of_an_arm_are_those_that_it_trains_on(tmp_path: Path) -> None:
    context = laid_out(tmp_path, PAIRS)
    choice = DataChoice(run=context.run.id, arm="answers")
    done = export_data(context.workspace, tmp_path / "out.jsonl", choice, "preference")
    rows = [item for _, item in read_file(tmp_path / "out.jsonl")]
    assert done.rows == len(rows) == len(rows_of(context, "answers")) // 2
    assert [[(one.trace.answer, one.right) for one in item.answers] for item in rows] == [
        [("it is 0", True), ("it is 1", False)]] * len(rows)
    done = export_data(context.workspace, tmp_path / "m.jsonl", choice)
    assert done.rows == len(rows) and list(done.left_out.values()) == [len(rows)]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_tokens_go_out_with_labels_only_where_they_are_trained(tmp_path: Path, ending: str) -> None:
    context = laid_out(tmp_path)
    out = tmp_path / f"out.{ending}"
    done = export_data(context.workspace, out, DataChoice(run=context.run.id, arm="original"), "tokens")
    rows = rows_in(out) if ending == "jsonl" else parquet.read_table(out).to_pylist()
    stored = rows_of(context, "original")
    assert [row["input_ids"] for row in rows] == [row["input_ids"] for row in stored]
    for row, kept in zip(rows, stored, strict=True):
        assert row["labels"] == [token if weight > 0 else -100
                                 for token, weight in zip(kept["input_ids"], kept["weights"], strict=True)]
        assert row["labels"][0] == -100 and row["labels"][-1] == row["input_ids"][-1]
        assert row["attention_mask"] == [1] * len(row["input_ids"]) and row["weights"] == kept["weights"]
    assert (done.rows, done.traces) == (4, 4)
    assert list(done.lost.values()) == [4], "tokens that count by half are said"


def test_what_a_run_does_not_have_is_named(tmp_path: Path) -> None:
    context = laid_out(tmp_path)
    run = context.run.id
    for choice, said in ((DataChoice(run=run, arm="answer"), "did you mean 'answers'"),
                         (DataChoice(run=run, trace_set="other"), "no set 'other'"),
                         (DataChoice(arm="answers"), "those of a run"),
                         (DataChoice(run=run, arm="answers", trace_set="x"), "choose differently")):
        with pytest.raises(UsageError, match=said):
            export_data(context.workspace, tmp_path / "out.jsonl", choice)
    with pytest.raises(UsageError, match="tokens are those of an arm"):
        export_data(context.workspace, tmp_path / "out.jsonl", DataChoice(run=run), "tokens")
    done = export_data(context.workspace, tmp_path / "out.jsonl", DataChoice(run=run))
    assert done.rows == 6, "a set after its filters"


def test_nothing_of_a_dataset_that_was_changed_goes_out(tmp_path: Path) -> None:
    context = laid_out(tmp_path)
    for file in context.workspace.artifacts.glob("dataset/*/rows.parquet"):
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(LocalDistillError):
        export_data(context.workspace, tmp_path / "out.jsonl", DataChoice(run=context.run.id, arm="answers"), "tokens")
    assert not (tmp_path / "out.jsonl").exists() and not (tmp_path / "README.md").exists()

