"""Trace to new trace with a parent."""

from localdistill.core.registry import Family

REWRITES = Family("rewrite", __name__, {
    "extract": "ExtractRewrite",
    "summarize": "SummarizeRewrite",
})
