"""The whole chain on a tiny random student: from prompts to a GGUF that passed its parity gate, then for nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from localdistill import Store, UsageError, Workspace, parse_recipe, resume, start, wait
from localdistill.core.events import ArtifactWritten, Counted, Event, Measured, Noted, Warned
from localdistill.exporters.parity_report import ParityReport
from localdistill.stages.outputs import ExportOutput, FormatOutput, MeasuredForms, TermsOfUse, TrainOutput, read_output
from localdistill.workspace.run_folder import RunFolder
from tests.tiny_models import tiny_model

RECIPE = """
name = "chain"
[prompts]
files = ["questions.jsonl"]
[teacher]
use = "replay"
path = "recording.jsonl"
[[grade]]
use = "exact"
[[filter]]
use = "verified"
[traces.short]
from = "teacher"
rewrite = "extract"
[student]
model = "student"
max_tokens = 400
[arm.original]
format = "original"
[arm.summary]
traces = "short"
format = "reasoning_then_answer"
[arm.full]
format = "full_trace"
[train]
use = "torch_lora"
rank = 4
learning_rate = 1e-3
max_steps = 3
batch_rows = 4
[evaluate]
max_tokens = 12
[[evaluate.task]]
use = "jsonl"
path = "held_out.jsonl"
grader = "exact"
[export]
arm = "full"
[[export.to]]
use = "gguf"
quants = ["F16", "Q8_0"]
[[export.to]]
use = "ollama"
"""


def story(n: int) -> dict[str, object]:
    return {
        "messages": [{"role": "user", "content": f"Ann has {n} cups and buys 3 more, then 2 more. How many?"}],
        "reference": str(n + 5),
        "original": f"{n + 5} cups.",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chain")
    tiny_model(path / "student", "llama", hidden=64, layers=2)
    questions = [story(n) for n in range(24)]
    (path / "questions.jsonl").write_text("".join(json.dumps(q) + "\n" for q in questions))
    (path / "held_out.jsonl").write_text("".join(json.dumps(story(n)) + "\n" for n in range(20, 30)))
    replies = []
    for n, question in enumerate(questions):
        wrong = 1 if n % 8 == 0 else 0
        replies.append(
            {
                "messages": question["messages"],
                "answer": f"The answer is {n + 5 + wrong}.",
                "reasoning": f"First {n} + 3 = {n + 3}. Then {n + 3} + 2 = {n + 5}. Wait, yes.",
            }
        )
    (path / "recording.jsonl").write_text("".join(json.dumps(r) + "\n" for r in replies))
    return path


def run_chain(folder: Path, text: str = RECIPE) -> tuple[RunFolder, list[Event], str]:
    events: list[Event] = []
    workspace = Workspace(folder)
    run = start(workspace, parse_recipe(text), text, folder)
    status = wait(run, [events.append])
    assert status.state == "finished", (status.data, run.log.read_text()[-3000:])
    return run, events, status.state


@pytest.fixture(scope="module")
def done(folder: Path) -> tuple[RunFolder, list[Event], str]:
    return run_chain(folder)


def counts(events: list[Event], stage: str, what: str, arm: str = "") -> dict[str, int]:
    return dict(
        next(e.counts for e in events if isinstance(e, Counted) and (e.stage, e.what, e.arm) == (stage, what, arm))
    )


def test_wrong_answers_are_rejected_and_counted(done: tuple[RunFolder, list[Event], str]) -> None:
    events = done[1]
    assert counts(events, "grade", "exact@3") == {"right": 21, "wrong": 3}
    assert counts(events, "select", "waterfall") == {"traces": 24, "- verified": 3, "kept": 21}


def test_arms_train_on_the_same_prompts(done: tuple[RunFolder, list[Event], str]) -> None:
    arms = {name: arm.facts for name, arm in read_output(done[0], FormatOutput).arms.items()}
    assert len({facts.rows for facts in arms.values()}) == 1
    tokens = {name: facts.trained_tokens for name, facts in arms.items()}
    assert tokens["original"] < tokens["summary"] < tokens["full"]
    assert arms["full"].thinks and not arms["summary"].thinks


def test_training_on_evaluated_prompts_is_flagged_and_they_are_left_out(
    done: tuple[RunFolder, list[Event], str],
) -> None:
    warnings = [e.text for e in done[1] if isinstance(e, Warned)]
    # 20..23 were asked and rightly answered; 20 and 24..29 differ: 21, 22, 23 and 20 are planted.
    assert any("4 of 10 items" in text and "left out" in text for text in warnings), warnings


def test_the_score_card_shows_base_and_every_arm_and_says_what_one_seed_means(
    done: tuple[RunFolder, list[Event], str],
) -> None:
    text = next(e.text for e in done[1] if isinstance(e, Noted) and e.stage == "evaluate")
    for name in ("base", "original", "summary", "full"):
        assert name in text
    assert "speaks of these trained models only" in text


def test_the_export_is_whole_verified_and_private(done: tuple[RunFolder, list[Event], str], folder: Path) -> None:
    made = read_output(done[0], ExportOutput)
    artifact = Workspace(folder).artifact("export", made.export)
    assert artifact is not None
    artifact.verify()
    names = {p.name for p in artifact.path.rglob("*") if p.is_file()}
    assert {"chain-full-F16.gguf", "chain-full-Q8_0.gguf", "SHA256SUMS", "README.md", "Modelfile"} <= names
    report = ParityReport.from_bytes(artifact.file("parity.json").read_bytes(), "parity.json")
    assert report.passed
    [trained] = [item for item in report.items if item.name == "trained"]
    assert trained.figure < 1e-3 and "of 8 rows" in trained.detail
    for path in artifact.path.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            assert str(folder).encode() not in path.read_bytes(), path.name


def test_every_exported_file_is_measured_on_the_same_items_and_paired_with_the_trained_model(
    done: tuple[RunFolder, list[Event], str], folder: Path
) -> None:
    made = read_output(done[0], ExportOutput)
    assert made.not_measured == ()
    [card] = made.measured
    assert (card.task, card.items, card.against) == ("jsonl", 6, "trained")
    assert [form.form for form in card.forms] == ["trained", "merged", "F16", "Q8_0"]
    assert not card.forms[0].verdict
    for form in card.forms[1:]:
        assert form.verdict in ("better", "worse", "cannot tell")
        assert form.same_text is not None and 0 <= form.same_text <= 6
        assert None not in (form.won, form.lost, form.p_value, form.difference_interval)
    # The tiny student is float32 and so is what it is merged into: nothing may differ.
    assert card.forms[1].same_text == 6 and made.not_measured == ()
    artifact = Workspace(folder).artifact("export", made.export)
    assert artifact is not None
    stored = MeasuredForms.from_bytes(artifact.file("measured.json").read_bytes(), "measured.json")
    assert len(stored.answers) == 4 and all(Workspace(folder).artifact("answers", d) for d in stored.answers)
    text = (artifact.path / "README.md").read_text()
    for form in ("merged", "F16", "Q8_0"):
        assert f"| jsonl | {form} |" in text
    said = [e.text for e in done[1] if isinstance(e, Noted) and e.stage == "export"]
    assert any("Q8_0 vs trained: " in text and "same text on" in text for text in said)
    assert [(e.arm, e.seed) for e in done[1] if isinstance(e, Measured) and (e.stage, e.name, e.contestant) == (
        "export", "score of jsonl", "Q8_0")] == [("full", 0)]


def test_the_export_says_whose_terms_its_data_are_under(done: tuple[RunFolder, list[Event], str]) -> None:
    assert read_output(done[0], ExportOutput).terms == TermsOfUse("", ())


def test_a_second_run_reuses_everything(done: tuple[RunFolder, list[Event], str], folder: Path) -> None:
    run, events, _ = run_chain(folder)
    assert all(e.reused for e in events if isinstance(e, ArtifactWritten))
    assert read_output(run, ExportOutput).export == read_output(done[0], ExportOutput).export
    assert Store(folder / "localdistill.duckdb").counts().prompts == 24


def turn_one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_damage_is_named_set_aside_and_made_again_and_no_better_arm_means_no_export(
    done: tuple[RunFolder, list[Event], str], folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "copy"
    shutil.copytree(folder, place)
    adapter = read_output(done[0], TrainOutput).adapters["full"][0].adapter.removeprefix("b2:")
    dataset = read_output(done[0], FormatOutput).arms["summary"].dataset.removeprefix("b2:")
    weights = f"adapter/{adapter}/adapter/adapter_model.safetensors"
    before = (place / "artifacts" / weights).read_bytes()
    turn_one_bit(place / "artifacts" / weights)
    (place / "artifacts" / "dataset" / dataset / "rows.parquet").unlink()
    run, events, _ = run_chain(place, RECIPE.replace('arm = "full"', 'arm = "best"'))
    warned = [event.text for event in events if isinstance(event, Warned)]
    assert any("'summary' is damaged (rows.parquet is missing)" in text for text in warned)
    assert any("'full, seed 0' is damaged (adapter/adapter_model.safetensors is not" in text for text in warned)
    assert (place / "artifacts" / weights).read_bytes() == before, "the same training gives the same adapter"
    assert {path.name.rsplit("-", 1)[0] for path in (place / "damaged").iterdir()} == {
        f"adapter-{adapter}", f"dataset-{dataset}"}, "what was made from what came out the same is kept"
    assert any(text.startswith("nothing is exported: no arm is better") for text in warned)
    assert read_output(run, ExportOutput).files == ()
    with pytest.raises(UsageError, match="has no arm 'ful'; did you mean 'full'"):
        resume(Workspace(place), run.id, arm="ful")
    assert wait(resume(Workspace(place), run.id, arm="full")).state == "finished"
    made = read_output(run, ExportOutput)
    assert made.export == read_output(done[0], ExportOutput).export, "nothing had to be made again"
