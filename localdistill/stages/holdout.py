"""The split of prompts before anything is asked: what is set aside to measure on, and what may be trained on. It
follows from the prompts alone: near-duplicates, and on request the prompts of one document, lie on one side, and which
side that is says a hash of their content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from localdistill.core.errors import UsageError
from localdistill.core.messages import turn_key
from localdistill.core.records import Message, Prompt, content_id
from localdistill.filters.overlap import THRESHOLD, ItemIndex, ngrams_of, words_of
from localdistill.recipe import Recipe
from localdistill.recipe.trace_sets import HoldoutSection, ImportedSet, SelectedSet, StoredSet
from localdistill.stages.asking import unique
from localdistill.stages.row_files import prompts_of, read_section
from localdistill.store import Store
from localdistill.store.forgetting import Names
from localdistill.workspace.run_folder import RunFolder

SIDES = ("test", "dev")
MOST_ALIKE = 200
"""Words that more prompts share, or more than a quarter of them, are a preface and make nobody a near-duplicate."""
LEAST_ALIKE = 3


@dataclass(frozen=True)
class Holdout:
    """What is set aside, by side."""

    sides: Mapping[str, tuple[Prompt, ...]]
    left: int
    """Prompts that may be trained on."""
    groups: int
    """Prompts, or what of them stays together."""

    def messages(self) -> set[tuple[Message, ...]]:
        """What every prompt that is set aside asks."""
        return {prompt.messages for prompts in self.sides.values() for prompt in prompts}

    @cached_property
    def index(self) -> ItemIndex:
        """Finds what is set aside in other texts."""
        return ItemIndex(prompt.question for prompts in self.sides.values() for prompt in prompts)


def holdout_of(recipe: Recipe, base: Path, store: Store | None = None) -> Holdout | None:
    """What `recipe` sets aside of its prompts, of what it imports, and of what its sets take from `store`; None where
    it sets nothing aside. UsageError when nothing would be left on one side."""
    section = recipe.prompts.holdout if recipe.prompts else None
    if recipe.prompts is None or section is None or not (section.test or section.dev):
        return None
    imported = (item.prompt for one in recipe.sets if isinstance(one, ImportedSet) for item in read_section(one, base))
    barred = store.barred() if store is not None else Names()
    read = (one for one in chain(prompts_of(recipe.prompts, base, store), imported) if not barred.bars(one))
    return split(list(unique(chain(read, _stored(recipe, store)))), section)


def looks_into_store(recipe: Recipe) -> bool:
    """What `recipe` sets aside depends on what is stored."""
    section = recipe.prompts.holdout if recipe.prompts else None
    return section is not None and (bool(recipe.prompts and recipe.prompts.stored)
                                    or any(isinstance(one, StoredSet | SelectedSet) for one in recipe.sets))


def _stored(recipe: Recipe, store: Store | None) -> Iterator[Prompt]:
    """The prompts of the sets that are taken from the store."""
    if store is None or not store.path.exists():
        return
    for one in recipe.sets:
        if isinstance(one, StoredSet):
            ids = store.ids_where(one.stored)
        elif isinstance(one, SelectedSet):
            ids = list(store.selection(one.selection).trace_ids)
        else:
            continue
        prompts = dict.fromkeys(key for batch in store.batches(["prompt_id"], ids=ids)
                                for key in batch.column("prompt_id").to_pylist())
        yield from store.prompts(list(prompts))


def keep_aside(run: RunFolder, store: Store, holdout: Holdout) -> None:
    """Let the run remember what it set aside, whatever becomes of the files."""
    for side, prompts in holdout.sides.items():
        store.add_prompts(prompts)
        run.write_ids(_list_of(side), [prompt.id for prompt in prompts])


def _list_of(side: str) -> str:
    return f"holdout-{side}"


class HeldOut:
    """What a recipe sets aside, worked out when somebody asks; a run that set it aside before is believed."""

    def __init__(self, recipe: Recipe, base: Path, run: RunFolder | None = None, store: Store | None = None) -> None:
        self._recipe, self._base, self._run, self._store = recipe, base, run, store

    def __call__(self, side: str) -> Sequence[Prompt]:
        """The prompts of one side."""
        return self.all.sides.get(side, ()) if self.all is not None else ()

    @cached_property
    def all(self) -> Holdout | None:
        """All sides; None where the recipe sets nothing aside."""
        run, store = self._run, self._store
        if run is None or store is None or not any(run.has_ids(_list_of(side)) for side in SIDES):
            return holdout_of(self._recipe, self._base, store)
        sides = {side: tuple(store.prompts(run.ids(_list_of(side)))) for side in SIDES if run.has_ids(_list_of(side))}
        return Holdout(sides, 0, 0)


def split(prompts: Sequence[Prompt], section: HoldoutSection) -> Holdout:
    """The prompts, each of which asks something else, on their sides; see `holdout_of`."""
    by_document = section.by == "document"
    groups = sorted(_groups(prompts, by_document), key=lambda group: _place(group, by_document))
    wanted = [side for side in SIDES if getattr(section, side)]
    sides: dict[str, list[Prompt]] = {side: [] for side in wanted}
    left: list[Prompt] = []
    for group in groups:
        place, side = _place(group, by_document), "left"
        for name in wanted:
            if place < getattr(section, name):
                side = name
                break
            place -= getattr(section, name)
        (left if side == "left" else sides[side]).extend(group)
    for name in (name for name in wanted if not sides[name]):
        group = next((group for group in groups if group[0] in left), [])
        sides[name] += group
        left = [prompt for prompt in left if prompt not in group]
    if not left:
        raise UsageError(
            f"prompts.holdout leaves nothing: of {len(prompts):,} prompts in {len(groups):,} groups that stay together "
            f"(by {section.by}, near-duplicates together) none is left to train on",
            "give more prompts or smaller shares" + (', or by = "prompt"' if by_document else ""))
    return Holdout({name: tuple(found) for name, found in sides.items()}, len(left), len(groups))


def _place(group: Sequence[Prompt], by_document: bool) -> float:
    """Where a group lies between 0 and 1: by its document, else by the first of its prompts, in an order that no file
    decides."""
    documents = [str(found) for prompt in group if by_document and (found := _document(prompt))]
    first = min(documents or map(_key, group))
    return int(content_id("holdout", first)[3:19], 16) / 16**16


def _key(prompt: Prompt) -> str:
    return content_id("asked", [*map(turn_key, prompt.messages)])


def _groups(prompts: Sequence[Prompt], by_document: bool) -> Iterator[list[Prompt]]:
    """The prompts that stay together."""
    together = _Together(len(prompts))
    if by_document:
        _join_equal(together, ((place, _document(prompt)) for place, prompt in enumerate(prompts)))
    words = [words_of(prompt.question) for prompt in prompts]
    _join_equal(together, enumerate(words))
    _join_alike(together, [ngrams_of(own) for own in words])
    found: dict[int, list[Prompt]] = {}
    for place, prompt in enumerate(prompts):
        found.setdefault(together.first(place), []).append(prompt)
    yield from found.values()


def _document(prompt: Prompt) -> object:
    """What a prompt comes from; nothing where its row does not say."""
    return prompt.metadata.get("document") or prompt.source


def _join_equal(together: _Together, keys: Iterable[tuple[int, object]]) -> None:
    seen: dict[object, int] = {}
    for place, key in keys:
        if key:
            together.join(seen.setdefault(str(key), place), place)


def _join_alike(together: _Together, grams: Sequence[set[int]]) -> None:
    """Join what shares at least `THRESHOLD` of the word n-grams of the shorter one."""
    holders = Counter(gram for own in grams for gram in own)
    most = min(MOST_ALIKE, max(LEAST_ALIKE, len(grams) // 4))
    seen: dict[int, list[int]] = {}
    sizes: list[int] = []
    for place, every in enumerate(grams):
        own = {gram for gram in every if holders[gram] <= most}
        sizes.append(len(own))
        shared = Counter(other for gram in own for other in seen.get(gram, ()))
        for other, count in shared.items():
            if count >= THRESHOLD * min(len(own), sizes[other]):
                together.join(other, place)
        for gram in own:
            seen.setdefault(gram, []).append(place)


class _Together:
    """Disjoint sets of places."""

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def first(self, place: int) -> int:
        """The place that stands for all that are with this one."""
        while self._above[place] != place:
            self._above[place] = self._above[self._above[place]]
            place = self._above[place]
        return place

    def join(self, one: int, other: int) -> None:
        """Put two places, with all that are with them, together."""
        first, second = sorted((self.first(one), self.first(other)))
        self._above[second] = first
