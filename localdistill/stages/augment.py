"""augment: prompts of a recipe, or documents, become more prompts before anybody is asked to answer. What the writer
wrote is checked for free first (it is none that is there, near-duplicates count, and none of what is measured on), then
by engines. Only what passes is stored, with where it comes from; the rest is counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from localdistill.augmentations import AUGMENTATIONS
from localdistill.augmentations.base import Augmentation, PromptDraft
from localdistill.core.errors import BudgetReached, EngineUnavailable
from localdistill.core.events import Counted, Progressed
from localdistill.core.means import Ask, Means
from localdistill.core.options import Options
from localdistill.core.records import Message, Prompt
from localdistill.filters.overlap import ItemIndex
from localdistill.recipe import Member
from localdistill.recipe.engine_uses import augmenters_of
from localdistill.stages.asked_prompts import FROM, LIST, TERMS, own_prompts
from localdistill.stages.asking import unique
from localdistill.stages.context import StageContext
from localdistill.stages.fact_makers import variant_of
from localdistill.stages.outputs import AugmentOutput, write_output
from localdistill.stages.questions import Questions, with_way_on
from localdistill.workspace.terms import strictest, terms_of

KEPT = "kept"
MAY_FAIL = 0.01
"""Share of the questions to engines that may stay without a reply."""
NEAR_NGRAM, NEAR = 5, 0.7
"""Runs of so many words; a new question that holds this share of those of one that is there is a near-duplicate."""


def run(context: StageContext) -> None:
    """Leave the ids of the prompts that were made (`augment`), and the counts per augmentation and reason."""
    recipe, made, counts = context.recipe, dict[str, Prompt](), dict[str, dict[str, int]]()
    own = list(unique(own_prompts(context)))
    novelty = _Novelty(context, own)
    try:
        with Questions(context) as questions:
            for member in recipe.augmentations:
                name = member.use if member.use not in counts else f"{member.use} {len(counts) + 1}"
                drafts = _made_by(context, questions, member, own, novelty)
                made |= {draft.prompt.id: draft.prompt for draft in drafts if draft.prompt and not draft.refused}
                counts[name] = dict(Counter(draft.refused or KEPT for draft in drafts).most_common())
                context.emit(Counted(f"made by {name}", counts[name]))
                if not counts[name].get(KEPT):
                    context.warn(f"{name}: nothing that was written can be used",
                                 "the counts say why; a stronger writer, other examples or fewer gates may help")
            if questions.asked:
                context.worked()
            questions.require_replies(MAY_FAIL)
    except (BudgetReached, EngineUnavailable) as error:
        raise with_way_on(context, error, "every reply that came is kept") from None
    finally:
        context.say_spending()
    barred = context.store.barred()
    kept = [prompt for prompt in made.values() if not barred.bars(prompt)]
    there = context.store.known_prompts(prompt.id for prompt in kept)
    with context.journal() as journal:
        for prompt in kept:
            if prompt.id not in there:
                context.worked()
                journal.add_prompt(prompt)
    context.run.write_ids(LIST, [prompt.id for prompt in kept])
    write_output(context.run, AugmentOutput(len(kept), counts, context.ledger.spent_usd))


def _made_by(context: StageContext, questions: Questions, member: Member, own: Sequence[Prompt],
             novelty: _Novelty) -> list[PromptDraft]:
    """All that one augmentation wrote, refused or not, in the order in which it was asked for."""
    asking = Member(use=member.use, options={**member.options, **augmenters_of(context.recipe, member)})
    maker: Augmentation = context.member(AUGMENTATIONS, asking)
    options: Options = type(maker).Options.model_validate(asking.options)
    opened = questions.engines_of(maker.name, options)
    means = questions.means_of(maker.name, options, maker.needs)
    most = maker.most(own)
    writing = _at_most(int(context.run.request().get("sample", 0)), means)
    drafts = list(_counted(context, f"{maker.name}: writing", maker.drafts(own, writing), most))
    drafts.sort(key=lambda draft: draft.place)
    drafts = [draft if draft.refused or draft.prompt is None else replace(draft, refused=novelty.why_not(draft.prompt))
              for draft in drafts]
    new = [draft for draft in drafts if not draft.refused]
    checked = {draft.place: draft for draft in _counted(context, f"{maker.name}: checking", maker.check(new, means),
                                                        len(new))}
    asked = {field: (one.engine.name, one.model) for field, one in opened.items()}
    by = f"{maker.name}@{maker.version}/{variant_of(options, {**asked, 'wording': ('', str(maker.wording))})}"
    terms = strictest(terms_of(one.member.use, one.member.options) for one in opened.values())
    found = [checked.get(draft.place, draft) for draft in drafts if draft.refused or draft.place in checked]
    return [draft if draft.refused else _with_lineage(draft, by, terms) for draft in found]


def _at_most(count: int, means: Means) -> Means:
    """The same, but no engine is sent more than so many questions at a time; 0 sends all."""
    def first(ask: Ask) -> Ask:
        return lambda requests: ask(islice(requests, count))

    return replace(means, ask={name: first(ask) for name, ask in means.ask.items()}) if count else means


def _counted(context: StageContext, label: str, drafts: Iterable[PromptDraft], total: int) -> Iterator[PromptDraft]:
    """The drafts, while it is said how many there are."""
    for done, draft in enumerate(drafts, start=1):
        context.cancel.check()
        context.emit(Progressed(label, done, max(total, done), "questions"))
        yield draft


def _with_lineage(draft: PromptDraft, by: str, terms: str) -> PromptDraft:
    """What is kept, saying where it comes from and what it passed."""
    assert draft.prompt is not None, "what is not refused is a prompt"
    said = {"made_by": by, FROM: list(draft.made_from), "checked": list(draft.checked)}
    said |= {TERMS: terms} if terms else {}
    prompt = draft.prompt
    return replace(draft, prompt=replace(prompt, source=prompt.source or by.partition("@")[0],
                                         metadata={**prompt.metadata, **said}))


class _Novelty:
    """What may not be asked once more: prompts that are there, what was made before, items that are measured on."""

    def __init__(self, context: StageContext, own: Sequence[Prompt]) -> None:
        self._asked: set[tuple[Message, ...]] = {prompt.messages for prompt in own}
        self._near = ItemIndex((prompt.question for prompt in own), NEAR_NGRAM, NEAR)
        self._items = ItemIndex(item.question for task in context.tasks() for item in task.prompts())
        self._held = context.holdout.index if context.holdout is not None else ItemIndex(())

    def why_not(self, prompt: Prompt) -> str:
        """Why this prompt may not be added; empty, and it is there from now on, when it may."""
        texts = [prompt.question]
        if self._held.found_in(texts):
            return "it holds a prompt that is set aside"
        if self._items.found_in(texts):
            return "it holds an item of a benchmark"
        if prompt.messages in self._asked or self._near.found_in(texts):
            return "it asks what another prompt asks, or nearly"
        self._asked.add(prompt.messages)
        self._near.add(prompt.question)
        return ""
