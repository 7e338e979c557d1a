"""format: rows that a strict template refuses are left out and counted, arms share their prompts, and an original
response is one example of its prompt, however many traces it has."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Counted, Event, Noted
from localdistill.core.records import Message, Prompt, Trace
from localdistill.formats.original import AGAIN
from localdistill.stages import collect, grade, select, train
from localdistill.stages import format as formatting
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import FormatOutput, TrainOutput, read_output
from tests.stages.test_collecting import listening
from tests.tiny_models import PLAIN_TEMPLATE, STRICT_TEMPLATE, edit_json, tiny_model

RECIPE = """
name = "r"
[traces]
files = ["x"]
[student]
model = "student"
max_tokens = 200
[[arm]]
name = "original"
format = "original"
[[arm]]
name = "answers"
format = "answer_only"
[train]
use = "torch_lora"
rank = 2
max_steps = 1
device = "cpu"
dtype = "float32"
"""
REFUSED = "the student's chat template refuses it: this student takes no instructions"


def prompt_of(number: int, *before: Message, original: str | None = "so many") -> Prompt:
    return Prompt((*before, Message("user", f"How many make {number}?")), original=original)


def trace_of(prompt: Prompt, teacher: str) -> Trace:
    return Trace(f"{teacher}-{prompt.id}", prompt.id, "replay", teacher, reasoning="", answer=f"{teacher} says so")


def staged(folder: Path, prompts: list[tuple[Prompt, int]], template: str = STRICT_TEMPLATE,
           text: str = RECIPE) -> StageContext:
    """A run that selected so many traces of each prompt, each of another teacher."""
    tiny_model(folder / "student", "llama", hidden=32, chat_template=template)
    made = listening(folder, text)
    traces = [trace_of(prompt, f"teacher{n}") for prompt, count in prompts for n in range(count)]
    made.store.add_prompts([prompt for prompt, _ in prompts])
    made.store.add_traces(traces)
    made.run.write_ids("select", [trace.id for trace in traces])
    return made


def rows_of(context: StageContext, arm: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as parquet

    digest = read_output(context.run, FormatOutput).arms[arm].dataset
    file = context.artifact("dataset", digest).file("rows.parquet")
    rows: list[dict[str, Any]] = parquet.read_table(file).to_pylist()
    return rows


def counts(context: StageContext, arm: str) -> dict[str, int]:
    heard: list[Event] = context.heard  # type: ignore[attr-defined]
    return dict(next(event.counts for event in heard if isinstance(event, Counted) and event.arm == arm))


SYSTEM = Message("system", "Answer in French.")


def test_a_refused_row_is_left_out_counted_and_listed_and_the_rest_is_trained(tmp_path: Path) -> None:
    context = staged(tmp_path, [(prompt_of(1), 1), (prompt_of(2, SYSTEM), 1), (prompt_of(3), 1)])
    edit_json(tmp_path / "student" / "generation_config.json", eos_token_id=[0, 2])
    formatting.run(context)
    for arm in ("original", "answers"):
        assert counts(context, arm)[f"- {REFUSED}"] == 1 and len(rows_of(context, arm)) == 2
        made = read_output(context.run, FormatOutput).arms[arm]
        assert made.facts.left_out == {REFUSED: 1} and made.facts.stop_token_id == 2
        listed = context.artifact("dataset", made.dataset).file("left_out.jsonl").read_text()
        assert json.loads(listed)["prompt_id"] == prompt_of(2, SYSTEM).id
    train.run(context)
    assert len(read_output(context.run, TrainOutput).adapters["answers"]) == 1


def test_when_every_row_is_refused_one_error_says_why(tmp_path: Path) -> None:
    context = staged(tmp_path, [(prompt_of(n, SYSTEM), 1) for n in range(3)])
    with pytest.raises(LocalDistillError, match=r"'original' has nothing to train on: 3 x .*no instructions") as error:
        formatting.run(context)
    assert error.value.hint


def test_reasons_of_many_kinds_are_counted_together(tmp_path: Path) -> None:
    each = "{%- if messages[0].content[-2] != '1' -%}{{ raise_exception(messages[0].content) }}{%- endif -%}"
    sane = "{%- if messages[0].content != '?' -%}" + each + "{%- endif -%}"
    context = staged(tmp_path, [(prompt_of(n), 1) for n in range(1, 40)], sane + STRICT_TEMPLATE)
    formatting.run(context)
    said = counts(context, "answers")
    assert len(rows_of(context, "answers")) == 4 and said["selected"] == 39
    assert said["- other reasons"] == 35 - formatting.MOST_REASONS
    assert len([name for name in said if "refuses it" in name]) == formatting.MOST_REASONS


def test_an_original_is_one_example_of_its_prompt_and_arms_share_prompts(tmp_path: Path) -> None:
    prompts = [(prompt_of(1), 3), (prompt_of(2), 1), (prompt_of(3), 2), (prompt_of(4, original=None), 3)]
    context = staged(tmp_path, prompts)
    formatting.run(context)
    original, answers = (Counter(row["prompt_id"] for row in rows_of(context, arm)) for arm in ("original", "answers"))
    assert original == {prompt.id: 1 for prompt, _ in prompts[:3]}
    assert answers == {prompt.id: count for prompt, count in prompts[:3]}
    said = counts(context, "original")
    assert (said["selected"], said[f"- {AGAIN}"], said["- there is no original response"]) == (9, 3, 3)
    assert said["rows"] == 3 and said["- prompt not served by every arm"] == 0
    assert counts(context, "answers")["- prompt not served by every arm"] == 3


def test_a_prompt_counts_once_in_every_arm_however_many_rows_it_has(tmp_path: Path) -> None:
    prompts = [(prompt_of(1), 3), (prompt_of(2), 1), (prompt_of(3), 2)]
    context = staged(tmp_path, prompts)
    formatting.run(context)
    for arm in ("original", "answers"):
        held = Counter[str]()
        for row in rows_of(context, arm):
            held[row["prompt_id"]] += row["row_weight"]
        assert held == {prompt.id: pytest.approx(1.0) for prompt, _ in prompts}
    facts = {name: arm.facts for name, arm in read_output(context.run, FormatOutput).arms.items()}
    assert [(fact.prompts, fact.several) for fact in facts.values()] == [(3, 0), (3, 2)]
    [said] = [event for event in context.heard if isinstance(event, Noted)]  # type: ignore[attr-defined]
    assert said.arm == "answers" and "2 of 3 prompts have several rows" in said.text
    train.run(context)


def test_rows_that_all_count_alike_have_no_weight_and_come_as_they_always_did(tmp_path: Path) -> None:
    context = staged(tmp_path, [(prompt_of(n), 2) for n in range(3)])
    ids = context.run.ids("select")
    mixed = [ids[n] for n in (3, 0, 5, 1, 4, 2)]
    context.run.write_ids("select", mixed)
    formatting.run(context)
    rows = rows_of(context, "answers")
    assert [row["trace_id"] for row in rows] == mixed and {row["row_weight"] for row in rows} == {1.0}
    assert {(row["sign"], row["group"], row["epoch"]) for row in rows} == {(1, "", None)}


def test_an_original_stands_for_its_prompt_though_another_arm_cannot_use_its_first_trace(tmp_path: Path) -> None:
    context = staged(tmp_path, [(prompt_of(1), 0)])
    first, second = (trace_of(prompt_of(1), name) for name in ("cut", "whole"))
    context.store.add_traces([replace(first, status="length"), second])
    context.run.write_ids("select", [first.id, second.id])
    formatting.run(context)
    assert len(rows_of(context, "original")) == 1
    assert [row["trace_id"] for row in rows_of(context, "answers")] == [second.id]


def test_what_its_own_file_says_is_wrong_is_never_trained_on_as_if_it_were_right(tmp_path: Path) -> None:
    rows = [{"prompt": f"How many make {n}?", "chosen": f"It is {n}.", "rejected": "It is 99."} for n in range(4)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = RECIPE.replace('[traces]\nfiles = ["x"]', f'[traces]\npairs = {{ files = ["{tmp_path}/pairs.jsonl"] }}')
    arms = ('[arm]\nplain = { traces = "pairs", format = "answer_only" }\n'
            'kept = { traces = "pairs", format = "answer_only", filter = [] }\n'
            'pairs = { traces = "pairs", format = "preference", filter = [], objective = { use = "dpo" } }\n[train]')
    text = re.sub(r"\[\[arm\]\].*\[train\]", arms, text, flags=re.DOTALL)
    tiny_model(tmp_path / "student", "llama", hidden=32, chat_template=PLAIN_TEMPLATE)
    made = listening(tmp_path, text)
    for stage in (collect, grade, select, formatting):
        stage.run(made)
    assert {row["trace_id"] for row in rows_of(made, "plain")} == {row["trace_id"] for row in rows_of(made, "kept")}
    assert len(rows_of(made, "plain")) == 4 and len(rows_of(made, "pairs")) == 8
    heard: list[Event] = made.heard  # type: ignore[attr-defined]
    told = [event.counts for event in heard if isinstance(event, Counted) and event.what == "waterfall"]
    assert {"traces": 8, "- published": 4, "kept": 4} in told
