"""What goes into the store comes out the same, once, in order; what is lost heals; and nobody holds the file."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localdistill.core.borders import BORDERS
from localdistill.core.errors import StoreError, StoreLocked, UsageError
from localdistill.core.records import Fact, Message, Prompt, Trace, Usage, content_id
from localdistill.rewrites.naming import RewriteName
from localdistill.safety.journal import JournalWriter, read
from localdistill.safety.record_lines import encode
from localdistill.store import CatchUp, Store, reading, session
from localdistill.store.columns import VIEW_COLUMNS
from localdistill.store.rows import restored, storable
from localdistill.store.schema import MIGRATIONS, Migration
from localdistill.store.session import Sessions

if TYPE_CHECKING:
    import duckdb

ODD = [
    "",
    "naïve 测试 🎉",
    "nul\x00inside",
    "lone \ud83d surrogate \udc00",
    "\ufdd0d800 looks escaped",
    "a\r\n\tb'\"\\",
    "\ufeff",
]
ROOT = Path(__file__).resolve().parents[2]


def prompt_number(n: int, licence: str = "mit") -> Prompt:
    return Prompt(
        (Message("system", "Be brief."), Message("user", f"What is {n} + {n}?")),
        reference=str(2 * n),
        original="old answer",
        tests=None,
        source="made up",
        licence=licence,
        metadata={"kind": "sum", "steps": n % 5},
    )


def trace_number(n: int, prompt: Prompt | None = None, **changes: object) -> Trace:
    base = dict(
        id=content_id("test", n), prompt_id=(prompt or prompt_number(n)).id, engine="replay", model="m",
        reasoning=f"I add {n} and {n}.", answer=f"{2 * n}", trace_kind="raw", raw="raw", finish_reason="stop",
        sampling={"temperature": 0.5, "stop": ["x"]}, usage=Usage(3, 10 + n, 4, 1, True), cost_usd=0.25, elapsed_s=1.5,
    )  # fmt: skip
    return Trace(**{**base, **changes})  # type: ignore[arg-type]


def filled(folder: Path, count: int = 10) -> Store:
    store = Store(folder / "s.duckdb")
    store.add_prompts(prompt_number(n) for n in range(count))
    store.add_traces(trace_number(n) for n in range(count))
    return store


def graded(trace_id: str, name: str, score: float, reason: str = "", extracted: str = "") -> Fact:
    """The verdict of a grader, `name@version`."""
    by, _, version = name.rpartition("@")
    return Fact(trace_id, by, int(version), value=score, passed=score >= 1, reason=reason, extracted=extracted)


def label(subject_id: str, name: str, value: float | str) -> Fact:
    """What a label says of a prompt or trace."""
    return Fact(subject_id, name, kind="label", value=value)


def ids(*numbers: int) -> list[str]:
    return [content_id("test", n) for n in numbers]


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ODD)
def test_text_comes_back_as_it_went_in(tmp_path: Path, text: str) -> None:
    prompt = Prompt((Message("user", text),), text, text, text, text, text, {"k" + text: [text]})
    trace = Trace("b2:1", prompt.id, text, text, text, text, raw=text, finish_reason=text, sampling={"stop": [text]},
                  rewrite=text, source=text)  # fmt: skip
    grade = Fact("b2:1", text, 1, text, value=0.5, passed=False, reason=text, extracted=text)
    store = Store(tmp_path / "s.duckdb")
    assert (store.add_prompts([prompt]), store.add_traces([trace])) == (1, 1)
    store.add_facts([grade])
    store.add_facts([label(prompt.id, "note", text)])
    [(got_prompt, got_trace)] = store.pairs(["b2:1"])
    assert (got_prompt, got_trace, got_prompt.id) == (prompt, trace, prompt.id)
    assert store.facts(["b2:1"]) == {"b2:1": [grade]}
    assert store.facts([prompt.id]) == {prompt.id: [label(prompt.id, "note", text)]}


@pytest.mark.whole
@given(st.text(st.characters(codec=None)))
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_storable_text_is_unicode_and_can_be_restored(text: str) -> None:
    storable(text).encode("utf-8")
    assert restored(storable(text)) == text


def test_traces_of_every_kind_come_back_equal(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    store.add_prompts([prompt_number(1)])
    whole = trace_number(1, parent_id="b2:parent", rewrite="shorten@1", status="length", sample_index=3, source="file",
                         terms="unknown:p")
    free = trace_number(2, prompt_number(1), cost_usd=None)
    store.add_traces([whole, free])
    assert list(store.traces()) == [whole, free]


def test_storing_twice_stores_once_and_order_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    assert store.add_prompts([prompt_number(n) for n in (3, 1, 3, 2)]) == 3
    assert store.add_prompts([prompt_number(n) for n in (2, 5, 1)]) == 1
    assert [p.reference for p in store.prompts()] == ["6", "2", "4", "10"]
    wanted = [prompt_number(n).id for n in (5, 3, 5)]
    assert [p.id for p in store.prompts(wanted)] == wanted


@pytest.mark.whole
def test_many_batches_and_scattered_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("batch_rows", 7), ("span_rows", 5), ("chunk_ids", 11), ("lookup_ids", 13), ("first_rows", 3)):
        monkeypatch.setattr(BORDERS, name, size)
    store = filled(tmp_path, 30)
    order = list(range(30))
    random.Random(1).shuffle(order)
    assert [t.id for _, t in store.pairs(ids(*order))] == ids(*order)
    assert [t.id for t in store.traces()] == ids(*range(30))
    assert store.meeting("completion_tokens >= 30", ids(*order)) == ids(*(n for n in order if n >= 20))
    assert store.trace_ids("completion_tokens >= 30") == ids(*range(20, 30))
    rows = [i for b in store.batches(["trace_id"], ids=ids(*order)) for i in b.column("trace_id").to_pylist()]
    assert rows == ids(*order)


def test_an_unknown_id_is_named(tmp_path: Path) -> None:
    store = filled(tmp_path, 2)
    for read_all in (store.traces, store.pairs, lambda i: store.batches(["trace_id"], ids=i)):
        with pytest.raises(StoreError, match="1 of 2 traces are not in this store, the first is b2:gone"):
            list(read_all([*ids(1), "b2:gone"]))
    with pytest.raises(StoreError, match="b2:gone"):
        store.add_facts([graded("b2:gone", "g@1", 1.0, "")])


def test_a_trace_may_come_before_its_prompt(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    store.add_traces([trace_number(1)])
    with pytest.raises(StoreError, match="prompts are not in this store"):
        list(store.pairs(ids(1)))
    store.add_prompts([prompt_number(1)])
    [(prompt, _)] = store.pairs(ids(1))
    assert prompt.reference == "2"
    assert store.trace_ids("reference = '2'") == ids(1)


# --- grades, view, conditions -----------------------------------------------------------------------------------------


def test_the_view_says_what_filters_rely_on(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    store.add_facts([graded(ids(1)[0], "a@1", 1.0, "right", "2"), graded(ids(1)[0], "b@1", 0.25, "late", "3")])
    rows = [row for batch in store.batches(VIEW_COLUMNS) for row in batch.to_pylist()]
    assert [r["score"] for r in rows] == [None, 0.25, None]
    said = {
        "trace_id": ids(1)[0], "prompt_id": prompt_number(1).id, "question": "What is 1 + 1?", "reference": "2",
        "original": "old answer", "source": "made up", "licence": "mit", "labels": [("kind", "sum"), ("steps", "1")],
        "engine": "replay", "model": "m", "reasoning": "I add 1 and 1.", "answer": "2", "status": "complete",
        "trace_kind": "raw", "raw": "raw", "finish_reason": "stop", "elapsed_s": 1.5, "asked": None, "thinks": None,
        "sampling": '{"temperature":0.5,"stop":["x"]}', "prompt_tokens": 3, "completion_tokens": 11,
        "reasoning_tokens": 4, "cached_tokens": 1, "cache_write_tokens": 0, "usage_estimated": True, "cost_usd": 0.25,
        "parent_id": None, "rewrite": "", "sample_index": 0, "score": 0.25, "grade_reason": "late", "extracted": "3",
        "terms": "",
    }  # fmt: skip
    assert {name: rows[1][name] for name in said} == said
    assert store.trace_ids("coalesce(score < 1, false)") == ids(1)
    assert store.trace_ids("answer = $a", {"a": "4"}) == ids(2)


def test_a_second_verdict_of_a_grader_replaces_the_first(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    one = ids(1)[0]
    store.add_facts([graded(one, "a@1", 0.0, "no")])
    store.add_facts([graded(one, "a@1", 0.5, "hm"), graded(one, "a@1", 1.0, "yes")])
    assert store.facts(ids(0, 1)) == {one: [graded(one, "a@1", 1.0, "yes")]}
    assert store.said(ids(0, 1, 2), ("a", 1, "")) == {one} and store.said(ids(1), ("a", 2, "")) == set()


@pytest.mark.parametrize(
    "where",
    [
        "score = ",
        "nothing_like_this = 1",
        "1) OR (1",
        "1; DROP TABLE traces",
        "true -- x",
        "1 = 1) UNION SELECT 1, 'x' FROM ((SELECT 1",
        "read_text('/etc/passwd') <> ''",
    ],
)
def test_a_condition_is_one_expression_that_reads_nothing_else(tmp_path: Path, where: str) -> None:
    store = filled(tmp_path, 2)
    if where == "true -- x":
        assert store.trace_ids(where) == ids(0, 1)
        return
    with pytest.raises(UsageError, match="the condition"):
        store.trace_ids(where)
    assert store.counts().traces == 2


def test_columns_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'answer'"):
        list(filled(tmp_path, 1).batches(["anwser"]))


def test_search_finds_any_case_and_shows_where(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    store.add_traces([trace_number(77, prompt_number(1), reasoning="x" * 500 + " Needle Ünter 100% " + "y" * 500)])
    [hit] = store.search("needle ünter 100%")
    assert (hit.trace_id, hit.field) == (ids(77)[0], "reasoning")
    assert "Needle Ünter 100%" in hit.excerpt and len(hit.excerpt) < 200
    assert [h.field for h in store.search("WHAT IS 2")] == ["question"]
    assert list(store.search("100_")) == []


def test_listing_is_plain_data(tmp_path: Path) -> None:
    import json

    store = filled(tmp_path, 5)
    rows = store.listing("completion_tokens > 11", limit=2)
    assert [r["trace_id"] for r in rows] == ids(2, 3) and "reasoning" not in rows[0]
    json.dumps(rows)
    assert [r["trace_id"] for r in store.listing(search="add 4")] == ids(4)


def test_find_by_the_beginning_of_an_id(tmp_path: Path) -> None:
    store = filled(tmp_path, 40)
    found = store.find_trace(ids(5)[0][3:20])
    assert found is not None and found.id == ids(5)[0]
    assert store.find_trace("zz") is None
    with pytest.raises(UsageError, match="several traces"):
        store.find_trace("b2:")


# --- rewrites, selections, lineage, claims ----------------------------------------------------------------------------


def test_children_carry_the_verdict_of_their_rewrite(tmp_path: Path) -> None:
    def said(trace_id: str, value: float, reason: str) -> Fact:
        return Fact(trace_id, "shorten", 1, "abcd", "rewrite", value, bool(value), reason=reason)

    store, label = filled(tmp_path, 4), RewriteName("shorten", 1, "abcd")
    for parent, n in zip(ids(0, 1, 2), (100, 101, 102)):
        store.add_traces([trace_number(n, prompt_number(0), parent_id=parent, rewrite=str(label))])
    store.add_facts([said(ids(100)[0], 1.0, "kept"), graded(ids(100)[0], "math@1", 0.0, "wrong"),
                      said(ids(101)[0], 0.0, "too long")])  # fmt: skip
    assert store.children(ids(2, 1, 0, 3), label) == [
        (ids(2)[0], ids(102)[0], 0.0, "not judged"),
        (ids(1)[0], ids(101)[0], 0.0, "too long"),
        (ids(0)[0], ids(100)[0], 1.0, "kept"),
    ]
    assert store.without_child(ids(3, 2, 1), label) == ids(3)
    assert store.without_child(ids(3, 2), RewriteName("shorten", 2)) == ids(3, 2)
    assert store.counts().rewritten == 3


def test_selections_keep_order_and_the_newest_of_a_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BORDERS, "list_rows", 2)
    store = filled(tmp_path, 6)
    first = store.save_selection("good", {"filters": ["verified"]}, ids(4, 1, 3, 0, 5), {"verified": 1})
    second = store.save_selection("good", {"filters": []}, ids(2), {})
    assert store.selection("good").trace_ids == tuple(ids(2)) and store.selection("good").id == second
    got = store.selection(first)
    assert got.trace_ids == tuple(ids(4, 1, 3, 0, 5))
    assert (got.definition, got.removed) == ({"filters": ["verified"]}, {"verified": 1})
    assert store.save_selection("good", {"filters": ["verified"]}, ids(4, 1, 3, 0, 5), {}) == first
    assert store.selection("good").trace_ids == tuple(ids(4, 1, 3, 0, 5))
    with pytest.raises(UsageError, match="did you mean 'good'"):
        store.selection("goood")


def test_lineage_goes_both_ways_and_saving_again_changes_nothing(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    rows = [("row-1", ids(2)[0]), ("row-0", ids(0)[0])]
    for _ in range(2):
        store.add_lineage("b2:data", rows)
    assert store.lineage("b2:data") == rows
    assert store.datasets_of(ids(2)[0]) == ["b2:data"] and store.datasets_of(ids(1)[0]) == []


def test_a_claim_keeps_other_runs_away_until_it_is_released(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    assert store.claim(["a", "b"], "one") == {}
    assert store.claim(["b", "c"], "two") == {"b": "one"}
    assert store.claim(["a", "b"], "one") == {}
    store.release("one")
    assert store.claim(["a"], "two") == {}
    assert store.claim(["a", "c"], "three") == {"a": "two", "c": "two"}


def test_terms_are_those_of_the_traces_and_their_parents(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    store.add_traces([
        trace_number(1, terms="prohibited:b"), trace_number(2, terms="allowed:a"), trace_number(3),
        trace_number(4, terms="allowed:a", parent_id=ids(1)[0], rewrite="shorten@1"),
    ])  # fmt: skip
    assert store.terms(ids(2, 3)) == ["allowed:a"]
    assert store.terms(ids(4)) == ["allowed:a", "prohibited:b"] and store.terms([]) == []


def test_what_is_known_of_a_prompt_beside_its_columns_is_one_column(tmp_path: Path) -> None:
    store, odd = filled(tmp_path, 4), Prompt((Message("user", "?"),), metadata={"od\ud83d": "\ufdd0 \ud83d", "n": [1]})
    store.add_prompts([odd])
    store.add_traces([trace_number(4, odd), trace_number(5, Prompt(()))])
    store.add_facts([label(prompt_number(1).id, "tries", 3), label(prompt_number(2).id, "tries", ">4"),
                      label(prompt_number(3).id, "other", 7), label(prompt_number(3).id, "steps", 9)])  # fmt: skip
    assert [row["labels"] for row in store.listing()] == [
        {"kind": "sum", "steps": "0"}, {"kind": "sum", "steps": "1", "tries": "3"},
        {"kind": "sum", "steps": "2", "tries": ">4"}, {"kind": "sum", "steps": "9", "other": "7"},
        {"od\ud83d": "\ufdd0 \ud83d", "n": "[1]"}, {},
    ]  # fmt: skip
    for where, found in (("TRY_CAST(labels['tries'] AS INT) > 1", ids(1)), ("labels['tries'] = '>4'", ids(2)),
                         ("labels['steps']::INT > 1", ids(2, 3)), ("labels['kind'] = 'sum'", ids(0, 1, 2, 3))):
        assert store.trace_ids(where) == found == [row["trace_id"] for row in store.listing(where)], where
    assert Sessions(store.path).run(lambda con: con.execute(
        "SELECT trace_id FROM trace_view WHERE labels['tries'] = '3'").fetchall()) == [(ids(1)[0],)]


def test_what_traces_cost_adds_up_however_many_are_asked_for(tmp_path: Path) -> None:
    store = filled(tmp_path, 5)
    store.add_traces([trace_number(7, cost_usd=None), trace_number(8, cost_usd=None)])
    assert store.cost_of(ids(0, 7, 1, 2, 8, 3, 4)) == (1.25, 2)
    assert store.cost_of(ids(3)) == (0.25, 0) and store.cost_of([]) == (0.0, 0)
    assert store.cost_of(ids(1, 7, 2, 1, 7, 1)) == (0.5, 1), "a trace that is named twice was paid once"


def test_a_trace_that_is_named_twice_has_its_verdicts_once(tmp_path: Path) -> None:
    store, verdict = filled(tmp_path, 4), graded(ids(1)[0], "a@1", 1.0, "right")
    store.add_facts([verdict])
    assert store.facts(ids(1, 2, 3, 1, 1)) == {ids(1)[0]: [verdict]}


def test_licences_say_what_is_unknown(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    store.add_prompts([prompt_number(1, "mit"), prompt_number(2, "")])
    store.add_traces([trace_number(1), trace_number(2)])
    assert store.licences(ids(1, 2)) == ["mit", "unknown"]


# --- journals and loss ------------------------------------------------------------------------------------------------


def journal_of(path: Path, numbers: range) -> None:
    writer = JournalWriter(path)
    for n in numbers:
        trace = trace_number(n)
        writer.append({"kind": "trace", "trace": asdict(trace), "facts": [asdict(graded(trace.id, "g@1", 1.0, "ok"))]})
    writer.close()


def test_catch_up_takes_in_what_is_new_and_only_that(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "s.duckdb"), tmp_path / "runs" / "r" / "replies.jsonl"
    assert store.catch_up([path]) == CatchUp()
    journal_of(path, range(5))
    assert store.catch_up([path]) == CatchUp(rows=5)
    assert store.catch_up([path]) == CatchUp()
    journal_of(path, range(3, 8))
    assert store.catch_up([path]) == CatchUp(rows=3)
    assert list(store.traces()) == [trace_number(n) for n in range(8)]
    assert len(store.facts(ids(*range(8)))) == 8


def test_a_torn_line_waits_and_a_damaged_one_is_counted(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "s.duckdb"), tmp_path / "replies.jsonl"
    lines = [encode({"kind": "trace", "trace": asdict(trace_number(n))}) for n in range(4)]
    odd = encode({"kind": "trace", "trace": {"id": 3}}) + encode({"kind": "something newer"})
    path.write_bytes(lines[0] + lines[1].replace(b"add", b"sub") + odd + lines[2] + lines[3][:-9])
    assert store.catch_up([path]) == CatchUp(rows=2, damaged=2)
    path.write_bytes(path.read_bytes() + lines[3][-9:])
    assert store.catch_up([path]) == CatchUp(rows=1)
    assert [t.id for t in store.traces()] == ids(0, 2, 3)


def test_a_journal_that_was_replaced_is_read_from_its_beginning(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "s.duckdb"), tmp_path / "replies.jsonl"
    journal_of(path, range(5))
    store.catch_up([path])
    path.unlink()
    journal_of(path, range(10, 12))
    assert store.catch_up([path]).rows == 2
    path.unlink()
    journal_of(path, range(18, 40))
    assert store.catch_up([path]).rows == 22


def test_rows_that_the_store_lost_come_back_and_are_counted(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "s.duckdb"), tmp_path / "replies.jsonl"
    journal_of(path, range(5))
    store.catch_up([path])
    before = store.path.read_bytes()
    journal_of(path, range(5, 9))
    store.catch_up([path])
    store.path.write_bytes(before)
    journal_of(path, range(9, 10))
    assert store.catch_up([path]) == CatchUp(rows=5, healed=4)
    assert list(store.traces()) == [trace_number(n) for n in range(10)]


KEEPER = """
import os, sys
from dataclasses import asdict
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.store.test_store import trace_number
from localdistill.safety.journal import JournalWriter
from localdistill.store import Store
folder = Path(sys.argv[1])
store, writer = Store(folder / "s.duckdb"), JournalWriter(folder / "replies.jsonl")
n = store.counts().traces
while True:
    for _ in range(5):
        n += 1
        writer.append({"kind": "trace", "trace": asdict(trace_number(n))})
    writer.sync()
    print(n, flush=True)
    store.catch_up([folder / "replies.jsonl"])
"""


def acknowledged_until_killed(folder: Path, lines: int, pause_s: float) -> int:
    """The last number that a writer acknowledged before it was killed in the middle of its work."""
    child = subprocess.Popen([sys.executable, "-c", KEEPER, str(folder), str(ROOT)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(lines):
        child.stdout.readline()
    threading.Event().wait(pause_s)
    os.kill(child.pid, signal.SIGKILL)
    rest = child.communicate()[0].split()
    return int(rest[-1]) if rest else 0


@pytest.mark.whole
def test_kill_9_loses_no_acknowledged_reply_and_doubles_none(tmp_path: Path) -> None:
    chance, store, path = random.Random(3), Store(tmp_path / "s.duckdb"), tmp_path / "replies.jsonl"
    for _ in range(3):
        last = acknowledged_until_killed(tmp_path, chance.randint(1, 4), chance.random() * 0.08)
        store.catch_up([path])
        stored = [t.id for t in store.traces()]
        assert len(set(stored)) == len(stored)
        assert set(ids(*range(1, last + 1))) <= set(stored)
        assert set(stored) == {record["trace"]["id"] for record, _ in read(path)}


CRASHER = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.store.test_store import trace_number
from localdistill.store import Store, journals
store = Store(Path(sys.argv[1]) / "s.duckdb")
remember = journals.remember
def die(*args):
    remember(*args)
    os._exit(9)
journals.remember = die
store.catch_up([Path(sys.argv[1]) / "replies.jsonl"])
"""


@pytest.mark.whole
@pytest.mark.parametrize("damage", ["emptied", "halved", "flipped"])
def test_a_damaged_wal_heals_from_the_journal(tmp_path: Path, damage: str) -> None:
    store, path = Store(tmp_path / "s.duckdb"), tmp_path / "replies.jsonl"
    journal_of(path, range(5))
    store.catch_up([path])
    journal_of(path, range(5, 30))
    subprocess.run([sys.executable, "-c", CRASHER, str(tmp_path), str(ROOT)], check=False)
    wal = tmp_path / "s.duckdb.wal"
    data = bytearray(wal.read_bytes())
    assert len(data) > 1000, "the crash left its commit in the WAL"
    if damage == "flipped":
        data[len(data) // 2] ^= 0xFF
    wal.write_bytes({"emptied": b"", "halved": data[: len(data) // 2], "flipped": bytes(data)}[damage])
    caught = store.catch_up([path])
    assert (caught.rows, caught.healed) == (25, 25)
    assert [aside.read_bytes() for aside in caught.set_aside] == [bytes(data)] * (damage == "flipped")
    assert list(store.traces()) == [trace_number(n) for n in range(30)]
    assert len(store.facts(ids(*range(30)))) == 30
    kept = [p.read_bytes() for p in tmp_path.glob("*.damaged-*")]
    assert kept == ([bytes(data)] if damage == "flipped" else [])


# --- sessions ---------------------------------------------------------------------------------------------------------

HOLDER = """
import duckdb, sys
con = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


def holding(path: Path, script: str = HOLDER) -> subprocess.Popen[str]:
    """Another process that has the store open until it reads a line."""
    child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True)
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    child = holding(tmp_path / "s.duckdb")
    yield child
    if child.poll() is None:
        child.communicate("\n")


@pytest.mark.whole
def test_a_store_that_stays_locked_names_who_holds_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(StoreLocked, match=rf"held by .+ \(PID {holder.pid}\)") as caught:
        Store(tmp_path / "s.duckdb", wait_s=0.2).counts()
    assert caught.value.exit_code == 5


@pytest.mark.whole
def test_a_store_that_somebody_only_reads_is_waited_for_and_not_taken_for_one_that_cannot_be_written(
        tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb", wait_s=0.3)
    store.add_prompts([prompt_number(1)])
    child = holding(store.path, HOLDER.replace("sys.argv[1]", "sys.argv[1], read_only=True"))
    with pytest.raises(StoreLocked, match=rf"PID {child.pid}"):
        store.add_prompts([prompt_number(2)])
    child.communicate("\n")
    assert store.add_prompts([prompt_number(2)]) == 1


@pytest.mark.whole
def test_a_store_that_is_released_in_time_is_waited_for(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(Store(tmp_path / "s.duckdb").counts().traces))
    waiting.start()
    holder.communicate("\n")
    waiting.join(20)
    assert found == [0]


@pytest.mark.whole
def test_threads_take_turns(tmp_path: Path) -> None:
    store = Store(tmp_path / "s.duckdb")
    threads = [
        threading.Thread(target=lambda k=k: store.add_traces([trace_number(n) for n in range(k, k + 20)]))
        for k in range(0, 80, 10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(t.id for t in store.traces()) == sorted(ids(*range(90)))


def test_the_file_is_free_while_a_consumer_works(tmp_path: Path) -> None:
    store = filled(tmp_path, 5)
    for number, _ in enumerate(store.pairs(ids(*range(5)))):
        assert store.counts().traces == 5 + number
        store.add_traces([trace_number(1000 + number)])


@pytest.mark.whole
def test_a_session_that_became_invalid_is_opened_again(tmp_path: Path) -> None:
    import duckdb

    calls: list[int] = []

    def work(con: duckdb.DuckDBPyConnection) -> int:
        calls.append(1)
        if len(calls) == 1:
            raise duckdb.FatalException("database has been invalidated")
        return len(con.execute("SELECT 1").fetchall())

    sessions = Sessions(tmp_path / "s.duckdb")
    assert sessions.run(work) == 1
    calls.clear()

    def never(con: duckdb.DuckDBPyConnection) -> None:
        raise duckdb.FatalException("database has been invalidated")

    with pytest.raises(StoreError, match="invalidated"):
        sessions.run(never)


@pytest.mark.whole
def test_a_session_reaches_nothing_but_the_store(tmp_path: Path) -> None:
    sessions, secret = Sessions(tmp_path / "s.duckdb"), tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    for sql in (
        f"SELECT * FROM read_csv('{secret}')",
        f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
        "INSTALL httpfs",
        f"ATTACH '{tmp_path / 'other.duckdb'}'",
        "SET enable_external_access = true",
    ):
        with pytest.raises(StoreError):
            sessions.run(lambda con, sql=sql: con.execute(sql).fetchall())
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.whole
def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    path.write_bytes(b"something else entirely " * 300)
    with pytest.raises(StoreError, match="damaged") as caught:
        Store(path).counts()
    assert "store rebuild" in caught.value.hint
    assert path.read_bytes() == b"something else entirely " * 300


# --- migrations -------------------------------------------------------------------------------------------------------


@pytest.mark.whole
def test_migrations_run_once_in_order_and_keep_what_is_there(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    path = tmp_path / "s.duckdb"
    more = (*MIGRATIONS, Migration("a table", ("CREATE TABLE extra (n INTEGER)", "INSERT INTO extra VALUES (1)")))
    known = len(MIGRATIONS)
    for _ in range(2):
        rows = Sessions(path, migrations=more).run(lambda con: con.execute("SELECT n FROM extra").fetchall())
        assert rows == [(1,)]
    names = Sessions(path, migrations=more).run(
        lambda con: con.execute("SELECT version, name FROM store_version ORDER BY 1").fetchall()
    )
    assert names == [*enumerate((step.name for step in MIGRATIONS), start=1), (known + 1, "a table")]
    with pytest.raises(StoreError, match=f"version {known + 1}; this localdistill knows versions up to {known}"):
        Store(path).counts()


SHIPPED = {
    "first tables": "fc732afa3c1dd691f03ee923f2cdb35d5d43bd30b17b0c77565ad15a7384effd",
    "terms of use": "b5908c38c6fd5829e73911d483a75a9fe54cf04d8504e22d5cd35e0c526d798c",
    "no indexes on what grows": "18ab441f2b30c87b20915f8d1b43b8e1097986aa07328b86cc960bf7591a4f30",
    "cache writes and damaged lines": "af9bdd84986576c64daa53a35781840ad132f7b6d0e19ee1ac7cf9afad3f8bca",
    "what was asked": "b5fcb23d2e859af49050b735db2b055bc367cb841b010f2ed9c6787a63b524b5",
}


@pytest.mark.whole
def test_a_migration_that_has_shipped_is_never_changed() -> None:
    found = {m.name: hashlib.sha256("\n".join(m.statements).encode()).hexdigest() for m in MIGRATIONS}
    assert {name: found[name] for name in SHIPPED} == SHIPPED
    assert list(found)[: len(SHIPPED)] == list(SHIPPED)


def test_a_store_of_the_first_version_opens_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"

    def fill(con: duckdb.DuckDBPyConnection) -> None:
        con.execute("INSERT INTO prompts (seq, id, messages, question, reference, metadata) "
                    "VALUES (1, 'b2:p', '[[\"user\",\"Why?\"]]', 'Why?', 'so', '{}')")
        con.execute(
            "INSERT INTO traces SELECT 1, 'b2:t', 'b2:p', 1, 'e', 'm', 'r', 'a', 'complete', 'raw', '', 'stop', 0, "
            "'{}', 1, 2, 0, 0, false, NULL, 0.0, NULL, '', 's', now()")

        con.execute(
            "INSERT INTO traces SELECT 2, 'b2:u', 'b2:p', 1, 'e', 'm', 'r', 'a', 'complete', 'summary', '', 'stop', 0, "
            "'{}', 1, 2, 0, 0, false, NULL, 0.0, 'b2:t', 'summarize@1/3f9a01bc', 's', now()")
        con.execute("INSERT INTO grades VALUES (1, 'b2:t', 'a@1', 0.5, 'half', '7'), "
                    "(2, 'b2:u', 'summarize@1', 1.0, 'kept', NULL), (1, 'b2:t', 'by hand', 1.0, 'seen', '')")
        con.execute("INSERT INTO labels VALUES ('b2:p', 'tries', '>4'), ('b2:p', 'steps', '3'), "
                    "('b2:gone', 'tries', '1')")

    Sessions(path, migrations=MIGRATIONS[:1]).run(fill)
    store = Store(path)
    assert store.facts(["b2:t", "b2:u", "b2:p"]) == {
        "b2:t": [graded("b2:t", "a@1", 0.5, "half", "7"), graded("b2:t", "by hand@0", 1.0, "seen")],
        "b2:u": [Fact("b2:u", "summarize", kind="rewrite", value=1.0, passed=True, reason="kept")],
        "b2:p": [Fact("b2:p", "steps", 0, kind="label", value=3.0), Fact("b2:p", "tries", 0, kind="label", value=">4")]}
    assert store.trace_ids("tries = '>4' AND steps = 3 AND a = 0.5") == ["b2:t"]
    store.add_facts([graded("b2:t", "a@1", 1.0, "right")])
    assert store.facts(["b2:t"], [("a", 1, "")]) == {"b2:t": [graded("b2:t", "a@1", 1.0, "right")]}
    trace, _ = store.traces()
    assert (trace.id, trace.terms, trace.source) == ("b2:t", "", "s")
    store.add_traces([trace_number(1, terms="conditional:someone")])
    assert [t.terms for t in store.traces()] == ["", "", "conditional:someone"]
    assert store.trace_ids("terms = ''") == ["b2:t", "b2:u"]
    assert Sessions(path).run(lambda con: con.execute("SELECT labels['tries'], asked, thinks FROM trace_view WHERE "
                                                      "trace_id = 'b2:t'").fetchall()) == [(">4", None, None)]


@pytest.mark.whole
def test_a_migration_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    bad = (*MIGRATIONS, Migration("half", ("CREATE TABLE extra (n INTEGER)", "no sql at all")))
    with pytest.raises(StoreError):
        Sessions(store.path, migrations=bad).run(lambda con: None)
    assert store.counts().traces == 3


# --- scale ------------------------------------------------------------------------------------------------------------


@pytest.mark.whole
def test_100000_ids_are_looked_up_in_few_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, sessions = filled(tmp_path, 500), list[Path]()
    connect = session._connect
    monkeypatch.setattr(session, "_connect", lambda path, only: (sessions.append(path), connect(path, only))[1])
    asked = [content_id("test", n) for n in range(100_000)]
    assert store.known_traces(asked) == set(asked[:500]) and len(sessions) == 100_000 // BORDERS.lookup_ids


@pytest.mark.whole
def test_a_slow_query_draws_nothing(tmp_path: Path) -> None:
    setting = "SELECT current_setting('enable_progress_bar')"
    assert Sessions(filled(tmp_path, 1).path).run(lambda con: con.execute(setting).fetchone()) == (False,)


@pytest.mark.whole
def test_no_session_holds_the_file_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in pieces of work, not in seconds, so that a busy machine does not matter."""
    store = filled(tmp_path, 40)
    monkeypatch.setattr(BORDERS, "span_rows", 4)
    clock = iter(n * 1.01 * BORDERS.session_s for n in range(10**6))
    monkeypatch.setattr(reading, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    opened: list[int] = []
    run = Sessions.run
    monkeypatch.setattr(Sessions, "run", lambda self, work: (opened.append(1), run(self, work))[1])
    found = reading.pick(store._sessions, range(1, 41), reading.rows_query("traces", ["id"]))
    assert [row[1] for row in found] == ids(*range(40))
    assert len(opened) == 10


@pytest.mark.whole
def test_a_session_sees_no_file_but_its_own_and_leaves_it_to_others(tmp_path: Path) -> None:
    store, other = filled(tmp_path, 3), tmp_path / "other.csv"
    other.write_text("a\n1\n")
    for _ in range(2):  # the second works with what the first left
        for sql in (f"SELECT * FROM read_csv('{other}')", f"ATTACH '{tmp_path / 'x.duckdb'}'",
                    f"COPY (SELECT 1) TO '{tmp_path / 'y.csv'}'", "SET enable_external_access = true"):
            with pytest.raises(StoreError, match=r"disabled by configuration|locked|Cannot change"):
                Sessions(store.path).run(lambda con, sql=sql: con.execute(sql).fetchall())  # type: ignore[misc]
        assert store.counts().traces == 3
        opened = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('CREATE OR REPLACE TABLE held (a INT)')"
        subprocess.run([sys.executable, "-c", opened, str(store.path)], check=True)


@pytest.mark.whole
def test_a_session_that_failed_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    sessions = Sessions(filled(tmp_path, 3).path)
    for sql in ("BEGIN; INSERT INTO claims VALUES (1)", "CREATE TEMP TABLE incoming AS SELECT 1 AS id; SELECT oops"):
        with pytest.raises(StoreError):
            sessions.run(lambda con, sql=sql: con.execute(sql).fetchall())  # type: ignore[misc]
        assert sessions.run(lambda con: con.execute("SELECT count(*) FROM traces").fetchone()) == (3,)
        assert sessions.run(lambda con: con.execute("SELECT * FROM duckdb_tables() WHERE temporary").fetchall()) == []
