"""Prompts, traces and facts as lines of a journal hold them, and back, also from lines of older versions. Follows the
tables of fields in `store.rows`; what a field holds by default is not written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from localdistill.core.records import Fact, Prompt, Trace, Usage
from localdistill.rewrites.naming import RewriteName
from localdistill.store.raw_text import unpacked
from localdistill.store.rows import (
    FACT_FIELDS,
    LONG_TEXT,
    NUMBER,
    PROMPT_FIELDS,
    TEXT,
    TRACE_FIELDS,
    USAGE_FIELDS,
    Kind,
    is_number,
    is_text,
    named,
    packed_raw,
)


def prompt_to_json(prompt: Prompt) -> dict[str, object]:
    """The prompt as a journal holds it."""
    return {"id": prompt.id, **dumped(prompt, PROMPT_FIELDS)}


def prompt_from_json(data: Mapping[str, Any]) -> Prompt:
    """The prompt that `prompt_to_json` made `data` of; the errors of `trace_from_json`."""
    if not is_text(data["id"]):
        raise ValueError("id holds no text")
    return named(Prompt(**_checked(data, PROMPT_FIELDS, "id")), data["id"])


def trace_to_json(trace: Trace) -> dict[str, object]:
    """The trace as a journal holds it."""
    data = {**dumped(trace, TRACE_FIELDS), "usage": dumped(trace.usage, USAGE_FIELDS)}
    if trace.raw and (raw := packed_raw(trace)) is not trace.raw:
        data["packed_raw"] = raw
        del data["raw"]
    return data


def trace_from_json(data: Mapping[str, Any]) -> Trace:
    """The trace that `trace_to_json` made `data` of, today or when a trace had fewer fields. TypeError, KeyError or
    ValueError when it is not one, or holds what cannot be stored."""
    usage = _checked(data["usage"], USAGE_FIELDS)
    if "packed_raw" in data:
        data = {**data, "raw": unpacked(data["packed_raw"], data["reasoning"], data["answer"])}
    return Trace(**_checked(data, TRACE_FIELDS, "usage", "packed_raw"), usage=Usage(**usage))


def fact_to_json(fact: Fact) -> dict[str, object]:
    """The fact as a journal holds it."""
    return {**dumped(fact, FACT_FIELDS), "value": fact.value}


def fact_from_json(data: Mapping[str, Any]) -> Fact:
    """The fact that `fact_to_json` made `data` of; the same errors."""
    value = data.get("value")
    if not (value is None or is_text(value) or is_number(value)):
        raise ValueError(f"value holds a {type(value).__name__}")
    return Fact(**_checked(data, FACT_FIELDS, "value"), value=value)


def facts_beside(record: Mapping[str, Any], trace: Trace) -> list[Fact]:
    """The facts that stand beside a trace in a line of a journal, of today or with the grades of older versions; the
    same errors, also for a fact of another trace."""
    found = [fact_from_json(data) for data in record.get("facts", ())]
    found += [_fact_of_grade(data, trace) for data in record.get("grades", ())]
    if any(fact.subject_id != trace.id for fact in found):
        raise ValueError("a fact that stands beside a trace is of another one")
    return found


def _fact_of_grade(data: Mapping[str, Any], trace: Trace) -> Fact:
    """A verdict of an older version (`math@2`, `summarize@1`, `summarize@1/3f9a01bc`) as the fact that it is."""
    kinds = {"trace_id": TEXT, "grader": TEXT, "score": NUMBER, "reason": LONG_TEXT, "extracted": TEXT}
    old = _checked({"extracted": "", **data}, kinds)
    name = RewriteName.parse(old["grader"])
    is_own = f"{trace.rewrite}/".startswith(f"{old['grader']}/")
    return Fact(old["trace_id"], name.use, name.version, name.writer, "rewrite" if is_own else "grade",
                float(old["score"]), old["score"] >= 1, reason=old["reason"], extracted=old["extracted"])


def dumped(record: Prompt | Trace | Usage | Fact, columns: Mapping[str, Kind]) -> dict[str, object]:
    """The fields of a record that hold something else than they do by default; the others come back as that."""
    usual = BY_DEFAULT[type(record)]
    return {name: columns[name].dump(value) for name, value in vars(record).items()
            if name in columns and value is not (by_default := usual.get(name, _NOTHING)) and value != by_default}


_NOTHING = object()


def _by_default(record: type[Prompt | Trace | Usage | Fact]) -> Mapping[str, object]:
    defaults = {field.name: field.default_factory() if field.default_factory is not MISSING else field.default
                for field in fields(record)}
    return {name: value for name, value in defaults.items() if value is not MISSING}


BY_DEFAULT = {record: _by_default(record) for record in (Prompt, Trace, Usage, Fact)}
"""What the fields of each record hold by default."""


def _checked(data: Mapping[str, Any], columns: Mapping[str, Kind], *others: str) -> dict[str, Any]:
    """The fields of a record; what `others` hold is read by somebody else."""
    found = {name: value for name, value in data.items() if name not in others}
    for name, value in found.items():
        if not columns[name].accepts(value):
            raise ValueError(f"{name} holds a {type(value).__name__}")
    return {name: columns[name].load(value) for name, value in found.items()}
