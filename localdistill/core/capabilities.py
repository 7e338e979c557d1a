"""What engines can do, and the one place that refuses to ask one for what it cannot: a plan before anything runs, and
an engine before it sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, Protocol, get_args, runtime_checkable

from localdistill.core.errors import UsageError
from localdistill.core.records import Request

Capability = Literal["generate", "continue_text", "score", "stream", "top_logprobs", "top_scores", "grammar",
                     "json_schema"]
"""`generate`: write replies to messages. `continue_text`: write on from raw text. `score`: log-probabilities of given
continuations. `stream`: show a reply while it is written. `top_logprobs`: the most likely tokens at every new token.
`top_scores`: those at every token of a continuation. `grammar`, `json_schema`: keep a reply to one."""

CAPABILITIES: tuple[Capability, ...] = get_args(Capability)

_WITHOUT: Mapping[Capability, tuple[str, str]] = {
    "generate": ("write replies", "use another engine"),
    "continue_text": ("go on from raw text", "ask in messages, or use an engine that runs the model on this machine"),
    "score": ("give the log-probabilities of a continuation",
              "use an engine that runs the model on this machine, or a server that reports those of prompts"),
    "stream": ("show a reply while it is written", "wait for the whole reply, or use another engine"),
    "top_logprobs": ("report the most likely tokens", "leave top_logprobs out, or use an engine that can"),
    "top_scores": ("report the most likely tokens of a continuation", "ask for none, or use an engine that can"),
    "grammar": ("keep to a grammar", "say it in the prompt, or use an engine that runs a GGUF file on this machine"),
    "json_schema": ("keep to a JSON schema",
                    "say it in the prompt, or use an engine that runs a GGUF file here, or another server"),
}
"""What is missing, in words, and what to do then."""


@runtime_checkable
class Computing(Protocol):
    """Of an engine that computes a model itself."""

    def computes_with(self) -> Mapping[str, str]:
        """What decides its numbers beside the model's files, in words: `dtype`, `device`, `weights` (how they are
        held), `template` (the beginning of its hash). Loads the model where that is needed to know."""


class Able(Protocol):
    """Whatever says what it can: an engine."""

    @property
    def name(self) -> str:
        """Its name in recipes."""

    def can(self) -> frozenset[Capability]:
        """What it can, by its options alone."""


def needed_by(request: Request) -> frozenset[Capability]:
    """What an engine must be able to do to answer `request`."""
    needed: set[Capability] = set()
    if request.kind == "score":
        needed.add("score")
        if request.top_logprobs:
            needed.add("top_scores")
        return frozenset(needed)
    needed.add("generate" if request.text is None else "continue_text")
    if request.top_logprobs:
        needed.add("top_logprobs")
    if request.sampling.grammar:
        needed.add("grammar")
    if request.sampling.json_schema:
        needed.add("json_schema")
    return frozenset(needed)


def require(engine: Able, needed: Iterable[Capability], title: str = "") -> None:
    """Raise UsageError when `engine` cannot do all of `needed`: what it lacks and what to do. title: what a person
    calls the engine, for example its name in the recipe; empty: the member's."""
    can, wanted = engine.can(), frozenset(needed)
    missing = next((one for one in CAPABILITIES if one in wanted and one not in can), None)
    if missing is not None:
        what, instead = _WITHOUT[missing]
        raise UsageError(f"the engine {title or engine.name} cannot {what} with these options", instead)
