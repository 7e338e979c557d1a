"""What a trainer minimises."""

from localdistill.registry import Family

OBJECTIVES = Family("objective", __name__, {
    "sft": "SftObjective",
})
