"""The Nth file operation of a command or a stage fails: once with an error of the disk or a missing permission, or from
there on because the disk is full. What failed is then done again, and must come to what it would have been."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from localdistill import RunFolder, Workspace
from tests.attack import shim
from tests.attack.ground import Ground, Place
from tests.attack.judging import compared, of_failure, worst
from tests.attack.kind import Ending, How, Kind
from tests.attack.results import RUN, acknowledged, differences, results_of, stored_in
from tests.attack.shim import Fault, failing
from tests.attack.stage import run_stage
from tests.attack.victim import CAP_USD, STAGES
from tests.attack.view import Seen, run_command

SOUND = Seen("")
MOST_TRIES = 3


@dataclass(frozen=True)
class Action:
    """Something that writes, and what it is to come to."""

    name: str
    state: str
    """What lies there before."""
    do: Callable[[Ground, Workspace], tuple[How, str]]
    comes_to: Callable[[Workspace], dict[str, Any]]
    weight: int = 2


def _stage(stage: str) -> Callable[[Ground, Workspace], tuple[How, str]]:
    def do(ground: Ground, workspace: Workspace) -> tuple[How, str]:
        ended = run_stage(workspace, RunFolder(workspace.runs / RUN), stage)
        return ("same", "") if not ended.code else of_failure(f"stage {stage}", ended.failure)

    return do


def _command(*words: str) -> Callable[[Ground, Workspace], tuple[How, str]]:
    def do(ground: Ground, workspace: Workspace) -> tuple[How, str]:
        given = [word.replace("HOME", str(ground.victim.home)) for word in words]
        seen = run_command([*given, "-w", str(workspace.root)])
        if seen.crash or seen.error:
            return compared(words[0], SOUND, seen)
        return "same", ""

    return do


def _judge(ground: Ground, workspace: Workspace) -> tuple[How, str]:
    """The first trace of the run is found wrong by a person."""
    trace = RunFolder.open(ground.victim.workspace / "runs", RUN).ids("collect")[0]
    return _command("judge", trace, "wrong")(ground, workspace)


ACTIONS = (
    *(Action(stage, f"before-{stage}", _stage(stage), results_of, weight)
      for stage, weight in zip(STAGES, (6, 4, 4, 5, 4, 1, 1, 1), strict=True)),
    Action("import", "workspace", _command("import", "HOME/late.jsonl"), stored_in),
    Action("judge", "workspace", _judge, stored_in),
    Action("prune", "workspace", _command("runs", "prune", "--yes", "--keep-days", "0"), stored_in),
    Action("open", "unclosed", _command("traces"), stored_in),
)


def _attack(ground: Ground, chance: Random, number: int) -> Ending:
    fault = chance.choice(shim.FAULTS)
    if chance.random() < 0.25:
        return _at_a_look(ground, chance, fault)
    action = chance.choices(ACTIONS, [action.weight for action in ACTIONS])[0]
    place = ground.place(action.state)
    most, sound = _whole(ground, action, fault)
    nth = chance.randint(1, max(1, most))
    for _ in range(MOST_TRIES):
        workspace = place.fresh()
        before, in_journals = ground.account(), acknowledged(workspace)
        with failing(fault, nth, place.root) as counted:
            first = action.do(ground, workspace)
        if counted.fired:
            break
        nth = max(1, nth // 2)
    what = f"{_told(fault)} at operation {nth} of {most} of '{action.name}'"
    bought = ground.account().total - before.total
    unseen = bought - (acknowledged(workspace) - in_journals)
    again = action.do(ground, workspace)
    if again[0] != "same":
        return worst(what, [first, _after("done again", again)])
    if gone := differences(sound, action.comes_to(workspace)):
        return worst(what, [first, ("bad", f"done again, and it came to something else: {gone}")])
    after = ground.account()
    if after.total - before.total > _needed(ground, action) + unseen:
        return Ending("bad", what, f"{after.total - before.total} replies were bought where "
                                   f"{_needed(ground, action)} were needed and {unseen} could not be acknowledged")
    if after.usd - before.usd > CAP_USD:
        return Ending("bad", what, f"${after.usd - before.usd:.2f} were spent under a cap of ${CAP_USD}")
    return worst(what, [first])


def _after(when: str, ended: tuple[How, str]) -> tuple[How, str]:
    return ended[0], f"{when}: {ended[1]}"


def _told(fault: Fault) -> str:
    return f"{fault.name}{' for good' if fault.goes_on else ''}"


_COUNTS: dict[tuple[str, Fault], int] = {}
_SOUND: dict[str, tuple[dict[str, Any], int]] = {}


def _whole(ground: Ground, action: Action, fault: Fault) -> tuple[int, dict[str, Any]]:
    """How many operations can fail, and what the action comes to when none does."""
    if (action.name, fault) not in _COUNTS:
        place = ground.place(action.state)
        workspace, before = place.fresh(), ground.account()
        with failing(fault, 0, place.root) as counted:
            how, said = action.do(ground, workspace)
        assert how == "same", said
        _SOUND.setdefault(action.name, (action.comes_to(workspace), ground.account().total - before.total))
        _COUNTS[action.name, fault] = counted.seen
    return _COUNTS[action.name, fault], _SOUND[action.name][0]


def _needed(ground: Ground, action: Action) -> int:
    """Replies that the action buys when nothing fails."""
    return _SOUND[action.name][1]


def _at_a_look(ground: Ground, chance: Random, fault: Fault) -> Ending:
    """A look breaks, and afterwards everything is as it was."""
    place = ground.place()
    sound, look = place.sound, chance.choice(place.looks)
    workspace = place.fresh()
    counted = _seen_by(place, look.name, fault)
    nth = chance.randint(1, max(1, counted))
    workspace = place.fresh()
    with failing(fault, nth, place.root):
        broken = look.at(workspace)
    found = [compared(look.name, sound[look.name], broken)]
    found.append(_after("looked again", compared(look.name, sound[look.name], look.at(workspace))))
    return worst(f"{_told(fault)} at operation {nth} of {counted} of '{look.name}'", found)


def _seen_by(place: Place, name: str, fault: Fault) -> int:
    if (name, fault) in _COUNTS:
        return _COUNTS[name, fault]
    workspace = place.fresh()
    with failing(fault, 0, place.root) as counted:
        next(look for look in place.looks if look.name == name).at(workspace)
    _COUNTS[name, fault] = counted.seen
    return counted.seen


KIND = Kind("operations", "the Nth file operation of a look, a command or a stage fails", 1600, _attack,
            needs_failing_files=True)
