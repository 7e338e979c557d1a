"""Every command over a workspace in which every text tries something: no raw byte, no traceback, JSON that parses, and
for what goes wrong a sentence, a hint and an exit code that scripts know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.boundary import commands
from tests.boundary.commands import Case
from tests.boundary.corpus import faults
from tests.boundary.places import Place, hostile_place
from tests.boundary.running import run
from tests.boundary.servers import hostile_server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return hostile_place(tmp_path_factory.mktemp("hostile"))


def wrong_in(place: Place, cases: Sequence[Case], on_terminal: bool = False) -> list[str]:
    """What is wrong with each call, with and without `--json`."""
    found = []
    for case in cases:
        for as_json in (False, True):
            ended = run([*case.arguments, *(["--json"] if as_json else [])], place.root, text=case.text,
                        on_terminal=on_terminal, environment=place.environment)
            found += [f"{case.name}{' --json' if as_json else ''} ended with {ended.code}: {fault}" for fault in
                      faults(ended.code, ended.out, ended.err, as_json and not on_terminal, on_terminal)]
    return found


@cache
def one_of_each() -> tuple[int, ...]:
    """Which calls of the table are the first of their command."""
    seen: dict[str, int] = {}
    for number, case in enumerate(commands.table(Place(Path(), ""))):
        seen.setdefault(case.command, number)
    return tuple(seen.values())


def test_the_table_holds_every_command(place: Place) -> None:
    assert commands.uncovered(place) == set()
    assert 2 * len(one_of_each()) >= 80


def test_no_command_lets_hostile_text_through(place: Place) -> None:
    table = commands.table(place)
    assert wrong_in(place, [table[number] for number in one_of_each()]) == []


def parts(place: Place, cases: Sequence[Case]) -> Iterator[list[str]]:
    """What is wrong, by command."""
    for command in dict.fromkeys(case.command for case in cases):
        yield wrong_in(place, [case for case in cases if case.command == command])


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_call_of_the_table_and_no_usage_error_lets_hostile_text_through(place: Place) -> None:
    with hostile_server() as url:
        own = place.with_server(url)
        assert [fault for found in parts(own, commands.cases(own, slow=True)) for fault in found] == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_call_lets_hostile_text_through_to_a_terminal(place: Place) -> None:
    with hostile_server() as url:
        own = place.with_server(url)
        assert wrong_in(own, commands.table(own, slow=True), on_terminal=True) == []
