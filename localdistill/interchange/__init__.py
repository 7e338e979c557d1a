"""Layouts of prompts and traces that people exchange."""

from localdistill.core.registry import Family

LAYOUTS = Family("layout", __name__, {
    "mip_traces": "MipTracesLayout",
    "gsm8k": "Gsm8kLayout",
    "math500": "Math500Layout",
    "ifeval": "IfEvalLayout",
    "preference": "PreferenceLayout",
    "prompts": "PromptsLayout",
    "messages": "MessagesLayout",
    "sharegpt": "ShareGptLayout",
    "alpaca": "AlpacaLayout",
    "prompt_completion": "PromptCompletionLayout",
    "columns": "ColumnsLayout",
})
"""The most telling first: the first one that recognises the rows of a file reads it."""
