"""What an attack comes to: two views compared, and errors looked at as the person would who reads them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from localdistill import Failed, explain
from tests.attack.kind import HOW, Ending, How
from tests.attack.view import DAMAGE, FAULT, Look, Seen, crash_of

HARMLESS = {
    r"teachers/.*\.json is gone": "it is only remembered what was seen: who removes it asks that it be forgotten, and "
                                  "the next run looks again",
}
"""What was done, as the attack tells it, and why what is shown may differ without a word."""
_BARE = ("Traceback", "Errno", "Error(", "Exception", "object at 0x")
"""What stands in no sentence for people."""


def compared(name: str, before: Seen, after: Seen) -> tuple[How, str]:
    """What became of one look at a workspace."""
    if after.crash:
        return "bad", f"{name}: {after.crash}"
    if after.error and after.error != before.error:
        return of_words(name, after.error, after.hint)
    told = Counter(after.said) - Counter(before.said)
    if after.shown == before.shown and after.error == before.error:
        return ("healed", f"{name}: {' / '.join(told)}") if told else ("same", "")
    changed = Counter(after.shown.splitlines()) - Counter(before.shown.splitlines())
    named = [line for line in changed if DAMAGE.search(line)]
    if told or named:
        return "healed", f"{name}: {' / '.join([*told, *named])}"
    return "bad", f"{name}: differs in silence: {_difference(before.shown, after.shown)}"


def _difference(before: str, after: str) -> str:
    gone = list((Counter(before.splitlines()) - Counter(after.splitlines())).elements())
    come = list((Counter(after.splitlines()) - Counter(before.splitlines())).elements())
    return f"-{gone[:2]} +{come[:2]}"[:400]


def of_words(name: str, error: str, hint: str) -> tuple[How, str]:
    """What an error comes to by its words alone."""
    if not error.removeprefix("error:").strip():
        return "bad", f"{name}: an error without a word"
    if bare := [text for text in _BARE if text in error]:
        return "bad", f"{name}: a bare error ({bare[0]}): {error[:300]}"
    if FAULT in hint:
        return "bad", f"{name}: nobody had thought of this: {error[:300]}"
    if not hint:
        return "bad", f"{name}: an error without a next step: {error[:300]}"
    return "named", f"{name}: {error}"


def of_error(name: str, error: BaseException) -> tuple[How, str]:
    """What an exception that reached the caller comes to."""
    told = explain(error)
    if FAULT in told.hint:
        return "bad", f"{name}: {crash_of(error)}"
    return of_words(name, told.message, told.hint)


def of_failure(name: str, failure: Failed | None) -> tuple[How, str]:
    """What the failure of a stage comes to, as it is told to the person who runs it."""
    if failure is None:
        return "bad", f"{name}: it failed without a word"
    return of_words(name, failure.text, failure.hint)


def worst(what: str, found: Iterable[tuple[How, str]]) -> Ending:
    """The ending of an attack that was looked at in several ways: the worst of them."""
    how, said = max(found, key=lambda one: HOW.index(one[0]), default=("same", ""))
    return Ending(how, what, said)


def judged(what: str, sound: dict[str, Seen], looks: Iterable[Look], workspace: object) -> Ending:
    """The ending of an attack on a workspace whose sound view is known. What did no harm is the same, whatever shows
    it; only nothing may break."""
    found = []
    harmless = next((reason for how, reason in HARMLESS.items() if re.fullmatch(how, what)), "")
    for look in looks:
        if harmless:
            seen = look.at(workspace)  # type: ignore[arg-type]
            found.append(("bad", f"{look.name}: {seen.crash}") if seen.crash else ("same", harmless))
            continue
        found.append(compared(look.name, sound[look.name], look.at(workspace)))  # type: ignore[arg-type]
        if found[-1][0] == "bad":
            break
    return worst(what, found)
