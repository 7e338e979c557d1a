"""One reply in the making: its tokens, its text, and when to stop. Pure Python, knows nothing of llama.cpp."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from localdistill.core.records import Continuation
from localdistill.templates.replies import Finish
from localdistill.templates.thinking import split_thinking
from localdistill.texts.loops import CHECK_EVERY_TOKENS, is_looping

TokenRow = tuple[int, float, list[int], list[float]]
"""A token, its log-probability, the likeliest tokens in its place and theirs."""


class TokenPicker(Protocol):
    """Picks the next token of one reply."""

    def pick(self, logits: Any) -> int:
        """The token for a row of logits (V,)."""

    def free(self) -> None:
        """Give native memory back. Harmless to call twice."""


@dataclass(frozen=True, slots=True)
class NativeRequest:
    """One request as the child gets it: a rendered prompt and how to continue it."""

    key: int
    prompt: str
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    opened: bool = False
    """The prompt ends inside a think tag."""
    streams: bool = False
    grammar: str = ""
    """GBNF that the reply must follow."""
    json_schema: str = ""
    """JSON Schema that the reply must follow; turned into GBNF."""
    top_logprobs: int = 0
    """How many of the most likely tokens to keep at every new token, or at every token of a continuation."""
    continuations: tuple[Continuation, ...] = ()
    """What to score behind the prompt; then nothing is written."""

    @property
    def texts(self) -> list[str]:
        """What will be read: the prompt, once for each continuation where there are any."""
        return [self.prompt + one.text for one in self.continuations] or [self.prompt]


@dataclass(slots=True)
class NativeSequence:
    """The state of one reply, or of one continuation that is scored. `evaluated` counts the tokens of `fed` and after
    it that the KV cache holds."""

    request: NativeRequest
    prompt: list[int]
    budget: int
    """Most new tokens: the request's limit or what the context leaves; none where there is a target."""
    target: tuple[int, ...] = ()
    """A continuation of the prompt to score; empty: a reply is written."""
    picker: TokenPicker | None = None
    """None picks the most likely token."""
    fed: list[int] = field(default_factory=list)
    """What must be evaluated before a new token can be picked: the prompt, and after a pause what was written."""
    evaluated: int = 0
    cached: int = 0
    """Prompt tokens that were copied from another sequence instead of evaluated."""
    tokens: list[int] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    scores: list[TokenRow] = field(default_factory=list)
    """Of every new token, the one that ended the turn among them, or of the target's tokens so far."""
    started: float = field(default_factory=time.perf_counter)
    finish: Finish | None = None
    _tail: bytes = b""
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))
    _shown: int = 0

    def __post_init__(self) -> None:
        self.fed = self.fed or self.prompt + list(self.target[:-1])

    @property
    def shareable(self) -> int:
        """So much of what is fed may be copied from another sequence; what follows has to be evaluated for its logits.
        """
        return len(self.prompt if self.target else self.fed) - 1

    def outputs(self, begin: int, end: int) -> range:
        """Places whose logits are wanted when those from `begin` to `end` are evaluated."""
        first = len(self.prompt) - 1 if self.target else len(self.fed) - 1
        return range(max(begin, first), end)

    def wanted(self, place: int) -> int:
        """The token of the target whose probability the logits at `place` say."""
        return self.target[place - len(self.prompt) + 1]

    def add_score(self, score: TokenRow) -> None:
        """Take in what one token of the target is worth; they come in order."""
        self.scores.append(score)
        if len(self.scores) == len(self.target):
            self.finish = "stop"

    @property
    def is_writing(self) -> bool:
        """True when everything before the newest token is evaluated."""
        return self.evaluated >= len(self.fed)

    def pause(self) -> None:
        """Forget what was evaluated: the KV cache dropped it. What was written stays and is read again later; what was
        scored is scored again."""
        self.evaluated = 0
        if self.target:
            self.scores.clear()
        else:
            self.fed = self.prompt + self.tokens

    def add(self, token: int, piece: bytes) -> None:
        """Take a sampled token in and decide whether it was the last one."""
        self.tokens.append(token)
        self.pieces.append(piece)
        count = len(self.tokens)
        if self.request.stop and self._meets_stop(piece):
            self.finish = "stop"
        elif count >= self.budget:
            self.finish = "length"
        elif count % CHECK_EVERY_TOKENS == 0 and is_looping(self.tokens):
            self.finish = "looping"

    def _meets_stop(self, piece: bytes) -> bool:
        """True when a stop string is complete; cuts the text in front of it."""
        stops = [s.encode("utf-8", "replace") for s in self.request.stop]
        keep = max(map(len, stops)) - 1
        window = self._tail + piece
        found = min((i for i in map(window.find, stops) if i >= 0), default=-1)
        if found < 0:
            self._tail = window[-keep:] if keep else b""
            return False
        text = b"".join(self.pieces)
        self.pieces = [text[: len(text) - len(window) + found]]
        return True

    def text(self) -> str:
        """The whole reply so far."""
        return b"".join(self.pieces).decode("utf-8", "replace")

    def fresh_text(self) -> str:
        """What can be shown since the last call: never half a character, never the start of a stop string."""
        data = b"".join(self.pieces)
        held = 0 if self.finish else max((len(s.encode()) for s in self.request.stop), default=1) - 1
        end = max(self._shown, len(data) - held)
        fresh = self._decoder.decode(data[self._shown : end], final=self.finish is not None)
        self._shown = end
        return fresh

    def reasoning_tokens(self, piece_of: Callable[[int], bytes]) -> int:
        """How many of the tokens came before the answer: tags count as reasoning."""
        text = self.text()
        split = split_thinking(text, self.request.opened)
        if not split.found:
            return 0
        if not split.answer:
            return len(self.tokens)
        position = len(text[: text.rfind(split.answer)].encode())
        count = length = 0
        for token in self.tokens:
            length += len(piece_of(token))
            if length > position:
                break
            count += 1
        return count
