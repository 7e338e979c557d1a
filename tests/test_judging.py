"""What a person says of a trace: each part by itself, in conditions, and taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from localdistill import (
    Judgement,
    Message,
    Prompt,
    Store,
    Trace,
    UsageError,
    Workspace,
    favourite_trace,
    judge,
    list_traces,
    note_trace,
    open_store,
    put_judgement,
    tag_trace,
    undo_judgement,
)
from tests.test_recovery import lose_the_store


def workspace_with(root: Path, count: int = 3) -> Workspace:
    """A workspace with some answers, `b2:0` and so on."""
    store = Store(Workspace(root).store_path)
    prompts = [Prompt((Message("user", f"Double {n}"),)) for n in range(count)]
    store.add_prompts(prompts)
    store.add_traces([Trace(f"b2:{n}", prompt.id, "e", "m", "", "Two.") for n, prompt in enumerate(prompts)])
    return Workspace(root)


def meeting(workspace: Workspace, where: str) -> list[str]:
    return [row["trace_id"] for row in list_traces(workspace, where)]


def test_each_part_of_a_judgement_is_changed_alone(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path)
    tag_trace(workspace, "b2:0", ["#long", "odd"])
    judge(workspace, "b2:0", False, " no unit ")
    favourite_trace(workspace, "b2:0")
    judge(workspace, "b2:0", True)
    done = tag_trace(workspace, "b2:0", ["odd", "never"], is_tagged=False)
    assert done.before == Judgement(True, "no unit", True, ("long", "odd"))
    assert done.after == Judgement(True, "no unit", True, ("long",))
    assert favourite_trace(workspace, "b2:0", None).after.favourite is False
    assert note_trace(workspace, "b2:0", "").after == judge(workspace, "b2:0", True).after
    assert judge(workspace, "b2:0", None).after == Judgement(tags=("long",))


def test_conditions_find_what_a_person_marked_and_what_nobody_did(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path)
    unmarked = "NOT favourite AND NOT list_contains(tags, 'odd') AND note = ''"
    assert meeting(workspace, unmarked) == ["b2:0", "b2:1", "b2:2"] and not meeting(workspace, "favourite = 1")
    tag_trace(workspace, "b2:0", ["odd", "dé:jà-vu"])
    favourite_trace(workspace, "b2:1")
    note_trace(workspace, "b2:1", "look \ud83d again")
    assert meeting(workspace, "list_contains(tags, 'odd')") == meeting(workspace, "len(tags) = 2") == ["b2:0"]
    assert meeting(workspace, "favourite = 1") == meeting(workspace, "note LIKE 'look%'") == ["b2:1"]
    assert meeting(workspace, unmarked) == ["b2:2"]
    assert meeting(workspace, "score IS NULL AND person IS NULL") == ["b2:0", "b2:1", "b2:2"], "no verdict"
    rows = list_traces(workspace)
    assert [row["tags"] for row in rows] == [["dé:jà-vu", "odd"], [], []]
    assert [row["note"] for row in rows] == ["", "look \ud83d again", ""]
    assert not {"person_favourite", "person_tag:odd"} & set(open_store(workspace).columns()), "one name for each"


def test_undo_brings_back_what_was_said_before_and_once_more_what_was_said_last(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path)
    judge(workspace, "b2:0", False, "no unit")
    tag_trace(workspace, "b2:1", ["other"])
    last = tag_trace(workspace, "b2:0", ["odd"])
    tag_trace(workspace, "b2:0", ["odd"])
    assert undo_judgement(workspace, "b2:0").after == Judgement(False, "no unit")
    assert undo_judgement(workspace, "b2:0").after == last.after
    assert undo_judgement(workspace, "b2:1").after == Judgement()
    assert put_judgement(workspace, "b2:0", last.before).after == Judgement(False, "no unit")


def test_undo_never_guesses(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path)
    with pytest.raises(UsageError, match="nothing was said of the trace b2:0"):
        undo_judgement(workspace, "b2:0")
    judge(workspace, "b2:0", True)
    judge(workspace, "b2:0", False)
    journal = open_store(workspace).journal
    whole = journal.read_bytes()
    journal.write_bytes(whole[:whole.rindex(b'"kind":"facts"') + 30] + whole[whole.rindex(b'"kind":"facts"') + 31:])
    with pytest.raises(UsageError, match="the journal does not tell"):
        undo_judgement(workspace, "b2:0")


def test_a_store_that_is_lost_has_all_that_a_person_said_and_undo_goes_on(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path)
    judge(workspace, "b2:0", True, "in words")
    said = tag_trace(workspace, "b2:0", ["odd"]).after
    before = list_traces(workspace)
    lose_the_store(workspace)
    assert list_traces(workspace) == before and before[0]["tags"] == ["odd"]
    assert undo_judgement(workspace, "b2:0").before == said
    assert meeting(workspace, "person = 1 AND len(tags) = 0 AND note = 'in words'") == ["b2:0"]


@pytest.mark.parametrize("tag", ["", "#", "two words", "a,b", "\x1b[31m", "a" * 61])
def test_a_tag_is_one_short_word(tmp_path: Path, tag: str) -> None:
    with pytest.raises(UsageError, match="tag"):
        tag_trace(workspace_with(tmp_path, 1), "b2:0", [tag])


def test_an_unknown_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no trace 'b2:x' here"):
        favourite_trace(workspace_with(tmp_path, 1), "b2:x")
