"""What stages leave: it comes back as it was left, older versions are read, newer and damaged ones are named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from localdistill import STAGES, LocalDistillError, Recipe, RunFolder, Stage, UsageError, parse_recipe
from localdistill.core.seals import unsealed
from localdistill.core.stored import Stored
from localdistill.exporters.parity_report import ParityItem, ParityReport
from localdistill.scorecard import ContestantResult, ItemResult, ScoreCards, Standing, build_score_card
from localdistill.scorecard.cheapest import FileChoice, FileStanding
from localdistill.stages import STAGE_MODULES
from localdistill.stages.answers import AnsweringPace, ServedAnswers
from localdistill.stages.outputs import (
    OUTPUTS,
    ArmAdapter,
    ArmDataset,
    AugmentOutput,
    CollectOutput,
    DatasetFacts,
    EvaluateOutput,
    ExportOutput,
    FormatOutput,
    FormSummary,
    GradeOutput,
    MeasuredForms,
    RewriteOutput,
    Selected,
    SelectOutput,
    StageOutput,
    TaskSummary,
    TermsOfUse,
    TrainOutput,
    TuneOutput,
    has_output,
    read_output,
    write_output,
)
from localdistill.stages.tuning import Attempt, Setting, Try, TuningResult
from localdistill.trainers.report import HeldBase, TrainingReport, TrainingResult
from tests.old_workspaces import packed, unpack

RECIPE = """
name = "r"
[traces]
files = ["x"]
"""
CARD = build_score_card(
    [ContestantResult(name, 0, "f@1", True, 9, "", tuple(
        ItemResult(f"p{n}", float(n < right), True, False, 5, str(n), "half \ud800 a character", str(n % 2))
        for n in range(4))) for name, right in (("base", 1), ("one", 3))], base="base", task="sums", grader="exact")
FACTS = DatasetFacts("one", "full_trace@1", True, 3, 9, 30, 12, 10, 2, (7, 8), "extract", {"too long": 1})
RESULT = TrainingResult(2, 1.0, 9, 0.5, 1.0, 1000, "time")
FORM = FormSummary("Q8_0", 0.5, (0.1, 0.9), 0.1, (-0.1, 0.3), 1, 2, 3, 0.5, "cannot tell", 0.2, (0.1, 0.3), "better")
EXPORT = ExportOutput(
    "b2:e", "one", 3, ("r-one-F16.gguf",), True, TermsOfUse("unknown", ("a (unknown)",)),
    (Standing("sums", False, "better", 0.1, 0.5, 0.4, (0.1, 0.7)), Standing("talk", True, "not compared", why="why")),
    (TaskSummary("sums", False, 4, "trained", (FormSummary("trained", 0.5, (0.1, 0.9)), FORM), 0.1),), ("sums: F16",),
    ("b2:a",), FileChoice("Q8_0", "F16", 0.05, (FileStanding("Q8_0", 10, "good", "sums +0.0"),)), ("none",),
    ("resume",))
TUNING = TuningResult("one", Setting(1e-3, 16, 2.0), 2e-3, 1e-3, ("the loss falls",), (
    Try(1, Setting(1e-3, 16, 2.0), 20, 0.5, 0.4, 3.0, True),
    Try(1, Setting(9e-3, 16, 2.0), 9, None, None, 3.0, False, "no")),
    9.5, ("learning_rate", "rank"))
ATTEMPT = Attempt(20, (0.5, 0.4), (1e-3, 1e-4), 1.5, 0.4, 3.0, 2.0, 1, 0.5, "why")
SELECTED = Selected("s", 3, 2, {"verified": 1})
LEFT: tuple[StageOutput, ...] = (
    AugmentOutput(2, {"rephrase": {"kept": 2, "gate 'facts': no": 1}}, 0.25),
    CollectOutput(3, 0.5, 1, {"<x>": 2}, {"teacher": 3}),
    GradeOutput(("exact",), ("tokens",), (("exact", 2, ""), ("tokens", 1, "3f9a01bc"))),
    SelectOutput({"teacher": SELECTED}), RewriteOutput({"short": {"kept": 2, "too long": 1}}, {"short": SELECTED}),
    FormatOutput({"one": ArmDataset("b2:d", FACTS)}, 3, "sha256:s"), TuneOutput("b2:t", TUNING),
    TrainOutput({"one": (ArmAdapter("b2:x", 0, RESULT), ArmAdapter("b2:y", 1, RESULT))}),
    EvaluateOutput("b2:c", "one"), EXPORT)
KEPT: tuple[Stored, ...] = (
    *LEFT, FACTS, RESULT, TUNING, ATTEMPT,
    TrainingReport("torch_lora", "one", 0, "sha256:s", "sft", {"rank": 4}, RESULT, HeldBase("nf4", "x")),
    ParityReport((ParityItem("kl", False, 0.5, 0.1, "far"),), "float32"),
    ServedAnswers({"engine": "transformers"}, AnsweringPace("student", "sums", 3, 30, 0.5)))


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "runs", parse_recipe(RECIPE), RECIPE, {"stages": [], "base": str(tmp_path)})


def test_every_stage_has_its_work_its_output_and_inputs_that_come_before() -> None:
    names = [stage.name for stage in STAGES]
    assert names == list(OUTPUTS) == [left.stage for left in LEFT]
    for place, stage in enumerate(STAGES):
        assert isinstance(stage, Stage) and callable(STAGE_MODULES.load(stage.name))
        assert set(stage.inputs) <= set(names[:place]) and set(stage.sections) <= {*Recipe.model_fields, "rewrites",
                                                                                   "tune"}
    assert parse_recipe(RECIPE).stages() == ("collect", "select")


@pytest.mark.parametrize("output", LEFT, ids=lambda output: output.stage)
def test_an_output_comes_back_as_it_was_left(run: RunFolder, output: StageOutput) -> None:
    with pytest.raises(UsageError, match=f"no result of the stage '{output.stage}'"):
        read_output(run, type(output))
    assert not has_output(run, output.stage)
    write_output(run, output)
    assert read_output(run, type(output)) == output and has_output(run, output.stage)


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: type(kept).__name__)
def test_every_kept_value_is_read_back_and_a_newer_or_damaged_one_is_named(kept: Stored) -> None:
    kind, data = type(kept), unsealed(kept.to_bytes())
    assert kind.from_bytes(kept.to_bytes(), "it") == kept
    turned = kept.to_bytes().replace(b'"version": ', b'"version": 1')
    with pytest.raises(LocalDistillError, match=r"^it is damaged: it is not what was written$"):
        kind.from_bytes(turned, "it", "do that")
    with pytest.raises(LocalDistillError, match=r"^it was written by a newer localdistill \(version 99 ") as newer:
        kind.from_bytes(json.dumps({**data, "version": 99}).encode(), "it", "do that")
    assert newer.value.hint == "update localdistill, or do that"
    needed = next(field.name for field in dataclasses.fields(kept) if field.default is dataclasses.MISSING)
    bare = {"version": data["version"]}
    for damaged in (json.dumps({**data, needed: None}), json.dumps(bare), "{", "[]", "7", "\x00"):
        with pytest.raises(LocalDistillError, match=r"^it is damaged: .+$") as caught:
            kind.from_bytes(damaged.encode(), "it", "do that")
        assert "\n" not in caught.value.message and caught.value.hint == "do that"


def test_score_cards_come_back_whole_but_for_halves_of_characters() -> None:
    (card,) = ScoreCards.from_bytes(ScoreCards((CARD,)).to_bytes(), "cards").cards
    (flip,) = {flip.first_output for flip in card.comparisons[0].flips_won}
    assert flip == "half ? a character" and card.rows == CARD.rows
    measured = MeasuredForms((card,), (card,), ("b2:a",), ("sums: F16",))
    assert MeasuredForms.from_bytes(measured.to_bytes(), "measured") == measured


def test_a_damaged_output_is_named_with_its_run_and_what_to_do(run: RunFolder) -> None:
    (run.path / "stages" / "train.json").write_text('{"version": 1, "adapters": {"one": [{"seed": 0}]}}')
    with pytest.raises(LocalDistillError) as caught:
        read_output(run, TrainOutput)
    said = "the output of the stage 'train' of run r-1 is damaged: adapters.one.0.adapter: Field required"
    assert caught.value.message == said
    assert caught.value.hint == "localdistill resume r-1 makes it again" and not has_output(run, "train")


@pytest.mark.parametrize("archive", packed(), ids=lambda path: path.name)
def test_what_earlier_versions_left_is_read(archive: Path, tmp_path: Path) -> None:
    root = unpack(archive, tmp_path)
    run = RunFolder(root / "runs" / "chain-1")
    left = {stage: read_output(run, kind) for stage, kind in OUTPUTS.items()
            if stage not in ("augment", "tune")}  # they came later
    assert left["grade"] == GradeOutput(("exact",)), "of whom it saw the verdicts is not known"
    assert left["collect"] == CollectOutput(24) and left["rewrite"] == RewriteOutput({"short": {"kept": 21}})
    assert left["select"] == SelectOutput({"": Selected("chain", 21, 21)})
    dataset, train, made = (read_output(run, kind) for kind in (FormatOutput, TrainOutput, ExportOutput))
    assert isinstance(dataset, FormatOutput)
    assert dataset.arms["summary"].facts.title == "reasoning_then_answer@1 of extract"
    assert isinstance(train, TrainOutput) and [one.result.steps for one in train.adapters["full"]] == [3]
    assert isinstance(made, ExportOutput) and made.standings is None and made.measured[0].forms[3].form == "Q8_0"
    for file, kind in (("result.json", TrainingResult), ("training.json", TrainingReport), ("facts.json", DatasetFacts),
                       ("parity.json", ParityReport), ("measured.json", MeasuredForms), ("scorecard.json", ScoreCards)):
        found = list(root.glob(f"artifacts/*/*/{file}"))
        assert found and all(isinstance(kind.from_bytes(path.read_bytes(), file), kind) for path in found)
