"""What a trainer minimises."""

from localdistill.core.registry import Family

OBJECTIVES = Family("objective", __name__, {
    "dpo": "DpoObjective",
    "redi": "RediObjective",
    "sft": "SftObjective",
})
