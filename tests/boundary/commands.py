"""Every command of the command line, called with hostile things: a table that is checked against the command tree
itself, and calls that are made up from each command's own options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import typer

from localdistill.cli.app import app
from localdistill.core.stages import STAGES
from tests.boundary.corpus import TYPED
from tests.boundary.places import Place

Call = tuple[str, ...]

SLOW = frozenset({"run", "collect", "resume", "attach", "chat", "logprobs", "teacher probe", "teacher tune", "tui"})
"""Commands whose good calls start a run or load a model."""


@dataclass(frozen=True)
class Case:
    """One call of one command."""

    command: str
    arguments: Call
    """Without `localdistill`, `-w` and `--json`."""
    text: str = ""
    """What is piped in."""
    is_generated: bool = False
    changes: bool = False
    """It changes the workspace."""

    @property
    def name(self) -> str:
        """For a message."""
        return ascii(" ".join(self.arguments))[:160]


def _words(command: str, *arguments: str) -> Call:
    return (*command.split(), *arguments)


def _calls(place: Place) -> Iterator[tuple[str, Call]]:
    """Calls that get somewhere, and calls that fail late."""
    runs = (place.run, place.evil_run, TYPED, "last")
    yield from (("run", (str(recipe), "--detach")) for recipe in (place.broken, place.wrong, place.student, TYPED))
    for stage in STAGES:
        yield from ((stage.name, (str(recipe), "-d")) for recipe in (place.broken, place.wrong))
        yield stage.name, (str(place.recipe), "-d", "--set", f"arm={TYPED}")
        yield stage.name, (str(place.recipe), "-d", "--accept-terms", TYPED)
    yield from (("plan", (str(recipe),)) for recipe in (place.recipe, place.asking, place.broken, place.wrong))
    for command in ("attach", "cancel", "quarantine", "datasets", "scores", "exports"):
        yield from ((command, (run,)) for run in runs)
    yield from (("cancel", (run, "--batches")) for run in runs)
    yield "attach", ()
    yield "cancel", ()
    yield "exports", ()
    yield "quarantine", ()
    yield from (("resume", (run, "-d", "--arm", TYPED)) for run in runs)
    yield "resume", (TYPED,)
    yield "resume", (place.run, "--spent", "3")
    yield "scores", (place.run, "--flips", TYPED)
    yield "scores", (place.run, "--flips", f"arm {TYPED}")
    for command in ("result", "items"):
        yield from ((command, (run,)) for run in runs)
    yield "items", (place.run, "--arm", TYPED)
    yield "items", (place.run, "--item", TYPED, "--against", TYPED)
    yield from (("compare", (run, other)) for run, other in ((place.run, place.evil_run), (place.run, TYPED)))
    yield "compare", (place.run, place.run, "--task", TYPED)
    prune = ("prune", "--dry-run")
    yield from (("runs", call) for call in ((), prune, ("prune",), (*prune, "--keep-days", "0")))
    yield "verify", ()
    yield from (("runs", ("verify", run)) for run in runs)
    yield from (("recipe", call) for call in _recipe_calls(place))
    yield "status", ()
    yield "doctor", ()
    yield "doctor", ("--student", TYPED)
    yield from (("queue", call) for call in ((), ("add", str(place.broken)), ("remove", TYPED)))
    yield from (("teacher", call) for call in _teacher_calls(place))
    for path in (place.rows, place.damaged_rows, place.zipped_rows, place.broken, place.root, TYPED):
        yield "import", (str(path), "--preview")
    yield "import", (str(place.rows),)
    yield "import", (str(place.rows), "--layout", TYPED)
    yield from (("traces", call) for call in (
        (), ("--order", "newest"), ("--order", TYPED), ("--search", "SEEN"), ("--search", TYPED), ("--where", TYPED),
        ("--where", f"\"{TYPED}\" = 1"), ("--where", "1/0 = 1"), ("--selection", TYPED), ("--limit", "0"),
        ("--limit", "-1")))
    yield from (("prompts", call) for call in (
        (), ("--without-answer",), ("--source", TYPED), ("--search", TYPED), ("--limit", "-1")))
    yield from (("prompts", ("make", *call)) for call in (
        (TYPED, "--engine", TYPED), (str(place.rows), "--engine", TYPED), (str(place.rows),),
        ("--documents", TYPED, "--engine", "x.gguf")))
    yield from (("prefetch", (str(recipe),)) for recipe in (place.recipe, place.broken, place.wrong, TYPED))
    yield from (("models", call) for call in ((), (str(place.student),), (str(place.broken_model),), (TYPED,)))
    yield from (("data", call) for call in _data_calls(place))
    yield from (("forget", (what, "--dry-run")) for what in ("b2:long", "b2:nothing", TYPED))
    yield "forget", (TYPED, "--yes")
    yield "forget", ()
    yield "selections", ()
    yield from (("verdicts", run) for run in ((), (place.run,), (TYPED,)))
    yield from (("removed", (*run, *more)) for run in ((), (place.run,), (TYPED,)) for more in (
        (), ("--set", TYPED), ("--by", TYPED), ("--limit", "-1")))
    yield from (("store", (call,)) for call in ("check", "rebuild"))
    for verdict in ("right", "none", TYPED):
        yield "judge", ("b2:long", verdict, "--note", TYPED)
    yield "judge", (TYPED, "right")
    yield from (("traces", call) for call in (
        ("tag", "b2:long", TYPED), ("tag", TYPED, "odd"), ("untag", "b2:long", "odd"), ("favourite", "b2:long"),
        ("favourite", TYPED, "--off"), ("note", "b2:long", TYPED), ("note", TYPED, "")))
    yield from (("traces", call) for call in (
        ("rules",), ("rules", "--book"),
        ("sample", "3"), ("sample", "--where", TYPED), ("sample", "--fold", "--search", "SEEN"),
        ("edit", "b2:long", "--answer", TYPED), ("edit", TYPED, "--reasoning", "")))
    yield from (("judge", (trace, "--undo")) for trace in ("b2:long", TYPED))
    for trace in ("b2:\x1b[31m1", "b2:\x1b[31m2", "b2:\x1b", "b2:long", "b2:child", TYPED):
        yield "show", (trace,)
        yield from (("show", (trace, "--as", form)) for form in ("full_trace", "answer_only", TYPED))
    yield "show", ("b2:long", "--as", "full_trace", "--student", str(place.student))
    yield "show", ("b2:long", "--as", "full_trace", "--student", TYPED)
    for model in (str(place.broken_model), str(place.student), TYPED, place.evil_run, place.run):
        yield "chat", (model, "--ask", TYPED)
        yield "logprobs", (model, TYPED)
    yield "logprobs", ("shipped:pantry/student", TYPED, "--adapter", TYPED)
    yield from (("keys", call) for call in (
        ("list",), ("remove", TYPED), ("remove", "EVIL_KEY", "--host", TYPED), ("allow", TYPED, TYPED),
        ("allow", "EVIL_KEY", TYPED), ("set", TYPED), ("set", "EVIL_KEY", "--host", TYPED), ("set", "openai")))


def _data_calls(place: Place) -> Iterator[Call]:
    out = str(place.root / f"out {TYPED[:20]}.jsonl")
    yield ("layouts",)
    for layout in ("messages", "sharegpt", "alpaca", "preference", TYPED):
        yield "export", out, "--as", layout, "--force"
    yield "export", str(place.rows)
    yield "export", str(place.root / "none" / "x.jsonl")
    yield "export", TYPED, "--where", TYPED
    for told in ("--selection", "--search", "--run", "--for", "--reasoning"):
        yield "export", out, told, TYPED, "--force"
    yield "export", out, "--run", place.evil_run, "--arm", TYPED, "--force"


def _recipe_calls(place: Place) -> Iterator[Call]:
    recipes = map(str, (place.recipe, place.asking, place.broken, place.wrong, place.older, place.student))
    yield ("list",)
    yield ("schema",)
    for path in (*recipes, TYPED):
        yield "check", path
        yield "upgrade", path, "--check"
        yield "set", path, f"train.epochs={TYPED}"
        yield "set", path, "--remove", TYPED
        yield "set", path, "--add", f"grade={TYPED}"
    yield "check", str(place.recipe), "--set", TYPED
    yield "check", str(place.recipe), "--set", f"{TYPED}=1"
    yield "check", str(place.recipe), "--set", f"train.epochs={'9' * 6000}"
    yield "upgrade", str(place.older)
    yield "set", str(place.recipe), TYPED
    yield "set", str(place.recipe), f"{TYPED}=1"
    yield "new", str(place.recipe)
    yield "new", str(place.root / f"new {place.recipe.name}")
    yield "new", str(place.root / "x.toml"), "--from", TYPED
    yield "new", str(place.root / "none" / place.recipe.name)


def _teacher_calls(place: Place) -> Iterator[Call]:
    yield ("list",)
    yield "show", "openai"
    yield "show", TYPED
    for name in (TYPED, str(place.broken), str(place.wrong), str(place.broken_model), "openai"):
        yield "probe", name, "--yes", "--model", TYPED
    yield "probe", TYPED, "--recipe", str(place.asking), "--yes"
    yield "probe", "openai", "--base-url", TYPED, "--yes", "--model", "m"
    yield "probe", "openai", "--key-env", TYPED, "--yes", "--model", "m"
    yield "tune", str(place.broken_model)
    yield "tune", TYPED


def _slow_calls(place: Place) -> Iterator[tuple[str, Call]]:
    """Calls that start runs and load models."""
    if place.server:
        yield "run", (str(place.asking),)
        yield "collect", (str(place.asking),)
        yield "teacher", ("probe", str(place.asking), "--yes")
    yield "chat", (str(place.model), "--ask", TYPED, "--thinking", "--max-tokens", "8")
    yield "logprobs", (str(place.model), TYPED, "--ask", TYPED, "--tokens", "--top", "2")
    yield "logprobs", ("shipped:pantry/student", TYPED, "--text", TYPED, "--tokens")
    yield "attach", (place.run,)


def leaves(command: Any = None, path: Call = ()) -> dict[str, Any]:
    """Every command of the tree by its words."""
    command = command or _tree()
    below = getattr(command, "commands", None)
    found = {} if below and not command.invoke_without_command else {" ".join(path): command}
    for name, one in (below or {}).items():
        found |= leaves(one, (*path, name))
    return found


@cache
def _tree() -> Any:
    return typer.main.get_command(app)


def generated() -> Iterator[Case]:
    """Usage errors: every option of every command with a hostile value, too many arguments, an unknown option, a
    hostile command."""
    yield Case("", (TYPED,), is_generated=True)
    yield Case("", ("--" + TYPED,), is_generated=True)
    for name, command in leaves().items():
        words = name.split()
        if name in ("", "tui"):
            continue
        yield Case(name, (*words, "--" + TYPED), is_generated=True)
        yield Case(name, (*words, "-w"), is_generated=True)
        yield Case(name, (*words, *(TYPED for _ in range(9))), is_generated=True)
        needed = [TYPED for one in command.params if one.param_type_name == "argument" and one.required]
        for option in command.params:
            if option.param_type_name == "option" and not option.is_flag and "--workspace" not in option.opts:
                yield Case(name, (*words, *needed, option.opts[0], TYPED), is_generated=True)


def table(place: Place, slow: bool = False) -> list[Case]:
    """Every call of the table."""
    found = [Case(_command_of(_words(first, *rest)), _words(first, *rest),
                  "sk-typed\x1b]0;PWN\x07\n" if first == "keys" else "") for first, rest in
             (*_calls(place), *(_slow_calls(place) if slow else ()))]
    return found


def _command_of(words: Call) -> str:
    two = " ".join(words[:2])
    return two if two in leaves() else words[0]


def uncovered(place: Place) -> set[str]:
    """Commands that no call of the table is for."""
    return set(leaves()) - {case.command for case in table(place, slow=True)} - {"", "tui"}


def cases(place: Place, slow: bool = False, wanted: Callable[[Case], bool] = lambda case: True) -> list[Case]:
    """Everything: the table and what is generated, without what is not `wanted`."""
    return [case for case in (*table(place, slow), *generated()) if wanted(case)]
