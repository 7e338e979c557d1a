"""The transformers side of the parity gate: the merged folder as it was trained, in float32 on the CPU. Prompts and ids
come from the same code as in training."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from localdistill.core.records import Message, Role
from localdistill.exporters.gguf_parts.tokenizer_kinds import splits_alike, tokenizer_kind
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.streamed import StreamedModel
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.modelfiles.tokenizer_claims import read_tokenizer
from localdistill.templates import ChatTemplate


def _talk(turns: Sequence[str]) -> list[Message]:
    roles: tuple[Role, ...] = ("user", "assistant")
    return [Message(roles[place % 2], text) for place, text in enumerate(turns)]


class Reference:
    """The merged model in a folder, asked as in training with `thinks`."""

    def __init__(self, path: Path, thinks: bool | None) -> None:
        self.folder = ModelFolder.open(path)
        self._thinks = thinks
        self._tokenizer = StudentTokenizer(path)
        self._template = ChatTemplate.from_folder(path)
        data = read_tokenizer(path)
        self._added: list[dict[str, Any]] = data.get("added_tokens") or []
        self._normal = '"NFC"' in json.dumps(data.get("normalizer"))
        self._kind = tokenizer_kind(data)
        strips = [re.escape(str(token["content"])) for token in self._added if token.get("rstrip")]
        self._swallowed = re.compile(rf"(?:{'|'.join(strips)})(\s+)") if strips else None

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end generation."""
        return self._tokenizer.stop_token_ids

    def added_tokens(self) -> list[str]:
        """The texts of all added tokens, special ones included."""
        return [str(token["content"]) for token in self._added]

    def is_comparable(self, text: str) -> bool:
        """Whether llama.cpp is meant to tokenize `text` as in training: it does not bring text into NFC, splits some
        scripts in a way of its own, and lets added tokens swallow blanks of ASCII alone."""
        if self._swallowed is not None and not all(map(str.isascii, self._swallowed.findall(text))):
            return False
        return splits_alike(self._kind.pre, text) and (not self._normal or unicodedata.is_normalized("NFC", text))

    @property
    def lead(self) -> str:
        """A special token to put before strings, where only what stands at the very beginning is treated in another
        way: nothing that is served stands there."""
        specials = [str(token["content"]) for token in self._added if token.get("special")]
        return specials[0] if self._kind.prefix == "first" and specials else ""

    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens of the tokenizer's own; added tokens in the text are recognised."""
        return self._tokenizer.encode(text)

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a rendered prompt, as in training."""
        return self._tokenizer.encode_prompt(text)

    def render(self, *turns: str, thinks: bool | None = None) -> str:
        """`turns`, of a user and an assistant by turns, ready for generation, as in training; told to think or not
        where `thinks` says so."""
        return self._template.prompt(_talk(turns), self._thinks if thinks is None else thinks)

    def render_stored(self, source: str, bos: str, eos: str, *turns: str, thinks: bool | None = None) -> str:
        """The same with the template text `source`, as a program renders it that sets no switch but `thinks`, and takes
        `bos` and `eos` from the file."""
        return ChatTemplate(source, bos, eos, origin="the template in the GGUF").prompt(_talk(turns), thinks)

    def token_text(self, token: int) -> str:
        """The token as it is written in the vocabulary."""
        return self._tokenizer.token(token) or str(token)

    def is_control(self, token: int) -> bool:
        """True for special tokens, at which llama.cpp may stop by name."""
        return any(added["id"] == token and added.get("special") for added in self._added)

    @cached_property
    def model(self) -> StreamedModel:
        """What computes it, with few of its weights in memory."""
        return StreamedModel(self.folder)
