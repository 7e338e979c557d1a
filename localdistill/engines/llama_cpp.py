"""Answers with a GGUF file through llama.cpp, many sequences at once, in a child process that may die.

The parent checks the file's header, renders prompts and sorts replies; all native code runs in
`engines.llama_cpp_native.child`. Nothing is sent over a network.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from localdistill.engines.llama_cpp_native.client import Outcome
from localdistill.engines.llama_cpp_native.model import LoadSettings
from localdistill.engines.llama_cpp_native.pool import ClientPool
from localdistill.engines.llama_cpp_native.sequence import Question
from localdistill.errors import Cancelled, EngineError, ModelFileError
from localdistill.events import Cancel, Emit, Warned
from localdistill.modelfiles.gguf_header import GgufHeader, read_header
from localdistill.options import FileName, Options
from localdistill.records import Message, Reply, Request, Usage, content_id
from localdistill.templates import ChatTemplate, opens_thinking_tag, reply_of_text

_STAGE = "engine"
_SMALL_MODEL_BYTES = 64 * 1024 * 1024
_KV_MEMORY_SHARE = 0.5
_ARCHITECTURE_LIMIT = 1024
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
    """Layers on the GPU. -1 puts all there if there is one, and none when they do not fit. 0 stays on the CPU."""
    flash_attention: bool | None = None
    """Force flash attention on or off. Unset: off on a CPU, where it is slower, else llama.cpp decides."""
    system: str = ""
    """System prompt put in front of conversations that have none. Empty adds nothing."""
    chat_template: FileName = ""
    """Path of a Jinja file to use instead of the template in the model file. Empty uses the stored one."""
    think_tags: Literal["auto", "off"] = "auto"
    """`auto` splits replies at think tags into reasoning and answer; `off` takes the whole reply as the answer."""


class LlamaCppEngine:
    """One GGUF file behind the engine contract. Not for use by two threads at once."""

    Options: ClassVar[type[Options]] = LlamaCppOptions
    name: ClassVar[str] = "llama_cpp"

    def __init__(self, options: LlamaCppOptions) -> None:
        self._options = options
        self._path = Path(options.model)
        self._client: ClientPool | None = None
        self._template: ChatTemplate | None = None
        self._identity = ""
        self.last_reply: Reply | None = None
        """The reply that the last `stream` amounted to."""

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

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """See `Engine.answer`. Raises ModelFileError when the file cannot be used."""
        try:
            client = self._ready(cancel, emit)
        except Cancelled:
            return
        asked: dict[int, tuple[Request, Question]] = {}
        refused: list[Reply] = []

        def questions() -> Iterator[Question]:
            for key, request in enumerate(requests):
                try:
                    question = self._question(key, request)
                except ModelFileError as error:
                    refused.append(_failed(request, error.message))
                    continue
                asked[key] = (request, question)
                yield question

        crashes = client.crashes
        for outcome in client.ask(questions(), 2 * int(client.facts["parallel"]), cancel):
            if client.crashes > crashes:
                crashes = client.crashes
                emit(Warned(_STAGE, "llama.cpp died and was started again", "the request it died on is marked"))
            yield from _drained(refused)
            yield self._reply(*asked.pop(outcome[1]), outcome)
        yield from _drained(refused)

    def stream(self, request: Request, cancel: Cancel) -> Iterator[str]:
        """Pieces of the raw reply as it is written. `last_reply` holds the whole afterwards. Raises EngineError."""
        client = self._ready(cancel)
        question = self._question(0, request, streams=True)
        written: list[str] = []
        self.last_reply = None
        crashes = client.crashes
        for outcome in client.first.ask([question], 1, cancel):
            if written and client.crashes > crashes:
                raise EngineError("llama.cpp died while it was writing", "ask again")
            if outcome[0] == "piece":
                written.append(outcome[2]["text"])
                yield written[-1]
                continue
            self.last_reply = self._reply(request, question, outcome)
            if self.last_reply.status == "error":
                raise EngineError(self.last_reply.error, "shorten the conversation or raise context_tokens")
        if self.last_reply is None:
            self.last_reply = reply_of_text(request.id, "".join(written), "truncated", opened=question.opened,
                                            splits=self._options.think_tags == "auto")

    def probe(self) -> dict[str, Any]:
        """What `doctor` shows: `device` that holds the weights, `tokens_per_s` of one sequence alone, `n_ctx_train`,
        `description`, `parallel` and `context_tokens` in effect, `repacks`. Raises ModelFileError."""
        cancel = Cancel()
        return self._ready(cancel).first.probe(cancel)

    def device(self) -> str:
        """`cpu`, or the device that holds the weights, for example `CUDA0`."""
        return str(self._ready(Cancel()).facts["device"])

    def close(self) -> None:
        """End the child process."""
        if self._client is not None:
            self._client.close()
        self._client = None

    def _ready(self, cancel: Cancel, emit: Emit | None = None) -> ClientPool:
        """The client of a child that has the model loaded."""
        if self._client is None:
            header = read_header(self._path, max_array=_ARCHITECTURE_LIMIT)
            parallel = _fitting_parallel(header, self._options)
            if parallel < self._options.parallel and emit is not None:
                emit(Warned(_STAGE, f"memory holds {parallel} of {self._options.parallel} sequences at once",
                            "lower context_tokens to run more of them"))
            small = header.size_bytes < _SMALL_MODEL_BYTES
            settings = LoadSettings(
                path=str(self._path), parallel=parallel, context_tokens=self._options.context_tokens,
                threads=self._options.threads or (1 if small else _cores()),
                gpu_layers=self._options.gpu_layers, flash_attention=self._options.flash_attention,
            )
            self._client = ClientPool(settings, self._options.processes or (_cores() if small else 1))
        facts = self._client.start(cancel)
        if self._template is None:
            source = self._template_text() or facts["template"]
            if not source:
                self.close()
                hint = "name a Jinja file with the option chat_template"
                raise ModelFileError(f"{self._path} holds no chat template", hint)
            origin = f"the template of {self._path.name}"
            self._template = ChatTemplate(source, facts["bos"], facts["eos"], origin=origin)
        return self._client

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
            opened=opens_thinking_tag(prompt), streams=streams,
        )

    def _reply(self, request: Request, question: Question, outcome: Outcome) -> Reply:
        kind, _, message = outcome
        if kind != "reply":
            return _failed(request, str(message["error"]))
        usage = Usage(message["prompt_tokens"], message["completion_tokens"], message["reasoning_tokens"],
                      message["cached_tokens"])
        return reply_of_text(
            request.id, message["text"], message["finish"], opened=question.opened,
            splits=self._options.think_tags == "auto", usage=usage, elapsed_s=message["elapsed_s"],
        )


def seed_of(request: Request) -> int:
    """The sampler's seed: from the request alone, so that it does not depend on what else is in the batch."""
    text = f"{request.sampling.seed}/{request.sample_index}/{request.id}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % _SEED_RANGE


def _failed(request: Request, error: str) -> Reply:
    return Reply(request.id, "error", error=error, cost_usd=0.0)


def _drained(replies: list[Reply]) -> Iterator[Reply]:
    while replies:
        yield replies.pop()


def _cores() -> int:
    import psutil

    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _fitting_parallel(header: GgufHeader, options: LlamaCppOptions) -> int:
    """How many of the wanted sequences half of the free memory can hold, at least one. All of them when the file does
    not say how large a token's keys and values are."""
    def number(key: str) -> int:
        value = header.metadata.get(f"{header.architecture}.{key}", 0)
        return max([int(v) for v in value if isinstance(v, int)], default=0) if isinstance(value, list) else (
            int(value) if isinstance(value, int) else 0)

    import psutil

    heads = number("attention.head_count")
    width = number("attention.key_length") or (number("embedding_length") // heads if heads else 0)
    kv_heads = number("attention.head_count_kv") or heads
    token_bytes = number("block_count") * 2 * kv_heads * width * 2
    if not token_bytes:
        return options.parallel
    context = options.context_tokens or min(4096, number("context_length") or 4096)
    free = max(0, psutil.virtual_memory().available - header.size_bytes)
    return max(1, min(options.parallel, int(free * _KV_MEMORY_SHARE) // (token_bytes * context) - 1))
