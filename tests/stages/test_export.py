"""export: the strictest terms, what stays of a failed gate, forms that cannot be run, and adapters of quantized
training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from localdistill.core.errors import Cancelled, EngineError, LocalDistillError
from localdistill.core.events import Cancel, Emit, Noted, Warned
from localdistill.core.records import Prompt, Reply, Request
from localdistill.core.registry import Family
from localdistill.engines import ENGINES
from localdistill.exporters.gguf_parts.card import model_card
from localdistill.exporters.job import ExportJob
from localdistill.exporters.parity_report import ParityItem, ParityReport
from localdistill.recipe import Member
from localdistill.scorecard import ContestantResult, ItemResult, ScoreCard, ScoreCards, build_score_card, choose_file
from localdistill.stages import export, export_scores
from localdistill.stages.benchmarking import BASE, Bench, Contestant, benches
from localdistill.stages.context import StageContext
from localdistill.stages.evaluate import answers_of
from localdistill.stages.export_scores import FormsMeasurer
from localdistill.stages.outputs import (
    ArmAdapter,
    ArmDataset,
    DatasetFacts,
    EvaluateOutput,
    ExportOutput,
    FormatOutput,
    TermsOfUse,
    TrainOutput,
    read_output,
    write_output,
)
from localdistill.trainers.report import DevOutcome, HeldBase, TrainingReport, TrainingResult
from localdistill.trainers.torch_lora import TorchLoraTrainer
from tests.stages.test_collecting import listening
from tests.store.test_store import ids, prompt_number, trace_number
from tests.tiny_models import tiny_model

RECIPE = """
name = "r"
[traces]
files = ["x"]
[student]
model = "student"
[[arm]]
name = "one"
format = "full_trace"
[train]
use = "torch_lora"
[evaluate]
max_tokens = 4
[[evaluate.task]]
use = "jsonl"
path = "held_out.jsonl"
[export]
arm = "one"
[[export.to]]
use = "gguf"
"""


@pytest.fixture
def context(tmp_path: Path) -> StageContext:
    """A stage of a run whose earlier stages are done."""
    tiny_model(tmp_path / "student", "llama", hidden=32)
    rows = [{"messages": [{"role": "user", "content": f"Is {n} odd?"}], "reference": str(n)} for n in range(3)]
    (tmp_path / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = listening(tmp_path, RECIPE)
    made.store.add_prompts([prompt_number(n) for n in range(3)])
    made.store.add_traces([trace_number(0, terms="allowed:good"), trace_number(1, terms="prohibited:strict"),
                           trace_number(2, terms="conditional:between")])
    return made


@pytest.mark.parametrize(("said", "strictest", "providers"), [
    ([], "", []),
    ([""], "", []),
    (["allowed:a", ""], "allowed", ["a (allowed)"]),
    (["allowed:a", "conditional:b"], "conditional", ["a (allowed)", "b (conditional)"]),
    (["unknown:c", "conditional:b", "allowed:a"], "unknown", ["a (allowed)", "b (conditional)", "c (unknown)"]),
    (["prohibited:d", "unknown:c"], "prohibited", ["c (unknown)", "d (prohibited)"]),
    (["nonsense:e", "allowed:a"], "unknown", ["a (allowed)", "e (unknown)"]),
    (["prohibited"], "prohibited", ["prohibited"]),
])
def test_the_strictest_class_wins_and_every_provider_is_named(
    said: list[str], strictest: str, providers: list[str]
) -> None:
    assert export.strictest_terms(said) == TermsOfUse(strictest, tuple(providers))


def test_terms_are_those_of_the_rows_that_the_arm_was_trained_on(context: StageContext) -> None:
    context.store.add_lineage("b2:data", [("r0", ids(0)[0]), ("r2", ids(2)[0])])
    write_output(context.run, EvaluateOutput(scorecard(context), "one"))
    assert export._card(context, Contestant("one", dataset()))["terms_of_use"] == {
        "strictest": "conditional", "providers": ("between (conditional)", "good (allowed)")}
    assert export._card(context, BASE)["terms_of_use"]["strictest"] == ""


def test_the_card_says_which_weights_development_items_kept(context: StageContext, tmp_path: Path) -> None:
    context.workspace.make_artifact("adapter", "b2:ada", {}, lambda staging: (staging / "adapter").mkdir())
    made = adapter("b2:ada")
    dev = DevOutcome(20, ((50, 0.25), (100, 0.4), (150, 0.3)), 150, 100, 1, "best", True, 9.0)
    chosen = dataclasses.replace(made, result=dataclasses.replace(made.result, dev=dev))
    for one, said in ((made, False), (chosen, True)):
        card = export._card(context, Contestant("one", dataset(), one))
        written = model_card(ExportJob(tmp_path, tmp_path, "mine", True, card), (), {}, library="transformers")
        assert ("| kept weights | step 100 of 150, development score 40.0 %, the best of 3" in written) is said


def dataset(thinks: bool = True) -> ArmDataset:
    return ArmDataset("b2:data", DatasetFacts("one", "full_trace@1", thinks, 3, 9, 30, 10, 10, 2))


def adapter(digest: str = "b2:ada") -> ArmAdapter:
    return ArmAdapter(digest, 0, TrainingResult(2, 1.0, 9, 0.5, 1.0, 1000))


def trained(context: StageContext) -> None:
    """The stages before the evaluation are done."""
    write_output(context.run, TrainOutput({"one": (adapter(),)}))
    write_output(context.run, FormatOutput({"one": dataset()}, 3, "sha256:student"))


def scorecard(context: StageContext) -> str:
    def build(staging: Path) -> None:
        (staging / "scorecard.json").write_bytes(ScoreCards(()).to_bytes())

    return context.workspace.make_artifact("scorecard", "b2:5c", {}, build)[0].digest


REFUSED = ParityReport((ParityItem("kl", False, 1.0, 0.1),), "float32")


class FailedGate:
    """An exporter whose file did not behave."""

    def export(self, job: ExportJob, emit: Emit, cancel: Cancel) -> list[Path]:
        REFUSED.write(job.output / "parity.json")
        raise LocalDistillError("the GGUF does not behave like the merged model: kl", "parity.json holds every figure")


def test_the_report_of_a_failed_gate_is_kept_with_the_run_and_named(
    context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_output(context.run, EvaluateOutput(scorecard(context), "base"))
    trained(context)
    context.recipe = context.recipe.model_copy(update={"export": context.recipe.export.model_copy(  # type: ignore[union-attr]
        update={"arm": "base"})})
    monkeypatch.setattr(StageContext, "member", lambda self, family, member: FailedGate())
    with pytest.raises(LocalDistillError, match="kl") as caught:
        export.run(context)
    assert "runs/r-1/parity.json" in caught.value.hint
    assert ParityReport.from_bytes((context.run.path / "parity.json").read_bytes(), "parity.json") == REFUSED
    assert context.workspace.list_artifacts()[-1].kind != "export"


def cards(**right: int) -> list[ScoreCard]:
    """One target task of ten items, each model with so many right."""
    models = [ContestantResult(name, 0, "f", False, 9, "", tuple(
        ItemResult(f"p{n}", float(n < count), True, False, 5) for n in range(10))) for name, count in right.items()]
    return [build_score_card(models, base="base", task="sums", grader="exact")]


def evaluated(context: StageContext, found: list[ScoreCard], arm: str) -> None:
    """Earlier stages are done and the recipe exports `arm`."""
    def build(staging: Path) -> None:
        (staging / "scorecard.json").write_bytes(ScoreCards(tuple(found)).to_bytes())

    digest = context.workspace.make_artifact("scorecard", "b2:cards", {}, build)[0].digest
    write_output(context.run, EvaluateOutput(digest, "one"))
    trained(context)
    section = context.recipe.export
    assert section is not None
    context.recipe = context.recipe.model_copy(update={"export": section.model_copy(update={"arm": arm})})


@pytest.mark.parametrize("right", [{"base": 0, "one": 0}, {"base": 9, "one": 0}, {"base": 4, "one": 6}, {"one": 9}])
def test_an_arm_that_is_not_better_is_never_exported_as_best(context: StageContext, right: dict[str, int]) -> None:
    evaluated(context, cards(**right), "best")
    export.run(context)
    made = read_output(context.run, ExportOutput)
    assert (made.export, made.files) == ("", ()) and "no arm is better than the base" in made.why_nothing[0]
    assert not [a for a in context.workspace.list_artifacts() if a.kind == "export"]
    (warned,) = [e for e in context.heard if isinstance(e, Warned)]  # type: ignore[attr-defined]
    assert warned.text.startswith("nothing is exported: ")
    assert all(command in warned.hint for command in made.commands)
    assert [command.split(" -w ")[0] for command in made.commands] == [
        "localdistill resume r-1 --arm one", "localdistill export RECIPE --set export.arm=one"]


def test_best_is_read_from_the_card_and_never_from_a_damaged_one(context: StageContext) -> None:
    evaluated(context, cards(base=0, one=0), "best")
    path = context.workspace.artifacts / "scorecard" / "cards" / "scorecard.json"
    path.write_text(path.read_text().replace('"cannot tell"', '"better"     '))
    with pytest.raises(LocalDistillError, match=r"scorecard b2:cards is damaged: scorecard\.json") as caught:
        export.run(context)
    assert "localdistill resume r-1" in caught.value.hint


class WritesOne:
    """An exporter whose file is good."""

    def export(self, job: ExportJob, emit: Emit, cancel: Cancel) -> list[Path]:
        (job.output / f"{job.name}-F16.gguf").write_bytes(b"weights")
        return [job.output / f"{job.name}-F16.gguf"]


class WritesNothing:
    """An exporter without a result."""

    def export(self, job: ExportJob, emit: Emit, cancel: Cancel) -> list[Path]:
        return []


def test_a_named_arm_is_exported_and_what_speaks_against_it_is_said(
    context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated(context, cards(base=9, one=0), "best")
    context.run.amend_request(export_arm="one")
    context.workspace.make_artifact("adapter", "b2:ada", {}, lambda staging: (staging / "adapter").mkdir())
    row = pa.Table.from_pylist([{"input_ids": [5, 6], "weights": [0.0, 1.0]}])
    context.workspace.make_artifact("dataset", "b2:data", {}, lambda staging: parquet.write_table(
        row, staging / "rows.parquet"))
    monkeypatch.setattr(TorchLoraTrainer, "merge", lambda self, student, output, merged, *more: merged.mkdir())
    monkeypatch.setattr(StageContext, "member", lambda self, family, member: WritesOne())
    export.run(context)
    made = read_output(context.run, ExportOutput)
    assert made.files == ("r-one-F16.gguf",) and made.standings is not None and made.standings[0].verdict == "worse"
    warned = [e.text for e in context.heard if isinstance(e, Warned)]  # type: ignore[attr-defined]
    assert "arm 'one': worse on sums (-90.0 points)" in warned
    assert any("no guard task was run" in text for text in warned)
    folder = context.workspace.artifacts / "export" / made.export.removeprefix("b2:")
    (folder / "mine.gguf").write_bytes(b"nobody wrote this")
    export.run(context)
    assert read_output(context.run, ExportOutput) == made, "a stranger in the folder is no file of the export"


def test_without_a_file_nothing_is_called_exported(context: StageContext, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated(context, cards(base=0, one=9), "base")
    monkeypatch.setattr(TorchLoraTrainer, "merge", lambda self, student, output, merged, *more: merged.mkdir())
    monkeypatch.setattr(StageContext, "member", lambda self, family, member: WritesNothing())
    with pytest.raises(LocalDistillError, match="wrote no file"):
        export.run(context)
    assert not (context.run.path / "stages" / "export.json").exists()


class Student:
    """An engine that answers with a fixed text, or fails."""

    name = "student"

    def __init__(self, text: str, error: Exception | None = None) -> None:
        self.text, self.error = text, error

    def identity(self) -> str:
        return self.text

    def answer(self, requests: Any, emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        for request in requests:
            if self.error:
                raise self.error
            assert isinstance(request, Request) and request.sampling.max_tokens == 4
            yield Reply(request.id, "complete", answer=self.text, raw=self.text, finish_reason="stop")

    def close(self) -> None:
        pass


def engines_are(monkeypatch: pytest.MonkeyPatch, make: Callable[[Member], Student]) -> None:
    """Whoever builds an engine is given what `make` makes; members of other families are the real ones."""
    real = StageContext.member

    def member(self: StageContext, family: Family, member: Member) -> Any:
        return make(member) if family is ENGINES else real(self, family, member)

    monkeypatch.setattr(StageContext, "member", member)


def measurer(context: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
             file: Student) -> tuple[FormsMeasurer, list[Member]]:
    asked: list[Member] = []

    def engine(member: Member) -> Student:
        asked.append(member)
        return file if member.use == "llama_cpp" else Student("The answer is 1.")

    engines_are(monkeypatch, engine)
    return FormsMeasurer(context, BASE, tmp_path / "student", "r-base"), asked


def test_files_are_asked_what_the_trained_model_was_asked(
    context: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r-base-Q8_0.gguf").write_bytes(b"weights")
    made, asked = measurer(context, tmp_path, monkeypatch, Student("The answer is 2."))
    [card] = made([tmp_path / "r-base-Q8_0.gguf"])
    assert [row.name for row in card.rows] == ["trained", "merged", "Q8_0"] and card.items == 3
    found = {entry.first: entry for entry in card.comparisons}
    assert (found["merged"].same_text, found["merged"].won, found["merged"].lost) == (3, 0, 0)
    assert (found["Q8_0"].same_text, found["Q8_0"].won, found["Q8_0"].lost) == (0, 1, 1)
    options = asked[-1].options
    assert options["model"].endswith("Q8_0.gguf") and 4 < options["context_tokens"] <= 512
    again, asked_again = measurer(context, tmp_path, monkeypatch, Student("nobody is asked twice"))
    assert again([tmp_path / "r-base-Q8_0.gguf"]) == [card] and asked_again == []


def test_damaged_answers_are_never_counted_but_asked_again(
    context: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, asked = measurer(context, tmp_path, monkeypatch, Student(""))
    [bench] = benches(context)
    base = BASE
    once = answers_of(context, bench, base)
    path = context.workspace.artifacts / "answers" / once.answers.removeprefix("b2:") / "items.jsonl"
    path.write_text(path.read_text().replace('"score": 0.0', '"score": 1.0'))
    assert answers_of(context, bench, base) == once and len(asked) == 2
    (warned,) = [e.text for e in context.heard if isinstance(e, Warned)]  # type: ignore[attr-defined]
    assert warned.startswith("the answers 'jsonl: base' is damaged (items.jsonl is not what was written)")
    assert '"score": 1.0' in next((tmp_path / "damaged").glob("answers-*/items.jsonl")).read_text()
    (path.parent / "notes.txt").write_text("mine")
    assert answers_of(context, bench, base) == once and len(asked) == 2
    said = [e.text for e in context.heard if isinstance(e, Warned)][-1]  # type: ignore[attr-defined]
    assert said.startswith("no stage wrote notes.txt in artifacts/answers/") and (path.parent / "notes.txt").exists()


def test_forms_are_set_beside_the_base_too(
    context: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r-one-Q8_0.gguf").write_bytes(b"weights")
    context.workspace.make_artifact("adapter", "b2:ada", {}, lambda staging: (staging / "adapter").mkdir())
    measurer(context, tmp_path, monkeypatch, Student("The answer is 2."))
    one = Contestant("one", dataset(), adapter())
    made = FormsMeasurer(context, one, tmp_path / "student", "r-one")
    [card] = made([tmp_path / "r-one-Q8_0.gguf"])
    summary = export_scores.summary_of(card, made.beside[0])
    assert summary.base == pytest.approx(1 / 3)
    assert [form.form for form in summary.forms] == ["trained", "merged", "Q8_0"]
    assert [form.base_verdict for form in summary.forms] == ["cannot tell"] * 3
    assert made.measured().beside_base == (made.beside[0],)


def test_a_file_that_cannot_be_run_is_said_to_be_so_and_the_rest_is_measured(
    context: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "r-base-F16.gguf").write_bytes(b"weights")
    made, _ = measurer(context, tmp_path, monkeypatch, Student("", EngineError("it died", "look")))
    [card] = made([tmp_path / "r-base-F16.gguf"])
    assert [row.name for row in card.rows] == ["trained", "merged"]
    assert made.measured().not_measured == ("jsonl: F16: EngineError",)
    warned = [e.text for e in context.heard if isinstance(e, Warned)]  # type: ignore[attr-defined]
    assert warned == ["F16 was not measured on jsonl: it died"]
    made, _ = measurer(context, tmp_path, monkeypatch, Student("", Cancelled("stop")))
    with pytest.raises(Cancelled):
        made([tmp_path / "r-base-F16.gguf"])


@pytest.mark.parametrize(("held", "expected"), [
    ({"quantization": "nf4", "dtype": "bfloat16"}, {"quantization": "nf4", "dtype": "bfloat16"}),
    ({"quantization": "none", "dtype": "bfloat16"}, {}),
    ({}, {}),
])
def test_an_adapter_and_its_base_answer_on_the_weights_that_it_was_trained_on(
    context: StageContext, monkeypatch: pytest.MonkeyPatch, held: dict[str, str], expected: dict[str, str]
) -> None:
    def build(staging: Path) -> None:
        (staging / "adapter").mkdir()
        report = TrainingReport("torch_lora", "one", 0, "sha256:student", "sft", {}, adapter().result,
                                HeldBase(**held) if held else None)
        (staging / "training.json").write_bytes(report.to_bytes())

    made, _ = context.workspace.make_artifact("adapter", "b2:ada", {}, build)
    asked: list[Member] = []

    def engine(member: Member) -> Student:
        asked.append(member)
        return Student("1")

    engines_are(monkeypatch, engine)
    [bench] = benches(context)
    trained(context)
    for contestant in (Contestant("one", dataset(), adapter(made.digest)), BASE):
        answers_of(context, bench, contestant)
        found = {key: value for key, value in asked[-1].options.items() if key not in ("model", "adapter")}
        assert found == expected and ("adapter" in asked[-1].options) is (contestant is not BASE)


def test_an_importance_matrix_is_measured_on_other_rows_than_the_model_is_compared_on(context: StageContext) -> None:
    def build(staging: Path) -> None:
        (staging / "adapter").mkdir()

    made, _ = context.workspace.make_artifact("adapter", "b2:ada", {}, build)
    rows = [[number, number + 1] * (1 + number % 3) for number in range(20)]

    def write(staging: Path) -> None:
        table = pa.table({"input_ids": rows, "weights": [[1.0] * len(row) for row in rows]})
        parquet.write_table(table, staging / "rows.parquet")

    context.workspace.make_artifact("dataset", "b2:data", {}, write)
    found = export._trained(context, Contestant("one", dataset(), adapter(made.digest)))
    compared, others = [list(row.ids) for row in found.rows], [list(row) for row in found.others()]
    assert len(compared) == 8 and sorted(compared + others) == sorted(rows)
    assert others != sorted(others) and others == [list(row) for row in found.others()]


def test_replies_that_did_not_end_by_themselves_are_not_finished(
    context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = iter(["stop", "length", ""])

    class Ending(Student):
        def answer(self, requests: Any, emit: Emit, cancel: Cancel) -> Iterator[Reply]:
            for reply in super().answer(requests, emit, cancel):
                yield dataclasses.replace(reply, finish_reason=next(ends))

    engines_are(monkeypatch, lambda member: Ending("1"))
    [bench] = benches(context)
    items = answers_of(context, bench, BASE).items
    assert [(item.finished, item.hit_limit) for item in items] == [(True, False), (False, True), (False, False)]


def test_items_without_an_answer_are_said_and_a_task_without_any_is_an_error(
    context: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuses = iter([False, True, True])

    class Strict(Student):
        def answer(self, requests: Any, emit: Emit, cancel: Cancel) -> Iterator[Reply]:
            for reply in super().answer(requests, emit, cancel):
                yield Reply(reply.request_id, "error", error="not like this") if next(refuses, True) else reply

    engines_are(monkeypatch, lambda member: Strict("1"))
    [bench] = benches(context)
    items = answers_of(context, bench, BASE).items
    warned = [e for e in context.heard if isinstance(e, Warned)]  # type: ignore[attr-defined]
    assert len(items) == 3 and "2 of 3 items got no reply" in warned[0].text
    assert "2 x not like this" in warned[0].text
    with pytest.raises(LocalDistillError, match="no item could be answered: not like this"):
        answers_of(context, bench, Contestant("base", dataset()))


def test_the_context_holds_the_longest_question_and_its_answer(context: StageContext, tmp_path: Path) -> None:
    made = FormsMeasurer(context, BASE, tmp_path / "student", "r-base")
    [bench] = benches(context)
    short = made._context_tokens(bench)
    longer = dataclasses.replace(bench, prompts=[Prompt(bench.prompts[0].messages * 3)])
    assert isinstance(bench, Bench) and short < made._context_tokens(longer) <= 512
    assert export_scores.MERGED == "merged"


def test_the_file_to_take_is_chosen_beside_the_sixteen_bit_one(
    context: StageContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"r-base-{kind}.gguf" for kind in ("F16", "Q8_0")]
    for file, size in zip(files, (40, 20), strict=True):
        file.write_bytes(b"w" * size)
    made, _ = measurer(context, tmp_path, monkeypatch, Student("The answer is 2. " * 60))
    made(files)
    kept = made.measured()
    assert kept.choice is not None and (kept.choice.form, kept.choice.against) == ("F16", "F16"), "3 items tell nothing"
    assert kept.choice.unclear and not kept.choice.worse
    chosen = choose_file(kept.beside_source, {"F16": 40, "Q8_0": 20}, 1.0)
    assert chosen is not None and chosen.form == "Q8_0"
    assert [card.base for card in kept.beside_source] == ["F16"]
    assert [entry.same_text for entry in kept.beside_source[0].comparisons] == [3]
    summary = export_scores.summary_of(kept.cards[0])
    assert [form.loops for form in summary.forms] == [0, 0, 3, 3]
    heard = [e.text for e in context.heard if isinstance(e, Noted)]  # type: ignore[attr-defined]
    assert kept.choice.sentence in heard
