"""Stored prompts, listed and walked through: with an answer, without, by source and text."""

from __future__ import annotations

from pathlib import Path

import pytest

from localdistill import Workspace, browse_prompts, list_prompts
from localdistill.core.borders import BORDERS
from localdistill.core.records import Message, Prompt, Trace
from localdistill.store import Store


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """More prompts than a page holds; every third has two answers."""
    place = Workspace(tmp_path / "ws")
    store = Store(place.store_path)
    prompts = [Prompt((Message("user", f"Question {n}\ud83d"),), str(n) if n % 2 else None, source=f"file{n % 2}.jsonl")
               for n in range(BORDERS.page_rows + 10)]
    store.add_prompts(prompts)
    store.add_traces(Trace(f"b2:{n}-{at}", one.id, "e", "m", "", f"a {n}") for n, one in enumerate(prompts)
                     for at in range(2) if n % 3 == 0)
    return place


def test_prompts_are_listed_with_how_many_answers_they_have(workspace: Workspace) -> None:
    count, rows = list_prompts(workspace, limit=4)
    assert count == BORDERS.page_rows + 10
    assert [(row["question"], row["answers"], row["has_reference"], row["source"]) for row in rows] == [
        ("Question 0\ud83d", 2, False, "file0.jsonl"), ("Question 1\ud83d", 0, True, "file1.jsonl"),
        ("Question 2\ud83d", 0, False, "file0.jsonl"), ("Question 3\ud83d", 2, True, "file1.jsonl")]


def test_they_can_be_those_with_an_answer_or_without_of_a_source_or_with_a_text(workspace: Workspace) -> None:
    every = list_prompts(workspace, limit=0)[0]
    with_answer, without = (list_prompts(workspace, answered, limit=0)[0] for answered in (True, False))
    assert with_answer == len(range(0, every, 3)) and with_answer + without == every
    assert list_prompts(workspace, True, "file1.jsonl", limit=0)[0] == len(range(3, every, 6))
    assert [row["question"] for row in list_prompts(workspace, search="question 77")[1]] == ["Question 77\ud83d"]
    assert list_prompts(workspace, source="file")[0] == 0


def test_a_view_never_waits_and_fetches_pages_by_number(workspace: Workspace) -> None:
    browser = browse_prompts(workspace)
    assert browser.count == 0 and not browser.complete
    browser.resolve()
    last = browser.count - 1
    assert browser.complete and browser.row(last) is None
    page = browser.wanted(last, last)
    assert page is not None
    browser.load(page)
    row = browser.row(last)
    assert row is not None and row.question.startswith(f"Question {last}")


def test_an_empty_folder_has_none(tmp_path: Path) -> None:
    assert list_prompts(Workspace(tmp_path / "none")) == (0, [])
