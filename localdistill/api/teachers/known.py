"""What the providers' files say, as listings and as text: facts with their documents, and whether a key is there. Asks
nobody and never holds a key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from localdistill.core.errors import LocalDistillError
from localdistill.engines.wire.probe_report import Probe
from localdistill.keys.access import find_key
from localdistill.providers import Provider, ProviderModel, TermsClass, provider, provider_names
from localdistill.stages.rechecking import probes
from localdistill.workspace.folder import Workspace


@dataclass(frozen=True)
class KnownTeacher:
    """One known provider in a listing."""

    name: str
    title: str
    terms: TermsClass
    key: str
    """`not needed`, `missing`, `optional` (a server of one's own may want one), `kept back` (it may not go to this
    host), or where it comes from; never the key."""
    priced_models: int
    """Of so many kinds of models the price is known."""
    batch: str
    """`none`, or what a batch costs relative to single requests."""
    last_probe: Probe | None


def known_teachers(workspace: Workspace) -> list[KnownTeacher]:
    """Every known provider, with the newest probe of one of its models."""
    kept = list(probes(workspace))
    found = []
    for name in provider_names():
        known = provider(name)
        factor = known.batch.price_factor
        batch = "none" if known.batch.kind == "none" else f"{factor:g} of the price" if factor else "price unknown"
        last = next((probe for probe in kept if probe.provider == name), None)
        found.append(KnownTeacher(name, known.title, known.terms.class_, key_state(known),
                                  sum(model.price is not None for model in known.models), batch, last))
    return found


def key_state(known: Provider) -> str:
    """What `KnownTeacher.key` says."""
    if not known.api_key_env:
        return "not needed"
    try:
        key = find_key(known.api_key_env, known.hosts[0])
    except LocalDistillError:
        return "kept back"
    return key.source if key else "optional" if known.is_local else "missing"


def facts_of(known: Provider) -> Iterator[tuple[str, str]]:
    """Everything that a provider's file says as (label, text), facts that age with their document and its day."""
    yield "title", known.title
    yield "address", known.base_url
    if known.other_hosts:
        yield "other hosts", ", ".join(known.other_hosts)
    yield "engine", known.engine
    yield "key", f"{known.api_key_env or 'none'} ({key_state(known)})"
    yield "note", known.note or "-"
    yield "terms", _cited(f"{known.terms.class_}. {known.terms.note}".strip(), known.terms.url, known.terms.date)
    yield "thinking", f"switch: {known.thinking_switch}; fields: {', '.join(known.reasoning_fields) or 'none known'}"
    refused = [name for name in ("seed", "temperature", "top_k") if not known.accepts(name)]
    yield "requests", f"limit: {known.max_tokens_field}; not sent: {', '.join(refused) or 'nothing is left out'}"
    limits = known.limits
    said = [f"{value:,} {name}" for value, name in (
        (limits.requests_per_minute, "requests per minute"), (limits.tokens_per_minute, "tokens per minute"),
        (limits.concurrent_requests, "requests at once")) if value]
    said = [", ".join(said) + "." if said else "unknown.", *filter(None, [limits.note])]
    yield "limits", _cited(" ".join(said), limits.url, limits.date)
    factor = f"{known.batch.price_factor:g} of the price" if known.batch.price_factor else "price unknown"
    yield "batch", "none" if known.batch.kind == "none" else _cited(factor, known.batch.url, known.batch.date)
    for model in known.models:
        yield f"model {model.match}", _model_text(model)


def _model_text(model: ProviderModel) -> str:
    price, parts = model.price, []
    if price is None:
        parts.append("price unknown")
    else:
        cached = "" if price.cached_input is None else f", ${price.cached_input:g} cached"
        parts.append(f"${price.input:g} in, ${price.output:g} out{cached} per million tokens")
    parts += [f"{value:,} {label}" for value, label in (
        (model.context_tokens, "tokens of context"), (model.max_output_tokens, "new tokens at most")) if value]
    text = _cited("; ".join(parts) + (f". {model.note}" if model.note else ""), model.url, model.date)
    if model.trace_kind == "unknown":
        return text
    return f"{text}; reasoning: {_cited(model.trace_kind, model.trace_url, model.trace_date)}"


def _cited(text: str, url: str, date: object) -> str:
    return f"{text} [{url}, {date}]" if url else text
