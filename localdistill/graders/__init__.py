"""Verdicts on single traces, by graders that are listed here; the other files read results out of texts for them."""

from localdistill.core.registry import Family

GRADERS = Family("grader", __name__, {
    "choice": "ChoiceGrader",
    "code": "CodeGrader",
    "combined": "CombinedGrader",
    "exact": "ExactGrader",
    "instructions": "InstructionsGrader",
    "judge": "JudgeGrader",
    "math": "MathGrader",
    "tool_calls": "ToolCallsGrader",
})
