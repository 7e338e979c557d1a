"""Anything that answers messages."""

from localdistill.registry import Family

ENGINES = Family("engine", __name__, {
    "llama_cpp": "LlamaCppEngine",
    "openai_compatible": "OpenAICompatibleEngine",
    "replay": "ReplayEngine",
    "transformers": "TransformersEngine",
})
