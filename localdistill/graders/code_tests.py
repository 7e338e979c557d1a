"""What a program is tested by, out of the tests that a prompt carries: assertions, a `check` function, test functions,
inputs and outputs of a script, arguments and results of a function."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localdistill.core.records import Prompt
from localdistill.graders.programs import called_in, defined_in, given_in
from localdistill.safety.jail.running import Exam

_SAME = """
def _plain(value):
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value

def _same(said, expected):
    return _plain(said) == _plain(expected)
"""


@dataclass(frozen=True)
class ScriptCase:
    """One run of a script."""

    given: str
    expected: str


@dataclass(frozen=True)
class CodeTests:
    """What to do with the program of an answer: one of the two."""

    tests: Exam | None = None
    cases: Sequence[ScriptCase] = ()

    @property
    def names(self) -> Sequence[str]:
        """What the program must define; empty for a script."""
        return self.tests.names if self.tests else ()


class UnknownTests(Exception):
    """Tests that nobody here can read."""


def tests_of(prompt: Prompt) -> CodeTests | None:
    """The tests of a prompt; None where it has none. Raises UnknownTests for what is of no known form."""
    text = (prompt.tests or "").strip()
    if not text:
        return None
    value = _json(text)
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return _assertions(prompt, value)
    if isinstance(value, Mapping | list):
        return _cases(prompt, value)
    return _source(prompt, text)


def _json(text: str) -> Any:
    if text[0] not in "[{":
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _assertions(prompt: Prompt, parts: Sequence[str]) -> CodeTests:
    return CodeTests(Exam(tuple(parts), _names(prompt, "\n".join(parts)), _before(prompt)))


def _source(prompt: Prompt, text: str) -> CodeTests:
    """Tests as Python."""
    made, names = defined_in(text), _names(prompt, text)
    if "check" in made:
        if "entry_point" not in prompt.metadata:
            names = tuple(_offered(prompt)[:1])
        if not names:
            raise UnknownTests("the tests do not say which function they check")
        text += f"\n\ncheck({names[0]})"
    elif re.search(r"\bunittest\b", text):
        raise UnknownTests("the tests are of the unittest kind")
    elif not re.search(r"^\s*assert\b", text, re.MULTILINE):
        raise UnknownTests("the tests hold no assertion")
    return CodeTests(Exam((text,), names, _before(prompt)))


def _names(prompt: Prompt, tests: str) -> tuple[str, ...]:
    """What the program is to define: as the prompt says it, else what the original response or the question defines
    and the tests speak of, else the first name that the tests call and that nobody else brings."""
    stated = prompt.metadata.get("entry_point")
    if isinstance(stated, str) and stated.isidentifier():
        return (stated,)
    spoken = set(re.findall(r"\w+", tests))
    if found := [name for name in _offered(prompt) if name in spoken]:
        return tuple(found)
    return tuple(called_in(tests)[:1])


def _offered(prompt: Prompt) -> list[str]:
    """What the original response defines, else the question; the last, which is what the others are for, comes
    first."""
    return defined_in(prompt.original or "")[::-1] or defined_in(given_in(prompt.question))[::-1]


def _before(prompt: Prompt) -> str:
    """What the tests need beside the program: imports that the prompt states, and what its question defines."""
    stated = prompt.metadata.get("test_imports")
    imports = [stated] if isinstance(stated, str) else stated if isinstance(stated, list) else []
    return "\n".join([given_in(prompt.question), *map(str, imports)])


def _cases(prompt: Prompt, value: Any) -> CodeTests:
    """Inputs and outputs, in one list or two."""
    if isinstance(value, list):
        pairs = [(one.get("input"), one.get("output", one.get("expected_output"))) if isinstance(one, Mapping)
                 else (None, None) for one in value]
        function = next((str(one["fn_name"]) for one in value if isinstance(one, Mapping) and one.get("fn_name")), "")
    else:
        given, expected = value.get("inputs", value.get("input")), value.get("outputs", value.get("output"))
        if not isinstance(given, list) or not isinstance(expected, list) or len(given) != len(expected):
            raise UnknownTests("the tests are not as many inputs as outputs")
        pairs, function = list(zip(given, expected)), str(value.get("fn_name") or "")
    if not pairs or any(one is None for pair in pairs for one in pair):
        raise UnknownTests("the tests are not pairs of input and output")
    if function or isinstance(prompt.metadata.get("fn_name"), str):
        return _calls(function or str(prompt.metadata["fn_name"]), pairs)
    return CodeTests(cases=[ScriptCase(_text(given), _text(expected)) for given, expected in pairs])


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(_text, value))
    return value if isinstance(value, str) else json.dumps(value)


def _calls(function: str, pairs: Sequence[tuple[Any, Any]]) -> CodeTests:
    """Arguments and results of one function; lists and tuples count alike, as JSON knows only one of them."""
    if not function.isidentifier():
        raise UnknownTests("the tests call what is no name")
    parts = []
    for given, expected in pairs:
        if not isinstance(given, list):
            raise UnknownTests("the arguments of a test are no list")
        parts.append(f"assert _same({function}(*{given!r}), {expected!r})")
    return CodeTests(Exam(tuple(parts), (function,), _SAME))


def says_the_same(printed: str, expected: str) -> bool:
    """Whether two outputs are one: line by line without space at their ends, or word by word, where numbers with a
    decimal point may differ by a millionth."""
    said, wanted = ([line.rstrip() for line in text.strip().splitlines()] for text in (printed, expected))
    if said == wanted:
        return True
    words = [" ".join(lines).split() for lines in (said, wanted)]
    return len(words[0]) == len(words[1]) and all(map(_same_word, *words))


def _same_word(said: str, wanted: str) -> bool:
    if said == wanted:
        return True
    if not re.fullmatch(r"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?|[-+]?\d+\.?\d*[eE][-+]?\d+", wanted):
        return False
    try:
        return abs(float(said) - float(wanted)) <= 1e-6 * max(1.0, abs(float(wanted)))
    except ValueError:
        return False
