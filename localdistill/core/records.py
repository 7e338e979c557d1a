"""The values that flow through the chain: prompt, request, reply, trace, fact, example. Frozen, JSON-ready,
without behaviour beyond their own identity. Identity is content: a tagged BLAKE2b hash of what makes the thing
what it is, so that storing it twice stores it once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from localdistill.core.messages import Message as Message
from localdistill.core.messages import Role as Role
from localdistill.core.messages import ToolCall as ToolCall
from localdistill.core.messages import ToolDefinition as ToolDefinition
from localdistill.core.messages import call_text, text_json, turn_key, turns_json

Status = Literal[
    "complete", "length", "refusal", "filtered", "empty", "reasoning_only", "truncated", "looping", "error"
]
"""How a reply ended. Only `complete` is trainable by default."""

TraceKind = Literal["raw", "summary", "encrypted", "none"]
"""What the reasoning text is: the model's own words, a provider's summary, unreadable, or absent."""

RequestKind = Literal["generate", "score"]
"""What an engine is to do: write a reply, or give the log-probabilities of continuations that are written already."""


def content_id(kind: str, *parts: Any) -> str:
    """`b2:<32 hex digits>` of `kind` and `parts` (anything that JSON can hold), the same on every machine."""
    return _hashed(json.dumps([kind, *parts], sort_keys=True, ensure_ascii=False, separators=(",", ":")))


def item_request_id(place: int, prompt_id: str, number: int = 0, sample: int = 0) -> str:
    """The id under which an evaluation asks about an item. place: of the item among the task's; number: of the request
    among those of one sample."""
    return content_id("item", place, prompt_id, *([number, "sample", sample] if sample else [number] if number else []))


def _hashed(text: str) -> str:
    return "b2:" + hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Prompt:
    """What is asked, with everything needed to judge or replace an answer."""

    messages: tuple[Message, ...]
    reference: str | None = None
    """The reference answer, for graders."""
    original: str | None = None
    """The response that the community data set held: the paper's R_orig."""
    tests: str | None = None
    source: str = ""
    licence: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Identity: the messages, the reference and the tests (not the source: two files may hold one question)."""
        known: str | None = self.__dict__.get("_id")  # `cached_property` takes a lock, longer than all the rest
        if known is None:
            known = self.__dict__["_id"] = self._content_id()
        return known

    def _content_id(self) -> str:
        reference, tests = ("null" if text is None else text_json(text)
                            for text in (self.reference, self.tests))
        return _hashed(f'["prompt",[{turns_json(self.messages)}],{reference},{tests}]')

    @property
    def question(self) -> str:
        """The text of the last user turn."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


LEAST_TOP_P = 0.01
"""Below this mass the likeliest token is in practice all that a nucleus holds."""


@dataclass(frozen=True)
class Sampling:
    """How an engine is to pick tokens."""

    max_tokens: int = 1024
    """Upper limit of new tokens in one reply, reasoning included."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps all tokens."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    grammar: str = ""
    """GBNF grammar that the reply must follow, for engines that can."""
    json_schema: str = ""
    """JSON Schema, as JSON text, that the reply must follow, for engines that can."""

    @property
    def greedy_by(self) -> Literal["", "temperature", "top_k", "top_p"]:
        """The setting that leaves nothing but the likeliest token, whatever the seed; empty when none does."""
        if self.temperature <= 0:
            return "temperature"
        if self.top_k == 1:
            return "top_k"
        return "top_p" if self.top_p < LEAST_TOP_P else ""


@dataclass(frozen=True, slots=True)
class Continuation:
    """What may stand behind the messages of a request: a text or token ids, one of the two."""

    text: str = ""
    """Encoded by itself, not together with what stands before it: so do training rows and generation, and all
    continuations of a request follow the very same tokens. Special tokens written in it count as such, and none is
    added: what ends a turn is scored where it is written here. Where another border is wanted, token ids say it."""
    token_ids: tuple[int, ...] = ()
    """Tokens of the engine's own vocabulary; `Request.tokenizer` says for which they were made."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question to an engine. `id` comes back on the reply."""

    id: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    sample_index: int = 0
    """Which of several samples of the same messages; the engine derives the sampler's seed from seed and index."""
    thinks: bool | None = None
    """Switch of the chat template and the API; None leaves the model's default."""
    top_logprobs: int = 0
    """How many of the most likely tokens to report, with their log-probabilities, at every new token or at every token
    of a continuation, for engines that can; does not change the reply."""
    continuations: tuple[Continuation, ...] = ()
    """Whose log-probabilities are asked for. Where there are any, nothing is written, and of `sampling` nothing
    counts."""
    text: str | None = None
    """Raw text to go on from instead of messages: no chat template, and no switch for thinking."""
    tokenizer: str = ""
    """Identity (`StudentTokenizer.identity`) of the tokenizer that token ids were made by. An engine with another one
    refuses them; empty: not known, and they are taken as they are."""

    @property
    def kind(self) -> RequestKind:
        """`score` where there are continuations."""
        return "score" if self.continuations else "generate"


_LATER_SAMPLING = {"grammar": "", "json_schema": ""}
"""Sampling fields that came after ids were first given: they count only where they say something."""


@lru_cache(maxsize=64)
def sampling_key(sampling: Sampling) -> Mapping[str, Any]:
    """What of `sampling` makes the identity of an asked trace."""
    return {k: v for k, v in dataclasses.asdict(sampling).items() if _LATER_SAMPLING.get(k) != v}


def request_namer(engine: str, model: str, sampling: Sampling,
                  thinks: bool | None = None) -> Callable[[tuple[Message, ...], int], str]:
    """`request_id` for many messages and sample indices of one way of asking; the same ids, a few times faster."""
    def dump(value: Any) -> str:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    begin = f"{dump(['asked', engine, model])[:-1]},"
    middle, end = f",{dump(sampling_key(sampling))},", f",{dump(thinks)}]"

    def name(messages: tuple[Message, ...], sample_index: int) -> str:
        return _hashed(f"{begin}[{turns_json(messages)}]{middle}{sample_index}{end}")

    return name


def request_id(engine: str, model: str, messages: tuple[Message, ...], sampling: Sampling, sample_index: int,
               thinks: bool | None = None) -> str:
    """Identity of an asked trace: engine, model identity, sampling, exact messages, sample index."""
    return content_id("asked", engine, model, [*map(turn_key, messages)],
                      sampling_key(sampling), sample_index, thinks)


def imported_id(messages: tuple[Message, ...], said: str | tuple[str, str], source: str,
                calls: tuple[ToolCall, ...] = ()) -> str:
    """Identity of an imported trace: exact messages, the reply as one text or as reasoning and answer, where it is
    from, and the tools that it calls. What `content_id` makes of these, several times faster."""
    reply = text_json(said) if isinstance(said, str) else f"[{','.join(map(text_json, said))}]"
    called = f",{json.dumps(list(calls), sort_keys=True, ensure_ascii=False, separators=(',', ':'))}" if calls else ""
    return _hashed(f'["imported",[{turns_json(messages)}],{reply},{text_json(source)}{called}]')


@dataclass(frozen=True)
class Usage:
    """Token counts of one reply; `estimated` when the server did not say and we counted."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    """New tokens, reasoning included."""
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the server had in its cache; part of `prompt_tokens`."""
    estimated: bool = False
    cache_write_tokens: int = 0
    """Prompt tokens that were put into a cache that costs extra to fill; part of `prompt_tokens`."""


@dataclass(frozen=True)
class TokenScores:
    """Log-probabilities of the new tokens of one reply or of the tokens of one continuation, natural logarithm, in the
    engine's own vocabulary."""

    ids: tuple[int, ...]
    """The tokens that were written, T of them."""
    logprobs: tuple[float, ...]
    """Of the written tokens."""
    top_ids: tuple[tuple[int, ...], ...]
    """The K most likely tokens at every place, most likely first; K may be 0."""
    top_logprobs: tuple[tuple[float, ...], ...]

    @property
    def total(self) -> float:
        """Log-probability of all of them together."""
        return math.fsum(self.logprobs)


@dataclass(frozen=True)
class Reply:
    """What an engine answered to one request."""

    request_id: str
    status: Status
    reasoning: str = ""
    answer: str = ""
    raw: str = ""
    """The reply exactly as it came: the generated text, or the body of an API. Bytes that are no UTF-8 are kept as
    lone surrogates (`surrogateescape`)."""
    trace_kind: TraceKind = "none"
    finish_reason: str = ""
    usage: Usage = Usage()
    cost_usd: float | None = None
    """None when the price is unknown; 0.0 for a local engine."""
    elapsed_s: float = 0.0
    error: str = ""
    scores: TokenScores | None = None
    """Present when `Request.top_logprobs` asked for them and the engine can."""
    continuations: tuple[TokenScores, ...] = ()
    """What the request's continuations are worth, one for each, in its order. There is no other text in such a reply,
    and `usage` counts what was read: what they have in common once, and each of them."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The tools that the reply calls, in order."""


@dataclass(frozen=True)
class Trace:
    """One answer of one engine to one prompt, as stored. Rewritten traces name their parent."""

    id: str
    prompt_id: str
    engine: str
    model: str
    reasoning: str
    answer: str
    status: Status = "complete"
    trace_kind: TraceKind = "none"
    raw: str = ""
    finish_reason: str = ""
    sample_index: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)
    usage: Usage = Usage()
    cost_usd: float | None = None
    elapsed_s: float = 0.0
    parent_id: str | None = None
    rewrite: str = ""
    """Name and version of the rewrite that made it, for example `summarize@1`; empty for an original trace."""
    source: str = ""
    terms: str = ""
    """Terms-of-use class of whoever answered (`allowed`, `conditional`, `prohibited`, `unknown`), a colon and the
    provider's name; empty for local models and imported rows that do not say."""
    asked: tuple[Message, ...] | None = None
    """The messages that the engine was given, with the recipe's system prompt and suffix; empty where they were the
    prompt's own. None where nobody was asked or it is not known: of imported and rewritten traces, and of those that
    are older than this field. What an engine's own options add is part of its identity (`model`)."""
    thinks: bool | None = None
    """Whether the engine was told to think; None where that was left to the model, or is not known."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The tools that the answer calls, in order."""

    @property
    def called(self) -> tuple[str, ...]:
        """The calls of tools, each in one line, for people."""
        return tuple(map(call_text, self.tool_calls))

    @property
    def is_rewritten(self) -> bool:
        """One of our rewrites made it."""
        return bool(self.rewrite or self.parent_id)


def trace_of(reply: Reply, request: Request, prompt: Prompt, engine: str, model: str, terms: str = "") -> Trace:
    """The stored form of `reply`, an answer to `prompt` in the words of `request`."""
    return Trace(
        id=request.id, prompt_id=prompt.id, engine=engine, model=model, reasoning=reply.reasoning,
        answer=reply.answer, status=reply.status, trace_kind=reply.trace_kind, raw=reply.raw,
        finish_reason=reply.finish_reason, sample_index=request.sample_index,
        sampling=sampling_key(request.sampling), usage=reply.usage, cost_usd=reply.cost_usd,
        elapsed_s=reply.elapsed_s, terms=terms,
        asked=() if request.messages == prompt.messages else request.messages, thinks=request.thinks,
        tool_calls=reply.tool_calls,
    )


FactKind = Literal["grade", "label", "judgement", "rewrite", "published"]
"""Who says it: a grader, a label, a person, a rewrite of what it made itself, or the file that an answer came with."""


@dataclass(frozen=True)
class Fact:
    """What somebody says of a trace or of a prompt."""

    subject_id: str
    """Of the trace, or of the prompt."""
    by: str
    """Name of the member, for example `math`, or `person`."""
    version: int = 1
    variant: str = ""
    """Which of several ways of saying it: a short digest of the options that are not the defaults, and of the engine or
    tokenizer where it matters. Empty where nothing differs."""
    kind: FactKind = "grade"
    value: float | str | None = None
    """A score from 0 to 1 (1 is right), or what a label measures. None where that is not known."""
    passed: bool | None = None
    """The verdict. None: undecided, or nothing to decide."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    extracted: str = ""
    """What was taken for the answer."""

    @property
    def name(self) -> str:
        """By whom, for people: `math@2`, `tokens@1/3f9a01bc`."""
        return f"{self.by}@{self.version}" + (f"/{self.variant}" if self.variant else "")

    @property
    def text(self) -> str:
        """What is said, in one line."""
        value = f"{self.value:g}" if isinstance(self.value, float | int) else self.value or "undecided"
        said = [value, *(f"{name} {number:g}" for name, number in self.metrics.items())]
        took = f" (took '{self.extracted}')" if self.extracted else ""
        return ", ".join(said) + (f": {self.reason}" if self.reason else "") + took


FactKey = tuple[str, int, str]
"""Member, version and variant."""
FactScope = Sequence[FactKey]
"""Whose facts count: those of the members that a recipe names. Judgements, what a rewrite says of what it made, and
verdicts that came with an imported answer always do."""
PERSON: FactKey = ("person", 1, "")
"""Of judgements."""
PUBLISHED: FactKey = ("published", 1, "")
"""Of verdicts that came with imported answers; the variant names the column."""


SpanPart = Literal["prompt", "reasoning", "answer", "tag", "call"]
"""`call`: calls of tools. Formats write them as JSON; what stands in the row is what the student's template writes."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of training text and how much its tokens count in the loss (0 = not trained)."""

    text: str
    weight: float = 1.0
    part: SpanPart = "answer"
    """What of the example it is."""
    step: int | None = None


@dataclass(frozen=True)
class ExampleTurn:
    """One message of an example, cut into spans: a conversation turn to train on."""

    role: Role
    spans: tuple[Span, ...]
    beside: Message | None = None
    """The turn whose text the spans are, where it is more than a text: it calls tools, or is what one answered."""

    @property
    def message(self) -> Message:
        """The turn as it is said."""
        return Message(self.role, self.text) if self.beside is None else self.beside

    @property
    def text(self) -> str:
        """The whole turn."""
        return "".join(span.text for span in self.spans)


Sign = Literal[1, -1]
"""Whether an example shows what to do, or what not to do."""


@dataclass(frozen=True)
class Example:
    """One training example: the turns before the last are context, the last is the assistant turn to learn."""

    prompt_id: str
    trace_id: str
    turns: tuple[ExampleTurn, ...]
    thinks: bool
    """Whether the student is to think: decides template switches, extraction and the exported template."""
    sign: Sign = 1
    group: str = ""
    """Names the examples that training must see together; empty for one that stands by itself."""
    epoch: int | None = None
    """The only epoch that sees it, counted from 0; None is every."""
    weight: float = 1.0
    """How much it counts beside the other examples of its prompt; the same for all of a group."""


@dataclass(frozen=True)
class Candidate:
    """A trace that a format may use, and what is known of it."""

    trace: Trace
    passed: bool | None = None
    """Whether it was found right; None where nobody judged it."""
    facts: Mapping[str, float | str] = field(default_factory=dict)
    """What is said of it and of its prompt, under the names of the columns: `tokens_answer`, `tries`."""


@dataclass(frozen=True)
class Skip:
    """Why a format or a check could not serve one trace; counted and listed, never silent."""

    prompt_id: str
    trace_id: str
    reason: str


TokenCounter = Callable[[str], int]
"""Counts the student's tokens in a text; passed to formats so that they stay pure."""
