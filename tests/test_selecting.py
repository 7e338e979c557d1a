from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from localdistill.api.traces.datasets import dataset_shapes
from localdistill.api.traces.previews import lay_out_everywhere, layouter_of
from localdistill.api.traces.removing import removed_traces
from localdistill.api.traces.selecting import run_again, saved_selections, try_filters, waterfalls_of, with_option
from localdistill.api.traces.showing import render_trace
from localdistill.core.errors import StoreError, UsageError
from localdistill.core.records import Fact
from localdistill.formats import FORMATS
from localdistill.recipe import Member, parse_recipe
from localdistill.runs import wait
from localdistill.store import Store
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder
from tests.tui.chain import QUESTIONS, doubling


@pytest.fixture(scope="module")
def workspace() -> Workspace:
    return Workspace(doubling())


@pytest.fixture(scope="module")
def run(workspace: Workspace) -> RunFolder:
    return RunFolder.open(workspace.runs, "doubling-1")


def test_the_waterfall_says_what_each_filter_removed(run: RunFolder) -> None:
    (found,) = waterfalls_of(run)
    assert found.trace_set == "teacher" and found.filters == run.recipe().filters
    assert (found.asked, found.kept, found.name) == (QUESTIONS, QUESTIONS - 5, "doubling")
    assert [(step.use, step.removed, step.is_cheap) for step in found.steps] == [
        ("verified", 5, True), ("duplicates", 0, False)]
    option = found.steps[0].options[0]
    assert (option.name, option.value) == ("min_score", 1.0) and "Lowest score" in option.help


def test_other_filters_are_counted_without_storing_anything(workspace: Workspace, run: RunFolder) -> None:
    before = saved_selections(workspace)
    filters = run.recipe().filters
    assert try_filters(workspace, run, filters, "teacher").kept == QUESTIONS - 5
    assert try_filters(workspace, run, with_option(filters, 0, "min_score", "0"), "teacher").kept == QUESTIONS
    short = (*filters, Member(use="length", options={"minimum": 100}))
    assert [step.removed for step in try_filters(workspace, run, short, "teacher").steps] == [5, 0, QUESTIONS - 5]
    assert try_filters(workspace, run, (), "teacher").kept == QUESTIONS
    assert saved_selections(workspace) == before


def test_with_many_traces_only_sql_is_counted(
    workspace: Workspace, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localdistill.api.traces.selecting.CHEAP_TRACES", 10)
    found = try_filters(workspace, run, run.recipe().filters, "teacher")
    assert [step.removed for step in found.steps] == [5, None] and found.kept is None


FILTERS = (
    ("verified", {}), ("where", {"condition": "completion_tokens > 3 AND score = 1"}),
    ("where", {"condition": "score = 0", "keep_unknown": True}), ("length", {"minimum": 1}), ("duplicates", {}),
    ("where", {"condition": "false"}),
)


@pytest.mark.parametrize("is_kept", [True, False])
def test_of_many_traces_the_same_is_counted_as_of_few(
        workspace: Workspace, run: RunFolder, monkeypatch: pytest.MonkeyPatch, is_kept: bool) -> None:
    """Whichever part of the store the set is: most of it is read from end to end."""
    monkeypatch.setattr("localdistill.store.view._MOST", 4 if is_kept else 0)
    sql = [Member(use=use, options=options) for use, options in FILTERS if use not in ("length", "duplicates")]
    orders = [sql, sql[::-1], sql[:1], sql[1:2], sql[2:3], []]
    few = [try_filters(workspace, run, order, "teacher") for order in orders]
    monkeypatch.setattr("localdistill.api.traces.selecting.CHEAP_TRACES", 10)
    assert [try_filters(workspace, run, order, "teacher") for order in orders] == few
    assert len({found.kept for found in few}) > 3
    with pytest.raises(UsageError, match="scroe"):
        try_filters(workspace, run, [Member(use="where", options={"condition": "scroe = 1"})], "teacher")


def test_places_that_were_looked_up_are_looked_up_anew_when_the_store_is_another(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localdistill.api.traces.selecting.CHEAP_TRACES", 10)
    place = Workspace(shutil.copytree(doubling(), tmp_path / "copy"))
    run = RunFolder.open(place.runs, "doubling-1")
    wrong = [Member(use="where", options={"condition": "score = 0"})]
    assert try_filters(place, run, wrong, "teacher").kept == 5
    held, asked = Store(tmp_path / "held.duckdb"), Store(place.store_path)
    pairs = list(asked.pairs(run.ids("collect")))
    held.add_prompts(prompt for prompt, _ in pairs)
    held.add_traces(trace for _, trace in reversed(pairs))
    held.add_facts(fact for facts in asked.facts(run.ids("collect")).values() for fact in facts)
    assert held.places(run.ids("collect")) != asked.places(run.ids("collect"))
    os.replace(held.path, place.store_path)
    assert try_filters(place, run, wrong, "teacher").kept == 5
    run.write_ids("collect-teacher", [*run.ids("collect"), "b2:nobody"])
    with pytest.raises(StoreError, match="1 of 41 traces are not in this store, the first is b2:nobody"):
        try_filters(place, run, wrong, "teacher")


def test_the_waterfall_is_that_of_the_selection_whatever_became_of_what_was_told(tmp_path: Path) -> None:
    place = Workspace(shutil.copytree(doubling(), tmp_path / "copy"))
    run = RunFolder.open(place.runs, "doubling-1")
    before = waterfalls_of(run)
    (run.path / "events.jsonl").write_bytes(b"")
    assert waterfalls_of(run) == before and before[0].kept == QUESTIONS - 5


@pytest.mark.parametrize(("name", "text", "wrong"), [
    ("min_score", "7", "less than or equal to 1"), ("min_score", "high", "valid number"),
    ("mini", "1", "Extra input")])
def test_an_option_that_cannot_be_is_refused(run: RunFolder, name: str, text: str, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        with_option(run.recipe().filters, 0, name, text)


def test_texts_and_lists_are_taken_as_toml_or_as_they_stand(run: RunFolder) -> None:
    filters = (*run.recipe().filters, Member(use="teacher", options={}))
    assert with_option(filters, 1, "per_prompt", "shortest")[1].options["per_prompt"] == "shortest"
    assert with_option(filters, 2, "models", '["a*"]')[2].options["models"] == ["a*"]


def test_a_new_run_selects_with_other_filters_and_asks_nobody_again(run: RunFolder, tmp_path: Path) -> None:
    place = Workspace(shutil.copytree(doubling(), tmp_path / "copy"))
    run = RunFolder.open(place.runs, "doubling-1")
    again = run_again(place, run, "select", with_option(run.recipe().filters, 0, "min_score", "0.0"))
    assert wait(again).state == "finished"
    assert len(again.ids("select")) == QUESTIONS
    written = parse_recipe((again.path / "recipe.toml").read_text())
    assert written == again.recipe()
    assert written.filters[0].options["min_score"] == 0.0
    assert len(saved_selections(place)) == 2 and saved_selections(place)[0].kept == QUESTIONS


def test_the_shape_of_the_datasets(workspace: Workspace, run: RunFolder) -> None:
    short, long = dataset_shapes(workspace, run)
    assert (short.arm, short.thinks, long.arm, long.thinks) == ("short", False, "long", True)
    assert len(short.lengths) == QUESTIONS - 5 and short.limit == 64
    assert list(long.lengths) == sorted(long.lengths) and long.longest == long.lengths[-1] > short.longest
    assert short.lengths[0] <= short.median <= short.longest


def test_one_trace_in_every_arm_and_format(workspace: Workspace, run: RunFolder) -> None:
    rows = lay_out_everywhere(workspace, run.ids("select")[0], run, layouter_of(run))
    unused = [name for name in FORMATS.names() if name not in ("answer_only", "full_trace")]
    assert [(row.name, row.is_arm) for row in rows] == [
        ("short", True), ("long", True), *((name, False) for name in unused)]
    short, long, original = (next(row for row in rows if row.name == name) for name in ("short", "long", "original"))
    assert next(row for row in rows if row.name == "preference").skipped.startswith("its prompt has no wrong answer")
    assert [span.weight for span in short.spans] == [0.0, 1.0]
    assert "The answer is" in short.spans[1].text and "Double" in short.spans[0].text
    assert short.tokens == sum(span.tokens for span in short.spans)
    assert short.trained_tokens == short.spans[1].tokens < long.trained_tokens
    assert long.thinks and "<think>" in long.spans[1].text
    assert original.skipped and not original.spans


def test_a_trace_that_is_not_there(workspace: Workspace, run: RunFolder) -> None:
    with pytest.raises(UsageError, match="there is no trace"):
        lay_out_everywhere(workspace, "b2:nothing", run, layouter_of(run))


def test_without_a_run_every_format_is_shown_for_the_shipped_student(workspace: Workspace, run: RunFolder) -> None:
    rows = lay_out_everywhere(workspace, run.ids("select")[0], None, layouter_of(None))
    assert [row.name for row in rows] == FORMATS.names() and not any(row.is_arm for row in rows)


def test_a_pair_is_shown_from_either_side(run: RunFolder, tmp_path: Path) -> None:
    workspace = Workspace(shutil.copytree(doubling(), tmp_path / "copy"))
    store = open_store(workspace)
    right = next(store.traces([run.ids("select")[0]]))
    wrong = replace(right, id="b2:wrong", answer="The answer is 3.", sample_index=1)
    store.add_traces([wrong])
    store.add_facts([Fact(wrong.id, "math", value=0.0, passed=False, reason="3 is wrong")])
    for trace, other, sign in ((right, wrong, 1), (wrong, right, -1)):
        pair = next(row for row in lay_out_everywhere(workspace, trace.id, None, layouter_of(None))
                    if row.name == "preference")
        assert (pair.sign, pair.beside, pair.skipped) == (sign, (other.id,), "") and pair.trained_tokens
    told = render_trace(store, wrong.id, "preference").text
    assert "shown as what not to do" in told and right.id in told


def test_what_is_removed_is_shown_with_the_reason_and_counted_by_cause(workspace: Workspace, run: RunFolder) -> None:
    before = saved_selections(workspace)
    found = removed_traces(workspace, run)
    assert (found.trace_set, found.asked, found.kept) == ("teacher", QUESTIONS, QUESTIONS - 5)
    assert found.by_filter == {"verified": 5} and len(found.rows) == 5
    assert all("score 0" in row.reason and row.question and row.answer for row in found.rows)
    assert len(removed_traces(workspace, run, limit=2).rows) == 2
    assert saved_selections(workspace) == before


def test_removals_of_filters_that_are_only_tried(workspace: Workspace, run: RunFolder) -> None:
    filters = (Member(use="duplicates", options={"per_prompt": "first"}),
               Member(use="where", options={"condition": "completion_tokens > 100000"}))
    found = removed_traces(workspace, run, "teacher", filters)
    assert found.kept == 0 and sum(found.by_filter.values()) == QUESTIONS
    where = [row for row in found.rows if row.by == "where"]
    assert where and all("completion_tokens" in row.reason for row in where)
    only = removed_traces(workspace, run, "teacher", filters, by="duplicates")
    assert {row.by for row in only.rows} <= {"duplicates"} and only.by_filter == found.by_filter


def test_a_set_or_filter_that_there_is_not_is_named_with_those_that_there_are(
    workspace: Workspace, run: RunFolder
) -> None:
    with pytest.raises(UsageError, match=r"no set 'teachr'.*did you mean 'teacher'"):
        removed_traces(workspace, run, "teachr")
    with pytest.raises(UsageError, match=r"no filter 'verifed'.*did you mean 'verified'"):
        removed_traces(workspace, run, by="verifed")
