"""export: the chosen arm is merged into its base and written for other programs. `best` chooses none that is not better
than the base, or that is worse on a guard. An export folder appears whole, with every file verified, or not at all."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Progressed
from localdistill.core.version import __version__
from localdistill.exporters import EXPORTERS
from localdistill.exporters.base import ExportJob
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.trained import TrainedModel, TrainedRow
from localdistill.scorecard import (
    Choice,
    ScoreCard,
    Standing,
    cautions,
    choose_arm,
    standing_json,
    standings_of,
)
from localdistill.stages.context import StageContext
from localdistill.stages.evaluate import Entrant, entrants, held_in_training
from localdistill.stages.forms import FormsMeasurer, summary_of
from localdistill.trainers.merge import merge
from localdistill.workspace.folder import Artifact

VERSION = 3
TERMS_ORDER = ("prohibited", "unknown", "conditional", "allowed", "")
"""Classes of terms of use, the strictest first."""
_PARITY, _MEASURED = "parity.json", "measured.json"
_COMPARED_ROWS, _COMPARED_TOKENS = 8, 512
"""Training rows on which the merged model is compared with the trained one, and the longest that are taken."""


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
    trained = [entrant for entrant in entrants(context) if entrant.name == arm]
    entrant = trained[0]
    if len(trained) > 1:
        context.note(f"arm '{arm}' was trained {len(trained)} times: this is that of seed {entrant.seed}")
    card = _card(context, entrant, cards)
    artifact = _artifact(context, entrant, card)
    files = sorted(name for name in artifact.manifest["files"] if name.endswith(".gguf"))
    context.note(f"arm '{arm}': " + ", ".join(files))
    measured = json.loads(artifact.file(_MEASURED).read_text()) if _MEASURED in artifact.manifest["files"] else {}
    forms, beside = ([ScoreCard.from_json(data) for data in measured.get(key, ())] for key in ("cards", "beside_base"))
    context.run.write_output(
        "export",
        {
            "export": artifact.digest,
            "arm": arm,
            "seed": entrant.seed,
            "files": files,
            "thinks": entrant.facts.get("thinks", False),
            "terms": card["terms_of_use"],
            "standings": [standing_json(standing) for standing in standings],
            "measured": [summary_of(*pair) for pair in zip_longest(forms, beside)],
            "not_measured": measured.get("not_measured", []),
            "answers": measured.get("answers", []),
        },
    )


def _score_cards(context: StageContext) -> list[ScoreCard]:
    """The contest of the evaluation; empty where the recipe has none."""
    if not context.recipe.evaluate:
        return []
    stored = context.artifact("scorecard", context.run.output("evaluate")["scorecard"])
    return [ScoreCard.from_json(data) for data in json.loads(stored.file("scorecard.json").read_text())]


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
    context.run.write_output("export", {
        "export": "", "arm": "", "files": [], "why_nothing": [choice.reason, *(c.sentence for c in choice.candidates)],
        "commands": commands})


def _say_standing(context: StageContext, arm: str, standings: Sequence[Standing]) -> None:
    """Whoever names an arm gets it, and is told what speaks against it or is not known."""
    if arm == "base":
        return
    if standings:
        context.note(f"arm {arm}: " + ", ".join(standing.sentence for standing in standings))
    for text in cautions(standings):
        context.warn(f"arm '{arm}': {text}")


def _artifact(context: StageContext, entrant: Entrant, card: dict[str, Any]) -> Artifact:
    """The export's folder, made unless it is there and whole."""
    section = context.recipe.export
    assert section is not None
    spec = {"to": [m.model_dump(mode="json") for m in section.to], "name": context.recipe.name, "arm": entrant.name}
    scored = context.run.output("evaluate")["scorecard"] if context.recipe.evaluate else ""
    inputs = [entrant.adapter, ModelFolder.open(context.student).digest(), scored]
    digest = context.workspace.artifact_digest("export", VERSION, spec, inputs)
    return context.make(("export", digest, entrant.name), {"inputs": inputs},
                        lambda staging: _build(context, entrant, card, staging))


def _build(context: StageContext, entrant: Entrant, card: dict[str, Any], staging: Path) -> None:
    """Fill the export's folder."""
    section = context.recipe.export
    assert section is not None
    merged = staging / ".merged"
    context.emit(Progressed("merging the adapter into the base", 0, 0))
    adapter = context.artifact("adapter", entrant.adapter).path / "adapter" if entrant.adapter else None
    merge(context.student, adapter, merged)
    name = f"{context.recipe.name}-{entrant.name}".replace("_", "-")
    measurer = FormsMeasurer(context, entrant, merged, name) if context.recipe.evaluate else None
    trained = _trained(context, entrant) if entrant.adapter else None
    job = ExportJob(merged, staging, name, bool(entrant.facts.get("thinks")), card, measurer, trained)
    (staging / _PARITY).unlink(missing_ok=True)
    written: list[Path] = []
    for member in section.to:
        context.cancel.check()
        try:
            written += context.member(EXPORTERS, member).export(job, context.emit, context.cancel)
        except LocalDistillError as error:
            _keep_report(context, staging / _PARITY, error)
            raise
    if not written:
        raise LocalDistillError("the exporters of this recipe wrote no file", 'add [[export.to]] with use = "gguf"')
    if measurer and measurer.cards:
        (staging / _MEASURED).write_text(json.dumps(measurer.to_json(), indent=1))
    shutil.rmtree(merged)


def _trained(context: StageContext, entrant: Entrant) -> TrainedModel:
    """The model that the entrant's adapter was trained as, with some of the rows that it was trained on."""
    import pyarrow.parquet as parquet

    rows = parquet.read_table(context.artifact("dataset", entrant.facts["dataset"]).file("rows.parquet"),
                              columns=["input_ids", "weights"]).to_pylist()
    fitting = sorted((row for row in rows if len(row["input_ids"]) <= _COMPARED_TOKENS),
                     key=lambda row: len(row["input_ids"]))
    if not fitting:
        fitting = [min(rows, key=lambda row: len(row["input_ids"]))]
    step = max(1, len(fitting) // _COMPARED_ROWS)
    held = held_in_training(context, entrant.adapter)
    return TrainedModel(
        context.student, context.artifact("adapter", entrant.adapter).path / "adapter",
        "nf4" if held.get("quantization") == "nf4" else "none", held.get("dtype", "float32"),
        tuple(TrainedRow(tuple(row["input_ids"]), tuple(row["weights"])) for row in fitting[::step][:_COMPARED_ROWS]))


def _keep_report(context: StageContext, report: Path, error: LocalDistillError) -> None:
    """Copy the report of a parity gate that failed into the run's folder, and let the error say so."""
    if not report.is_file() or json.loads(report.read_text())["passed"]:
        return
    kept = context.run.path / _PARITY
    shutil.copyfile(report, kept)
    error.hint = f"runs/{context.run.id}/{kept.name} holds every figure; nothing was exported"


def _card(context: StageContext, entrant: Entrant, cards: Sequence[ScoreCard] = ()) -> dict[str, Any]:
    """What the model card says; nothing in it names a path, a user or a host."""
    assert context.recipe.student is not None
    model = context.recipe.student.model
    public = model if model.startswith(("shipped:", "hf://")) else ModelFolder.open(context.student).architecture
    facts = entrant.facts
    trained_on = [trace for _, trace in context.store.lineage(facts["dataset"])] if facts else []
    card: dict[str, Any] = {
        "base_model": public,
        "recipe": context.recipe.name,
        "arm": entrant.name,
        "format": facts.get("format", ""),
        "rewrite": facts.get("rewrite", ""),
        "rows": facts.get("rows", 0),
        "thinks": facts.get("thinks", False),
        "trained_tokens": facts.get("trained_tokens", 0),
        "localdistill": __version__,
        "licences": context.store.licences(context.run.ids("select")),
        "terms_of_use": strictest_terms(context.store.terms(list(dict.fromkeys(trained_on)))),
        "num_ctx": context.recipe.student.max_tokens,
    }
    if context.recipe.evaluate:
        card["scorecard"] = [one.to_json() for one in cards]
    return card


def strictest_terms(said: Iterable[str]) -> dict[str, Any]:
    """The strictest class among `said` (each as in `Trace.terms`) and the names of all providers, with their classes;
    what is no known class counts as unknown."""
    classes, providers = {""}, set()
    for text in said:
        name, _, provider = text.partition(":")
        name = name if name in TERMS_ORDER else "unknown"
        classes.add(name)
        providers.add(f"{provider} ({name})" if provider else name)
    return {"strictest": min(classes, key=TERMS_ORDER.index), "providers": sorted(providers - {""})}
