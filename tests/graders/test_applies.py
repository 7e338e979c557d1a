"""Which prompts a grader judges: those that hold what it judges by, and no two graders the same pantry prompt."""

from __future__ import annotations

import pytest

from localdistill.core.records import Message, Prompt
from localdistill.graders import GRADERS

ASKED = (Message("user", "?"),)


@pytest.mark.parametrize(("prompt", "expected"), [
    (Prompt(ASKED), set()),
    (Prompt(ASKED, reference=" "), set()),
    (Prompt(ASKED, reference="4"), {"exact", "math"}),
    (Prompt(ASKED, reference="A b", metadata={"constraints": [{"kind": "exact", "value": "A b"}]}), {"instructions"}),
])
def test_graders_judge_what_they_can(prompt: Prompt, expected: set[str]) -> None:
    assert {name for name in GRADERS.names() if GRADERS.load(name)().applies(prompt)} == expected
