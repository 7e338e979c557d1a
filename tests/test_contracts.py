"""What every member of every family owes, checked without naming one: a new member is covered by being listed. Laws of
single families are in `tests/<family>/`."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import pytest

from localdistill.core.options import Options
from localdistill.core.registry import Family
from localdistill.engines import ENGINES
from localdistill.providers import Who
from tests.test_house import FAMILIES

CONTRACTS = {
    "engine": "Engine", "exporter": "Exporter", "filter": "Filter", "format": "Format", "grader": "Grader",
    "layout": "Layout", "objective": "Objective", "rewrite": "Rewrite", "task": "Task", "trainer": "Trainer",
}
MEMBERS = [pytest.param(family, name, id=f"{family.noun}-{name}") for family in FAMILIES for name in family.names()]


def contract_of(family: Family) -> Any:
    return getattr(import_module(f"{family.package}.base"), CONTRACTS[family.noun])


def test_every_family_has_a_contract_and_it_is_short() -> None:
    assert {family.noun for family in FAMILIES} == set(CONTRACTS)
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
    for method, wanted in inspect.getmembers(contract, inspect.isfunction):
        if method.startswith("_"):
            continue
        offered = list(inspect.signature(getattr(member, method)).parameters)
        needed = list(inspect.signature(wanted).parameters)
        assert offered[: len(needed)] == needed, f"{name}.{method}{offered} is not {needed}"


@pytest.mark.parametrize("name", ENGINES.names())
def test_an_engine_says_who_answers(name: str) -> None:
    """One that did not would be asked about as a stranger's; said with options as they stand in a draft."""
    who = ENGINES.load(name).who({})
    assert isinstance(who, Who) and (who.costs or not who.hosts)


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_options_are_strict_and_every_field_says_what_it_means(family: Family, name: str) -> None:
    if family.noun == "layout":
        return
    options = family.load(name).Options
    assert issubclass(options, Options)
    assert options.model_config["extra"] == "forbid" and options.model_config["frozen"]
    for field, info in options.model_fields.items():
        assert info.description and len(info.description) > 10, f"{name}.{field} has no text"
