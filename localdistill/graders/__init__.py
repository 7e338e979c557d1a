"""Verdicts on single traces."""

from localdistill.core.registry import Family

GRADERS = Family("grader", __name__, {
    "exact": "ExactGrader",
    "instructions": "InstructionsGrader",
    "math": "MathGrader",
})
