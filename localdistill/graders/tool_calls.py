"""Grades calls of tools: are they the ones that were wanted, each with its name and with arguments among the values
that are allowed? They come from the trace's own calls, else from what is written in the answer.

What is wanted stands in the prompt's `metadata["calls"]`: a list of `{"name", "arguments"}` (or `{name: arguments}`),
where each argument has the list of its allowed values, and an empty text among them says that it may be left out. An
empty list says that nothing may be called. Order counts for nothing. Texts are compared without case, space and
`,./-_*^`; an integer stands for the same number with a point, but for no text and no truth value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from localdistill.core.means import Means
from localdistill.core.options import Options as BaseOptions
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import GraderSample, answers, asks
from localdistill.graders.base import JudgesTraces
from localdistill.templates.written_calls import WrittenCall, written_calls

KEY, TOOLS = "calls", "tools"
_MAY_BE_LEFT_OUT = ""


class ToolCallsGrader(JudgesTraces):
    """The `tool_calls` grader."""

    name = "tool_calls"
    version = 2
    metrics: ClassVar[Mapping[str, str]] = {"right": "share of the wanted calls that were made as allowed, 0 to 1"}

    class Options(BaseOptions):
        """Options of `tool_calls`."""

        reads_text: bool = True
        """Whether calls that are only written in the answer count, where the reply has none of its own."""

    @classmethod
    def samples(cls) -> Sequence[GraderSample]:
        """Answers and their scores."""
        wanted = [{"name": "weather", "arguments": {"city": ["Bern", "Bern, Switzerland"], "days": [3, ""]}}]
        prompt, none = asks("Weather in Bern?", metadata={KEY: wanted}), asks("Hello!", metadata={KEY: []})
        right = '<tool_call>{"name": "weather", "arguments": {"city": "bern"}}</tool_call>'
        plain = asks("How many?", "42")
        return (
            GraderSample(prompt, answers(prompt, right), 1.0, metrics={"right": 1.0}),
            GraderSample(prompt, answers(prompt, 'weather(city="Rome")'), 0.0, metrics={"right": 0.0}),
            GraderSample(none, answers(none, "Hello."), 1.0, metrics={"right": 1.0}),
            GraderSample(none, answers(none, right), 0.0, metrics={"right": 0.0}),
            GraderSample(plain, answers(plain, "42"), None),
        )

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or self.Options()

    def applies(self, prompt: Prompt) -> bool:
        """True for a prompt that says which calls it wants, or that it wants none."""
        return isinstance(prompt.metadata.get(KEY), list)

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        """See FactMaker."""
        return (self.grade(prompt, trace) for prompt, trace in pairs)

    def grade(self, prompt: Prompt, trace: Trace) -> Fact:
        """1 when the calls that were made are those that were wanted; the reason names the first that is not."""
        if not self.applies(prompt):
            return self.verdict(trace, None, "the prompt has no calls that are wanted")
        wanted = [_wanted(one) for one in prompt.metadata[KEY]]
        if None in wanted:
            return Fact(trace.id, self.name, self.version,
                        reason="cannot be judged: the prompt's calls are not each a name with allowed arguments")
        calls = self._made(prompt, trace)
        if calls is None:
            return self.verdict(trace, 0.0, "a call hands over what is no JSON object", metrics={"right": 0.0})
        if not calls and not trace.answer.strip() and wanted:
            return self.verdict(trace, 0.0, "the answer is empty", metrics={"right": 0.0})
        matched, why = _matched(calls, [one for one in wanted if one is not None], _float_parameters(prompt))
        share = matched / len(wanted) if wanted else float(not calls)
        said = why or (f"{len(calls)} calls as wanted" if calls else "nothing is called, as wanted")
        return self.verdict(trace, float(not why), said, "; ".join(map(_shown, calls)), {"right": share})

    def _made(self, prompt: Prompt, trace: Trace) -> list[WrittenCall] | None:
        if not trace.tool_calls:
            texts = _parameters_of(prompt, {"string", "str"})
            written = self.options.reads_text
            return written_calls(trace.answer, lambda *place: place in texts) if written else []
        made = []
        for call in trace.tool_calls:
            said = call.get("function") or call
            arguments = said.get("arguments") or {}
            try:
                arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
            except (ValueError, RecursionError):
                return None
            if not isinstance(arguments, Mapping):
                return None
            made.append(WrittenCall(str(said.get("name")), arguments))
        return made


def _wanted(one: Any) -> WrittenCall | None:
    """A wanted call: its name, and for each argument the values that are allowed."""
    if not isinstance(one, Mapping):
        return None
    name, arguments = one.get("name"), one.get("arguments", {})
    if not isinstance(name, str) and len(one) == 1:
        [(name, arguments)] = one.items()
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        return None
    return WrittenCall(name, {key: _allowed(value) for key, value in arguments.items()})


def _allowed(value: Any) -> list[Any]:
    """Allowed values; where none stands in the list, an argument that says nothing."""
    return (value or [_MAY_BE_LEFT_OUT, []]) if isinstance(value, list) else [value]


def _matched(calls: Sequence[WrittenCall], wanted: Sequence[WrittenCall],
             floats: set[tuple[str, str]]) -> tuple[int, str]:
    """How many of the wanted calls were made, and what is wrong first; empty where nothing is."""
    fits = [[_why_not(call, one, floats) for call in calls] for one in wanted]
    partner: dict[int, int] = {}

    def place(which: int, seen: set[int]) -> bool:
        """Find a call for this wanted one, moving others aside."""
        for number, why in enumerate(fits[which]):
            if not why and number not in seen:
                seen.add(number)
                if number not in partner or place(partner[number], seen):
                    partner[number] = which
                    return True
        return False

    missing = [which for which in range(len(wanted)) if not place(which, set())]
    matched = len(wanted) - len(missing)
    if not missing and len(calls) == len(wanted):
        return matched, ""
    if not missing:
        return matched, f"{len(calls)} calls where {len(wanted) or 'none'} {'were' if wanted else 'was'} wanted"
    left = [number for number in range(len(calls)) if number not in partner]
    why = next((fits[missing[0]][number] for number in left), "")
    return matched, f"{wanted[missing[0]].name} was not called as wanted" + (f": {why}" if why else "")


def _why_not(call: WrittenCall, wanted: WrittenCall, floats: set[tuple[str, str]]) -> str:
    """Why a call is not the wanted one; empty when it is."""
    if _name(call.name) != _name(wanted.name):
        return f"{call.name} was"
    for key in call.arguments:
        if key not in wanted.arguments:
            return f"'{key}' is no argument that is allowed"
    for key, allowed in wanted.arguments.items():
        if key not in call.arguments:
            if _MAY_BE_LEFT_OUT not in allowed:
                return f"'{key}' is missing"
        elif not any(_same(call.arguments[key], value, (wanted.name, key) in floats) for value in allowed):
            return f"'{key}' is {_shown_value(call.arguments[key])}"
    return ""


def _name(name: str) -> str:
    """APIs allow no point in a name, and write another sign for it."""
    return name.replace(".", "_")


def _same(said: Any, allowed: Any, is_float: bool) -> bool:
    """Whether an argument is an allowed value. In objects every key has its own list of allowed values."""
    if isinstance(said, bool) or isinstance(allowed, bool) or said is None or allowed is None:
        return said is allowed
    if isinstance(said, int | float) and isinstance(allowed, int | float):
        return said == allowed and (type(said) is type(allowed) or isinstance(allowed, float) or is_float)
    if isinstance(said, str) and isinstance(allowed, str):
        return _plain(said) == _plain(allowed)
    if isinstance(said, list) and isinstance(allowed, list):
        return len(said) == len(allowed) and all(_same(one, other, is_float) for one, other in zip(said, allowed))
    if isinstance(said, Mapping) and isinstance(allowed, Mapping):
        return said.keys() <= allowed.keys() and all(_in_object(said, key, values, is_float)
                                                     for key, values in allowed.items())
    return False


def _in_object(said: Mapping[str, Any], key: str, allowed: Any, is_float: bool) -> bool:
    values = allowed if isinstance(allowed, list) else [allowed]
    if key not in said:
        return _MAY_BE_LEFT_OUT in values
    return any(_same(said[key], value, is_float) for value in values)


def _plain(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')


def _float_parameters(prompt: Prompt) -> set[tuple[str, str]]:
    return _parameters_of(prompt, {"float", "number"})


def _parameters_of(prompt: Prompt, types: set[str]) -> set[tuple[str, str]]:
    """Tools and parameters of these types, as the definitions say that the prompt carries, if it does."""
    found = set[tuple[str, str]]()
    tools = prompt.metadata.get(TOOLS)
    for tool in tools if isinstance(tools, list) else ():
        said = tool.get("function", tool) if isinstance(tool, Mapping) else {}
        said = said if isinstance(said, Mapping) else {}
        schema = said.get("parameters")
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        for key, one in properties.items() if isinstance(properties, Mapping) else ():
            if isinstance(one, Mapping) and one.get("type") in types:
                found.add((str(said.get("name")), str(key)))
    return found


def _shown(call: WrittenCall) -> str:
    return f"{call.name}({', '.join(f'{key}={_shown_value(value)}' for key, value in call.arguments.items())})"


def _shown_value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:80]
