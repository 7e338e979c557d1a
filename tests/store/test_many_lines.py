"""Lines of many records at once are, byte by byte, the lines of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest

from localdistill.core.records import Fact, Message, Prompt, Trace, Usage
from localdistill.safety.record_lines import encode
from localdistill.store.lines import facts_line as line_of_facts
from localdistill.store.lines import prompt_line, trace_line
from localdistill.store.many_lines import facts_line, prompt_lines, trace_lines
from tests.store.test_round_trip import made

TEXTS = ("plain", "", "100 % of %s, %%", "\x7f\x00\u2028\n\t\"\\", "\ud83d lone \ufdd0", "é 🙂", "<think>so</think>it")


def traces() -> Sequence[Trace]:
    """All alike but for some fields, with fields as they are by default and not, and with packed raw texts."""
    plain = [Trace(f"b2:{n}", "b2:p", "imported", "m%d", f"so it is {text}", f"it is {text}", source="f.jsonl")
             for n, text in enumerate(TEXTS)]
    raws = [replace(one, raw=f"<think>\n{one.reasoning}\n</think>\n\n{one.answer}") for one in plain[:3]]
    return [*plain, *raws, replace(plain[1], raw="another text"), replace(plain[0], usage=Usage(3, 4, estimated=True)),
            replace(plain[0], sampling={"seed": 1}, cost_usd=0.0, thinks=False, asked=()), made(Trace, count(3))]


def prompts() -> Sequence[Prompt]:
    several = (Message("system", "100 %"), Message("user", "\ud83d?"), Message("assistant", "", "thought", ({"a": 1},)))
    return [*(Prompt((Message("user", text),), reference=text or None, source="%s") for text in TEXTS),
            Prompt(several, metadata={"level": float("nan"), "\ud83d": [1]}), made(Prompt, count(9))]


def facts() -> Sequence[Fact]:
    return [*(Fact("b2:1", "math%", value=value, reason=text) for value in (None, 1.0, 0.25, "de", float("nan"))
              for text in TEXTS), Fact("b2:1", "x", metrics={"a": 1.0}, passed=True), made(Fact, count(5))]


@pytest.mark.whole
@pytest.mark.parametrize("size", [1, 2, 5, 99])
def test_they_are_the_lines_of_each(size: int) -> None:
    for records, many, one in ((traces(), trace_lines, trace_line), (prompts(), prompt_lines, prompt_line)):
        for start in range(0, len(records), size):
            part = records[start:start + size]
            assert many(part) == [encode(one(record)) for record in part]
    said = facts()
    for start in range(0, len(said), size):
        assert facts_line(said[start:start + size]) == encode(line_of_facts(said[start:start + size]))
