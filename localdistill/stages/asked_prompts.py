"""The prompts that a recipe asks: those of its files and of the store that are not set aside, and those that were
made."""

from __future__ import annotations

from collections.abc import Iterator

from localdistill.core.errors import UsageError
from localdistill.core.records import Prompt
from localdistill.stages.asking import evenly, unique
from localdistill.stages.context import StageContext
from localdistill.stages.row_files import prompts_of
from localdistill.workspace.terms import strictest

LIST = "augment"
FROM, TERMS = "made_from", "made_terms"
"""Keys in the metadata of a made prompt: ids of what the writer was shown, and the terms of who wrote it."""


def own_prompts(context: StageContext) -> Iterator[Prompt]:
    """Those of the recipe's files, and stored ones, that are neither set aside nor forgotten; a few where a run takes a
    sample."""
    section = context.recipe.prompts
    if section is None:
        return
    held = context.holdout.messages() if context.holdout is not None else set()
    barred = context.store.barred()
    prompts: Iterator[Prompt] = (prompt for prompt in prompts_of(section, context.base, context.store)
                                 if prompt.messages not in held and not barred.bars(prompt))
    if sample := int(context.run.request().get("sample", 0)):
        yield from evenly(list(unique(prompts)), sample)
    else:
        yield from prompts


def made_prompts(context: StageContext) -> Iterator[Prompt]:
    """Those that were made, without what was forgotten or comes from what was. UsageError when some are lost."""
    ids, barred = context.run.ids(LIST), context.store.barred()
    left = [key for key in ids if key not in barred.all]
    lost = set(left) - context.store.known_prompts(left)
    if lost:
        raise UsageError(
            f"{len(lost):,} of {len(ids):,} prompts that this run made are not in the store any more",
            "localdistill augment RECIPE makes them again from the replies that are kept, then resume")
    for prompt in context.store.prompts(left):
        if barred.all.isdisjoint(map(str, prompt.metadata.get(FROM, ()))) and not barred.bars(prompt):
            yield prompt


def asked_prompts(context: StageContext) -> Iterator[Prompt]:
    """All that are asked."""
    yield from own_prompts(context)
    if context.recipe.augmentations:
        yield from made_prompts(context)


def terms_with(terms: str, prompt: Prompt) -> str:
    """The terms of an answer: of who answered, and of who wrote the question where it was made."""
    return strictest((terms, str(prompt.metadata.get(TERMS, ""))))
