"""export: the chosen arm is merged into its base and written for other programs. An export folder appears whole, with
every file verified, or not at all."""

from __future__ import annotations

import json
import shutil
from typing import Any

from localdistill import __version__
from localdistill.events import Noted, Progressed
from localdistill.exporters import EXPORTERS
from localdistill.exporters.base import ExportJob
from localdistill.modelfiles.folder import ModelFolder
from localdistill.stages.context import StageContext
from localdistill.trainers.merge import merge

VERSION = 1


def run(context: StageContext) -> None:
    """Leave the digest of the export."""
    section = context.recipe.export
    assert section is not None and context.recipe.student is not None
    name = section.arm
    if name == "best":
        name = context.run.output("evaluate")["best"]
    facts: dict[str, Any] = context.run.output("format")["arms"].get(name, {})
    trained = context.run.output("train")["adapters"].get(name, [])
    adapter = trained[0]["adapter"] if trained else ""
    spec = {"to": [m.model_dump(mode="json") for m in section.to], "name": context.recipe.name, "arm": name}
    inputs = [adapter, ModelFolder.open(context.student).digest()]
    digest = context.workspace.artifact_digest("export", VERSION, spec, inputs)
    found = context.workspace.artifact("export", digest)
    if found is None:
        with context.workspace.build_artifact("export", digest, {"label": name, "inputs": inputs}) as staging:
            merged = staging / ".merged"
            context.emit(Progressed("export", "merging the adapter into the base", 0, 0))
            merge(context.student, context.artifact("adapter", adapter).path / "adapter" if adapter else None, merged)
            job = ExportJob(
                merged,
                staging,
                f"{context.recipe.name}-{name}".replace("_", "-"),
                bool(facts.get("thinks")),
                _card(context, name, facts),
            )
            for member in section.to:
                context.cancel.check()
                context.member(EXPORTERS, member).export(job, context.emit, context.cancel)
            shutil.rmtree(merged)
    artifact = context.artifact("export", digest)
    context.announce(artifact, name, reused=found is not None)
    files = sorted(p.name for p in artifact.path.iterdir() if p.suffix == ".gguf")
    context.emit(Noted("export", f"arm '{name}': " + ", ".join(files)))
    context.run.write_output(
        "export", {"export": digest, "arm": name, "files": files, "thinks": facts.get("thinks", False)}
    )


def _card(context: StageContext, name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What the model card says; nothing in it names a path, a user or a host."""
    assert context.recipe.student is not None
    model = context.recipe.student.model
    public = model if model.startswith(("shipped:", "hf://")) else ModelFolder.open(context.student).architecture
    card: dict[str, Any] = {
        "base_model": public,
        "recipe": context.recipe.name,
        "arm": name,
        "format": facts.get("format", ""),
        "rewrite": facts.get("rewrite", ""),
        "rows": facts.get("rows", 0),
        "thinks": facts.get("thinks", False),
        "trained_tokens": facts.get("trained_tokens", 0),
        "localdistill": __version__,
        "licences": context.store.licences(context.run.ids("select")),
        "num_ctx": context.recipe.student.max_tokens,
    }
    if context.recipe.evaluate:
        scorecard = context.artifact("scorecard", context.run.output("evaluate")["scorecard"])
        card["scorecard"] = json.loads(scorecard.file("scorecard.json").read_text())
    return card
