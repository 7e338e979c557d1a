"""A probe's report as text, for every screen that shows one."""

from __future__ import annotations

from collections.abc import Iterator

from localdistill.engines.wire.probe_report import THIS_MACHINE, Probe, RateLimit

_REASONING = {
    "raw": "shown whole", "summary": "shown as a summary", "encrypted": "encrypted", "hidden": "billed, but not shown",
    "unclear": "shown, perhaps not whole", "none": "none",
}
_SWITCH = {
    "none": "none is known for this teacher", "works": "works", "stays_on": "switched off, it still thinks",
    "stays_off": "switched on, it does not think", "on_refused": "switching it on is refused",
    "off_refused": "switching it off is refused",
}


def findings_of(probe: Probe) -> Iterator[tuple[str, str]]:
    """The report as (label, text); what was not found out is said to be unknown."""
    yield "teacher", probe.identity + (f", answered as {probe.answered_as}" if probe.answered_as else "")
    yield "probed", probe.probed_at
    yield "reasoning", f"{_REASONING[probe.reasoning]}: {probe.evidence}"
    yield "reasoning in", ", ".join(probe.carriers) or "-"
    yield "thinking switch", _SWITCH[probe.switch_verdict] + (f" ({probe.switch})" if probe.switch else "")
    yield "arithmetic", {True: "right", False: "wrong", None: "not finished within the limit"}[probe.solved]
    yield "token limit", _limit(probe)
    finish = probe.finish_at_limit or "nothing was said"
    yield "at the limit", finish + ("; some replies lack a finish reason" if probe.lacks_finish else "")
    yield "token counts", f"whole replies: {_yes(probe.usage_whole)}, streams: {_yes(probe.usage_streamed)}"
    yield "accepts", f"seed: {_yes(probe.accepts_seed)}, temperature: {_yes(probe.accepts_temperature)}"
    speed = "unknown" if probe.tokens_per_s is None else f"{probe.tokens_per_s:,.1f} tokens/s of one reply"
    first = "" if probe.first_token_s is None else f", first words after {probe.first_token_s:.2f} s"
    yield "speed", speed + first + (f", on {probe.device}" if probe.device else "")
    if probe.host != THIS_MACHINE:
        yield from _of_a_server(probe)
    yield from (("note", note) for note in probe.notes)


def _of_a_server(probe: Probe) -> Iterator[tuple[str, str]]:
    yield "rate limits", ", ".join(map(_rate, probe.rate_limits)) or "its headers say nothing"
    yield "one answer", "price unknown" if probe.cost_usd is None else f"${probe.cost_usd:.6f} (the one that thinks)"
    yield "spent", "unknown" if probe.spent_usd is None else f"${probe.spent_usd:.6f}"


def _limit(probe: Probe) -> str:
    parts = [] if probe.max_output_tokens is None else [f"{probe.max_output_tokens:,} new tokens"]
    parts += [] if probe.context_tokens is None else [f"{probe.context_tokens:,} with the prompt"]
    return (", ".join(parts) or "unknown") + (f" (it says: {probe.limit_words})" if probe.limit_words else "")


def _yes(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"


def _rate(limit: RateLimit) -> str:
    name = limit.name.replace("_", " ")
    left = "" if limit.remaining is None else f", {limit.remaining:,.0f} left"
    until = "" if limit.reset_s is None else f", full again in {limit.reset_s:,.0f} s"
    return f"{'?' if limit.limit is None else f'{limit.limit:,.0f}'} {name}{left}{until}"
