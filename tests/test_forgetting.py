"""What is forgotten on purpose is nowhere in the workspace, comes back by no door, and is named where it was learnt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from localdistill import Workspace, check_store, forget, import_file, plan_forgetting, rebuild_store
from localdistill import unfinished_forgetting as unfinished
from localdistill.api.runs.overview import survey
from localdistill.cli.ending import run as command
from localdistill.core.errors import UsageError
from localdistill.core.records import Fact, Message, Prompt, Reply, TokenScores, Trace
from localdistill.recipe import parse_recipe
from localdistill.safety import journal
from localdistill.safety.frames import Reading
from localdistill.safety.journal import JournalWriter
from localdistill.scorecard import ItemResult
from localdistill.scorecard.card import items_from_text, items_to_text
from localdistill.store import Store
from localdistill.store.lines import facts_line, said_now, trace_line
from localdistill.store.replies import reply_line
from localdistill.workspace import forgetting
from localdistill.workspace.forgetting import made_of_forgotten
from localdistill.workspace.logprobs import LogprobWriter, read_logprobs
from localdistill.workspace.quarantine import quarantine
from localdistill.workspace.recovery import missing_in, open_store
from localdistill.workspace.retiring import retire_journals
from localdistill.workspace.run_folder import RunFolder
from tests.faults import fault_server
from tests.faults.test_collect import Desk

RECIPE = 'name = "r"\n[traces]\nfiles = ["x"]\n'
COLUMNS = {"question": "question", "reasoning": "reasoning", "answer": "answer"}
SECRET = "the quince stands behind the old wall of the garden"
KEPT = "the plum stands in front of the new house by the road"


def prompt_of(text: str, reference: str | None = None) -> Prompt:
    return Prompt((Message("user", f"Where? {text}?"),), reference, source="mine")


def trace_of(text: str, name: str, **more: object) -> Trace:
    return Trace(f"b2:{name}", prompt_of(text).id, "e", "m", f"I know: {text}.", f"So {text}!", "complete",
                 raw=f"<think>I know: {text}.</think>So {text}!", **more)  # type: ignore[arg-type]


def filled(root: Path) -> Workspace:
    """A workspace that holds both texts wherever one can be, the lines of the one beside those of the other."""
    workspace = Workspace(root)
    file = root.parent / "mine.jsonl"
    file.write_text("".join(json.dumps({"question": f"Where? {text}?", "reasoning": f"I say: {text}.",
                                        "answer": f"Then {text}."}) + "\n" for text in (SECRET, KEPT)))
    store = open_store(workspace)
    store.add_prompts([prompt_of(SECRET), prompt_of(KEPT), prompt_of(SECRET, "behind the wall")])
    import_file(workspace, file, columns=COLUMNS)
    store.add_traces([trace_of(SECRET, "aa01"), trace_of(KEPT, "bb01"),
                      trace_of(SECRET, "aa02", parent_id="b2:aa01", rewrite="summarize@1")])
    for number in (1, 2):
        run = RunFolder.create(workspace.runs, parse_recipe(RECIPE), RECIPE, {"stages": [], "base": "."})
        run.write_status({"state": "finished", "tail": f"know: {SECRET}", "tail_answer": "x"})
        with closing(JournalWriter(run.journal)) as writer:
            for text, name in ((SECRET, "aa1"), (KEPT, "bb1")):
                trace = trace_of(text, f"{name}{number}")
                fact = Fact(trace.id, "exact", 1, "", "grade", 1.0, True, reason=f"says {text}")
                writer.append(said_now(trace_line(trace, [fact])))
                writer.append(said_now(facts_line([fact])))
                writer.append(said_now(reply_line((f"b2:q{name}{number}", 0), "e", "judge",
                                                  Reply("q", "complete", answer=f"right: {text}"), trace.id)))
            writer.append({"kind": "facts", "facts": [{"damaged": SECRET}]})
        run.journal.write_bytes(run.journal.read_bytes().replace(b'"damaged"', b'"dXmaged"'))
        for text in (SECRET, KEPT):
            quarantine(run.quarantine, Reply("q", "error", raw=f"<{text}>", error="none"), prompt_of(text).id, "t")
        with LogprobWriter(run.path / "logprobs") as scores:
            for name in (f"b2:aa1{number}", f"b2:bb1{number}"):
                scores.add(name, TokenScores((1, 2), (-0.1, -0.2), ((), ()), ((), ())))
        run.write_ids("collect", [f"b2:aa1{number}", f"b2:bb1{number}"])
    open_store(workspace).add_lineage("b2:dd", [("r1", "b2:aa11"), ("r2", "b2:bb11")])
    retired = RunFolder(workspace.runs / "r-2")
    with retired.hold():
        retire_journals(workspace, store, retired)
    artifacts(workspace)
    (root / "localdistill.duckdb.before-1").write_bytes(f"... {SECRET}".encode())
    return workspace


def artifacts(workspace: Workspace) -> None:
    """A dataset with the text, what was trained on it, and what was measured on its prompt."""
    items = [ItemResult(prompt_of(text).id, 0.5, True, False, 3, extracted=text, output=f"Well: {text}")
             for text in (KEPT, SECRET)]
    flips = {"comparisons": [{"flips": [{"prompt_id": one.prompt_id, "first_output": one.output} for one in items]}]}
    for kind, digest, inputs, name, text in (
            ("dataset", "dd", [], "rows.txt", f"{SECRET} {KEPT}"), ("adapter", "ad", ["b2:dd"], "weights", "w"),
            ("export", "ee", ["b2:ad"], "model.gguf", "g"), ("answers", "an", [], "items.jsonl", items_to_text(items)),
            ("scorecard", "sc", [], "scorecard.json", json.dumps(flips))):
        def write(staging: Path, name: str = name, text: str = text) -> None:
            (staging / name).write_text(text)

        workspace.make_artifact(kind, f"b2:{digest}", {"label": kind, "inputs": inputs}, write)


def texts_in(workspace: Workspace) -> Iterator[tuple[str, bytes]]:
    """Every file with its bytes, journals unpacked, log-probabilities as rows."""
    for path in sorted(path for path in workspace.root.rglob("*") if path.is_file()):
        name = path.relative_to(workspace.root).as_posix()
        yield name, path.read_bytes()
        if name.endswith(".jsonl.zst"):
            lines = journal.read_lines(path.with_name(path.name.removesuffix(".zst")), 0, Reading())
            yield name, b"".join(line for line, _ in lines)
        if name.endswith(".parquet"):
            yield name, repr(parquet.read_table(path).to_pylist()).encode()


def holding(workspace: Workspace, *words: str) -> list[str]:
    return sorted({name for name, data in texts_in(workspace) if any(word.encode() in data for word in words)})


def test_what_is_forgotten_is_nowhere_and_the_rest_stays(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "w")
    before = holding(workspace, SECRET)
    assert len(before) >= 8, before
    plan = plan_forgetting(workspace, prompt_of(SECRET).id)
    assert len(plan.names.prompts) == 2 and {"b2:aa01", "b2:aa02", "b2:aa11", "b2:aa12"} <= set(plan.names.traces)
    assert plan.datasets == ("b2:dd",) and plan.replies == 2
    made = " ".join(plan.made)
    assert all(word in made for word in ("adapter ad", "export ee", "answers an", "scorecard sc"))
    done = forget(workspace, plan)
    assert (done.prompts, done.traces) == (2, 5) and done.lines and done.still_in == ()
    assert not holding(workspace, SECRET, "b2:dXd")
    assert not (workspace.artifacts / "dataset" / "dd").exists() and holding(workspace, KEPT)
    assert all(not artifact.damage() for artifact in workspace.list_artifacts()), "what stays is whole"
    text = (workspace.artifacts / "answers" / "an" / "items.jsonl").read_text()
    kept, gone = items_from_text(text, "answers")
    assert (kept.output, gone.output, gone.score) == (f"Well: {KEPT}", "", 0.5)
    assert set(made_of_forgotten(workspace)) == {"b2:ad", "b2:ee", "b2:an", "b2:sc"}
    run = RunFolder(workspace.runs / "r-1")
    assert run.ids("collect") == ["b2:bb11"] and run.status().data["tail"] == ""
    assert read_logprobs(run.path / "logprobs", "b2:aa11") is None
    assert read_logprobs(run.path / "logprobs", "b2:bb11") is not None


def test_nothing_brings_back_what_is_forgotten(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "w")
    kept = {trace.id: trace for trace in open_store(workspace).traces() if KEPT in trace.answer}
    forget(workspace, plan_forgetting(workspace, prompt_of(SECRET).id))
    assert {trace.id: trace for trace in open_store(workspace).traces()} == kept and len(kept) == 4
    assert check_store(workspace).is_whole
    workspace.store_path.unlink()
    assert rebuild_store(workspace).traces == 4
    assert [prompt.question for prompt in open_store(workspace).prompts() if SECRET in prompt.question] == []
    report = import_file(workspace, tmp_path / "mine.jsonl", columns=COLUMNS)
    assert (report.new_prompts, report.new_traces) == (0, 0) and "forgotten here on purpose" in report.note
    store = open_store(workspace)
    store.add_prompts([prompt_of(SECRET, "another reference")])
    store.add_traces([trace_of(SECRET, "aa01")])
    assert not holding(workspace, SECRET) and len(list(store.traces())) == 4
    assert store.barred().bars(prompt_of(SECRET, "a third one")) and not store.barred().bars(prompt_of(KEPT))


def test_a_source_is_forgotten_as_a_whole(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "w")
    forget(workspace, plan_forgetting(workspace, "mine"))
    assert not holding(workspace, SECRET, KEPT) and open_store(workspace).counts().prompts == 0
    with pytest.raises(UsageError, match="neither a prompt nor a source"):
        plan_forgetting(workspace, "mine")


def test_a_forgetting_that_was_killed_is_said_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = filled(tmp_path / "w")
    steps = ("_edited_journals", "_edit_run", "_remember", "_remove_dataset", "_edit_artifact", "rebuild_store")
    for step in steps:
        plan = unfinished(workspace) or plan_forgetting(workspace, "b2:aa01")

        def dies(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(forgetting, step, dies)
            forget(workspace, plan)
        assert "localdistill forget" in missing_in(workspace, open_store(workspace))[0].hint, step
        assert any("was being forgotten" in text for _, text in survey(workspace).facts)
    plan = unfinished(workspace)
    assert plan is not None and SECRET.encode() not in (workspace.root / "forgetting.json").read_bytes()
    done = forget(workspace, plan)
    assert not holding(workspace, SECRET) and unfinished(workspace) is None
    assert len(done.made) == 4 and check_store(workspace).is_whole


def test_nothing_is_forgotten_while_a_run_lives(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "w")
    plan = plan_forgetting(workspace, "b2:aa01")
    with RunFolder(workspace.runs / "r-1").hold(), pytest.raises(UsageError, match="running"):
        forget(workspace, plan)
    assert holding(workspace, SECRET) and unfinished(workspace) is None


def test_words_that_something_else_says_too_are_named(tmp_path: Path) -> None:
    workspace = filled(tmp_path / "w")
    (workspace.runs / "r-1" / "log.txt").write_text(f"a library said: Where? {SECRET}?")
    done = forget(workspace, plan_forgetting(workspace, "b2:aa01"))
    assert done.still_in == ("runs/r-1/log.txt",)


def test_the_command_shows_what_goes_and_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = filled(tmp_path / "w")
    there = ("--workspace", str(workspace.root))
    assert command(["forget", "b2:aa01", "--dry-run", *there]) == 0
    said = "".join(capsys.readouterr())
    assert "adapter ad adapter was made of it" in said and "cannot be removed: files of your own" in said
    monkeypatch.setattr("sys.stdin", None)
    assert command(["forget", "b2:aa01", *there]) == 0 and holding(workspace, SECRET), "nobody said yes"
    assert command(["forget", "b2:aa01", "--yes", "--json", *there]) == 0
    told = json.loads(capsys.readouterr().out.rpartition("\n{\n")[2].join(("{", "")))
    assert told["prompts"] == 2 and told["still_in"] == [] and not holding(workspace, SECRET)
    assert command(["forget", *there]) == 2 and "nothing is named" in capsys.readouterr().err
    assert Store(workspace.store_path).counts().traces == 4


@pytest.mark.slow
def test_what_is_forgotten_is_not_asked_again(tmp_path: Path) -> None:
    with fault_server() as server:
        desk = Desk(tmp_path, server.url, 6)
        assert desk.collect().returncode == 0
        workspace = Workspace(desk.workspace)
        quince = next(prompt for prompt in open_store(workspace).prompts() if prompt.question == "Double 3")
        forget(workspace, plan_forgetting(workspace, quince.id))
        assert len(desk.stored()) == 5 and not holding(workspace, "Double 3", "3 + 3 = 6")
        assert desk.collect().returncode == 0 and desk.call("resume", "faults-1").returncode == 0
        assert server.asked["Double 3"] == 1 and len(desk.stored()) == 5
