"""One probe from end to end: ask, keep the report in the workspace, compare it with the one before. The questions to
servers are in `engines.wire.probe`; a GGUF file is asked the same ones here."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from localdistill.api.teachers.probe_targets import ProbeTarget
from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Message, Reply, Request, Sampling
from localdistill.engines.llama_cpp import LlamaCppEngine
from localdistill.engines.llama_cpp_native.options import LlamaCppOptions
from localdistill.engines.llama_cpp_native.tuning import Tuning
from localdistill.engines.wire import probe_report
from localdistill.engines.wire.collected import Collected
from localdistill.engines.wire.engine import WireEngine
from localdistill.engines.wire.probe import COUNT, COUNT_TOKENS, EXACT, THINK, THINK_TOKENS, solves, worst_cost_nano
from localdistill.engines.wire.probe import probe as probe_server
from localdistill.engines.wire.probe_report import THIS_MACHINE, Probe, compare
from localdistill.spending.ledger import NANO, SpendLedger
from localdistill.stages.rechecking import keep_probe, last_probe
from localdistill.workspace.folder import Workspace


@dataclass(frozen=True)
class Examined:
    """A probe and what it says is new."""

    label: str
    probe: Probe
    before: Probe | None
    changes: tuple[str, ...]


def worst_cost_usd(target: ProbeTarget) -> float | None:
    """The most that probing is expected to cost; 0.0 for a local model, None when the price is unknown. Raises
    EngineError when a key is missing: before anybody is asked to agree to a price."""
    engine = target.build()
    if not isinstance(engine, WireEngine):
        return 0.0
    engine.targets()
    worst = worst_cost_nano(engine)
    return None if worst is None else worst / NANO


def examine_teacher(workspace: Workspace, target: ProbeTarget, ledger: SpendLedger, cancel: Cancel) -> Examined:
    """Probe `target`, keep the report in `workspace` and compare it with the one before. Consent to terms of use is
    the caller's to ask for. Raises EngineError, EngineUnavailable, BudgetReached, ModelFileError, Cancelled."""
    engine = target.build()
    try:
        before = last_probe(workspace, engine.identity())
        found = probe_server(engine, ledger, cancel) if isinstance(engine, WireEngine) else probe_local(engine, cancel)
    finally:
        engine.close()
    keep_probe(workspace, found)
    return Examined(target.label, found, before, tuple(compare(before, found)) if before else ())


def tune_teacher(path: Path, parallel: int = 16) -> Tuning:
    """Measure which threads, attention and cache layout are fastest for the GGUF file at `path` on this machine;
    engines of later runs with as many `parallel` sequences use it. Raises ModelFileError."""
    engine = LlamaCppEngine(LlamaCppOptions(model=str(path.expanduser()), parallel=parallel))
    try:
        return engine.tune()
    finally:
        engine.close()


def probe_local(engine: LlamaCppEngine, cancel: Cancel) -> Probe:
    """What a GGUF file is as a teacher, with the questions that servers get; costs nothing but time."""
    facts = engine.probe()
    sent_at, first_s = time.monotonic(), None
    for _ in engine.stream(_request("think", THINK, THINK_TOKENS, True), cancel):
        first_s = time.monotonic() - sent_at if first_s is None else first_s
    thought = engine.last_reply
    asked = [_request("plain", EXACT, THINK_TOKENS, False), _request("count", COUNT, COUNT_TOKENS, False)]
    replies = {reply.request_id: reply for reply in engine.answer(asked, silent, cancel)}
    cancel.check()
    plain, counted = replies.get("plain"), replies.get("count")
    if thought is None or plain is None or counted is None:
        raise LocalDistillError(f"{engine.identity()} did not answer", "localdistill doctor looks at llama.cpp")
    places = probe_report.carriers(Collected(content=thought.raw))
    return Probe(
        identity=engine.identity(), host=THIS_MACHINE, model=probe_report.shown(facts.get("description", "")),
        probed_at=datetime.now(UTC).isoformat(timespec="seconds"), reasoning="raw" if thought.reasoning else "none",
        evidence="a model on this machine hides nothing" if thought.reasoning else "its replies hold no reasoning",
        carriers=places, reasoning_tokens=thought.usage.reasoning_tokens or None, switch="chat template",
        switch_verdict=_local_verdict(thought, plain), solved=solves(thought),
        context_tokens=int(facts.get("n_ctx_train") or facts["context_tokens"]),
        finish_at_limit=counted.finish_reason, usage_whole=True, usage_streamed=True, accepts_seed=True,
        finish_reasons=tuple(dict.fromkeys(r.finish_reason for r in (thought, plain, counted) if r.finish_reason)),
        accepts_temperature=True, first_token_s=first_s, tokens_per_s=float(facts["tokens_per_s"]), cost_usd=0.0,
        spent_usd=0.0, device=probe_report.shown(facts["device"]),
    )


def _local_verdict(thought: Reply, plain: Reply) -> probe_report.SwitchVerdict:
    if not thought.reasoning:
        return "none"
    return "stays_on" if plain.reasoning else "works"


def _request(key: str, text: str, max_tokens: int, thinks: bool) -> Request:
    return Request(key, (Message("user", text),), Sampling(max_tokens=max_tokens), thinks=thinks)
