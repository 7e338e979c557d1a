"""Bars, durations and counters as people read them."""

from __future__ import annotations

import math

import pytest

from tui.state import Said
from tui.widgets.log import SaidText
from tui.widgets.pipeline import Pipeline
from tui.widgets.progress import bar, counter, duration


@pytest.mark.parametrize(("share", "text"), [(0, "────"), (0.5, "██──"), (1, "████"), (0.03125, "▏"), (7, "████"),
                                             (-1, "────")])
def test_a_bar_fills_in_eighths_over_its_track(share: float, text: str) -> None:
    assert bar(share, 4, "─") == text.ljust(4, "─")


def test_durations_and_counters() -> None:
    assert [duration(s) for s in (3.2, 61, 7384)] == ["3 s", "1:01 min", "2:03 h"]
    assert [counter("usd", 0.0182), counter("errors", 3), counter("loss", 0.56712), counter("tokens_per_s", 2048.7),
            counter("learning_rate", 2e-4)] == ["$0.0182", "3 errors", "0.567 loss", "2,049 tokens/s",
                                                "0.0002 learning rate"]
    assert counter("loss", math.nan) == "nan loss"


def test_sentences_wrap_below_themselves_and_tables_are_cut() -> None:
    text = SaidText()
    text.show([Said("warning", "one two three four five", "six seven eight"),
               Said("note", "a table\n" + "x" * 40), Said("error", "it failed, as said\nby somebody else now")])
    assert text.drawn(22).plain == ("! one two three four\n  five\n    next: six seven eight\n"
                                    "  a table\n  " + "x" * 19 + "…\n"
                                    "✗ it failed, as said\n  by somebody else now\n")


def test_where_tables_are_folded_their_titles_stay() -> None:
    text = SaidText(folds=True)
    text.show([Said("note", "a score card of seven\n" + "x" * 40), Said("error", "it failed\ntwice"),
               Said("note", "one line")])
    assert text.drawn(20).plain == "  a score card of\n  seven …\n✗ it failed\n  twice\n  one line\n"


def test_a_chain_breaks_between_stages() -> None:
    chain = Pipeline()
    chain._stages = (("collect", "done"), ("rewrite", "absent"), ("grade", "running"), ("select", "waiting"))
    assert chain.drawn(80).plain == "✓ collect  → ▶ grade  → · select"
    assert chain.drawn(24).plain == "✓ collect  → ▶ grade\n→ · select"
