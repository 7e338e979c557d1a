"""export: the chosen arm is merged into its base and written for other programs. `best` chooses none that is not better
than the base, or that is worse on a guard. An export folder appears whole, with every file verified, or not at all."""

from __future__ import annotations

import dataclasses
import random
import shlex
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Progressed
from localdistill.core.version import __version__
from localdistill.exporters import EXPORTERS
from localdistill.exporters.job import ExportJob
from localdistill.exporters.parity_report import PARITY_FILE, ParityReport
from localdistill.hub.names import in_hub
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.gguf_files import is_model_file
from localdistill.modelfiles.trained import TrainedModel, TrainedRow
from localdistill.scorecard import Choice, ScoreCard, ScoreCards, Standing, cautions, choose_arm, standings_of
from localdistill.stages.benchmarking import Contestant
from localdistill.stages.context import StageContext
from localdistill.stages.evaluate import contestants
from localdistill.stages.export_scores import FormsMeasurer, summary_of
from localdistill.stages.outputs import (
    MEASURED_FILE,
    SCORECARD_FILE,
    EvaluateOutput,
    ExportOutput,
    MeasuredForms,
    TermsOfUse,
    read_output,
    write_output,
)
from localdistill.trainers.report import REPORT_FILE, TrainingReport
from localdistill.workspace.folder import Artifact

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = 4
TERMS_ORDER = ("prohibited", "unknown", "conditional", "allowed", "")
"""Classes of terms of use, the strictest first."""
_LIBRARIES = ("torch", "transformers", "peft", "mlx-lm", "llama-cpp-python")
_COMPARED_ROWS, _COMPARED_TOKENS = 8, 512
"""Training rows on which the merged model is compared with the trained one, and the longest that are taken."""
_ORDER = 20260214
"""Chance of the order in which the other rows are read."""


def run(context: StageContext) -> None:
    """Leave the digest of the export, what its files scored, and the terms of what it was trained on; or, where no arm
    may be exported unasked, why."""
    section = context.recipe.export
    assert section is not None and context.recipe.student is not None
    cards = _score_cards(context)
    arm = str(context.run.request().get("export_arm") or section.arm)
    if arm == "best":
        choice = choose_arm(cards)
        if not choice.arm:
            _export_nothing(context, choice)
            return
        arm = choice.arm
    standings = standings_of(cards, arm) if arm != "base" else ()
    _say_standing(context, arm, standings)
    trained = [contestant for contestant in contestants(context) if contestant.name == arm]
    contestant = trained[0]
    if len(trained) > 1:
        context.note(f"arm '{arm}' was trained {len(trained)} times: this is that of seed {contestant.seed}")
    card = _card(context, contestant, cards)
    artifact = _artifact(context, contestant, card)
    files = sorted(filter(is_model_file, artifact.manifest["files"]))
    folders = sorted({name.partition("/")[0] for name in artifact.manifest["files"] if "/" in name})
    context.note(f"arm '{arm}': " + ", ".join([*files, *folders]))
    measured = MeasuredForms(())
    if MEASURED_FILE in artifact.manifest["files"]:
        measured = MeasuredForms.from_bytes(artifact.file(MEASURED_FILE).read_bytes(), f"{MEASURED_FILE} of the export")
    write_output(context.run, ExportOutput(
        export=artifact.digest,
        arm=arm,
        seed=contestant.seed,
        files=tuple(files),
        thinks=contestant.thinks,
        terms=_terms(context, contestant),
        standings=tuple(standings),
        measured=tuple(summary_of(card, beside)
                       for card, beside in zip_longest(measured.cards, measured.beside_base)),
        choice=measured.choice,
        not_measured=measured.not_measured,
        answers=measured.answers,
    ))


def _score_cards(context: StageContext) -> list[ScoreCard]:
    """The contest of the evaluation; empty where the recipe has none."""
    if not context.recipe.evaluate:
        return []
    stored = context.artifact("scorecard", read_output(context.run, EvaluateOutput).scorecard)
    return list(ScoreCards.from_bytes(stored.file(SCORECARD_FILE).read_bytes(), SCORECARD_FILE).cards)


def _export_nothing(context: StageContext, choice: Choice) -> None:
    """Say what was found, leave it, and name the commands that export an arm all the same."""
    arms = [candidate.arm for candidate in choice.candidates] or [arm.name for arm in context.recipe.arms]
    named, place = context.run.request().get("named") or "RECIPE", shlex.quote(str(context.workspace.root))
    commands = [f"localdistill resume {context.run.id} --arm {arms[0]} -w {place}",
                f"localdistill export {named} --set export.arm={arms[0]} -w {place}"]
    if choice.candidates:
        context.note("\n".join(candidate.sentence for candidate in choice.candidates))
    context.warn(f"nothing is exported: {choice.reason}",
                 f"{commands[0]}\n    or: {commands[1]}\n    which exports {arms[0]} all the same; "
                 f"{', '.join([*arms[1:], 'base'])} can be named instead")
    context.worked()
    why = (choice.reason, *(candidate.sentence for candidate in choice.candidates))
    write_output(context.run, ExportOutput("", standings=(), why_nothing=why, commands=tuple(commands)))


def _say_standing(context: StageContext, arm: str, standings: Sequence[Standing]) -> None:
    """Whoever names an arm gets it, and is told what speaks against it or is not known."""
    if arm == "base":
        return
    if standings:
        context.note(f"arm {arm}: " + ", ".join(standing.sentence for standing in standings))
    for text in cautions(standings):
        context.warn(f"arm '{arm}': {text}")


def _artifact(context: StageContext, contestant: Contestant, card: dict[str, Any]) -> Artifact:
    """The export's folder, made unless it is there and whole."""
    section = context.recipe.export
    assert section is not None
    spec = {"to": [m.model_dump(mode="json") for m in section.to], "name": context.recipe.name, "arm": contestant.name,
            "tolerance": section.tolerance}
    scored = read_output(context.run, EvaluateOutput).scorecard if context.recipe.evaluate else ""
    inputs = [_adapter(contestant), ModelFolder.open(context.student).digest(), scored]
    digest = context.workspace.artifact_digest("export", VERSION, spec, inputs)
    return context.make(("export", digest, contestant.name), {"inputs": inputs},
                        lambda staging: _build(context, contestant, card, staging),
                        emit=contestant.tells(context.emit))


def _adapter(contestant: Contestant) -> str:
    return contestant.adapter.adapter if contestant.adapter else ""


def _build(context: StageContext, contestant: Contestant, card: dict[str, Any], staging: Path) -> None:
    """Fill the export's folder."""
    section = context.recipe.export
    assert section is not None
    merged = staging / ".merged"
    emit = contestant.tells(context.emit)
    emit(Progressed("merging the adapter into the base", 0, 0))
    output = context.artifact("adapter", _adapter(contestant)).path if contestant.adapter else None
    context.trainer.merge(context.student, output, merged, emit, context.cancel)
    name = f"{context.recipe.name}-{contestant.name}".replace("_", "-")
    measurer = FormsMeasurer(context, contestant, merged, name) if context.recipe.evaluate else None
    trained = _trained(context, contestant) if contestant.adapter else None
    card = {**card, "evaluated_tokens": measurer.longest_text} if measurer else card
    job = ExportJob(merged, staging, name, contestant.thinks, card, measurer, trained,
                    None if output is None else output / "adapter")
    (staging / PARITY_FILE).unlink(missing_ok=True)
    written: list[Path] = []
    for member in section.to:
        context.cancel.check()
        try:
            written += context.member(EXPORTERS, member).export(job, emit, context.cancel)
        except LocalDistillError as error:
            _keep_report(context, staging / PARITY_FILE, error)
            raise
    if not written:
        raise LocalDistillError("the exporters of this recipe wrote no file", 'add [[export.to]] with use = "gguf"')
    if measurer and measurer.cards:
        (staging / MEASURED_FILE).write_bytes(measurer.measured().to_bytes())
    shutil.rmtree(merged)


def _trained(context: StageContext, contestant: Contestant) -> TrainedModel:
    """The model that the contestant's adapter was trained as, with some of the rows that it was trained on."""
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    assert contestant.dataset is not None
    table = parquet.read_table(context.artifact("dataset", contestant.dataset.dataset).file("rows.parquet"),
                               columns=["input_ids", "weights"])
    lengths = dict(enumerate(compute.list_value_length(table["input_ids"]).to_pylist()))
    fitting = sorted((place for place in lengths if lengths[place] <= _COMPARED_TOKENS), key=lengths.__getitem__)
    if not fitting:
        fitting = [min(lengths, key=lengths.__getitem__)]
    taken = fitting[::max(1, len(fitting) // _COMPARED_ROWS)][:_COMPARED_ROWS]
    left = sorted(set(lengths) - set(taken)) or taken
    output = context.artifact("adapter", _adapter(contestant)).path
    return TrainedModel(
        tuple(TrainedRow(tuple(row["input_ids"]), tuple(row["weights"])) for row in table.take(taken).to_pylist()),
        partial(context.trainer.logprobs, context.student, output),
        context.trainer.served(context.student, output).held, lambda: _shuffled(table["input_ids"], left))


def _shuffled(ids: pa.ChunkedArray, places: Sequence[int]) -> Iterator[Sequence[int]]:
    """The rows at `places`, in an order that is the same every time."""
    for place in random.Random(_ORDER).sample(places, len(places)):
        yield ids[place].as_py()


def _keep_report(context: StageContext, report: Path, error: LocalDistillError) -> None:
    """Copy the report of a parity gate that failed into the run's folder, and let the error say so."""
    if not report.is_file() or ParityReport.from_bytes(report.read_bytes(), PARITY_FILE).passed:
        return
    kept = context.run.path / PARITY_FILE
    shutil.copyfile(report, kept)
    error.hint = f"runs/{context.run.id}/{kept.name} holds every figure; nothing was exported"


def _card(context: StageContext, contestant: Contestant, cards: Sequence[ScoreCard] = ()) -> dict[str, Any]:
    """What the model card says; nothing in it names a path, a user or a host."""
    assert context.recipe.student is not None
    model = context.recipe.student.model
    public = model if model.startswith("shipped:") or in_hub(model) else ModelFolder.open(context.student).architecture
    facts = contestant.dataset.facts if contestant.dataset else None
    card: dict[str, Any] = {
        "base_model": public,
        "recipe": context.recipe.name,
        "arm": contestant.name,
        "format": facts.format if facts else "",
        "rewrite": facts.rewrite if facts else "",
        "rows": facts.rows if facts else 0,
        "thinks": "as it is told" if contestant.thinks is None else contestant.thinks,
        "rests_on": _rests_on(context, contestant),
        "trained_tokens": contestant.adapter.result.trained_tokens if contestant.adapter else 0,
        "kept_weights": _kept(contestant),
        "seed": contestant.seed if contestant.adapter else "",
        "came_out": contestant.adapter.result.came_out if contestant.adapter else "",
        "learned": contestant.adapter.result.learned if contestant.adapter else "",
        "dataset": contestant.dataset.dataset if contestant.dataset else "",
        "student": ModelFolder.open(context.student).digest(),
        "localdistill": __version__,
        "libraries": ", ".join(_libraries()),
        "licences": context.store.licences(context.run.ids("select")),
        "terms_of_use": dataclasses.asdict(_terms(context, contestant)),
        "num_ctx": context.recipe.student.max_tokens,
    }
    if context.recipe.evaluate:
        card["scorecard"] = [one.to_json() for one in cards]
    return card


def _libraries() -> Iterator[str]:
    """Those that had a part in it, with their versions."""
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            yield f"{name} {version(name)}"


def _rests_on(context: StageContext, contestant: Contestant) -> str:
    """How the base was held while the contestant was trained, where that was not as it is stored."""
    if contestant.adapter is None:
        return ""
    file = context.artifact("adapter", _adapter(contestant)).path / REPORT_FILE
    held = TrainingReport.from_bytes(file.read_bytes(), REPORT_FILE).base if file.is_file() else None
    return "" if held is None or held.quantization == "none" else f"weights held as {held.quantization}"


def _kept(contestant: Contestant) -> str:
    """Which step's weights came out and why, where development items had a say."""
    dev = contestant.adapter.result.dev if contestant.adapter else None
    return dev.told() if dev else ""


def _terms(context: StageContext, contestant: Contestant) -> TermsOfUse:
    """The terms of those whose traces it was trained on."""
    if contestant.dataset is None:
        return strictest_terms(())
    trained_on = [trace for _, trace in context.store.lineage(contestant.dataset.dataset)]
    return strictest_terms(context.store.terms(list(dict.fromkeys(trained_on))))


def strictest_terms(said: Iterable[str]) -> TermsOfUse:
    """The strictest class among `said` (each as in `Trace.terms`) and the names of all providers, with their classes;
    what is no known class counts as unknown."""
    classes, providers = {""}, set()
    for text in said:
        name, _, provider = text.partition(":")
        name = name if name in TERMS_ORDER else "unknown"
        classes.add(name)
        providers.add(f"{provider} ({name})" if provider else name)
    return TermsOfUse(min(classes, key=TERMS_ORDER.index), tuple(sorted(providers - {""})))
