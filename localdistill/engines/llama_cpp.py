"""Answers with a GGUF file through llama.cpp, many sequences at once, in a child process that may die.

The parent checks the file's header, renders prompts and sorts replies; all native code runs in
`engines.llama_cpp_native.child`. Nothing is sent over a network.
"""

from __future__ import annotations

import dataclasses
import hashlib
from array import array
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from localdistill.core.errors import Cancelled, EngineError, ModelFileError, TemplateRefused
from localdistill.core.events import Cancel, Emit, Warned, silent
from localdistill.core.options import FileName, Options
from localdistill.core.records import Message, Reply, Request, TokenScores, Usage, content_id
from localdistill.engines.llama_cpp_native.client import Outcome
from localdistill.engines.llama_cpp_native.sequence import Question
from localdistill.engines.llama_cpp_native.session import NativeSession
from localdistill.engines.llama_cpp_native.tuning import Tuning
from localdistill.providers import THIS_MACHINE, Who
from localdistill.templates import ChatTemplate, opens_thinking_tag, reply_of_text

TOO_LONG = "ask something shorter, or begin a new conversation; a larger context_tokens holds more"
_SEED_RANGE = 0xFFFF_FFFF  # the last value means "random" to llama.cpp


class LlamaCppOptions(Options):
    """Options of the `llama_cpp` engine."""

    model: FileName
    """Path of the GGUF file."""
    context_tokens: int = Field(default=0, ge=0)
    """Tokens of prompt and reply together, for each sequence. 0 takes what the model was trained for, at most 4096."""
    parallel: int = Field(default=16, ge=1, le=256)
    """Sequences decoded at once. Fewer are used when memory does not hold so many."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of one process. 0 takes all physical cores, or a single one for files below 64 MiB, where more would
    only wait for each other."""
    processes: int = Field(default=0, ge=0, le=64)
    """Processes that hold the model and share the work, `parallel` sequences each. 0 takes one per physical core for
    files below 64 MiB, else a single one."""
    gpu_layers: int = Field(default=-1, ge=-1)
    """Layers on the GPU. -1 puts as many there as its free memory holds. 0 stays on the CPU."""
    flash_attention: bool | None = None
    """Force flash attention on or off. Unset: as measured, else off on a CPU, where it is mostly slower."""
    kv_type: Literal["f16", "q8_0", "q4_0"] = "f16"
    """How keys and values are stored. `q8_0` takes half the memory of `f16`, `q4_0` a quarter; both need flash
    attention and change replies a little."""
    kv_layout: Literal["auto", "split", "unified"] = "auto"
    """`split` gives each sequence a cache of its own, `unified` one pool to all, so that what prompts have in common
    is stored once and a long reply may use what short ones leave. `auto` looks at the prompts and the memory."""
    kv_tokens: int = Field(default=0, ge=0)
    """Size of the pool of a unified cache, in tokens; at least one sequence's context. 0 chooses."""
    tune: Literal["auto", "off"] = "auto"
    """`auto` measures for some seconds which threads, attention and cache layout are fastest when a file of 64 MiB or
    more is loaded for the first time on this machine, and remembers it. Options that are set go before."""
    system: str = ""
    """System prompt put in front of conversations that have none. Empty adds nothing."""
    chat_template: FileName = ""
    """Path of a Jinja file to use instead of the template in the model file. Empty uses the stored one."""
    think_tags: Literal["auto", "off"] = "auto"
    """`auto` splits replies at think tags into reasoning and answer; `off` takes the whole reply as the answer."""

    @model_validator(mode="after")
    def _attention_serves_cache(self) -> LlamaCppOptions:
        if self.kv_type != "f16" and self.flash_attention is False:
            raise ValueError(f"kv_type {self.kv_type} needs flash attention, which is switched off")
        return self


class LlamaCppEngine:
    """One GGUF file behind the engine contract. Not for use by two threads at once."""

    Options: ClassVar[type[Options]] = LlamaCppOptions
    name: ClassVar[str] = "llama_cpp"

    def __init__(self, options: LlamaCppOptions) -> None:
        self._options = options
        self._path = Path(options.model)
        self._session: NativeSession | None = None
        self._template: ChatTemplate | None = None
        self._identity = ""
        self.last_reply: Reply | None = None
        """The reply that the last `stream` amounted to."""

    @classmethod
    def who(cls, options: Mapping[str, Any]) -> Who:
        """Nobody is asked."""
        return THIS_MACHINE

    def identity(self) -> str:
        """`sha256:...` of the file; with a suffix when a system prompt or another template changes what is asked."""
        if not self._identity:
            from localdistill.safety.files import sha256_file

            if not self._path.is_file():
                raise ModelFileError(f"{self._path} does not exist", "check the path of the model")
            digest = str(sha256_file(self._path)).removeprefix("sha256:")
            changes = [self._options.system, self._template_text()]
            suffix = "+" + content_id("asks", *changes).removeprefix("b2:")[:12] if any(changes) else ""
            self._identity = f"sha256:{digest}{suffix}"
        return self._identity

    def greedy_by(self, request: Request) -> str:
        """See `Engine.greedy_by`."""
        return request.sampling.greedy_by

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """See `Engine.answer`. Raises ModelFileError when the file cannot be used.

        A sample depends on its own request and seed alone, except through rounding: a batch of another width adds up
        in another order, and so does a beginning that was read once for several prompts or a reply that was paused.
        Where two tokens are all but equally likely that can turn the choice, greedy or sampled.
        """
        asked: dict[int, tuple[Request, Question]] = {}
        refused: list[Reply] = []

        def questions() -> Iterator[Question]:
            for key, request in enumerate(requests):
                try:
                    question = self._question(key, request)
                except TemplateRefused as error:
                    refused.append(_failed(request, error.message))
                    continue
                asked[key] = (request, question)
                yield question

        try:
            session = self._ready(cancel, emit)
            source = questions()
            window = 2 * self._options.parallel
            first = list(islice(source, window))
            if first:
                window = 2 * int(session.lay_out(first, cancel, emit)["parallel"])
        except Cancelled:
            return
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
            question = self._question(0, request, streams=True)
        except TemplateRefused as refusal:
            raise EngineError(refusal.message, refusal.hint) from None
        session.lay_out([question], cancel)
        client = session.pool.first
        written: list[str] = []
        self.last_reply = None
        crashes = client.crashes
        for outcome in client.ask([question], 1, cancel):
            if written and client.crashes > crashes:
                raise EngineError("llama.cpp died while it was writing", "ask again")
            if outcome[0] == "piece":
                written.append(outcome[2]["text"])
                yield written[-1]
                continue
            self.last_reply = self._reply(request, question, outcome)
            if self.last_reply.status == "error":
                raise EngineError(self.last_reply.error, TOO_LONG)
        if self.last_reply is None:
            self.last_reply = reply_of_text(request.id, "".join(written), "truncated", opened=question.opened,
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
        if self._template is None:
            source = self._template_text() or facts["template"]
            if not source:
                self.close()
                hint = "name a Jinja file with the option chat_template"
                raise ModelFileError(f"{self._path} holds no chat template", hint)
            origin = f"the template of {self._path.name}"
            self._template = ChatTemplate(source, facts["bos"], facts["eos"], origin=origin)
        return self._session

    def _template_text(self) -> str:
        if not self._options.chat_template:
            return ""
        try:
            return Path(self._options.chat_template).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFileError(f"{self._options.chat_template} cannot be read: {error}", "check the path") from None

    def _question(self, key: int, request: Request, streams: bool = False) -> Question:
        assert self._template is not None
        messages = request.messages
        if self._options.system and not any(m.role == "system" for m in messages):
            messages = (Message("system", self._options.system), *messages)
        prompt = self._template.prompt(messages, request.thinks)
        sampling = request.sampling
        return Question(
            key=key, prompt=prompt, max_tokens=sampling.max_tokens, temperature=sampling.temperature,
            top_p=sampling.top_p, top_k=sampling.top_k, seed=seed_of(request), stop=sampling.stop,
            opened=opens_thinking_tag(prompt), streams=streams, grammar=sampling.grammar,
            json_schema=sampling.json_schema, top_logprobs=request.top_logprobs,
        )

    def _reply(self, request: Request, question: Question, outcome: Outcome) -> Reply:
        kind, _, message = outcome
        if kind != "reply":
            return _failed(request, str(message["error"]))
        usage = Usage(message["prompt_tokens"], message["completion_tokens"], message["reasoning_tokens"],
                      message["cached_tokens"])
        reply = reply_of_text(
            request.id, message["text"], message["finish"], opened=question.opened,
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
    places = range(0, len(top_ids), width)
    return TokenScores(
        tuple(ids), tuple(logprobs), tuple(tuple(top_ids[at : at + width]) for at in places),
        tuple(tuple(top[at : at + width]) for at in places),
    )
