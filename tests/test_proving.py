"""The proof of a training: every link of the chain from rows to GGUF holds for a student that is right, and each fault
that is planted is caught at its own link, with what to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from localdistill import Cancel, Finding, Progressed, UsageError, Workspace, prove_training
from localdistill.api.models import proving
from localdistill.api.models.proving import ROWS, Proof
from localdistill.cli import doctor as doctor_command
from localdistill.core.errors import Cancelled
from localdistill.core.events import Event, silent
from localdistill.core.records import Reply
from localdistill.exporters.gguf_parts import vocabulary
from localdistill.modelfiles.shipped import shipped_path
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.stages.tokenizing import TraceTokenizer
from localdistill.trainers import usual_trainer
from localdistill.trainers.merge import merge
from tests.tiny_models import PLAIN_TEMPLATE, tiny_model
from tests.tui.driving import piloted, until
from tests.tui.hostile import HOSTILE, assert_harmless, screen_text
from tui.app import LocalDistillApp
from tui.widgets.dialogs import ReportDialog

pytest.importorskip("llama_cpp")
pytest.importorskip("torch")


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "student", hidden=32, chat_template=PLAIN_TEMPLATE)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains a little, takes that for enough, and goes on to the export."""
    monkeypatch.setattr(proving, "STEPS", 3)
    monkeypatch.setattr(proving, "BY_HEART", 0.0)
    monkeypatch.setattr(Proof, "_ask_trained", lambda self: "not asked")


def found(student: Path, folder: Path) -> dict[str, Finding]:
    folder.mkdir()
    return {finding.what: finding for finding in Proof(student, folder, silent, Cancel()).findings()}


def test_what_is_trained_is_read_back_from_the_rows(student: Path, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proof, "_train", lambda self: (_ for _ in ()).throw(Cancelled()))
    proof = Proof(student, tmp_path, silent, Cancel())
    first = next(proof.findings())
    assert (first.what, first.state) == ("rows", "ok") and "up to <|im_end|>" in first.text
    assert len(ROWS) == 8 == len({answer for _, answer in ROWS})


@pytest.mark.parametrize(("ending", "words"), [
    (lambda self, text: self.encode("."), "contains a stop token before its end"),
    (lambda self, text: [], "without a stop token"),
])
def test_a_wrong_stop_token_is_caught_in_the_rows(ending: Any, words: str, student: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StudentTokenizer, "turn_ending", ending)
    (only,) = found(student, tmp_path / "proof").values()
    assert (only.what, only.state) == ("rows", "wrong") and words in only.text and only.fix


@pytest.mark.parametrize("spoiled", [
    lambda row: replace(row, weights=(1.0,) * len(row.weights)),  # the question is trained too
    lambda row: replace(row, input_ids=row.input_ids[:-1], weights=row.weights[:-1]),  # and no stop token
])
def test_a_wrong_mask_is_caught_in_the_rows(spoiled: Any, student: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TraceTokenizer.rows
    monkeypatch.setattr(TraceTokenizer, "rows", lambda *given: [spoiled(row) for row in whole(*given)])
    (only,) = found(student, tmp_path / "proof").values()
    assert (only.what, only.state) == ("rows", "wrong") and "the mask is wrong" in only.text and only.fix


def test_a_training_that_does_not_learn_is_caught(student: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "STEPS", 2)
    links = found(student, tmp_path / "proof")
    assert [*links] == ["rows", "training"] and links["training"].state == "wrong"
    assert "did not learn eight rows by heart" in links["training"].text and "dtype" in links["training"].fix


def test_a_broken_merge_is_caught_by_the_gate(student: Path, tmp_path: Path, hasty: None,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "RATES", ((float("inf"), 0.1),))  # far enough from the base
    monkeypatch.setattr("localdistill.trainers.merge.merge",
                        lambda base, adapter, into, **how: merge(base, None, into, **how))
    links = found(student, tmp_path / "proof")
    assert links["training"].state == "ok" and links["export"].state == "wrong"
    assert "trained" in links["export"].text and [*links][-1] == "export"


def test_a_wrong_template_in_the_file_is_caught_by_the_gate(student: Path, tmp_path: Path, hasty: None,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    whole = vocabulary.serving_template
    monkeypatch.setattr(vocabulary, "serving_template", lambda *given: whole(*given) + " ")
    links = found(student, tmp_path / "proof")
    assert links["export"].state == "wrong" and "template" in links["export"].text


@pytest.mark.parametrize(("reply", "wrong"), [
    (Reply("0", "complete", answer=" A brass bell.\n"), ""),
    (Reply("0", "complete", answer="A brass"), "'A brass' in place of 'A brass bell.'"),
    (Reply("0", "length", answer="A brass bell."), "'A brass bell.' does not end at the stop token (length)"),
])
def test_an_answer_is_the_taught_one_and_ends_by_itself(reply: Reply, wrong: str) -> None:
    assert proving._wrong(reply, "A brass bell.") == wrong


@pytest.mark.slow
def test_every_link_holds_for_the_student_that_ships(tmp_path: Path) -> None:
    heard: list[Event] = []
    findings = list(prove_training(Workspace(tmp_path), "", heard.append, Cancel()))
    assert [(one.what, one.state) for one in findings] == [
        (what, "ok") for what in ("rows", "training", "as trained", "export", "16-bit file", "quantized file")]
    assert usual_trainer() in findings[1].text and any(isinstance(event, Progressed) and "loss" in event.label
                                                       for event in heard)
    assert not list(tmp_path.glob(".scratch-*")), "nothing of it stays"


@pytest.mark.slow
def test_a_proof_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    begun: list[Finding] = []
    with pytest.raises(Cancelled):
        begun.extend(prove_training(Workspace(tmp_path), str(shipped_path("pantry/student")), silent,
                                    Cancel(lambda: bool(list(tmp_path.glob(".scratch-*/training/*"))))))
    assert not list(tmp_path.glob(".scratch-*"))


def test_the_command_says_every_link_and_fails_where_one_breaks(monkeypatch: pytest.MonkeyPatch,
                                                                tmp_path: Path) -> None:
    links = [Finding("rows", "ok", "8 rows"), Finding("training", "wrong", HOSTILE, "lower it")]
    asked: list[str] = []

    def proved(workspace: Workspace, student: str, emit: Any, cancel: Cancel) -> Iterator[Finding]:
        asked.append(student)
        emit(Progressed("training, loss 2.0", 1, 2))
        yield from links

    monkeypatch.setattr("localdistill.api.models.proving_child.prove_training", proved)
    app = typer.Typer()
    doctor_command.register(app)
    where = ["--workspace", str(tmp_path)]
    told = CliRunner().invoke(app, [*where, "--train", "--student", "mine"])
    assert told.exit_code == 1 and asked == ["mine"] and "... training\n" in told.stderr
    assert "  rows           8 rows" in told.stdout and "fix: lower it" in told.stdout
    as_json = CliRunner().invoke(app, [*where, "--train", "--json"])
    assert [one["state"] for one in json.loads(as_json.stdout)] == ["ok", "wrong"] and as_json.exit_code == 1
    assert isinstance(CliRunner().invoke(app, [*where, "--student", "mine"]).exception, UsageError)
    links.pop()
    assert CliRunner().invoke(app, [*where, "--train"]).exit_code == 0


@piloted
async def test_a_training_is_proved_from_where_the_machine_is_examined(tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localdistill.api.models.doctor.examine", lambda workspace: [Finding("python", "ok", "3.12")])
    monkeypatch.setattr("localdistill.api.models.proving_child.prove_training", lambda *given: iter([
        Finding("rows", "ok", "8 rows"), Finding("training", "wrong", HOSTILE, "lower it")]))
    app = LocalDistillApp(tmp_path)
    async with app.run_test(size=(100, 45)) as pilot:
        await until(pilot, lambda: "pantry" in screen_text(app))
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, ReportDialog) and "python" in screen_text(app))
        assert "t: prove a training" in screen_text(app)
        await pilot.press("t")
        await until(pilot, lambda: "Prove a training of which student?" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: "✓ rows" in screen_text(app) and "! training" in screen_text(app))
        assert "lower it" in assert_harmless(app)
