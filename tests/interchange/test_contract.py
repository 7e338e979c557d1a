"""What every layout must do, for every name in the family's table."""

from collections.abc import Mapping
from typing import Any

import pytest

from localdistill.core.errors import InputError
from localdistill.interchange import LAYOUTS


@pytest.fixture(params=LAYOUTS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_name_is_the_file_name(name: str) -> None:
    cls = LAYOUTS.load(name)
    assert cls.name == name and cls.__module__.endswith(f".{name}")


def test_each_row_is_recognised_by_its_layout_alone(name: str) -> None:
    for sample in LAYOUTS.load(name).samples():
        if not sample.refused:
            assert [other for other in LAYOUTS.names() if LAYOUTS.load(other)().recognises(sample.row)] == [name]


@pytest.mark.parametrize(
    "row", [{}, {"messages": 3}, {"messages": []}, {"conversations": None}, {"answer": 3, "question": 1}]
)
def test_recognising_never_raises(name: str, row: Mapping[str, Any]) -> None:
    assert LAYOUTS.load(name)().recognises(row) in (True, False)


def test_a_row_without_a_user_turn_is_named(name: str) -> None:
    [row] = [sample.row for sample in LAYOUTS.load(name).samples() if sample.refused == "there is no user turn"]
    with pytest.raises(InputError, match=r"data\.jsonl, row 7: there is no user turn"):
        LAYOUTS.load(name)().read(row, 7, "data.jsonl")


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
