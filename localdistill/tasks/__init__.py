"""Prompts and a grader that make a benchmark."""

from localdistill.core.registry import Family

TASKS = Family("task", __name__, {
    "aime": "AimeTask",
    "arc": "ArcTask",
    "bbh": "BbhTask",
    "bfcl": "BfclTask",
    "everyday": "EverydayTask",
    "gpqa": "GpqaTask",
    "gsm8k": "Gsm8kTask",
    "holdout": "HoldoutTask",
    "humaneval": "HumanEvalTask",
    "ifeval": "IfEvalTask",
    "jsonl": "JsonlTask",
    "math500": "Math500Task",
    "mathif": "MathIfTask",
    "mbpp": "MbppTask",
    "minerva": "MinervaTask",
    "missing_premise": "MissingPremiseTask",
    "mmlu": "MmluTask",
    "olympiad": "OlympiadTask",
    "open_questions": "OpenQuestionsTask",
    "pantry": "PantryTask",
    "pantry_guard": "PantryGuardTask",
})
