"""Replies to prompts with instructions, from two files to a table of verdicts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from localdistill import RunFolder, Workspace, parse_recipe, start, verdicts_of, wait
from localdistill.core.events import Event, Warned

PROMPTS = [
    {"key": 1, "prompt": "Name two jars, no comma.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {"key": 2, "prompt": "Say plum twice and end with plum.", "instruction_id_list": [
        "keywords:frequency", "startend:end_checker"], "kwargs": [
            {"keyword": "plum", "frequency": 2, "relation": "at least"}, {"end_phrase": "plum"}]},
]
REPLIES = [{"prompt": PROMPTS[0]["prompt"], "response": "A red and a blue one."},
           {"prompt": PROMPTS[1]["prompt"], "response": "Plum, plum.\nAnything else?"}]
RECIPE = """
name = "obey"
[traces]
replies = { files = ["replies.jsonl"] }
[[grade]]
use = "instructions"
"""


def run_of(root: Path, text: str) -> tuple[RunFolder, list[Event]]:
    for name, rows in (("prompts", PROMPTS), ("replies", REPLIES)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    events: list[Event] = []
    run = start(Workspace(root), parse_recipe(text), text, root, "grade")
    assert wait(run, [events.append]).state == "finished", run.log.read_text()[-2000:]
    return run, events


def test_what_the_file_of_prompts_says_counts_for_replies_that_hold_the_question_alone(tmp_path: Path) -> None:
    run, _ = run_of(tmp_path, RECIPE + '[prompts]\nfiles = ["prompts.jsonl"]\n')
    [said] = verdicts_of(Workspace(tmp_path), run)
    assert (said.trace_set, said.grader, said.traces) == ("replies", "instructions@2", 2)
    assert (said.right, said.wrong, said.undecided, said.share) == (1, 1, 0, 0.5)
    assert dict(said.metrics) == {"strict": 0.5, "loose": 0.5, "stated": 1.5, "kept": 1.0, "kept_loosely": 1.0}
    assert dataclasses.asdict(said)["metrics"] == dict(said.metrics)


def test_a_grader_that_has_nothing_to_judge_is_said(tmp_path: Path) -> None:
    run, events = run_of(tmp_path, RECIPE)
    assert [e.text for e in events if isinstance(e, Warned) and "instructions has nothing to judge in 2" in e.text]
    [said] = verdicts_of(Workspace(tmp_path), run)
    assert (said.right, said.wrong, said.undecided, said.share) == (0, 0, 0, None)
