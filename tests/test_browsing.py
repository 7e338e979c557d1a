from __future__ import annotations

import threading
from array import array
from pathlib import Path

import pytest

from localdistill.api.traces.browsing import (
    TRACE_ORDERS,
    Browser,
    browse,
    list_traces,
    trace_detail,
)
from localdistill.api.traces.paging import PAGES_KEPT
from localdistill.core.borders import BORDERS
from localdistill.core.errors import StoreError, UsageError
from localdistill.core.records import Fact, Message, Prompt, Trace, Usage
from localdistill.store import Store
from localdistill.workspace.folder import Workspace

COUNT = 700


def prompt(number: int) -> Prompt:
    return Prompt((Message("user", f"question {number} " + "x" * 1000),), reference=str(number))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    place = Workspace(tmp_path_factory.mktemp("browsing"))
    store = Store(place.store_path)
    prompts = [prompt(number) for number in range(COUNT // 2)]
    store.add_prompts(prompts)
    traces = [Trace(f"b2:{number:04d}", prompts[number // 2].id, "e", f"model-{number % 2}", "thinking",
                    f"answer {number}", usage=Usage(completion_tokens=(number * 37) % 101 + 1),
                    cost_usd=None if number % 3 else number / 1000) for number in range(COUNT)]
    child = Trace("b2:child", prompts[0].id, "e", "m", "short", "a", parent_id="b2:0000", rewrite="extract@1")
    store.add_traces([*traces, child])
    store.add_facts(Fact(trace.id, "exact", value=float(number % 2), passed=number % 2 == 1, reason="because",
                         extracted="7")
                    for number, trace in enumerate(traces[:600]))
    store.add_facts([Fact("b2:0003", "strict", value=0.0, passed=False, reason="harder")])
    store.save_selection("chosen", {"filters": []}, [t.id for t in traces[10:20]], {})
    store.add_lineage("b2:dataset", [("row", "b2:0010")])
    return place


def resolved(workspace: Workspace, **asked: str) -> Browser:
    browser = browse(workspace, **asked)
    browser.resolve()
    assert browser.complete
    return browser


def ids(browser: Browser) -> list[str]:
    return [row.id for row in browser.page(0, browser.count)]


def test_a_view_holds_machine_integers_and_pages_hold_short_rows(workspace: Workspace) -> None:
    browser = resolved(workspace)
    assert browser.count == COUNT + 1
    assert isinstance(browser._places, array) and browser._places.itemsize == 8
    rows = browser.page(130, 3)
    assert [row.id for row in rows] == ["b2:0130", "b2:0131", "b2:0132"]
    assert rows[0].question.startswith("question 65 ") and len(rows[0].question) < 300
    assert (rows[0].score, rows[1].score, rows[1].tokens) == (0.0, 1.0, (131 * 37) % 101 + 1)
    assert browser.page(COUNT, 50)[0].rewrite == "extract@1"
    assert browser.page(COUNT + 5, 50) == []


@pytest.mark.whole
def test_rows_are_never_waited_for(workspace: Workspace) -> None:
    browser, rows = resolved(workspace), BORDERS.page_rows
    assert browser.row(5) is None
    assert browser.wanted(0, 40) == 0
    browser.load(0)
    assert browser.row(5).id == "b2:0005"  # type: ignore[union-attr]
    assert browser.wanted(0, 40) == 1, "the next page is fetched ahead"
    browser.load(1)
    assert browser.wanted(0, 40) is None
    assert browser.wanted(5 * rows, 5 * rows + 10) == 5
    browser.load(5)
    assert browser.wanted(5 * rows, 5 * rows + 10) == 4


def test_pages_not_looked_at_are_forgotten(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localdistill.api.traces.paging.PAGES_KEPT", 2)
    browser = resolved(workspace)
    for page in range(4):
        browser.load(page)
    assert browser.row(0) is None and browser.row(3 * BORDERS.page_rows) is not None
    assert PAGES_KEPT >= 8


@pytest.mark.parametrize("order", TRACE_ORDERS)
def test_every_order_holds_every_trace_once_in_that_order(workspace: Workspace, order: str) -> None:
    browser = resolved(workspace, order=order)
    rows = browser.page(0, browser.count)
    assert len({row.id for row in rows}) == COUNT + 1
    keys = {
        "stored": lambda row: row.seq, "newest": lambda row: -row.seq,
        "score": lambda row: (row.score is None, row.score or 0, row.seq),
        "tokens": lambda row: (-row.tokens, row.seq),
        "cost": lambda row: (row.cost_usd is None, -(row.cost_usd or 0), row.seq),
    }
    assert rows == sorted(rows, key=keys[order])


def test_the_lowest_of_several_grades_counts(workspace: Workspace) -> None:
    assert resolved(workspace).page(3, 1)[0].score == 0.0


def test_conditions_texts_and_selections_narrow_together_and_keep_the_order(workspace: Workspace) -> None:
    assert resolved(workspace, where="score = 1").count == 299
    assert ids(resolved(workspace, search="ANSWER 69")) == ["b2:0069", *(f"b2:{n:04d}" for n in range(690, 700))]
    assert ids(resolved(workspace, selection="chosen")) == [f"b2:{n:04d}" for n in range(10, 20)]
    assert ids(resolved(workspace, selection="chosen", where="score = 1", order="newest")) == [
        "b2:0019", "b2:0017", "b2:0015", "b2:0013", "b2:0011"]
    assert resolved(workspace, where="score > 7").count == 0


def test_what_cannot_be_used_is_refused(workspace: Workspace) -> None:
    with pytest.raises(UsageError, match="did you mean 'tokens'"):
        browse(workspace, order="token")
    with pytest.raises(UsageError, match="skore"):
        browse(workspace, where="skore = 1").resolve()
    with pytest.raises(UsageError, match="no SQL expression"):
        browse(workspace, where="true) OR (true").resolve()
    with pytest.raises(UsageError, match="no selection"):
        browse(workspace, selection="chosn").resolve()


def test_a_search_shows_its_first_hits_while_it_goes_on_and_can_be_ended(workspace: Workspace) -> None:
    browser = browse(workspace, search="answer")
    seen: list[int] = []

    def grew() -> None:
        seen.append(browser.count)
        browser.stop()

    browser.resolve(grew)
    assert seen[0] == 1 and not browser.complete and browser.count < COUNT


def test_an_empty_folder_has_no_traces_and_gets_no_store(tmp_path: Path) -> None:
    browser = resolved(Workspace(tmp_path))
    assert browser.count == 0 and browser.page(0, 10) == [] and browser.wanted(0, 10) is None
    assert not Workspace(tmp_path).store_path.exists()


def test_a_view_can_be_read_from_several_threads(workspace: Workspace) -> None:
    browser = resolved(workspace)
    failures: list[Exception] = []

    def work(page: int) -> None:
        try:
            browser.load(page)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(page,)) for page in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and ids(browser)[:2] == ["b2:0000", "b2:0001"]


def test_one_trace_with_everything_that_hangs_on_it(workspace: Workspace) -> None:
    detail = trace_detail(workspace, "b2:0010")
    assert (detail.trace.answer, detail.prompt.reference) == ("answer 10", "5")
    assert [(fact.name, fact.reason) for fact in detail.facts] == [("exact@1", "because")]
    assert (detail.selections, detail.datasets, detail.siblings) == (("chosen",), ("b2:dataset",), 1)
    first = resolved(workspace).detail(0)
    assert first.made_of_it == (("b2:child", "extract@1"),) and first.siblings == 2
    assert trace_detail(workspace, "b2:child").trace.parent_id == "b2:0000"
    with pytest.raises(StoreError):
        trace_detail(workspace, "b2:nobody")


def test_listings_for_the_command_line(workspace: Workspace) -> None:
    plain = list_traces(workspace, limit=2)
    chosen = list_traces(workspace, order="newest", selection="chosen", limit=2)
    assert [row["trace_id"] for row in plain] == ["b2:0000", "b2:0001"]
    assert [row["trace_id"] for row in chosen] == ["b2:0019", "b2:0018"]
    assert plain[0].keys() == chosen[0].keys()
    with pytest.raises(UsageError):
        list_traces(workspace, order="nothing")
