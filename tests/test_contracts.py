"""What every member of every family owes, checked without naming one: a new member is covered by being listed. Laws of
single families are in `tests/<family>/`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.capabilities import CAPABILITIES, needed_by, require
from localdistill.core.errors import RecipeError, UsageError
from localdistill.core.events import Cancel, silent
from localdistill.core.options import Options
from localdistill.core.records import Continuation, Message, Request, Sampling
from localdistill.core.registry import Family
from localdistill.engines import ENGINES
from localdistill.filters import FILTERS
from localdistill.interchange import LAYOUTS
from localdistill.providers import Who
from localdistill.recipe import Member
from localdistill.stages.context import build_member
from tests.doors import DOORS, asked_at, run_samples
from tests.test_house import FAMILIES
from tests.toys import listed

CONTRACTS = {
    "augmentation": "Augmentation",
    "engine": "Engine", "exporter": "Exporter", "filter": "Filter", "format": "Format", "grader": "Grader",
    "label": "Label", "layout": "Layout", "objective": "Objective", "rewrite": "Rewrite", "task": "Task",
    "trainer": "Trainer",
}
MEMBERS = [pytest.param(family, name, id=f"{family.noun}-{name}") for family in FAMILIES for name in family.names()]
WORK = {
    "augmentation": "drafts",
    "engine": "answer", "exporter": "export", "filter": "keep", "format": "lay_out", "grader": "facts",
    "label": "facts", "layout": "read", "objective": "loss", "rewrite": "rewrite", "task": "prompts",
    "trainer": "train",
}
"""The method in which a member does what its family is for."""


def raises(*_: Any) -> Any:
    """A method that nobody wrote yet."""
    raise NotImplementedError


def says_nothing(*_: Any) -> Any:
    """A method that does nothing."""


def contract_of(family: Family) -> Any:
    return getattr(import_module(f"{family.package}.base"), CONTRACTS[family.noun])


def test_every_family_has_a_contract_and_it_is_short() -> None:
    assert {family.noun for family in FAMILIES} == set(CONTRACTS) == set(DOORS)
    for family in FAMILIES:
        module = import_module(f"{family.package}.base")
        assert len(inspect.getsource(module).splitlines()) <= 66, f"{family.package}.base is no longer a page"


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_a_member_has_the_name_of_its_file_and_says_what_it_is(family: Family, name: str) -> None:
    member = family.load(name)
    assert member.name == name
    assert member.__module__ == f"{family.package}.{name}"
    assert inspect.getdoc(member) and inspect.getdoc(inspect.getmodule(member))


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_a_member_has_the_methods_of_its_contract_with_their_parameters(family: Family, name: str) -> None:
    member, contract = family.load(name), contract_of(family)
    for method, wanted in inspect.getmembers(contract, inspect.isroutine):
        if method.startswith("_"):
            continue
        offered = list(inspect.signature(getattr(member, method)).parameters)
        needed = list(inspect.signature(wanted).parameters)
        assert offered[: len(needed)] == needed, f"{name}.{method}{offered} is not {needed}"


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_the_samples_of_a_member_come_out_as_they_say(family: Family, name: str, tmp_path: Path) -> None:
    run_samples(family, name, tmp_path)


@pytest.mark.parametrize(("family", "name"), MEMBERS)
@pytest.mark.parametrize("stub", [raises, says_nothing], ids=lambda stub: stub.__name__)
def test_the_samples_of_a_member_find_a_stub_of_it(family: Family, name: str, stub: Callable[..., Any],
                                                   monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What samples are for: a member that has them but does not do its work is found, whatever it returns."""
    real = family.load(name)
    work = "sql" if family is FILTERS and real(real.Options()).sql() is not None else WORK[family.noun]
    samples = {"samples": classmethod(lambda cls: real.samples())}
    listed(monkeypatch, family, "stub", type("Stub", (real,), {"name": "stub", work: stub, **samples}))
    with pytest.raises((AssertionError, NotImplementedError, TypeError, AttributeError)):
        run_samples(family, "stub", tmp_path)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.noun)
def test_a_member_without_samples_is_found(family: Family, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = family.load(family.names()[0])
    for own, complaint in (({}, "no samples of its own"), ({"samples": classmethod(lambda cls: ())}, "has no samples")):
        with monkeypatch.context() as patch:
            listed(patch, family, "stub", type("Stub", (real,), {"name": "stub", **own}))
            with pytest.raises(AssertionError, match=complaint):
                run_samples(family, "stub", tmp_path)


@pytest.mark.parametrize("name", ENGINES.names())
def test_an_engine_says_who_answers(name: str) -> None:
    """One that did not would be asked about as a stranger's; said with options as they stand in a draft."""
    who = ENGINES.load(name).who({})
    assert isinstance(who, Who) and (who.costs or not who.hosts)


UNSERVED = {
    "score": Request("r", (Message("user", "?"),), continuations=(Continuation("x"),)),
    "top_scores": Request("r", (Message("user", "?"),), continuations=(Continuation("x"),), top_logprobs=2),
    "continue_text": Request("r", (), text="One, two,"),
    "top_logprobs": Request("r", (Message("user", "?"),), top_logprobs=2),
    "grammar": Request("r", (Message("user", "?"),), Sampling(grammar='root ::= "x"')),
    "json_schema": Request("r", (Message("user", "?"),), Sampling(json_schema="{}")),
}
"""For each capability that a request can need, one that needs it."""


@pytest.mark.parametrize("name", ENGINES.names())
def test_an_engine_says_what_it_can_and_is_not_asked_for_the_rest(name: str, tmp_path: Path) -> None:
    """With the options of its samples, and without a file or a server behind them: what it can is said before that."""
    assert {*CAPABILITIES} - {*UNSERVED} == {"generate", "stream"}
    for sample in ENGINES.load(name).samples():
        here = asked_at(ENGINES.load(name), "http://127.0.0.1:9/v1") if sample.served else {}
        try:
            engine = build_member(ENGINES, Member(use=name, options={**sample.options, **here}), tmp_path)
        except RecipeError:  # options that must be refused
            continue
        can = engine.can()
        assert can and can <= {*CAPABILITIES}
        for needed, request in UNSERVED.items():
            assert needed in needed_by(request)
            if needed in can:
                continue
            with pytest.raises(UsageError, match=name):
                require(engine, needed_by(request))
            if sample.served:  # of a server that is not there: nothing is sent before this
                [reply] = engine.answer([request], silent, Cancel())
                assert reply.status == "error" and "cannot" in reply.error
        engine.close()


@pytest.mark.parametrize(("family", "name"), [p for p in MEMBERS if p.values[0] is not LAYOUTS])
def test_options_are_strict_and_every_field_says_what_it_means(family: Family, name: str) -> None:
    options = family.load(name).Options
    assert issubclass(options, Options)
    assert options.model_config["extra"] == "forbid" and options.model_config["frozen"]
    for field, info in options.model_fields.items():
        assert info.description and len(info.description) > 10, f"{name}.{field} has no text"
