"""The graders and labels of a recipe, built with what each needs, and under which key its facts are stored: the name,
the version, and a variant where options, engine or tokenizer differ. What a recipe sees is the facts of these keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from localdistill.core.facts import FactMaker
from localdistill.core.means import Means
from localdistill.core.options import Options
from localdistill.core.records import PERSON, PUBLISHED, Fact, FactKey, FactScope, Prompt, Trace, content_id
from localdistill.core.registry import Family
from localdistill.graders import GRADERS
from localdistill.labels import LABELS
from localdistill.recipe import Member, Recipe
from localdistill.stages.context import StageContext
from localdistill.stages.questions import Questions, parts_of


@dataclass(frozen=True)
class Saying:
    """One grader or label of the recipe, ready to be run."""

    maker: FactMaker
    options: Options
    key: FactKey

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """What it says, under its key."""
        by, version, variant = self.key
        for fact in self.maker.facts(pairs, means):
            yield replace(fact, by=by, version=version, variant=variant, kind=self.maker.kind)


def makers_of(recipe: Recipe) -> tuple[tuple[Family, Member], ...]:
    """The graders of a recipe, then its labels. Asking until an answer is verified counts the tries."""
    labels = recipe.labels
    if any(one.until_verified for one in recipe.asked) and not any(member.use == "tries" for member in labels):
        labels = (*labels, Member(use="tries"))
    return (*((GRADERS, member) for member in recipe.graders), *((LABELS, member) for member in labels))


def columns_said(makers: Iterable[tuple[Family, Member]]) -> dict[str, bool]:
    """The columns of `trace_view` that these members make, and whether each holds text. A person and the
    file of an imported answer may always say something."""
    found = {PERSON[0]: False, PUBLISHED[0]: False}
    for family, member in makers:
        maker: type[FactMaker] = family.load(member.use)
        found[maker.name] = maker.says == "text"
        found |= {f"{maker.name}_{metric}": False for metric in maker.metrics}
    return found


def columns_of_several(makers: Sequence[tuple[Family, Member]]) -> set[str]:
    """The columns that mean more than one thing: of members that stand there with different options."""
    of_each: dict[tuple[str, str], list[Member]] = {}
    for family, member in makers:
        known = of_each.setdefault((family.noun, member.use), [])
        if member not in known:
            known.append(member)
    return {column for family, member in makers if len(of_each[family.noun, member.use]) > 1
            for column in columns_said([(family, member)])} - {PERSON[0], PUBLISHED[0]}


@contextmanager
def sayings_of(context: StageContext, questions: Questions,
               makers: Iterable[tuple[Family, Member]]) -> Iterator[list[Saying]]:
    """These members, built; they are closed at the end."""
    found: list[Saying] = []
    try:
        for family, member in makers:
            maker: FactMaker = context.member(family, member)
            options = type(maker).Options.model_validate(member.options)
            found.append(Saying(maker, options, _key(context, questions, type(maker), options)))
        yield found
    finally:
        for saying in found:
            saying.maker.close()


def _key(context: StageContext, questions: Questions, maker: type[FactMaker], options: Options) -> FactKey:
    asked = {field: (opened.engine.name, opened.model)
             for field, opened in questions.engines_of(maker.name, options).items()}
    has_student = "tokens" in maker.needs and context.recipe.student is not None
    return maker.name, maker.version, variant_of(options, asked, context.tokenizer.digest if has_student else "")


def variant_of(options: Options, asked: Mapping[str, tuple[str, str]], tokenizer: str = "") -> str:
    """A short digest of what could make a member say something else: options that are not the defaults, the engines
    that it asks (name and identity, by option) and the tokenizer. Empty where nothing is."""
    parts = [changed_options(options), asked, tokenizer, *_chosen(options)]
    return content_id("variant", *parts)[3:11] if any(parts) else ""


def _chosen(options: Options) -> list[object]:
    """The members that options choose, each with its version and what its options change; none where they choose
    none."""
    return [[place, part.name, part.version, changed_options(own), _chosen(own)]
            for place, part, own in parts_of(options)]


def changed_options(options: Options) -> dict[str, object]:
    """The options that are not the defaults, but for the names of engines, which a recipe gives as it likes, and for
    the members that they choose."""
    engines, fields = type(options).engine_fields() | type(options).member_fields(), type(options).model_fields
    said = options.model_dump(mode="json")
    return {name: value for name, value in said.items()
            if name not in engines and getattr(options, name) != fields[name].default}


def scope_of(sayings: Iterable[Saying]) -> FactScope:
    """What a recipe sees."""
    return [saying.key for saying in sayings]
