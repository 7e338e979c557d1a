"""What a run exported, as the API, the command line and the screen tell it: whole, gone, refused, not yet."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import OptionList, Static
from typer.testing import CliRunner

from localdistill import (
    LocalDistillError,
    Message,
    Prompt,
    Store,
    Trace,
    UsageError,
    chat_files,
    exports_of,
    model_to_chat,
    open_chat,
    shipped_path,
)
from localdistill.cli.app import app as cli
from localdistill.safety.manifest import read_manifest, write_manifest
from localdistill.stages.context import build_tasks
from localdistill.stages.outputs import ExportOutput, read_output, write_output
from tests.tui import prepared
from tests.tui.driving import piloted, until
from tests.tui.garden import copied
from tui.app import LocalDistillApp
from tui.widgets.choose import Choose
from tui.widgets.copy_line import CopyLine


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export") / "garden"
    workspace, run = prepared.begun(root)
    prepared.export(workspace, run, build_tasks(run.recipe(), root))
    return root


def text_of(app: LocalDistillApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).content)


def test_an_export_is_told_whole(exported: Path) -> None:
    from localdistill import Workspace

    (made,) = exports_of(Workspace(exported))
    assert (made.run, made.state, made.arm, made.gate_passed) == ("garden-1", "whole", "full_trace", True)
    assert [(file.quant, file.size_bytes) for file in made.files] == [
        ("F16", 5_946_816), ("Q8_0", 3_184_000), ("Q4_K_M", 1_878_912)]
    sums = dict(line.split()[::-1] for line in (made.files[0].path.parent / "SHA256SUMS").read_text().splitlines())
    assert {file.path.name: file.sha256 for file in made.files} == sums
    assert len(made.gate) == 10 and {item.name for item in made.gate} >= {"token_ids", "kl", "greedy"}
    assert {score.form for score in made.scores} == {"trained", "merged", "F16", "Q8_0", "Q4_K_M"}
    assert made.terms == "conditional" and made.unknown == ()
    assert [(file.quant, file.bits_per_weight, file.kl) for file in made.files] == [
        ("F16", 16.5, None), ("Q8_0", 8.83, 0.00012), ("Q4_K_M", 5.21, 0.031)]
    assert made.choice is not None and (made.choice.form, made.choice.against) == ("Q8_0", "F16")
    commands = dict(made.commands)
    assert commands["talk"] == "localdistill chat garden-full-trace-Q8_0.gguf"
    assert commands["LM Studio"] == "lms import --copy garden-full-trace-Q8_0.gguf"
    assert commands["terminal"] == "llama-cli -m garden-full-trace-Q8_0.gguf --jinja -cnv"
    assert commands["Ollama"] == "ollama create garden-full-trace -f Modelfile"
    assert made.anywhere("x").startswith("cd ") and str(made.folder) in made.anywhere("x")


def test_licences_are_those_of_what_was_selected(tmp_path: Path) -> None:
    workspace, run = prepared.begun(tmp_path)
    prepared.export(workspace, run, [])
    store = Store(workspace.store_path)
    prompts = [Prompt((Message("user", name),), licence=name) for name in ("MIT", "CC-BY-4.0", "GPL-3.0")]
    store.add_prompts(prompts)
    traces = [Trace(f"b2:{n}", prompt.id, "e", "m", reasoning="", answer="a", trace_kind="none")
              for n, prompt in enumerate(prompts)]
    store.add_traces(traces)
    run.write_ids("select", [trace.id for trace in traces[:2]])
    assert exports_of(workspace, "last")[0].licences == ("CC-BY-4.0", "MIT")


def test_a_refused_export_shows_the_report_and_a_missing_one_says_so(tmp_path: Path) -> None:
    workspace, run = prepared.begun(tmp_path)
    assert exports_of(workspace)[0].state == "not yet"
    prepared.parity(failed="kl").write(run.path / "parity.json")
    (made,) = exports_of(workspace, run.id)
    assert made.state == "refused" and made.gate_passed is False
    assert [item.name for item in made.gate if not item.passed] == ["kl"]
    prepared.export(workspace, run, [])
    assert exports_of(workspace)[0].state == "whole"
    folder = exports_of(workspace)[0].folder
    assert folder is not None
    shutil.rmtree(folder)
    assert exports_of(workspace)[0].state == "gone"
    with pytest.raises(UsageError, match="no run 'nothing'"):
        exports_of(workspace, "nothing")


@pytest.mark.parametrize("text", ["{", "[1]", '{"items": [3, {"name": 4, "figure": "x"}]}', '{"items": 7}', "\x00\xff"])
def test_damaged_files_are_said_and_never_raise(tmp_path: Path, text: str) -> None:
    workspace, run = prepared.begun(tmp_path)
    prepared.export(workspace, run, [])
    folder = exports_of(workspace)[0].folder
    assert folder is not None
    (folder / "parity.json").write_bytes(text.encode("latin-1"))
    write_manifest(folder, read_manifest(folder))
    (made,) = exports_of(workspace)
    assert made.state == "whole" and made.files
    (run.path / "stages" / "export.json").write_text(text)
    (made,) = exports_of(workspace)
    assert made.state == "damaged" and made.why[0].startswith("the output of the stage 'export' of run garden-1 is dam")
    assert made.why[1] == "localdistill resume garden-1 makes it again"


def test_files_to_talk_to_are_exports_and_then_teachers(exported: Path, tmp_path: Path) -> None:
    from localdistill import RunFolder, Workspace, parse_recipe

    workspace = Workspace(exported)
    assert model_to_chat(workspace) == model_to_chat(workspace, "garden-1") == chat_files(workspace)[0].path
    assert model_to_chat(workspace, "any.gguf") == Path("any.gguf")
    with pytest.raises(UsageError, match="no run has exported"):
        model_to_chat(Workspace(exported / "elsewhere"))
    for odd in ("garden-7", "", "x" * 300, str(exported)):
        with pytest.raises(UsageError, match="there is no run and no file"):
            model_to_chat(workspace, odd)
    labels = [file.label for file in chat_files(Workspace(exported))]
    assert labels == ["garden-1 full_trace Q8_0", "garden-1 full_trace F16", "garden-1 full_trace Q4_K_M"]
    text = ('name = "t"\n[prompts]\nfiles = ["shipped:pantry/prompts.jsonl"]\n[teacher]\nuse = "llama_cpp"\n'
            'model = "shipped:pantry/teacher.gguf"\n')
    RunFolder.create(tmp_path / "runs", parse_recipe(text), text, {"stages": ["collect"], "base": str(tmp_path)})
    (file,) = chat_files(Workspace(tmp_path))
    assert file.label == "teacher of t-1" and file.path.samefile(shipped_path("pantry/teacher.gguf"))


def test_the_command_line_says_the_same(exported: Path) -> None:
    out = CliRunner().invoke(cli, ["exports", "--workspace", str(exported)])
    assert out.exit_code == 0 and "garden-full-trace-Q8_0.gguf" in out.stdout and "[x] token_ids" in out.stdout
    (made,) = json.loads(CliRunner().invoke(cli, ["exports", "last", "--json", "-w", str(exported)]).stdout)
    assert made["state"] == "whole" and made["gate_passed"] is True and made["files"][0]["quant"] == "F16"


def flipped(folder: Path, name: str) -> None:
    """One bit of a file turns; its size and its time stay."""
    path = folder / name
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("name", ["garden-full-trace-Q8_0.gguf", "garden-full-trace-F16.gguf", "manifest.json",
                                  "Modelfile", "parity.json"])
def test_an_export_is_never_called_whole_unseen(tmp_path: Path, name: str) -> None:
    workspace, run = prepared.begun(tmp_path)
    prepared.export(workspace, run, [])
    assert exports_of(workspace, checked=False)[0].state == "unchecked"
    (made,) = exports_of(workspace)
    assert made.state == "whole" and made.folder is not None
    flipped(made.folder, name)
    (made,) = exports_of(workspace)
    assert made.state == "damaged" and made.files == () and made.why[0].startswith(name)
    told = CliRunner().invoke(cli, ["exports", "-w", str(tmp_path)]).stdout
    assert f"garden-1: damaged, arm full_trace\n  {name}" in told and "localdistill resume garden-1" in told


def test_a_stranger_in_the_folder_is_named(tmp_path: Path) -> None:
    workspace, run = prepared.begun(tmp_path)
    prepared.export(workspace, run, [])
    folder = exports_of(workspace)[0].folder
    assert folder is not None
    (folder / "tuned-Q2_K.gguf").write_bytes(b"mine")
    (made,) = exports_of(workspace)
    assert made.state == "whole" and "tuned-Q2_K.gguf" not in {file.path.name for file in made.files}
    assert made.unknown == ("tuned-Q2_K.gguf lies in the folder and is no part of the export",)


def test_nobody_talks_to_a_damaged_file(tmp_path: Path) -> None:
    workspace, run = prepared.begun(tmp_path)
    prepared.export(workspace, run, [])
    folder = exports_of(workspace)[0].folder
    assert folder is not None
    flipped(folder, "garden-full-trace-Q8_0.gguf")
    for name in ("last", "garden-1"):
        with pytest.raises(LocalDistillError, match=r"garden-1 exported is damaged: .*Q8_0\.gguf is") as caught:
            model_to_chat(workspace, name)
        assert "localdistill resume garden-1" in caught.value.hint
    with (pytest.raises(LocalDistillError, match=r"Q8_0\.gguf is not what was written"),
          open_chat(folder / "garden-full-trace-Q8_0.gguf")):
        raise AssertionError("it was opened")
    (folder / "garden-full-trace-F16.gguf").unlink()
    with pytest.raises(LocalDistillError, match=r"F16\.gguf is missing"):
        model_to_chat(workspace)


def nothing(run: Any) -> None:
    """What the stage leaves where no arm is good enough."""
    write_output(run, ExportOutput("", why_nothing=("no arm is better", "a: worse"), commands=(
        "localdistill resume garden-1 --arm a", "localdistill export x")))


def test_where_nothing_was_exported_it_is_said_with_the_commands(tmp_path: Path) -> None:
    workspace, run = prepared.begun(tmp_path)
    nothing(run)
    (made,) = exports_of(workspace)
    assert (made.state, made.files, made.why) == ("nothing", (), ("no arm is better", "a: worse"))
    assert made.arms == (*prepared.ARMS, "base")
    told = CliRunner().invoke(cli, ["exports", "-w", str(tmp_path)]).stdout
    assert "nothing exported" in told and "localdistill resume garden-1 --arm a\n" in told and "whole" not in told
    with pytest.raises(UsageError, match="garden-1 exported nothing: no arm is better"):
        model_to_chat(workspace, "garden-1")
    with pytest.raises(UsageError, match="no run has exported a model yet"):
        model_to_chat(workspace)


def test_every_form_stands_beside_the_base(exported: Path) -> None:
    from localdistill import Workspace

    (made,) = exports_of(Workspace(exported))
    assert [(s.task, s.is_guard, s.verdict) for s in made.standings] == [
        ("pantry", False, "better"), ("pantry_guard", True, "cannot tell")]
    assert all(score.base_difference is not None and score.base_verdict for score in made.scores)
    assert made.standings[1].holds and made.cautions == (), "what may be lost is within the margin"
    told = CliRunner().invoke(cli, ["exports", "-w", str(exported)]).stdout
    assert "pantry_guard (guard)" in told and "points against the base, better" in told
    assert told.count(" against the base, ") == 2 + len(made.scores)


def test_an_adapter_is_listed_and_nobody_is_sent_to_talk_to_it(tmp_path: Path) -> None:
    from localdistill import Workspace

    root = copied(tmp_path)
    (artifact,) = (one for one in Workspace(root).list_artifacts() if one.kind == "export")
    (artifact.path / "garden-full-trace-lora.gguf").write_bytes(bytes(10))
    (artifact.path / "garden-full-trace-Q8_0.gguf").unlink()
    write_manifest(artifact.path, read_manifest(artifact.path))
    (made,) = exports_of(Workspace(root))
    assert [file.path.name for file in made.files][-1] == "garden-full-trace-lora.gguf"
    assert {file.quant for file in made.for_chat} == {"F16", "Q4_K_M"}
    told = {command for what, command in made.commands if "lora" in command}
    assert told == {"llama-server -m BASE.gguf --lora garden-full-trace-lora.gguf --jinja"}


def test_what_an_older_run_did_not_record_is_said(tmp_path: Path) -> None:
    workspace, run = prepared.begun(tmp_path)
    prepared.export(workspace, run, [])
    write_output(run, dataclasses.replace(read_output(run, ExportOutput), standings=None))
    assert "was not recorded" in exports_of(workspace)[0].cautions[0]


@piloted
async def test_the_screen_looks_into_the_files_and_offers_no_damaged_one(tmp_path: Path) -> None:
    workspace, run = prepared.begun(tmp_path)
    prepared.export(workspace, run, [])
    app = LocalDistillApp(tmp_path, start="export")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: "✓ exported" in text_of(app, "#about"))
        (made,) = exports_of(workspace)
        assert made.folder is not None
        flipped(made.folder, "garden-full-trace-F16.gguf")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "✗ damaged" in text_of(app, "#about"))
        assert "garden-full-trace-F16.gguf is not what was written" in text_of(app, "#about")
        assert text_of(app, "#files") == "" and not app.screen.query(CopyLine)


@piloted
async def test_the_screen_says_that_nothing_was_exported_and_exports_an_arm_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = prepared.begun(tmp_path)
    nothing(run)
    app = LocalDistillApp(tmp_path, start="export")
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(app, "resume_run", lambda run_id, max_usd=None, arm="": asked.append((run_id, arm)))
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "nothing exported" in text_of(app, "#about"))
        assert "✓" not in text_of(app, "#about") and "no arm is better" in text_of(app, "#about")
        await until(pilot, lambda: len(app.screen.query(CopyLine)) == 2)
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, Choose) and app.screen.query(OptionList))
        await pilot.press("down", "enter")
        await until(pilot, lambda: asked)
    assert asked == [("garden-1", "answer_only")]


@piloted
async def test_the_screen_shows_the_guard_beside_the_base(exported: Path) -> None:
    app = LocalDistillApp(exported, start="export")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: "✓ exported" in text_of(app, "#about"))
        scores = text_of(app, "#scores")
        assert "pantry_guard (guard)" in scores and scores.count("base ") >= 2 and "to base" in scores


@piloted
async def test_the_screen_shows_it_copies_commands_and_opens_chat(exported: Path) -> None:
    app = LocalDistillApp(exported, start="export")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(app.screen.query(CopyLine)) == 6)
        assert "8.83 bits, KL 0.00012" in text_of(app, "#files") and "Take Q8_0 (3.2 MB)" in text_of(app, "#files")
        assert "5.9 MB" in text_of(app, "#files") and "passed" in text_of(app, "#gate")
        assert "allowed under conditions (gardener (conditional))" in text_of(app, "#terms")
        assert "same text" in text_of(app, "#scores")
        (made,) = exports_of(app.workspace)
        await pilot.press("c")
        assert app.clipboard == made.anywhere("localdistill chat garden-full-trace-Q8_0.gguf")
        app.screen.query(CopyLine)[1].focus()
        await pilot.press("enter")
        assert app.clipboard.endswith("ollama create garden-full-trace -f Modelfile")
        await pilot.press("t")
        await until(pilot, lambda: app.screen.TITLE == "Chat")
        page: Any = app.screen
        await until(pilot, lambda: page._conversations)
        assert page._conversations[0].model.name == "garden-full-trace-Q8_0.gguf"


@piloted
async def test_the_recommended_file_goes_to_lm_studio(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".lmstudio").mkdir()
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    app = LocalDistillApp(exported, start="export")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: app.screen.query(CopyLine))
        await pilot.press("l")
        place = tmp_path / ".lmstudio/models/localdistill/garden-full-trace/garden-full-trace-Q8_0.gguf"
        await until(pilot, place.is_file)


@piloted
async def test_a_recipe_is_run_up_to_its_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text(prepared.RECIPE)
    app = LocalDistillApp(tmp_path, start="export")
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(app, "start_recipe", lambda name, until="": asked.append((name, until)))
    async with app.run_test(size=(60, 20)) as pilot:
        await until(pilot, lambda: "Nothing is exported yet" in text_of(app, "#none"))
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, Choose) and app.screen.query(OptionList))
        await pilot.press("enter")
        await until(pilot, lambda: asked)
    assert asked == [(str(tmp_path / "mine.toml"), "export")]


@piloted
async def test_runs_are_told_apart_and_a_failed_gate_is_marked(tmp_path: Path) -> None:
    workspace, run = prepared.begun(tmp_path)
    prepared.export(workspace, run, [])
    _, refused = prepared.begun(tmp_path)
    prepared.parity(failed="top1").write(refused.path / "parity.json")
    app = LocalDistillApp(tmp_path, start="export")
    async with app.run_test(size=(140, 45)) as pilot:
        await until(pilot, lambda: app.screen.query_one("#runs", OptionList).option_count == 2)
        await until(pilot, lambda: "garden-1" in text_of(app, "#about"))
        app.screen.query_one("#runs", OptionList).focus()
        await pilot.press("up")
        await until(pilot, lambda: "refused by the parity gate" in text_of(app, "#about"))
        assert "✗ top1" in text_of(app, "#gate") and "✓ kl" in text_of(app, "#gate")
