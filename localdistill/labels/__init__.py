"""What is measured of traces and prompts, beside the verdicts on them."""

from localdistill.core.registry import Family

LABELS = Family("label", __name__, {
    "steps": "StepsLabel",
    "tokens": "TokensLabel",
    "tries": "TriesLabel",
})
