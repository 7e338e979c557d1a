"""What asking one engine for one set will take: calls, tokens, money and time, each with a range, and where the figures
come from. Asks nobody: it reads what the workspace already knows of this engine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from localdistill.core.durations import estimate_text
from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Measured
from localdistill.core.records import Prompt, Usage
from localdistill.engines import ENGINES
from localdistill.engines.base import Engine, Metered
from localdistill.engines.wire.options import MOST_IN_FLIGHT, WireOptions
from localdistill.providers import NANO_PER_USD, Price, cost_nano_usd, worst_nano_usd
from localdistill.recipe import Recipe
from localdistill.recipe.sections import EngineSection
from localdistill.recipe.trace_sets import AskedSet
from localdistill.stages.asking import Asker, PendingPrompt
from localdistill.stages.context import build_member
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import list_runs
from localdistill.workspace.terms import who_answers

BYTES_PER_TOKEN = 4.0
LEAST_REPLIES = 3
"""So many replies of a teacher are needed before a range is given."""
_FREE = "nothing: the teacher runs here"


@dataclass(frozen=True)
class PlanLine:
    """One figure of the plan."""

    label: str
    text: str


@dataclass(frozen=True)
class Range:
    """A figure with where it lies in 95 of 100 cases, if calls are alike."""

    low: float
    middle: float
    high: float


def total_of(values: Sequence[float], calls: int) -> Range:
    """The sum over `calls` further calls that are like `values`: what is not known of their mean, and their own
    scatter, both counted."""
    middle = calls * fmean(values)
    half = 1.96 * stdev(values) * math.sqrt(calls**2 / len(values) + calls) if len(values) > 1 else middle
    return Range(max(0.0, middle - half), middle, middle + half)


def quote(workspace: Workspace, recipe: Recipe, one: AskedSet, section: EngineSection, base: Path,
          prompts: Sequence[Prompt], warnings: list[str]) -> Iterator[PlanLine]:
    """The lines of the plan for one engine that is asked for one set."""
    engine: Engine = build_member(ENGINES, section, base)
    label = section.name if one.name in (section.name, "teacher") else f"{section.name} for the set {one.name}"
    try:
        asker = Asker(one, engine, recipe.seed)
        questions = [asker.question(prompt) for prompt in prompts]
        open_calls, known_calls = _count(workspace, questions)
        yield PlanLine("prompts", f"{len(prompts):,} x {one.samples}{_tries(one)} = "
                                  f"{open_calls + known_calls:,} calls to {label}; {known_calls:,} answers are stored "
                                  "and not asked again")
        if not open_calls:
            return
        replies = _replies(workspace, engine.identity())
        yield PlanLine("tokens", _tokens(one, questions, open_calls, replies))
        costs = who_answers(section.use, section.options).costs
        money = _money(recipe, one, engine, questions, open_calls, replies, warnings, label) if costs else _FREE
        yield PlanLine("money", money)
        yield PlanLine("time", _time(workspace, section, open_calls, replies))
    except LocalDistillError as error:
        warnings.append(f"{label}: {error.message}")
    finally:
        engine.close()


def _tries(one: AskedSet) -> str:
    return " at most, until verified," if one.until_verified else ""


def _count(workspace: Workspace, questions: Sequence[PendingPrompt]) -> tuple[int, int]:
    """Calls that are still to be made, and answers that are there."""
    ids = [request.id for question in questions for request in question.requests]
    store = open_store(workspace)
    known = store.known_traces(ids) if store.path.exists() else set()
    return len(ids) - len(known), len(known)


def _replies(workspace: Workspace, model: str) -> list[tuple[int, int, float]]:
    store = open_store(workspace)
    found = store.usage_of(model) if store.path.exists() else []
    return found if len(found) >= LEAST_REPLIES else []


def _prompt_bytes(questions: Sequence[PendingPrompt]) -> float:
    sizes = [sum(len(m.counted.encode("utf-8", "replace")) for m in q.requests[0].messages) for q in questions]
    return fmean(sizes) if sizes else 0.0


def _tokens(one: AskedSet, questions: Sequence[PendingPrompt], calls: int,
            replies: Sequence[tuple[int, int, float]]) -> str:
    if replies:
        into, out = (total_of([float(reply[place]) for reply in replies], calls) for place in (0, 1))
        return (f"about {into.middle:,.0f} in, {out.middle:,.0f} out ({out.low:,.0f} to {out.high:,.0f}), "
                f"from {len(replies):,} replies of this teacher")
    asked = _prompt_bytes(questions) / BYTES_PER_TOKEN * calls
    return f"about {asked:,.0f} in (estimated), at most {calls * one.max_tokens:,} out"


def _money(recipe: Recipe, one: AskedSet, engine: Engine, questions: Sequence[PendingPrompt], calls: int,
           replies: Sequence[tuple[int, int, float]], warnings: list[str], label: str) -> str:
    price = engine.price() if isinstance(engine, Metered) else None
    if price is None:
        if recipe.max_usd is not None:
            warnings.append(f"there is a cap and the price of {label} is unknown: state usd_per_million_input and "
                            "usd_per_million_output")
        return "unknown: no document known to localdistill states the price (usd_per_million_* set it)"
    worst = calls * worst_nano_usd(price, int(_prompt_bytes(questions)) + 1, one.max_tokens) / NANO_PER_USD
    if not replies:
        return f"at most ${worst:.2f}; `localdistill plan ... --ask 5` asks five prompts and narrows it down"
    total = total_of([_cost(price, reply) for reply in replies], calls)
    if recipe.max_usd is not None and total.middle > recipe.max_usd:
        warnings.append(f"{label} will probably cost ${total.middle:.2f}, more than the cap of ${recipe.max_usd:.2f}")
    return (f"about ${total.middle:.2f} (${total.low:.2f} to ${min(worst, total.high):.2f}), at most ${worst:.2f}; "
            f"from {len(replies):,} replies")


def _cost(price: Price, reply: tuple[int, int, float]) -> float:
    return cost_nano_usd(price, Usage(reply[0], reply[1])) / NANO_PER_USD


def _time(workspace: Workspace, section: EngineSection, calls: int,
          replies: Sequence[tuple[int, int, float]]) -> str:
    """From the speed of an earlier run of the same teacher, else from how long single replies took."""
    rate = _measured_rate(workspace, section)
    if replies and rate:
        out = total_of([float(reply[1]) for reply in replies], calls)
        return f"about {estimate_text(out.middle / rate)}, at the {rate:,.0f} tokens per second of an earlier run"
    if replies and issubclass(ENGINES.load(section.use).Options, WireOptions):
        alone = total_of([reply[2] for reply in replies], calls).middle
        width = int(section.options.get("concurrency") or 0)
        if width:
            return f"about {estimate_text(alone / width)} with {width} in flight"
        least, most = estimate_text(alone / MOST_IN_FLIGHT), estimate_text(alone / 16)
        return f"{least} to {most}, by how many the server takes at once"
    return "unknown until this teacher was asked once"


def _measured_rate(workspace: Workspace, section: EngineSection) -> float:
    """Tokens per second of the newest run that asked this teacher alone; 0 when there is none."""
    for run in reversed(list_runs(workspace.runs)):
        try:
            if run.request().get("sample"):
                continue  # a few prompts say nothing of how many at once the teacher takes
            same = [(e.use, e.options) for e in run.recipe().asked_engines] == [(section.use, section.options)]
        except (LocalDistillError, OSError, ValueError):
            continue
        if same:
            rates = [event.value for event, _ in run.events()
                     if isinstance(event, Measured) and event.name == "tokens_per_s" and event.value > 0]
            if rates:
                return rates[-1]
    return 0.0
