"""Layouts of prompts and traces that people exchange."""

from localdistill.core.registry import Family

LAYOUTS = Family("layout", __name__, {
    "alpaca": "AlpacaLayout",
    "gsm8k": "Gsm8kLayout",
    "math500": "Math500Layout",
    "messages": "MessagesLayout",
    "prompts": "PromptsLayout",
    "sharegpt": "ShareGptLayout",
    "mip_traces": "MipTracesLayout",
})
