"""Events in small groups: none is lost, none comes twice, none of a socket that is gone."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator

import pytest

from localdistill.core.borders import BORDERS
from localdistill.engines.wire.selector import FewAtATime

FEW = BORDERS.served_events
COUNT = 3 * FEW + 1
ROUNDS = 4
"""In so many groups everything has come once."""


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Connected sockets; something can be read from the first of each pair."""
    made = [socket.socketpair() for _ in range(COUNT)]
    for _, far in made:
        far.send(b"x")
    yield made
    for near, far in made:
        near.close()
        far.close()


@pytest.fixture
def few(pairs: list[tuple[socket.socket, socket.socket]]) -> Iterator[FewAtATime]:
    """All first sockets registered."""
    with FewAtATime() as made:
        for number, (near, _) in enumerate(pairs):
            made.register(near, selectors.EVENT_READ, number)
        yield made


def test_all_that_is_ready_comes_once_in_small_groups(few: FewAtATime) -> None:
    sizes, seen = [], []
    while len(seen) < COUNT:
        events = few.select(0)
        sizes.append(len(events))
        seen += [key.data for key, _ in events]
    assert sorted(seen) == list(range(COUNT)) and sizes == [FEW, FEW, FEW, 1]


def test_what_stays_ready_comes_again_and_what_was_read_does_not(
        few: FewAtATime, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    for _ in range(ROUNDS):
        for key, _ in few.select(0):
            if key.data % 2:
                pairs[key.data][0].recv(1)
    again = [key.data for _ in range(ROUNDS) for key, _ in few.select(0)]
    assert set(again) == set(range(0, COUNT, 2))
    for near, _ in pairs[::2]:
        near.recv(1)
    while few.select(0):
        pass
    assert few.select(0.01) == []


def test_nothing_comes_for_a_socket_or_an_interest_that_is_gone(
        few: FewAtATime, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    first = {key.data for key, _ in few.select(0)}
    gone, changed, *_ = [number for number in range(COUNT) if number not in first]
    few.unregister(pairs[gone][0])
    few.modify(pairs[changed][0], selectors.EVENT_WRITE, "changed")
    rest = [(key.data, mask) for _ in range(2 * COUNT // FEW) for key, mask in few.select(0)]
    data = [found for found, _ in rest]
    assert gone not in data and changed not in data
    assert all(mask == (selectors.EVENT_WRITE if found == "changed" else selectors.EVENT_READ) for found, mask in rest)
    assert "changed" in data and few.get_map()[pairs[changed][0]].data == "changed"
