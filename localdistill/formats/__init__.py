"""The traces of one prompt to training examples."""

from localdistill.core.registry import Family

FORMATS = Family("format", __name__, {
    "answer_only": "AnswerOnlyFormat",
    "full_trace": "FullTraceFormat",
    "original": "OriginalFormat",
    "preference": "PreferenceFormat",
    "reasoning_then_answer": "ReasoningThenAnswerFormat",
    "signed": "SignedFormat",
})
