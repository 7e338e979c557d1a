"""Traces to read, and traces that a person wrote over."""

from __future__ import annotations

from pathlib import Path

import pytest

from localdistill import (
    Message,
    Prompt,
    Store,
    Trace,
    UsageError,
    Workspace,
    check_store,
    edit_trace,
    judge,
    list_traces,
    open_store,
    sample_traces,
    texts_from_editor,
    trace_detail,
)
from localdistill.core.errors import LocalDistillError
from localdistill.stages import collect, grade
from tests.stages.test_collecting import Chain
from tests.test_recovery import lose_the_store

REASONING = "\n2 and 2\n\nis 4 \u2028 or \r\n5.  \n"


def workspace_with(root: Path, count: int = 1) -> Workspace:
    store = Store(Workspace(root).store_path)
    prompts = [Prompt((Message("user", f"{n} + {n}?"),), reference=str(2 * n)) for n in range(count)]
    store.add_prompts(prompts)
    store.add_traces([Trace(f"b2:{n}", prompt.id, "e", "m", REASONING, f"It is {2 * n + 1}.", raw="raw", cost_usd=0.1,
                            trace_kind="raw", status="length", terms="conditional: x")
                      for n, prompt in enumerate(prompts)])
    return Workspace(root)


def test_an_edited_trace_is_a_new_one_with_a_parent_that_stays(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path)
    store = open_store(workspace)
    [parent] = store.traces()
    judge(workspace, parent.id, False)
    made = edit_trace(workspace, "b2:0", answer="It is 0.")
    assert (made.parent_id, made.rewrite, made.reasoning) == (parent.id, "edit@1/person", parent.reasoning)
    assert (made.status, made.cost_usd, made.raw, made.trace_kind) == ("complete", 0.0, "", "raw")
    assert made.terms == parent.terms, "whose words they were stays known"
    assert list(store.traces()) == [parent, made] and store.verdicts([made.id]) == {}
    assert edit_trace(workspace, "b2:0", answer="It is 0.") == made and len(list(store.traces())) == 2
    assert trace_detail(workspace, parent.id).made_of_it == ((made.id, "edit@1/person"),)
    assert edit_trace(workspace, made.id, reasoning="").trace_kind == "none"


def test_what_is_no_edit_stores_nothing(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path)
    for parts, why in (({"answer": "It is 1."}, "nothing of b2:0 was changed"), ({}, "nothing of b2:0 was changed"),
                       ({"reasoning": "", "answer": " "}, "nothing is left"),
                       ({"answer": "sk-proj-" + "a1B2" * 12}, "the answer holds an API key")):
        with pytest.raises(UsageError, match=why):
            edit_trace(workspace, "b2:0", **parts)
    with pytest.raises(UsageError, match="there is no trace 'b2:x' here"):
        edit_trace(workspace, "b2:x", "a")
    assert len(list(open_store(workspace).traces())) == 1


def test_graders_judge_what_was_edited_and_not_its_parent(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path, 2)
    right = [edit_trace(workspace, f"b2:{n}", answer=f"It is {2 * n}.").id for n in range(2)]
    wrong = edit_trace(workspace, "b2:0", answer="It is 7.").id
    chain = Chain(tmp_path, 'name = "t"\n[traces]\nmine = { stored = "rewrite = \'edit@1/person\'" }\n'
                            '[[grade]]\nuse = "exact"\n')
    context = chain.context()
    collect.run(context)
    grade.run(context)
    assert context.store.verdicts([*right, wrong, "b2:0", "b2:1"]) == {right[0]: True, right[1]: True, wrong: False}


def test_a_store_that_is_lost_has_what_was_edited_and_its_lineage(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path)
    judge(workspace, edit_trace(workspace, "b2:0", answer="No \ud83d.").id, True, "mine")
    before, rows = list(open_store(workspace).traces()), list_traces(workspace)
    lose_the_store(workspace)
    assert list(open_store(workspace).traces()) == before and list_traces(workspace) == rows
    assert before[1].parent_id == "b2:0" and check_store(workspace).is_whole


def test_a_sample_is_drawn_at_random_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path, 30)

    def drawn(count: int, seed: int, where: str = "") -> list[str]:
        return [one.data["trace"]["id"] for one in sample_traces(workspace, count, where, seed=seed)]

    assert drawn(5, 1) == drawn(5, 1) != drawn(5, 2) and len(set(drawn(5, 1))) == 5
    assert drawn(99, 1) == [f"b2:{n}" for n in range(30)]
    assert set(drawn(5, 1, "answer = 'It is 3.' OR answer = 'It is 9.'")) == {"b2:1", "b2:4"}
    assert drawn(5, 1, "score = 1") == []
    with pytest.raises(UsageError, match="0 traces are nothing to read"):
        drawn(0, 1)


def test_a_sample_has_the_whole_question_and_the_reasoning_is_folded_on_request(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path)
    judge(workspace, "b2:0", False, "off by one")
    [whole], [folded] = sample_traces(workspace), sample_traces(workspace, is_folded=True)
    assert "0 + 0?" in whole.text and REASONING in whole.text and "wrong: off by one" in whole.text
    assert REASONING not in folded.text and f"{len(REASONING)} characters, folded" in folded.text


def editor(root: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "an editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"'{path}' --wait")


def test_an_editor_changes_what_is_changed_in_it_and_not_a_character_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [trace] = open_store(workspace_with(tmp_path)).traces()
    editor(tmp_path, 'sed -i "s/It is 1/It is 0/" "$2"', monkeypatch)
    assert texts_from_editor(trace) == (REASONING, "It is 0.")
    editor(tmp_path, "exit 0", monkeypatch)
    assert texts_from_editor(trace) == (trace.reasoning, trace.answer)


@pytest.mark.parametrize(("script", "why"), [
    ('sed -i "/leave this line/d" "$2"', "are not as they were"), ('cat "$2" "$2" > "$2.x"; mv "$2.x" "$2"', "as they"),
    ("exit 3", "ended with 3"), ('rm "$2"', "No such file"), ('printf "\\377" >> "$2"', "no text")])
def test_an_editor_that_fails_stores_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str
) -> None:
    [trace] = open_store(workspace_with(tmp_path)).traces()
    editor(tmp_path, script, monkeypatch)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(LocalDistillError, match=why) as error:
        texts_from_editor(trace)
    kept = list(tmp_path.glob("localdistill-edit-*.md"))
    assert bool(kept) == ("as they" in why) and all(str(path) in error.value.hint for path in kept)
