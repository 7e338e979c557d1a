"""The transformers side of the parity gate: the merged folder as it was trained. Loads the model only when logits are
asked for, on the CPU, in float32 where memory allows. Prompts and ids come from the same code as in training."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localdistill.core.records import Message, Role
from localdistill.exporters.gguf_parts.tokenizer_kinds import splits_alike, tokenizer_kind
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.loading import load_causal_model
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.modelfiles.tokenizer_claims import read_tokenizer
from localdistill.templates import ChatTemplate

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MEMORY_SHARE = 0.7
_SMALL_PARAMETERS = 30_000_000


@dataclass(frozen=True)
class GreedyText:
    """Greedy tokens and, for each, how far the first choice was ahead of the second in nats."""

    tokens: tuple[int, ...]
    margins: tuple[float, ...]


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

    @cached_property
    def compute(self) -> str:
        """float32 when the weights fit into memory that way, else bfloat16."""
        import psutil

        needed = self.folder.parameter_count * 4
        return "float32" if needed < psutil.virtual_memory().available * _MEMORY_SHARE else "bfloat16"

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

    def logits(self, ids: list[int]) -> npt.NDArray[np.float32]:
        """Logits (T, V) of every position of `ids`."""
        import torch

        with torch.inference_mode(), self._few_threads():
            result: npt.NDArray[np.float32] = self._model(torch.tensor([ids])).logits[0].float().numpy()
        return result

    def continue_greedily(self, ids: list[int], limit: int) -> GreedyText:
        """At most `limit` greedy tokens after `ids`, ending with the first stop token."""
        import torch

        tokens: list[int] = []
        margins: list[float] = []
        step, cache = torch.tensor([ids]), None
        with torch.inference_mode(), self._few_threads():
            while len(tokens) < limit:
                output = self._model(step, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                best = torch.topk(output.logits[0, -1].float(), 2)
                tokens.append(int(best.indices[0]))
                margins.append(float(best.values[0] - best.values[1]))
                if tokens[-1] in self.stop_ids:
                    break
                step = torch.tensor([tokens[-1:]])
        return GreedyText(tuple(tokens), tuple(margins))

    @contextmanager
    def _few_threads(self) -> Iterator[None]:
        """One torch thread for a small model: several would mostly wait for each other."""
        import torch

        before = torch.get_num_threads()
        if self.folder.parameter_count < _SMALL_PARAMETERS:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    @cached_property
    def _model(self) -> Any:
        import torch

        return load_causal_model(self.folder, getattr(torch, self.compute), torch.device("cpu"))
