"""Answers with a GGUF file through llama.cpp, many sequences at once, in a child process that may die.

The parent checks the file's header, renders prompts and sorts replies; all native code runs in
`engines.llama_cpp_native.child`. Nothing is sent over a network.
"""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar

from localdistill.core.capabilities import CAPABILITIES, Capability
from localdistill.core.errors import Cancelled, EngineError, ModelFileError, TemplateRefused
from localdistill.core.events import Cancel, Emit, Warned, silent
from localdistill.core.options import Options
from localdistill.core.records import Message, Reply, Request, TokenScores, Usage, content_id
from localdistill.core.samples import EngineSample
from localdistill.engines._continuations import Unscorable, refuse_strange_ids, scored_reply
from localdistill.engines.llama_cpp_native.client import Outcome
from localdistill.engines.llama_cpp_native.options import LlamaCppOptions
from localdistill.engines.llama_cpp_native.sequence import NativeRequest
from localdistill.engines.llama_cpp_native.session import NativeSession
from localdistill.engines.llama_cpp_native.tuning import Tuning
from localdistill.modelfiles.gguf_files import open_gguf
from localdistill.modelfiles.vocabulary import gguf_vocabulary_id
from localdistill.providers import THIS_MACHINE, Who
from localdistill.templates import ChatTemplate, opens_thinking_tag, read_template, reply_of_text

TOO_LONG = "ask something shorter, or begin a new conversation; a larger context_tokens holds more"
_SEED_RANGE = 0xFFFF_FFFF  # the last value means "random" to llama.cpp


class LlamaCppEngine:
    """One GGUF file behind the engine contract. Not for use by two threads at once."""

    Options: ClassVar[type[Options]] = LlamaCppOptions
    name: ClassVar[str] = "llama_cpp"

    @classmethod
    def samples(cls) -> Sequence[EngineSample]:
        """Questions and the replies that must come."""
        return (
            EngineSample(options={"model": "absent.gguf"}, refused="does not exist"),
            EngineSample(files={"text.gguf": "no model"}, options={"model": "text.gguf"}, refused="not a usable GGUF"),
            EngineSample(options={"model": "m", "kv_type": "q8_0", "flash_attention": False},
                         refused="needs flash attention"),
        )

    def __init__(self, options: LlamaCppOptions) -> None:
        self._options = options
        self._path = Path(options.model)
        self._session: NativeSession | None = None
        self._template: ChatTemplate | None = None
        self._identity = ""
        self._vocabulary_id: str | None = None
        self.last_reply: Reply | None = None
        """The reply that the last `stream` amounted to."""

    @classmethod
    def who(cls, options: Mapping[str, object]) -> Who:
        """Nobody is asked."""
        return THIS_MACHINE

    def identity(self) -> str:
        """`sha256:...` of the file, or of all its parts; with a suffix when a system prompt or another template changes
        what is asked."""
        if not self._identity:
            digest = open_gguf(self._path).digest().removeprefix("sha256:")
            changes = [self._options.system, self._template_text()]
            suffix = "+" + content_id("asks", *changes).removeprefix("b2:")[:12] if any(changes) else ""
            self._identity = f"sha256:{digest}{suffix}"
        return self._identity

    def can(self) -> frozenset[Capability]:
        """See `Engine.can`."""
        return frozenset(CAPABILITIES)

    def greedy_by(self, request: Request) -> str:
        """See `Engine.greedy_by`."""
        return request.sampling.greedy_by

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """See `Engine.answer`. Raises ModelFileError when the file cannot be used.

        A sample depends on its own request and seed alone, except through rounding: a batch of another width adds up
        in another order, and so does a beginning that was read once for several prompts or a reply that was paused.
        Where two tokens are all but equally likely that can turn the choice, greedy or sampled.
        """
        asked: dict[int, tuple[Request, NativeRequest]] = {}
        refused: list[Reply] = []

        def rendered() -> Iterator[NativeRequest]:
            for key, request in enumerate(requests):
                try:
                    native = self._rendered(key, request)
                except (TemplateRefused, Unscorable) as error:
                    refused.append(_failed(request, str(error)))
                    continue
                asked[key] = (request, native)
                yield native

        try:
            session = self._ready(cancel, emit)
            source = rendered()
            window = 2 * self._options.parallel
            first = list(islice(source, window))
            if not first and not refused:
                self._the_template()  # asked nothing: whoever does that wants to know whether it could answer
            if first:
                window = 2 * int(session.lay_out(first, cancel, emit)["parallel"])
        except Cancelled:
            return
        except ModelFileError:
            self.close()
            raise
        crashes = session.pool.crashes
        for outcome in session.pool.ask(chain(first, source), window, cancel) if first else ():
            if session.pool.crashes > crashes:
                crashes = session.pool.crashes
                emit(Warned("llama.cpp died and was started again", "the request it died on is marked"))
            yield from _drained(refused)
            yield self._reply(*asked.pop(outcome[1]), outcome)
        yield from _drained(refused)

    def stream(self, request: Request, cancel: Cancel) -> Iterator[str]:
        """Pieces of the raw reply as it is written. `last_reply` holds the whole afterwards. Raises EngineError."""
        session = self._ready(cancel)
        try:
            native = self._rendered(0, request, streams=True)
        except TemplateRefused as refusal:
            raise EngineError(refusal.message, refusal.hint) from None
        session.lay_out([native], cancel)
        client = session.pool.first
        written: list[str] = []
        self.last_reply = None
        crashes = client.crashes
        for outcome in client.ask([native], 1, cancel):
            if written and client.crashes > crashes:
                raise EngineError("llama.cpp died while it was writing", "ask again")
            if outcome[0] == "piece":
                written.append(outcome[2]["text"])
                yield written[-1]
                continue
            self.last_reply = self._reply(request, native, outcome)
            if self.last_reply.status == "error":
                raise EngineError(self.last_reply.error, TOO_LONG)
        if self.last_reply is None:
            self.last_reply = reply_of_text(request.id, "".join(written), "truncated", opened=native.opened,
                                            splits=self._options.think_tags == "auto")

    def probe(self) -> dict[str, Any]:
        """What `doctor` shows: `device` that holds the weights, `devices` (GPUs that this llama.cpp can use, with
        memory), `gpu_build`, `gpu_layers` of `layers`, `tokens_per_s` of one sequence alone, `n_ctx_train`,
        `description`, `parallel` and `context_tokens` in effect, `repacks`, `matrix_units`. Raises ModelFileError."""
        cancel = Cancel()
        session = self._ready(cancel)
        session.lay_out([], cancel)
        return session.pool.first.probe(cancel)

    def tune(self, emit: Emit = silent, cancel: Cancel | None = None) -> Tuning:
        """Measure now which threads, attention and cache layout are fastest for the file, whatever its size, and
        remember it for later engines. Takes some seconds. Raises ModelFileError, Cancelled."""
        cancel = cancel or Cancel()
        if self._session is None:
            self._options = self._options.model_copy(update={"tune": "off"})
        return self._ready(cancel, emit).tune(cancel, emit)

    def device(self) -> str:
        """`cpu`, or the device that holds the weights, for example `CUDA0`."""
        return str(self._ready(Cancel()).facts["device"])

    def close(self) -> None:
        """End the child process."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def _ready(self, cancel: Cancel, emit: Emit = silent) -> NativeSession:
        """The session, with the model loaded."""
        if self._session is None:
            self._session = NativeSession(self._options, cancel, emit)
        facts = self._session.pool.start(cancel)
        if self._template is None and (source := self._template_text() or facts["template"]):
            origin = f"the template of {self._path.name}"
            self._template = ChatTemplate(source, facts["bos"], facts["eos"], origin=origin)
        return self._session

    def _template_text(self) -> str:
        return read_template(Path(self._options.chat_template)) if self._options.chat_template else ""

    def _rendered(self, key: int, request: Request, streams: bool = False) -> NativeRequest:
        refuse_strange_ids(request, self._vocabulary)
        prompt = self._prompt(request) if request.text is None else request.text
        sampling = request.sampling
        return NativeRequest(
            key=key, prompt=prompt, max_tokens=0 if request.continuations else sampling.max_tokens,
            temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k, seed=seed_of(request),
            stop=sampling.stop, opened=opens_thinking_tag(prompt), streams=streams, grammar=sampling.grammar,
            json_schema=sampling.json_schema, top_logprobs=request.top_logprobs, continuations=request.continuations,
        )

    def _prompt(self, request: Request) -> str:
        """The messages of `request`, rendered. Raises TemplateRefused, ModelFileError."""
        template = self._the_template()
        messages = request.messages
        if self._options.system and not any(m.role == "system" for m in messages):
            messages = (Message("system", self._options.system), *messages)
        return template.prompt(messages, request.thinks)

    def _the_template(self) -> ChatTemplate:
        if self._template is None:
            hint = ("name a Jinja file: chat_template of the engine in a recipe, or localdistill chat "
                    "--chat-template FILE")
            raise ModelFileError(f"{self._path} holds no chat template", hint)
        return self._template

    def _vocabulary(self) -> str:
        """Identity of the file's tokenizer."""
        if self._vocabulary_id is None:
            self._vocabulary_id = gguf_vocabulary_id(self._path)
        return self._vocabulary_id

    def _reply(self, request: Request, native: NativeRequest, outcome: Outcome) -> Reply:
        kind, _, message = outcome
        if kind != "reply":
            return _failed(request, str(message["error"]))
        if native.continuations:
            found = [scores for packed in message["continuations"] if (scores := _scores(packed)) is not None]
            return scored_reply(request.id, message["prompt_tokens"], found, message["elapsed_s"])
        usage = Usage(message["prompt_tokens"], message["completion_tokens"], message["reasoning_tokens"],
                      message["cached_tokens"])
        reply = reply_of_text(
            request.id, message["text"], message["finish"], opened=native.opened,
            splits=self._options.think_tags == "auto", usage=usage, elapsed_s=message["elapsed_s"],
        )
        return dataclasses.replace(reply, scores=_scores(message["scores"]))


@dataclass(frozen=True)
class FileSpeed:
    """How fast one file is on this machine."""

    path: Path
    size_bytes: int
    batched: float
    """New tokens/s of many sequences together."""
    alone: float
    """New tokens/s of a single one."""


def speeds_of_files(paths: Iterable[Path], emit: Emit = silent, cancel: Cancel | None = None,
                    **options: Any) -> list[FileSpeed]:
    """Measure several quantizations of one model, `options` as for the engine; the fastest in batches comes first.

    Speed is not quality: what the smaller ones lose is for an evaluation to say. Raises ModelFileError, Cancelled.
    """
    found = []
    for path in paths:
        engine = LlamaCppEngine(LlamaCppOptions(model=str(path), **options))
        try:
            batched = engine.tune(emit, cancel).best_rate
            found.append(FileSpeed(path, path.stat().st_size, batched, float(engine.probe()["tokens_per_s"])))
        finally:
            engine.close()
    return sorted(found, key=lambda speed: speed.batched, reverse=True)


def seed_of(request: Request) -> int:
    """The sampler's seed: from the request alone, so that it does not depend on what else is in the batch."""
    text = f"{request.sampling.seed}/{request.sample_index}/{request.id}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % _SEED_RANGE


def _failed(request: Request, error: str) -> Reply:
    return Reply(request.id, "error", error=error, cost_usd=0.0)


def _drained(replies: list[Reply]) -> Iterator[Reply]:
    while replies:
        yield replies.pop()


def _scores(packed: dict[str, str] | None) -> TokenScores | None:
    """The log-probabilities that the child sent: those of the model before temperature, top-k, top-p and grammar. When
    the model ended its turn itself, the token that ended it is the last."""
    if not packed:
        return None
    ids, top_ids = array("i", b64decode(packed["ids"])), array("i", b64decode(packed["top_ids"]))
    logprobs, top = array("f", b64decode(packed["logprobs"])), array("f", b64decode(packed["top_logprobs"]))
    width = len(top_ids) // len(ids)
    places = [place * width for place in range(len(ids))]
    return TokenScores(
        tuple(ids), tuple(logprobs), tuple(tuple(top_ids[at : at + width]) for at in places),
        tuple(tuple(top[at : at + width]) for at in places),
    )
