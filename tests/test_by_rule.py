"""Verdicts by the rules that made them, and what a new version of a grader says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from localdistill import Workspace, grading_rules, list_traces, rules_in, verdicts_by_rule, with_rules
from localdistill.core.records import Fact, Message, Prompt, Trace
from localdistill.store import Store


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Four answers that an older version had judged, and one that it had not."""
    place = Workspace(tmp_path / "ws")
    store, prompt = Store(place.store_path), Prompt((Message("user", "1 + 1?"),), reference="2")
    store.add_prompts([prompt])
    store.add_traces(Trace(f"b2:{n}", prompt.id, "e", "m", "", f"It is {n}.") for n in range(5))
    before = [Fact(f"b2:{n}", "math", 2, value=float(n < 2), passed=n < 2, reason="boxed: as it was") for n in range(4)]
    now = [(0, True, "boxed, same_number"), (1, None, "no_verdict"), (2, True, "boxed, same_number"),
           (3, False, "boxed, same_number"), (4, False, "no_result")]
    store.add_facts([*before, *(
        Fact(f"b2:{n}", "math", 3, value=None if passed is None else float(passed), passed=passed,
             reason=f"{rules}: it's said") for n, passed, rules in now)])
    store.add_facts([Fact("b2:0", "judge", value=1.0, passed=True, reason="well put")])
    return place


def test_verdicts_are_counted_by_rule_with_what_changed(workspace: Workspace) -> None:
    found = {(one.grader, one.version, one.rules): (one.right, one.wrong, one.undecided, one.now_right,
                                                    one.not_right_any_more) for one in verdicts_by_rule(workspace)}
    assert found == {
        ("math", 3, "boxed, same_number"): (2, 1, 0, 1, 0), ("math", 3, "no_verdict"): (0, 0, 1, 0, 1),
        ("math", 3, "no_result"): (0, 1, 0, 0, 0), ("judge", 1, ""): (1, 0, 0, 0, 0)}


def test_the_traces_of_a_line_can_be_listed(workspace: Workspace) -> None:
    found = list_traces(workspace, where=with_rules("no_result"))
    assert [row["trace_id"] for row in found] == ["b2:4"]
    assert with_rules("it's") == "starts_with(grade_reason, 'it''s:')"


def test_the_book_explains_the_rules_of_a_reason() -> None:
    book = grading_rules()
    assert list(rules_in("boxed, same_number: equal to 5")) == ["boxed", "same_number"]
    assert rules_in("boxed, same_number: equal to 5")["boxed"] == book["boxed"]
    assert not rules_in("well put") and not rules_in("boxed, something: else") and not rules_in("")


def test_an_empty_folder_has_no_verdicts(tmp_path: Path) -> None:
    assert verdicts_by_rule(Workspace(tmp_path / "none")) == []
