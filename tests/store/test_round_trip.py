"""Nothing of a record is lost on its way through the store: values are made for every field that a record has, whatever
it is called, so one that is added to a record and not to the store fails here."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.records import Fact, Message, Prompt, Trace
from localdistill.safety.journal import JournalWriter
from localdistill.stages.context import JournalledWriter
from localdistill.store import Store
from localdistill.store.columns import VIEW, VIEW_COLUMNS
from localdistill.store.json_forms import fact_to_json, trace_from_json, trace_to_json
from localdistill.store.pages import detail_at, place_of, readers
from localdistill.store.rows import FACT_TABLE, PROMPT_TABLE, TRACE_TABLE
from localdistill.store.schema import MIGRATIONS
from localdistill.store.session import Sessions
from localdistill.workspace.run_folder import RunFolder


def values(kind: Any, numbers: Iterator[int]) -> Any:
    """A value of the type `kind` that no field has by default, and no two fields alike."""
    number = next(numbers)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return parts[1]
    if origin in (typing.Union, types.UnionType):
        return values(parts[0], numbers)
    if origin is tuple:
        return (values(parts[0], numbers), values(parts[0], numbers))
    if is_dataclass(kind):
        return made(typing.cast("type[Any]", kind), numbers)
    if kind in (str, Any):
        return f"text {number} \ud83d"
    if kind is bool:
        return True
    if kind in (int, float):
        return kind(number)
    if parts[1:] == (float,):
        return {f"key {number}": float(number)}
    assert origin in (Mapping, dict) or kind in (dict, Mapping), f"say here how a {kind} looks"
    return {f"key {number}": [number, None, "text"]}


def made(cls: type[Any], numbers: Iterator[int] | None = None) -> Any:
    """A record of `cls` in which every field holds something of its own."""
    numbers = count(2) if numbers is None else numbers
    hints = typing.get_type_hints(cls)
    record = cls(**{part.name: values(hints[part.name], numbers) for part in fields(cls)})
    for part in fields(cls):
        assert part.default is MISSING or getattr(record, part.name) != part.default, part.name
    return record


def ascii_ids(trace: Trace, prompt: Prompt) -> Trace:
    """The same with ids as records have them, of `prompt`."""
    return Trace(**{**vars(trace), "id": "b2:1", "prompt_id": prompt.id, "parent_id": "b2:2"})


@pytest.fixture
def records() -> tuple[Prompt, Trace, Fact]:
    prompt = made(Prompt)
    trace = ascii_ids(made(Trace), prompt)
    return prompt, trace, Fact(**{**vars(made(Fact)), "subject_id": trace.id})


def test_every_field_comes_back(tmp_path: Path, records: tuple[Prompt, Trace, Fact]) -> None:
    prompt, trace, fact = records
    store = Store(tmp_path / "s.duckdb")
    store.add_prompts([prompt])
    store.add_traces([trace])
    store.add_facts([fact])
    assert asdict(next(store.prompts())) == asdict(prompt)
    assert asdict(next(store.traces([trace.id]))) == asdict(trace)
    assert store.facts([trace.id]) == {trace.id: [fact]}
    seen = detail_at(reading := readers(store.path), place_of(reading, trace.id))
    assert (seen.prompt, seen.trace, seen.facts) == (prompt, trace, (fact,))


def test_records_that_are_stored_together_keep_what_each_of_them_says(
        tmp_path: Path, records: tuple[Prompt, Trace, Fact]) -> None:
    """Columns are stored as a whole: one where all say the same, where none says anything, and where some do."""
    prompt, trace, fact = records
    other = replace(made(Trace, count(400)), id="b2:other", engine=trace.engine)
    bare = [Trace(f"b2:bare{n}", "b2:none", "e", "m", "", "") for n in range(3)]
    prompts = [prompt, Prompt((Message("user", "?"),)), Prompt((Message("user", "?"),), reference="1")]
    facts = [fact, Fact(other.id, "tokens", value=3.0, kind="label"), Fact(other.id, "language", value="de"),
             Fact(bare[0].id, "exact", value=0.0, passed=False, metrics={"near": 0.5}), Fact(bare[1].id, "exact")]
    for number, traces in enumerate(([trace, *bare, other], [*bare, trace, other])):
        store = Store(tmp_path / f"{number}.duckdb")
        store.add(prompts, traces, facts)
        assert (list(store.prompts()), list(store.traces())) == (prompts, traces)
        found = store.facts([one.id for one in traces])
        assert [one for some in found.values() for one in some] == [
            one for some in traces for one in sorted(facts, key=lambda said: said.by) if one.subject_id == some.id]


def test_a_line_holds_no_field_that_is_as_it_is_by_default() -> None:
    trace = Trace("b2:1", "b2:2", "e", "m", "r", "a", raw="<think>r</think>a", sample_index=0, cost_usd=0.0)
    line = trace_to_json(trace)
    assert line.keys() == {"id", "prompt_id", "engine", "model", "reasoning", "answer", "raw", "cost_usd", "usage"}
    assert line["usage"] == {} and trace_from_json(line) == trace


def test_every_field_comes_back_by_way_of_the_journal(tmp_path: Path, records: tuple[Prompt, Trace, Fact]) -> None:
    _, trace, fact = records
    run, store = RunFolder(tmp_path / "runs" / "r-1"), Store(tmp_path / "s.duckdb")
    writer = JournalledWriter(run.journal, store)
    writer.add(trace, [fact])
    writer.close()
    assert (list(store.traces()), store.facts([trace.id])) == ([trace], {trace.id: [fact]})


def test_every_field_of_a_trace_stands_in_the_view_and_in_json(
    tmp_path: Path, records: tuple[Prompt, Trace, Fact]
) -> None:
    _, trace, _ = records
    assert trace_from_json(json.loads(json.dumps(trace_to_json(trace)))) == trace
    store = Store(tmp_path / "s.duckdb")
    store.add_traces([trace])
    [batch] = store.batches(VIEW_COLUMNS)
    [cells] = batch.to_pylist()
    seen_as = {"id": "trace_id", "tool_calls": "calls"}
    for record, names in ((trace, seen_as), (trace.usage, {"estimated": "usage_estimated"})):
        for part in fields(record):
            column = names.get(part.name, part.name)
            if column != "usage":
                assert VIEW[column].kind.restore(cells[column]) == getattr(record, part.name), column


def test_every_column_has_the_type_that_its_field_says(tmp_path: Path) -> None:
    sql = {"string": "VARCHAR", "int64": "BIGINT", "double": "DOUBLE", "bool": "BOOLEAN", "time": "TIMESTAMP",
           "labels": "MAP(VARCHAR, VARCHAR)", "metrics": "MAP(VARCHAR, DOUBLE)", "texts": "VARCHAR[]"}
    found: dict[str, dict[str, str]] = {}
    for table, name, kind in Sessions(tmp_path / "s.duckdb").run(lambda con: con.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns()").fetchall()):
        found.setdefault(table, {})[name] = kind
    views = {name: column.kind for name, column in VIEW.items()}
    for table, columns, own in (("prompts", PROMPT_TABLE, {"seq"}), ("traces", TRACE_TABLE, {"seq", "prompt_seq"}),
                                ("facts", FACT_TABLE, {"trace_seq", "prompt_seq"}), ("trace_view", views, set[str]())):
        wanted = {name: sql[kind.arrow] for name, kind in columns.items()}
        assert {name: kind for name, kind in found[table].items() if name not in own} == wanted, table


def test_every_turn_keeps_every_field(tmp_path: Path) -> None:
    prompt = Prompt(tuple(made(Message, count(n)) for n in (2, 40, 80)))
    store = Store(tmp_path / "s.duckdb")
    store.add_prompts([prompt])
    assert next(store.prompts()).messages == prompt.messages


@pytest.mark.whole
@pytest.mark.parametrize(("part", "value"), [
    ("sample_index", "1"), ("sample_index", 2**70), ("sampling", [1]), ("cost_usd", "free"), ("engine", None),
    ("prompt_id", 7), ("usage", {"prompt_tokens": 1.5}), ("usage", {"estimated": 1}), ("usage", None), ("later", 1),
    ("asked", [["user", "?"]]), ("asked", [{"role": "user"}]), ("thinks", "yes"),
])
def test_a_line_that_holds_what_no_column_takes_is_damaged_and_stops_no_other(
    tmp_path: Path, records: tuple[Prompt, Trace, Fact], part: str, value: object
) -> None:
    _, trace, fact = records
    store, path = Store(tmp_path / "s.duckdb"), tmp_path / "replies.jsonl"
    row = trace_to_json(trace)
    writer = JournalWriter(path)
    writer.append({"kind": "trace", "trace": {**row, "id": "b2:odd", part: value}})
    writer.append({"kind": "trace", "trace": {**row, "id": "b2:7"}, "facts": [fact_to_json(fact)]})
    writer.append({"kind": "trace", "trace": row, "facts": [fact_to_json(fact)]})
    writer.close()
    caught = store.catch_up([path])
    assert (caught.rows, caught.damaged) == (1, 2), "of the second the grade is for another trace"
    assert list(store.traces()) == [trace]


@pytest.mark.whole
def test_a_store_from_before_the_newest_columns_opens_and_keeps_its_rows(
    tmp_path: Path, records: tuple[Prompt, Trace, Fact]
) -> None:
    path, (prompt, trace, _) = tmp_path / "s.duckdb", records
    Sessions(path, migrations=MIGRATIONS[:3]).run(lambda con: con.execute(
        "INSERT INTO traces (seq, id, prompt_id, engine, model, reasoning, answer, status, trace_kind, raw, "
        "finish_reason, sample_index, sampling, prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens, "
        "usage_estimated, elapsed_s, rewrite, source, terms) VALUES (1, 'b2:old', 'b2:p', 'e', 'm', 'r', 'a', "
        "'complete', 'raw', '', 'stop', 0, '{}', 10, 5, 2, 3, false, 1.0, '', 's', '')"))
    store = Store(path)
    store.add_prompts([prompt])
    store.add_traces([trace])
    old, new = store.traces()
    assert (old.id, old.usage.prompt_tokens, old.usage.cached_tokens, old.usage.cache_write_tokens) == ("b2:old", 10, 3,
                                                                                                     0)
    assert (old.asked, old.thinks) == (None, None)
    assert new == trace


@pytest.mark.whole
def test_a_line_from_before_the_newest_fields_is_taken_in(
    tmp_path: Path, records: tuple[Prompt, Trace, Fact]
) -> None:
    _, trace, _ = records
    store, path = Store(tmp_path / "s.duckdb"), tmp_path / "replies.jsonl"
    row = {name: value for name, value in trace_to_json(trace).items() if name not in ("asked", "thinks")}
    writer = JournalWriter(path)
    writer.append({"kind": "trace", "trace": row})
    writer.close()
    assert store.catch_up([path]).rows == 1
    assert list(store.traces()) == [replace(trace, asked=None, thinks=None)]
