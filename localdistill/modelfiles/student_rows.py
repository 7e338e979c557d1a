"""How a request becomes a row of tokens for a student to write, and a written row a reply: the same for the engine that
scores and for a student in training, whatever library computes. Loads none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self

from localdistill.core.records import Reply, Request, TokenScores, Usage, content_id
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.templates import ChatTemplate, opens_thinking_tag, reply_of_text

TAIL_TOKENS = 48
"""How far back a stop string is looked for after each token."""


@dataclass(frozen=True)
class Asked:
    """What a request to write comes to."""

    request: Request
    prompt: str
    """The rendered prompt, or the raw text."""
    ids: Sequence[int]
    room: int
    """Tokens to write at most: what was asked for, cut to what the context leaves. Without any it is `too_long`."""
    stop_ids: frozenset[int]
    seed: int
    """Of the sampler, by what is asked."""


@dataclass(eq=False)
class StudentRow:
    """One row: what is asked of it, and what it wrote so far. A library adds what it samples by."""

    prompt_ids: Sequence[int]
    max_tokens: int
    stop_ids: frozenset[int]
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    stop_texts: tuple[str, ...] = ()
    top: int = 0
    """How many of the most likely tokens to keep at every new token."""
    written: list[int] = field(default_factory=list)
    """New tokens, without the stop token."""
    scores: list[TokenScores] = field(default_factory=list)
    """Of every new token, when `top` asks for them; the stop token is the last of them."""
    finish: Literal["", "stop", "length"] = ""

    @classmethod
    def made_of(cls, asked: Asked, **more: Any) -> Self:
        """The row that writes what was asked."""
        sampling = asked.request.sampling
        return cls(asked.ids, asked.room, asked.stop_ids, sampling.temperature, sampling.top_p, sampling.top_k,
                   sampling.stop, asked.request.top_logprobs, **more)

    def accept(self, token: int, decode: Callable[[Sequence[int]], str]) -> None:
        """It wrote this token: go on, or end."""
        if token in self.stop_ids:
            self.finish = "stop"
            return
        self.written.append(token)
        if self.stop_texts and any(text in decode(self.written[-TAIL_TOKENS:]) for text in self.stop_texts):
            self.finish = "stop"
        elif len(self.written) >= self.max_tokens:
            self.finish = "length"


class StudentRows:
    """Rows of one student."""

    def __init__(self, folder: ModelFolder, context_length: int) -> None:
        """context_length: tokens of prompt and reply together."""
        self._folder, self._context_length = folder, context_length

    @cached_property
    def tokenizer(self) -> StudentTokenizer:
        """The student's tokenizer."""
        return StudentTokenizer(self._folder.path)

    @cached_property
    def template(self) -> ChatTemplate:
        """The student's chat template."""
        return ChatTemplate.from_folder(self._folder.path)

    def prompt(self, request: Request) -> tuple[str, list[int]]:
        """The rendered prompt, or the raw text, and its tokens. Raises TemplateRefused."""
        text = request.text
        prompt = self.template.prompt(request.messages, request.thinks) if text is None else text
        return prompt, self.tokenizer.encode_prompt(prompt)

    def asked(self, request: Request) -> Asked:
        """What is to be written. Raises TemplateRefused."""
        prompt, ids = self.prompt(request)
        sampling = request.sampling
        seed = content_id("sampler", sampling.seed, request.sample_index, prompt)
        return Asked(request, prompt, ids, min(sampling.max_tokens, self._context_length - len(ids)),
                     frozenset(self.tokenizer.stop_token_ids), int(seed.removeprefix("b2:")[:15], 16))

    def text(self, request: Request, row: StudentRow) -> str:
        """What the row wrote, up to the first stop string."""
        text = self.tokenizer.decode(row.written)
        cuts = [text.find(stop) for stop in request.sampling.stop if stop in text]
        return text[:min(cuts)] if cuts else text

    def reply(self, asked: Asked, row: StudentRow, elapsed_s: float) -> Reply:
        """The reply that a row amounts to; `truncated` where it has not ended."""
        request, text = asked.request, self.text(asked.request, row)
        usage = Usage(prompt_tokens=len(row.prompt_ids), completion_tokens=len(row.written) + (row.finish == "stop"))
        reply = reply_of_text(request.id, text, row.finish or "truncated", opened=opens_thinking_tag(asked.prompt),
                              usage=usage, elapsed_s=elapsed_s)
        counted = replace(usage, reasoning_tokens=self.tokenizer.count(reply.reasoning) if reply.reasoning else 0)
        return replace(reply, usage=counted, scores=joined(row.scores) if row.scores else None)

    def too_long(self, asked: Asked) -> Reply:
        """The reply to a prompt that leaves no room for one."""
        return Reply(asked.request.id, "error", cost_usd=0.0, error=f"the prompt has {len(asked.ids)} tokens, the "
                     f"student's context ends at {self._context_length}")


def joined(parts: Sequence[TokenScores]) -> TokenScores:
    """Scores of tokens that follow each other."""
    return TokenScores(
        tuple(token for part in parts for token in part.ids), tuple(x for part in parts for x in part.logprobs),
        tuple(row for part in parts for row in part.top_ids), tuple(row for part in parts for row in part.top_logprobs),
    )
