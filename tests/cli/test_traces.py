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
    assert said.returncode == 0 and "b2:one: right: in words" in said.stderr
    assert "in words" in run("show", "b2:one", cwd=tmp_path).stdout
    for arguments, complaint in ((("b2:two", "right"), "there is no trace 'b2:two' here"),
                                 (("b2:one", "rihgt"), "did you mean 'right'")):
        refused = run("judge", *arguments, cwd=tmp_path)
        assert refused.returncode == 2 and complaint in refused.stderr
    assert store.verdicts(["b2:one"]) == {"b2:one": True}
    marked = (("tag", "b2:o", "#odd", "long"), ("untag", "b2:o", "long"), ("favourite", "b2:o"),
              ("note", "b2:o", "in figures"), ("favourite", "b2:o", "--off"))
    for arguments in marked:
        told = run("traces", *arguments, cwd=tmp_path)
        assert told.returncode == 0 and "judge b2:one --undo" in told.stderr
    assert "right, #odd: in figures" in told.stderr and "before: right, favourite, #odd" in told.stderr
    undone = json.loads(run("judge", "b2:o", "--undo", "--json", cwd=tmp_path).stdout)
    assert undone["after"] == {"passed": True, "note": "in figures", "favourite": True, "tags": ["odd"]}
    found = json.loads(run("traces", "--where", "favourite AND list_contains(tags, 'odd')", "--json",
                           cwd=tmp_path).stdout)
    assert [row["note"] for row in found] == ["in figures"]
    for arguments in (("judge", "b2:o", "right", "--undo"), ("judge", "b2:o"), ("traces", "tag", "b2:o", "two words")):
        assert run(*arguments, cwd=tmp_path).returncode == 2


def test_traces_are_read_by_sample_and_written_over(tmp_path: Path) -> None:
    store, prompt = Store(Workspace(tmp_path).store_path), Prompt((Message("user", "1 + 1?"),))
    store.add_prompts([prompt])
    store.add_traces([Trace("b2:one", prompt.id, "e", "m", "I add.", "Three.")])
    made = json.loads(run("traces", "edit", "b2:o", "--answer", "Two.", "--json", cwd=tmp_path).stdout)
    assert (made["parent_id"], made["answer"], made["reasoning"]) == ("b2:one", "Two.", "I add.")
    assert f"[became] {made['id']} by edit@1/person" in run("show", "b2:one", cwd=tmp_path).stdout
    out = run("traces", "sample", "2", "--fold", cwd=tmp_path).stdout
    assert "=== 2 of 2 ===" in out and "Two." in out and "Three." in out and "I add." not in out
    assert len(json.loads(run("traces", "sample", "--where", "rewrite = ''", "--json", cwd=tmp_path).stdout)) == 1
    refused = run("traces", "edit", "b2:o", "--answer", "Three.", cwd=tmp_path)
    assert refused.returncode == 2 and "nothing of b2:one was changed" in refused.stderr


def test_hostile_texts_reach_no_terminal() -> None:
    root = hostile()
    for arguments in (("traces", "--order", "newest"), ("selections",)):
        out = run(*arguments, cwd=root)
        assert out.returncode == 0, out.stderr
        assert not FORBIDDEN.search(out.stdout.replace("\t", " "))


def test_data_goes_out_and_what_it_lost_is_said_before_the_end(tmp_path: Path) -> None:
    root, out = doubling(), tmp_path / "out.jsonl"
    said = run("data", "export", str(out), "--selection", "doubling", cwd=root)
    assert said.returncode == 0 and f"{QUESTIONS - 5} rows as messages" in said.stderr
    assert "how it was asked" in said.stderr
    told = json.loads(run("data", "export", str(out), "--where", "score = 0", "--force", "--json", cwd=root).stdout)
    assert told["rows"] == len(out.read_text().splitlines()) == 5 and told["verdicts"] == {"wrong": 5}
    assert told["lost"]["how it was asked"] == 5 and Path(told["card"]).is_file()
    refused = run("data", "export", str(out), "--as", "alpca", cwd=root)
    assert refused.returncode == 2 and "did you mean 'alpaca'" in refused.stderr
    arm = json.loads(run("data", "export", str(tmp_path / "a.jsonl"), "--run", "last", "--arm", "long", "--json",
                         cwd=root).stdout)
    assert arm["rows"] == QUESTIONS - 5


def test_layouts_are_listed_with_the_tools_that_read_them(tmp_path: Path) -> None:
    listed = {one["name"]: one for one in json.loads(run("data", "layouts", "--json", cwd=tmp_path).stdout)}
    assert next(iter(listed)) == "messages" and {"sharegpt", "alpaca", "preference", "tokens"} <= set(listed)
    assert "trl" in listed["messages"]["read_by"] and "the answer" in listed["prompts"]["loses"]
    assert "mlx-lm" in run("data", "layouts", cwd=tmp_path).stdout


def test_prompts_are_listed() -> None:
    root = doubling()
    told = json.loads(run("prompts", "--with-answer", "--limit", "3", "--json", cwd=root).stdout)
    assert (told["count"], len(told["prompts"]), told["prompts"][0]["answers"]) == (QUESTIONS, 3, 1)
    assert json.loads(run("prompts", "--without-answer", "--json", cwd=root).stdout)["count"] == 0
    assert "Double" in run("prompts", cwd=root).stdout


def test_verdicts_by_rule_and_the_rule_book() -> None:
    root = doubling()
    lines = json.loads(run("traces", "rules", "--json", cwd=root).stdout)
    assert sum(one["right"] for one in lines) == QUESTIONS - 5 and sum(one["wrong"] for one in lines) == 5
    assert all(one["grader"] == "exact" and "same_number" in one["rules"] for one in lines)
    shown = run("traces", "rules", cwd=root)
    assert "exact@" in shown.stdout and "traces --where" in shown.stderr
    book = run("traces", "rules", "--book", cwd=root).stdout
    assert "rounded" in book and "boxes side by side are one list" in book
    assert "same_number: one value" in run("show", list_of(root)[0], cwd=root).stdout


def list_of(root: Path) -> list[str]:
    return [row["trace_id"] for row in json.loads(run("traces", "--json", cwd=root).stdout)]
