"""Which prompts the graders by rule judge: those that hold what they judge by. A grader that asks an engine, or judges
by something else, has its own samples to show it."""

from __future__ import annotations

import pytest

from localdistill.core.records import Message, Prompt
from localdistill.graders import GRADERS

ASKED = (Message("user", "?"),)
BY_RULE = ("code", "exact", "instructions", "math", "tool_calls")


@pytest.mark.parametrize(("prompt", "expected"), [
    (Prompt(ASKED), set()),
    (Prompt(ASKED, reference=" "), set()),
    (Prompt(ASKED, reference="4"), {"exact", "math"}),
    (Prompt(ASKED, tests="assert f(1) == 2"), {"code"}),
    (Prompt(ASKED, metadata={"calls": []}), {"tool_calls"}),
    (Prompt(ASKED, reference="A b", metadata={"constraints": [{"kind": "exact", "value": "A b"}]}), {"instructions"}),
])
def test_graders_judge_what_they_can(prompt: Prompt, expected: set[str]) -> None:
    assert {name for name in BY_RULE if GRADERS.load(name)().applies(prompt)} == expected
