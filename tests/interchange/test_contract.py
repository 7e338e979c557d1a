"""What every layout must do, for every name in the family's table."""

from collections.abc import Mapping
from typing import Any

import pytest

from localdistill.core.errors import InputError
from localdistill.interchange import LAYOUTS

ROWS: dict[str, Mapping[str, Any]] = {
    "alpaca": {"instruction": "Add.", "input": "1 + 1", "output": "<think>\neasy\n</think>\n\n2"},
    "gsm8k": {"question": "1 + 1?", "answer": "1+1=<<1+1=2>>2\n#### 2"},
    "math500": {
        "problem": "1+1",
        "solution": "\\boxed{2}",
        "answer": "2",
        "subject": "Algebra",
        "level": 1,
        "unique_id": "test/1",
    },
    "messages": {"messages": [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]},
    "mip_traces": {"question": "1 + 1?", "answer": "2\n#### 2", "gpt-4o (question)": "It is 2."},
    "prompts": {"messages": [{"role": "user", "content": "1 + 1?"}], "reference": "2"},
    "sharegpt": {"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]},
}
BAD: dict[str, Mapping[str, Any]] = {
    "alpaca": {"instruction": " ", "output": "2"},
    "gsm8k": {"question": "", "answer": "#### 2"},
    "math500": {"problem": "\n", "solution": "s", "answer": "2"},
    "messages": {"messages": [{"role": "assistant", "content": "2"}]},
    "mip_traces": {"question": "", "answer": "#### 2", "model_answer": "2"},
    "prompts": {"messages": [{"role": "system", "content": "Be brief."}], "reference": "2"},
    "sharegpt": {"conversations": [{"from": "gpt", "value": "2"}]},
}


@pytest.fixture(params=LAYOUTS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_name_is_the_file_name(name: str) -> None:
    cls = LAYOUTS.load(name)
    assert cls.name == name and cls.__module__.endswith(f".{name}")


def test_each_row_is_recognised_by_its_layout_alone(name: str) -> None:
    assert [other for other in LAYOUTS.names() if LAYOUTS.load(other)().recognises(ROWS[name])] == [name]


@pytest.mark.parametrize(
    "row", [{}, {"messages": 3}, {"messages": []}, {"conversations": None}, {"answer": 3, "question": 1}]
)
def test_recognising_never_raises(name: str, row: Mapping[str, Any]) -> None:
    assert LAYOUTS.load(name)().recognises(row) in (True, False)


def test_reading_is_undone_by_writing(name: str) -> None:
    layout = LAYOUTS.load(name)()
    first = layout.read(ROWS[name], 1, "file.json")
    again = layout.read(layout.write(first.prompt, first.trace), 1, "file.json")
    assert again == first


def test_a_row_without_a_user_turn_is_named(name: str) -> None:
    with pytest.raises(InputError, match=r"data\.jsonl, row 7: there is no user turn"):
        LAYOUTS.load(name)().read(BAD[name], 7, "data.jsonl")


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"messages": "x"},
        {"messages": [3]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "x", "content": "y"}]},
        {"conversations": [{"from": "human", "value": 3}]},
        {"conversations": [3]},
        {"question": "q", "answer": "no mark"},
        {"instruction": 3, "output": "x"},
        {"problem": 3, "answer": "1"},
        {"question": "q", "answer": 1, "model_answer": "x"},
    ],
)
def test_bad_rows_are_input_errors(name: str, row: Mapping[str, Any]) -> None:
    with pytest.raises(InputError, match=r"data, row 2: "):
        LAYOUTS.load(name)().read(row, 2, "data")
