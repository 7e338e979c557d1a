"""Worked examples that ship: they are right, each ends as the task reads answers, and an item is shown those of its
own kind and never itself."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from localdistill.core.errors import InputError
from localdistill.core.records import Message
from localdistill.modelfiles.shipped import shipped_path
from localdistill.tasks.base import Given
from tests.tasks.test_gold import scores, task_of

ROWS = [json.loads(line) for line in shipped_path("bbh/examples.jsonl").read_text(encoding="utf-8").splitlines()]
OPENS = {"[": "]", "(": ")", "{": "}", "<": ">"}
STATE = re.compile(r"(\w+) (\w+(?: hat)?)(?=[,.])")
SWAP = re.compile(r"(?:First|Then|Finally), (\w+) and (\w+) ")


def chosen(row: Mapping[str, str]) -> str:
    """The text of the option that is right."""
    return next(line[4:] for line in row["input"].splitlines() if line.startswith(row["target"] + " "))


def closing(row: Mapping[str, str]) -> str:
    open_: list[str] = []
    for mark in row["input"].partition("Input: ")[2].split():
        if mark in OPENS:
            open_.append(OPENS[mark])
        else:
            assert open_.pop() == mark
    return " ".join(reversed(open_))


def swapped(row: Mapping[str, str]) -> str:
    """What the one who is asked for has at last, from what all have at first and who swaps."""
    has = dict(STATE.findall(row["worked"].partition(":")[2].partition(". ")[0] + "."))
    for one, other in SWAP.findall(row["input"]):
        has[one], has[other] = has[other], has[one]
    told = re.findall(r"At the end, (\w+) ", row["input"])
    return row["target"] if chosen(row).startswith(has[told[-1]]) else has[told[-1]]


def lies(row: Mapping[str, str]) -> str:
    first, *others = re.findall(r"(\w+)(?: says (\w+))? (tells the truth|lies)\.", row["input"])
    honest = {first[0]: first[2] != "lies"}
    for who, whom, said in others:
        honest[who] = honest[whom] == (said != "lies")
    return "Yes" if honest[re.findall(r"Does (\w+) tell", row["input"])[0]] else "No"


COMPUTED: Mapping[str, Callable[[Mapping[str, str]], str]] = {
    "boolean_expressions": lambda row: str(eval(row["input"].removesuffix(" is"))),
    "multistep_arithmetic_two": lambda row: str(eval(row["input"].removesuffix(" ="))),
    "dyck_languages": closing,
    "word_sorting": lambda row: " ".join(sorted(row["input"].partition("List: ")[2].split())),
    "web_of_lies": lies,
    **{f"tracking_shuffled_objects_{count}_objects": swapped for count in ("three", "five", "seven")},
}
"""Kind -> its answer, from the question."""


def test_three_of_each_kind_ship_and_each_answer_counts(tmp_path: Path) -> None:
    count = Counter(row["kind"] for row in ROWS)
    assert len(count) == 27 and set(count.values()) == {3} and len({row["input"] for row in ROWS}) == 81
    for kind in count:
        own = [row for row in ROWS if row["kind"] == kind]
        (tmp_path / f"{kind}.json").write_text(json.dumps({"examples": own}))
        assert all(re.search(rf"^{re.escape(row['target'])} ", row["input"], re.M) for row in own
                   if row["target"].startswith("("))
    said = {row["input"]: f"{row['worked']} So the answer is {row['target']}." for row in ROWS}
    assert scores(task_of("bbh", path=str(tmp_path)), lambda prompt: said[prompt.question]) == {1.0: 81}


@pytest.mark.parametrize("kind", COMPUTED)
def test_what_can_be_computed_of_them_is_right(kind: str) -> None:
    own = [row for row in ROWS if row["kind"] == kind]
    assert [COMPUTED[kind](row) for row in own] == [row["target"] for row in own]


def test_an_item_is_shown_those_of_its_kind_and_never_itself(tmp_path: Path) -> None:
    own = [row for row in ROWS if row["kind"] == "web_of_lies"]
    items = [{"input": "Question: Fay lies. Does Fay tell the truth?", "target": "No"}, own[1]]
    (tmp_path / "web_of_lies.json").write_text(json.dumps({"examples": items}))

    def asked(place: int, **options: object) -> tuple[Message, ...]:
        task = task_of("bbh", path=str(tmp_path / "web_of_lies.json"), **options)
        [request] = task.requests(task.prompts()[place], Given(64, None))
        messages: tuple[Message, ...] = request.messages
        return messages

    [alone], three = asked(0), asked(0, shots=3)
    assert [turn.role for turn in three] == ["user", "assistant"] * 3 + ["user"] and three[-1] == alone
    assert three[1].content == f"{own[0]['worked']} So the answer is {own[0]['target']}."
    assert three[0].content.startswith(own[0]["input"]) and three[0].content.endswith(alone.content[-40:])
    assert len(asked(1, shots=3)) == 5 and len(asked(0, shots=9)) == 7
    (tmp_path / "own.jsonl").write_text(json.dumps({"kind": "navigate", "input": "?", "target": "No"}))
    with pytest.raises(InputError, match="no worked example of 'web_of_lies'"):
        asked(0, shots=1, examples=str(tmp_path / "own.jsonl"))
