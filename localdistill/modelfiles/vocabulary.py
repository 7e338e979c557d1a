"""Whether token ids of two model files mean the same: the identity of a vocabulary, equal for a model folder and the
GGUF made of it, whatever pads the rows of the embedding. Loads no library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from localdistill.core.records import content_id
from localdistill.modelfiles.gguf_header import read_header

_TOKENS, _TYPES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type"
_UNUSED = 5
"""GGUF's type of a row that stands for no token."""


def vocabulary_id(tokens: Mapping[int, str]) -> str:
    """Identity of the vocabulary in which id `i` is `tokens[i]`, as the vocabulary writes it."""
    return content_id("vocabulary", [[number, tokens[number]] for number in sorted(tokens)])


def gguf_vocabulary_id(path: Path) -> str:
    """`vocabulary_id` of a GGUF file; empty when it holds no tokens. Raises ModelFileError."""
    metadata = read_header(path, whole=(_TOKENS, _TYPES)).metadata
    tokens, types = metadata.get(_TOKENS), metadata.get(_TYPES)
    if not isinstance(tokens, list):
        return ""
    kinds = types if isinstance(types, list) else [0] * len(tokens)
    return vocabulary_id({number: str(token) for number, (token, kind) in enumerate(zip(tokens, kinds))
                          if kind != _UNUSED})
