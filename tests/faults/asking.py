"""Asks a fault server through the public engines: for tests, and as a process of its own whose memory can be measured
(`python -m tests.faults.asking KIND URL QUESTIONS OPTIONS`)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from localdistill.core.events import Cancel, Event, silent
from localdistill.core.records import Message, Reply, Request, Sampling
from localdistill.engines.anthropic import AnthropicEngine, AnthropicOptions
from localdistill.engines.openai_compatible import OpenAICompatibleEngine, OpenAICompatibleOptions
from tests.faults import FaultServer, Rule, Script, Step
from tests.measuring import peak_mb

Engine = OpenAICompatibleEngine | AnthropicEngine
KINDS = ("openai_compatible", "anthropic")


def engine_for(url: str, kind: str = "openai_compatible", **options: Any) -> Engine:
    """An engine that asks the server at `url`, impatiently."""
    settings = {"model": "m", "retries": 3, "backoff_s": 0.005, "patience_s": 20.0, **options}
    if "endpoints" not in settings:
        settings["base_url"] = url
    if kind == "anthropic":
        return AnthropicEngine(AnthropicOptions(provider="", **settings))
    return OpenAICompatibleEngine(OpenAICompatibleOptions(**settings))


def request_for(question: str, max_tokens: int = 1000) -> Request:
    """A request whose id is its question."""
    return Request(question, (Message("user", question),), Sampling(max_tokens=max_tokens))


def ask(engine: Engine, questions: Iterable[str], emit: Callable[[Event], None] = silent,
        cancel: Cancel | None = None) -> list[Reply]:
    """All replies to `questions`; the engine is closed whatever happens."""
    try:
        return list(engine.answer((request_for(q) for q in questions), emit, cancel or Cancel()))
    finally:
        engine.close()


def one(server: FaultServer, kind: str = "openai_compatible", **options: Any) -> Reply:
    """The reply to one question."""
    (reply,) = ask(engine_for(server.url, kind, **options), ["Double 7"])
    return reply


def first(step: Step, times: int = 1, per_question: bool = False) -> Script:
    """A fault first, then good replies."""
    return Script(rules=(Rule(step, times=times, per_question=per_question),))


def doubles(count: int) -> list[str]:
    """Questions whose right answer the server and `is_right` know."""
    return [f"Double {n}" for n in range(count)]


def right_answer(question: str) -> tuple[str, str, str]:
    """Status, reasoning and answer that one of `doubles` must get."""
    n = int(question.split()[-1])
    return "complete", f"{n} + {n} = {2 * n}.", f"The answer is {2 * n}."


def is_right(reply: Reply) -> bool:
    """Whether a reply to one of `doubles` is whole and belongs to its question."""
    return (reply.status, reply.reasoning, reply.answer) == right_answer(reply.request_id)


def peak_growth_mb(kind: str, url: str, count: int, **options: Any) -> tuple[float, list[str]]:
    """By how much the peak memory of a process grows that asks `count` questions, and the statuses it gets."""
    command = [sys.executable, "-m", "tests.faults.asking", kind, url, str(count), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True,
                          cwd=Path(__file__).resolve().parents[2])
    told = json.loads(done.stdout)
    return told["growth_mb"], told["statuses"]


def _main() -> None:
    kind, url, count, options = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
    import aiohttp  # noqa: F401  (its own memory is not the question)

    before = peak_mb()
    replies = ask(engine_for(url, kind, **options), doubles(count))
    grown = peak_mb() - before
    sys.stdout.write(json.dumps({"growth_mb": grown, "statuses": [reply.status for reply in replies]}))


if __name__ == "__main__":
    _main()
