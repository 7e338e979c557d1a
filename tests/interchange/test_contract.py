"""What every layout must do, for every name in the family's table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import InputError
from localdistill.interchange import LAYOUTS
from localdistill.interchange.files import looks_like


@pytest.fixture(params=LAYOUTS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_name_is_the_file_name(name: str) -> None:
    cls = LAYOUTS.load(name)
    assert cls.name == name and cls.__module__.endswith(f".{name}")


def test_each_row_is_read_by_its_layout_where_nobody_names_one(name: str, tmp_path: Path) -> None:
    for sample in LAYOUTS.load(name).samples():
        if not sample.refused:
            (tmp_path / "rows.jsonl").write_text(json.dumps(sample.row))
            assert looks_like(tmp_path / "rows.jsonl").layout == name, sample.row


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
    layout = LAYOUTS.load(name)()
    if name == "columns" and layout.recognises(row):
        assert layout.read(row, 2, "data").prompt.question  # a number is a text there, as it is in a table
        return
    with pytest.raises(InputError, match=r"data, row 2: "):
        layout.read(row, 2, "data")
