"""What a stage's process sends to its supervisor: every fact, and passing states of each kind at a bounded rate."""

from __future__ import annotations

import json
import os
from collections import Counter

from localdistill.core.events import Event, Measured, Noted, Progressed, StageFinished, Streamed, stamped
from localdistill.stages.__main__ import Pipe


def sent(*events: Event) -> list[dict[str, object]]:
    """What arrives when these are emitted one after the other."""
    read_fd, write_fd = os.pipe()
    pipe = Pipe(write_fd)
    for event in events:
        pipe.emit(event)
    os.close(write_fd)
    with os.fdopen(read_fd) as handle:
        return [json.loads(line) for line in handle]


def test_the_newest_text_passes_beside_the_progress_it_came_with() -> None:
    arrived = sent(Progressed("asking", 1, 9), Streamed("because", "so", "big"))
    assert [event["kind"] for event in arrived] == ["progressed", "streamed"]
    assert (arrived[1]["text"], arrived[1]["answer"], arrived[1]["who"]) == ("because", "so", "big")


def test_passing_states_are_thinned_and_facts_are_not() -> None:
    many = [event for n in range(300) for event in (Progressed("l", n, 1000), Streamed("t"), Noted("n"))]
    kinds = Counter(event["kind"] for event in sent(*many))
    assert kinds["noted"] == 300 and kinds["progressed"] < 100 and kinds["streamed"] < 100


def test_the_end_of_a_work_is_always_told() -> None:
    arrived = sent(*(Progressed("l", n, 50) for n in range(51)))
    assert (arrived[-1]["done"], arrived[-1]["total"]) == (50, 50)


def test_what_work_says_is_stamped_with_where_it_stands() -> None:
    heard: list[Event] = []
    emit = stamped(stamped(heard.append, "train"), arm="a", seed=0)
    emit(Noted("begun"))
    emit(Measured("loss", 1.0, 3, contestant="a", seed=2))
    emit(StageFinished("train", 1.0))
    assert heard == [Noted("begun", stage="train", arm="a", seed=0),
                     Measured("loss", 1.0, 3, stage="train", arm="a", seed=2, contestant="a"),
                     StageFinished("train", 1.0)]
