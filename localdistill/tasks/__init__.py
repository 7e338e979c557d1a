"""Prompts and a grader that make a benchmark."""

from localdistill.core.registry import Family

TASKS = Family("task", __name__, {
    "gsm8k": "Gsm8kTask",
    "humaneval": "HumanEvalTask",
    "holdout": "HoldoutTask",
    "ifeval": "IfEvalTask",
    "jsonl": "JsonlTask",
    "math500": "Math500Task",
    "mathif": "MathIfTask",
    "mbpp": "MbppTask",
    "pantry": "PantryTask",
    "pantry_guard": "PantryGuardTask",
})
