"""export: the chosen arm is merged into its base and written for other programs. An export folder appears whole, with
every file verified, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from localdistill import __version__
from localdistill.errors import LocalDistillError
from localdistill.events import Noted, Progressed
from localdistill.exporters import EXPORTERS
from localdistill.exporters.base import ExportJob
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.trained import TrainedModel, TrainedRow
from localdistill.scorecard import ScoreCard
from localdistill.stages.context import StageContext
from localdistill.stages.evaluate import Entrant, entrants, held_in_training
from localdistill.stages.forms import FormsMeasurer, summary_of
from localdistill.trainers.merge import merge

VERSION = 2
TERMS_ORDER = ("prohibited", "unknown", "conditional", "allowed", "")
"""Classes of terms of use, the strictest first."""
_PARITY, _MEASURED = "parity.json", "measured.json"
_COMPARED_ROWS, _COMPARED_TOKENS = 8, 512
"""Training rows on which the merged model is compared with the trained one, and the longest that are taken."""


def run(context: StageContext) -> None:
    """Leave the digest of the export, what its files scored, and the terms of what it was trained on."""
    section = context.recipe.export
    assert section is not None and context.recipe.student is not None
    arm = context.run.output("evaluate")["best"] if section.arm == "best" else section.arm
    entrant = next(entrant for entrant in entrants(context) if entrant.name == arm)
    card = _card(context, entrant)
    spec = {"to": [m.model_dump(mode="json") for m in section.to], "name": context.recipe.name, "arm": arm}
    scored = context.run.output("evaluate")["scorecard"] if context.recipe.evaluate else ""
    inputs = [entrant.adapter, ModelFolder.open(context.student).digest(), scored]
    digest = context.workspace.artifact_digest("export", VERSION, spec, inputs)
    artifact, found = context.workspace.make_artifact(
        "export", digest, {"label": arm, "inputs": inputs}, lambda staging: _build(context, entrant, card, staging)
    )
    context.announce(artifact, arm, reused=found)
    files = sorted(p.name for p in artifact.path.iterdir() if p.suffix == ".gguf")
    context.emit(Noted("export", f"arm '{arm}': " + ", ".join(files)))
    measured = json.loads(artifact.file(_MEASURED).read_text()) if _MEASURED in artifact.manifest["files"] else {}
    context.run.write_output(
        "export",
        {
            "export": digest,
            "arm": arm,
            "files": files,
            "thinks": entrant.facts.get("thinks", False),
            "terms": card["terms_of_use"],
            "measured": [summary_of(ScoreCard.from_json(data)) for data in measured.get("cards", ())],
            "not_measured": measured.get("not_measured", []),
            "answers": measured.get("answers", []),
        },
    )


def _build(context: StageContext, entrant: Entrant, card: dict[str, Any], staging: Path) -> None:
    """Fill the export's folder."""
    section = context.recipe.export
    assert section is not None
    merged = staging / ".merged"
    context.emit(Progressed("export", "merging the adapter into the base", 0, 0))
    adapter = context.artifact("adapter", entrant.adapter).path / "adapter" if entrant.adapter else None
    merge(context.student, adapter, merged)
    name = f"{context.recipe.name}-{entrant.name}".replace("_", "-")
    measurer = FormsMeasurer(context, entrant, merged, name) if context.recipe.evaluate else None
    trained = _trained(context, entrant) if entrant.adapter else None
    job = ExportJob(merged, staging, name, bool(entrant.facts.get("thinks")), card, measurer, trained)
    (staging / _PARITY).unlink(missing_ok=True)
    for member in section.to:
        context.cancel.check()
        try:
            context.member(EXPORTERS, member).export(job, context.emit, context.cancel)
        except LocalDistillError as error:
            _keep_report(context, staging / _PARITY, error)
            raise
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


def _card(context: StageContext, entrant: Entrant) -> dict[str, Any]:
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
        scorecard = context.artifact("scorecard", context.run.output("evaluate")["scorecard"])
        card["scorecard"] = json.loads(scorecard.file("scorecard.json").read_text())
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
