"""Work that goes on behind other work: in order, one piece at a time, and no error of it is lost."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from localdistill.core.behind import one_behind


def test_pieces_are_done_in_order_one_at_a_time_while_the_next_is_made() -> None:
    done, running, most = [], 0, 0
    made_next = threading.Event()

    def piece(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if number == 0:
            assert made_next.wait(30)  # the block goes on while this piece does
        done.append(number)
        running -= 1

    with one_behind() as behind:
        behind(lambda: piece(0))
        made_next.set()
        for number in range(1, 5):
            behind(partial(piece, number))
    assert done == [0, 1, 2, 3, 4] and most == 1


def test_an_error_of_a_piece_is_raised_at_the_next_one_or_at_the_end_and_nothing_is_begun_behind_it() -> None:
    done: list[str] = []

    def fails() -> None:
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"), one_behind() as behind:
        behind(fails)
        behind(lambda: done.append("later"))
    with pytest.raises(ValueError, match="no room"), one_behind() as behind:
        behind(fails)
    assert not done


def test_where_the_block_fails_the_piece_that_goes_on_is_waited_for() -> None:
    done, block_failed = [], threading.Event()

    def piece() -> None:
        assert block_failed.wait(30)
        done.append("whole")

    with pytest.raises(KeyError), one_behind() as behind:
        behind(piece)
        block_failed.set()
        raise KeyError("the file broke off")
    assert done == ["whole"]
