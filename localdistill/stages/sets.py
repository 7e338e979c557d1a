"""The parts that arms are made of. Stages ask here and read no recipe section of sets or arms themselves."""

from __future__ import annotations

from dataclasses import dataclass

from localdistill.recipe import Member
from localdistill.recipe.sections import ArmSection
from localdistill.stages.context import StageContext
from localdistill.store import Store
from localdistill.workspace.run_folder import RunFolder


@dataclass(frozen=True)
class ArmPart:
    """One part of an arm: traces in one format."""

    name: str
    trace_ids: tuple[str, ...]
    format: Member
    share: float | None = None
    """Of the arm's prompts; None where every prompt takes part in every part that can serve it."""
    weight: float = 1.0
    """How much its rows count beside those of other parts."""


def arm_parts(context: StageContext, section: ArmSection) -> tuple[ArmPart, ...]:
    """What an arm trains on, before its formats see it."""
    return (ArmPart(section.name, arm_traces(context.store, context.run, section), arm_format(section)),)


def arm_traces(store: Store, run: RunFolder, section: ArmSection) -> tuple[str, ...]:
    """The ids of the traces of an arm; none where the run has not come as far."""
    if section.selection:
        return tuple(store.selection(section.selection).trace_ids)
    return tuple(run.ids(f"rewrite-{section.rewrite}" if section.rewrite else "select"))


def arm_format(section: ArmSection) -> Member:
    """The format of an arm."""
    return Member(use=section.format, options=section.options)


def arm_rewrite(context: StageContext, section: ArmSection) -> str:
    """Which rewrite made the arm's traces, so that a score card never calls a rule a summarizer; empty for none."""
    return next((r.use for r in context.recipe.rewrites if r.name == section.rewrite), "")
