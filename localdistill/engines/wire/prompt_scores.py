"""Scoring through a server that tells the log-probabilities of a prompt's tokens: each continuation is sent behind its
prefix as one prompt of token ids, all of a request in one call, and the reply is cut where the continuation begins.
The ids are ours, made with the tokenizer of the served model; what the server says of them is checked against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from localdistill.core.errors import TemplateRefused, UsageError
from localdistill.core.records import Request, TokenScores
from localdistill.engines._continuations import Unscorable, refuse_strange_ids, target_ids
from localdistill.engines.wire.charges import most_new_tokens
from localdistill.engines.wire.chat_completions import ChatCompletions
from localdistill.engines.wire.collected import Collected, Malformed
from localdistill.engines.wire.dispatcher import Job
from localdistill.engines.wire.http import Refused
from localdistill.engines.wire.token_counts import usage_of
from localdistill.modelfiles.beginnings import Ids
from localdistill.modelfiles.folder import resolve_model
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.providers import PromptLogprobs
from localdistill.templates import ChatTemplate

_NO_LIMIT = 1 << 31
_NAMED_ID = "token_id:"
"""With this some servers write a token's number in the place of its text."""


class ServedTokenizer:
    """The tokenizer and the chat template of the model that a server holds."""

    def __init__(self, folder: str) -> None:
        self._source = folder

    @cached_property
    def tokenizer(self) -> StudentTokenizer:
        """Raises ModelFileError when there is none."""
        return StudentTokenizer(resolve_model(self._source, weights=False))

    @cached_property
    def template(self) -> ChatTemplate:
        """Raises ModelFileError when there is none."""
        return ChatTemplate.from_folder(Path(self.tokenizer.folder))

    def prefix(self, request: Request) -> Ids:
        """The tokens before the continuations. Raises TemplateRefused."""
        text = request.text
        prompt = self.template.prompt(request.messages, request.thinks) if text is None else text
        return tuple(self.tokenizer.encode_prompt(prompt))


def scoring_job(request: Request, served: ServedTokenizer, way: PromptLogprobs, model: str, extra: Mapping[str, Any],
                context_tokens: int | None) -> Job:
    """One call for all continuations of `request`. Raises UsageError when it cannot be scored."""
    tokenizer = served.tokenizer
    try:
        refuse_strange_ids(request, lambda: tokenizer.identity)
        prefix = served.prefix(request)
        targets = target_ids(request.continuations, prefix, tokenizer.encode, tokenizer.vocab_size,
                             context_tokens or _NO_LIMIT)
    except (TemplateRefused, Unscorable) as refusal:
        raise UsageError(str(refusal), "correct the request") from None
    asks: dict[str, Any] = {"echo": True, "logprobs": 1}
    if way == "prompt_logprobs":
        asks = {"prompt_logprobs": max(1, request.top_logprobs)}
    prompts = [[*prefix, *ids] for ids in targets]
    # No server writes nothing: one token is asked for and left out.
    body = {"model": model, "prompt": prompts, "max_tokens": 1, "temperature": 0.0, **asks, **extra}
    asked = PromptScores(len(prefix), tuple(targets), request.top_logprobs, way, tokenizer)
    tokens = sum(map(len, prompts))
    return Job(request.id, body, len(targets) * most_new_tokens(body, 1), tokens, tokens, asked)


@dataclass(frozen=True)
class PromptScores(ChatCompletions):
    """Bodies of `/completions` that answer one request: a choice for each continuation."""

    path: ClassVar[str] = "/completions"
    before: int
    """Tokens of the prefix."""
    targets: tuple[Ids, ...]
    top: int
    way: PromptLogprobs
    tokenizer: StudentTokenizer

    def collect(self, body: object) -> Collected:
        """See `Dialect.collect`. Raises Refused when the server does not tell what was asked, or read other tokens."""
        choices = body.get("choices") if isinstance(body, Mapping) else None
        if not isinstance(body, Mapping) or not isinstance(choices, list) or len(choices) != len(self.targets):
            raise Malformed(f"the body has no {len(self.targets)} choices")
        try:
            ordered = sorted(choices, key=lambda choice: int(choice["index"]))
            read = self._listed if self.way == "prompt_logprobs" else self._echoed
            scores = tuple(read(choice, ids) for choice, ids in zip(ordered, self.targets))
        except (LookupError, TypeError, ValueError, AttributeError):
            raise Refused("the server tells no log-probabilities of the prompt's tokens; see the option prompt_logprobs"
                          ) from None
        named = body.get("id")
        return Collected(id=named if isinstance(named, str) else "", usage=usage_of(body.get("usage")),
                         continuations=scores)

    def _listed(self, choice: Mapping[str, Any], ids: Ids) -> TokenScores:
        """Of a list of objects, one for each token of the prompt: token id to log-probability, rank and text."""
        places = choice["prompt_logprobs"]
        self._check_length(len(places), ids)
        rows = [{int(key): value for key, value in place.items()} for place in places[self.before:]]
        for token, row in zip(ids, rows):
            self._check_text(token, row[token].get("decoded_token"))
        best = [sorted(row, key=lambda key: (-float(row[key]["logprob"]), key))[:self.top] for row in rows]
        if any(len(keys) < self.top for keys in best):
            raise Refused(f"the server tells fewer than {self.top} of the most likely tokens")
        return TokenScores(
            ids, tuple(float(row[token]["logprob"]) for token, row in zip(ids, rows)), tuple(map(tuple, best)),
            tuple(tuple(float(row[key]["logprob"]) for key in keys) for keys, row in zip(best, rows)))

    def _echoed(self, choice: Mapping[str, Any], ids: Ids) -> TokenScores:
        """Of the prompt as it comes back, with or without the token written behind it."""
        told = choice["logprobs"]
        values, texts = told["token_logprobs"], told["tokens"]
        self._check_length(len(values) - (len(values) > self.before + len(ids)), ids)
        for token, text in zip(ids, texts[self.before:]):
            self._check_text(token, text)
        mine = values[self.before:self.before + len(ids)]
        return TokenScores(ids, tuple(map(float, mine)), ((),) * len(ids), ((),) * len(ids))

    def _check_length(self, count: int, ids: Ids) -> None:
        if count != self.before + len(ids):
            raise Refused(f"the server speaks of {count} tokens, {self.before + len(ids)} were sent: is its model the "
                          f"one whose tokenizer lies in {self.tokenizer.folder}?")

    def _check_text(self, token: int, text: object) -> None:
        """Refuse what the server read as another token. Parts of characters and white space are written in many ways;
        where a text does not tell, nothing is concluded."""
        if not isinstance(text, str) or not text:
            return
        ours = self.tokenizer.decode([token])
        is_other = (text != f"{_NAMED_ID}{token}" if text.startswith(_NAMED_ID) else
                    "\ufffd" not in ours + text and text != self.tokenizer.token(token) and _bare(ours) != _bare(text))
        if is_other:
            raise Refused(f"the server reads token {token} as {text!r}, the tokenizer in {self.tokenizer.folder} as "
                          f"{ours!r}: name the folder of the model that it serves")


def _bare(text: str) -> str:
    return "".join(text.replace("\u2581", " ").split())
