"""Anything that answers messages."""

from localdistill.core.registry import Family

ENGINES = Family("engine", __name__, {
    "anthropic": "AnthropicEngine",
    "llama_cpp": "LlamaCppEngine",
    "mlx": "MlxEngine",
    "openai_compatible": "OpenAICompatibleEngine",
    "replay": "ReplayEngine",
    "transformers": "TransformersEngine",
})
