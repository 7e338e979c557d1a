"""The commands that show what the screens Traces, Select and Formats show."""

from __future__ import annotations

import json
from pathlib import Path

from localdistill import Message, Prompt, Store, Trace, Workspace
from tests.cli.test_cli import run
from tests.tui.chain import QUESTIONS, doubling, hostile
from tests.tui.hostile import FORBIDDEN


def test_traces_in_another_order_and_of_a_selection() -> None:
    root = doubling()
    worst = json.loads(run("traces", "--order", "score", "--limit", "6", "--json", cwd=root).stdout)
    assert [row["score"] for row in worst] == [0.0] * 5 + [1.0]
    kept = json.loads(run("traces", "--selection", "doubling", "--limit", "99", "--json", cwd=root).stdout)
    assert len(kept) == QUESTIONS - 5 and all(row["score"] == 1 for row in kept)
    wrong = run("traces", "--order", "scor", cwd=root)
    assert wrong.returncode == 2 and "did you mean 'score'" in wrong.stderr


def test_selections_and_datasets() -> None:
    root = doubling()
    [row] = json.loads(run("selections", "--json", cwd=root).stdout)
    assert (row["name"], row["kept"], row["removed"]) == ("doubling", QUESTIONS - 5, {"verified": 5, "duplicates": 0})
    assert "verified 5, duplicates 0" in run("selections", cwd=root).stdout
    short, long = json.loads(run("datasets", "--json", cwd=root).stdout)
    assert (short["arm"], len(short["lengths"]), short["limit"], long["thinks"]) == ("short", QUESTIONS - 5, 64, True)
    assert "answer_only@1" in run("datasets", "last", cwd=root).stdout


def test_a_judgement_of_a_person(tmp_path: Path) -> None:
    store, prompt = Store(Workspace(tmp_path).store_path), Prompt((Message("user", "1 + 1?"),))
    store.add_prompts([prompt])
    store.add_traces([Trace("b2:one", prompt.id, "e", "m", "", "Two.")])
    said = run("judge", "b2:o", "right", "--note", "in words", cwd=tmp_path)
    assert said.returncode == 0 and "b2:one: right (in words)" in said.stderr
    assert "in words" in run("show", "b2:one", cwd=tmp_path).stdout
    for arguments, complaint in ((("b2:two", "right"), "there is no trace 'b2:two' here"),
                                 (("b2:one", "rihgt"), "did you mean 'right'")):
        refused = run("judge", *arguments, cwd=tmp_path)
        assert refused.returncode == 2 and complaint in refused.stderr
    assert store.verdicts(["b2:one"]) == {"b2:one": True}


def test_hostile_texts_reach_no_terminal() -> None:
    root = hostile()
    for arguments in (("traces", "--order", "newest"), ("selections",)):
        out = run(*arguments, cwd=root)
        assert out.returncode == 0, out.stderr
        assert not FORBIDDEN.search(out.stdout.replace("\t", " "))
