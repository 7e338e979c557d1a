"""One trace and its prompt to one training example."""

from localdistill.core.registry import Family

FORMATS = Family("format", __name__, {
    "answer_only": "AnswerOnlyFormat",
    "full_trace": "FullTraceFormat",
    "original": "OriginalFormat",
    "reasoning_then_answer": "ReasoningThenAnswerFormat",
})
