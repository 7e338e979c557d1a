"""Whether the student's template and tokenizer make training rows, tried on the first prompt of a recipe with answers
that stand in for those of a teacher. Asks nobody and stores nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from localdistill.core.errors import LocalDistillError
from localdistill.core.records import Candidate, Example, Message, Prompt, Skip, Trace
from localdistill.interchange.imported import Imported
from localdistill.recipe import Recipe
from localdistill.recipe.trace_sets import ImportedSet
from localdistill.stages.row_files import prompts_of, read_section
from localdistill.stages.tokenizing import TraceTokenizer, format_of, way_to_think
from localdistill.store import Store
from localdistill.templates import ChatTemplate

MOST_LOOKED = 50
"""Rows of a file that are looked through for a conversation with tools."""


def first_rows(recipe: Recipe, base: Path, student: Path, store: Store | None = None) -> Iterator[tuple[str, str]]:
    """Arm and what is wrong, for every arm that can make no row of the first prompt, or of the first that has to do
    with tools. Raises ModelFileError when the student's files are of no use for any row, MissingExtra without the
    tokenizer library."""
    if recipe.student is None or not (prompts := _first_prompts(recipe, base, store)):
        return
    tokens = TraceTokenizer(student, recipe.student.max_tokens)
    for which, prompt in prompts.items():
        for arm in recipe.arms:
            for part in arm.parts:
                rows = tokens.rows(format_of(part.member, base), prompt, _stand_ins(prompt))
                reasons = [row.reason for row in rows if isinstance(row, Skip)]
                if len(reasons) == len(rows):
                    why = reasons[0] if reasons else f"the format {part.format} makes none"
                    yield arm.name, f"{which} makes no row: {why}"


def untold_arms(recipe: Recipe, base: Path, student: Path) -> Iterator[str]:
    """Arms that are trained to think and not to, by a template that asks for both in the same way. Raises
    ModelFileError for one that cannot be read or asks nothing."""
    mixed = [arm.name for arm in recipe.arms
             if way_to_think(format_of(part.member, base) for part in arm.parts) is None]
    ask, template = [Message("user", "?")], ChatTemplate.from_folder(student) if mixed else None
    if template is not None and template.prompt(ask, True) == template.prompt(ask, False):
        yield from mixed


def trains_on_reasoning(recipe: Recipe, trace_set: str, base: Path) -> bool:
    """Whether an arm makes examples of this set's answers with reasoning, and none of answers without."""
    prompt = Prompt((Message("user", "?"),), reference="Yes.", original="Yes.")
    thought = _stand_ins(prompt)
    bare = [replace(one, trace=replace(one.trace, reasoning="", trace_kind="none")) for one in thought]
    for member in (part.member for arm in recipe.arms for part in arm.parts if trace_set in part.traces):
        try:
            made = [any(isinstance(row, Example) for row in format_of(member, base).lay_out(prompt, candidates, len))
                    for candidates in (thought, bare)]
        except LocalDistillError:
            continue  # what such a format lacks is told elsewhere
        if made == [True, False]:
            return True
    return False


def _first_prompts(recipe: Recipe, base: Path, store: Store | None) -> dict[str, Prompt]:
    """Which, and the prompt; nothing when no file can be read: that is told elsewhere."""
    rows = [read_section(one, base) for one in recipe.sets if isinstance(one, ImportedSet)]
    asked = [map(Imported, prompts_of(recipe.prompts, base, store))] if recipe.prompts else []
    found: dict[str, Prompt] = {}
    for items in (*asked, *rows):
        try:
            for item in islice(items, MOST_LOOKED):
                found.setdefault("the first prompt", item.prompt)
                if item.uses_tools:
                    return found | {"the first prompt with tools": item.prompt}
        except LocalDistillError:
            continue
    return found


def _stand_ins(prompt: Prompt) -> list[Candidate]:
    """Two right answers and a wrong one, with some thinking: formats may set beside each other whichever they like."""
    right = prompt.reference or "Yes."
    answers = ((right, True), (f"In other words: {right}", True), ("I do not know.", False))
    return [Candidate(Trace(f"stand-in-{number}", prompt.id, "", "", "Let me think.", answer, trace_kind="raw"), passed)
            for number, (answer, passed) in enumerate(answers)]
