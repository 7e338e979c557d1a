"""What is said of traces and prompts: a new version counts in place of the old, variants stand side by side, a person
outranks every grader, a recipe sees the members that it names, and facts are columns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from localdistill.core.errors import StoreError, UsageError
from localdistill.core.records import (
    PERSON,
    Continuation,
    Fact,
    Message,
    Reply,
    Request,
    Sampling,
    TokenScores,
    Usage,
)
from localdistill.graders import GRADERS
from localdistill.labels import LABELS
from localdistill.labels.tokens import TokensLabel
from localdistill.safety.journal import JournalWriter
from localdistill.store import Store
from localdistill.store.columns import VIEW_COLUMNS
from localdistill.store.conditions import check_condition
from localdistill.store.json_forms import trace_to_json
from localdistill.store.pages import readers, short_rows, sorted_places
from localdistill.store.replies import reply_key, reply_line, reply_of
from tests.store.test_store import filled, graded, ids, label, prompt_number, trace_number

MATH2, MATH1 = ("math", 2, ""), ("math", 1, "")


def scores(store: Store, *numbers: int, **options: object) -> list[object]:
    """The column `score` of some traces."""
    return [cell for batch in store.batches(["score"], ids=ids(*numbers), **options)  # type: ignore[arg-type]
            for cell in batch.column("score").to_pylist()]


def test_an_old_false_reject_no_longer_vetoes_once_a_new_version_has_judged(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    store.add_facts([graded(i, "math@1", 0.0, "cannot be read") for i in ids(0, 1, 2)])
    assert scores(store, 0, 1) == [0.0, 0.0] and store.verdicts(ids(0, 1)) == dict.fromkeys(ids(0, 1), False)
    store.add_facts([graded(ids(1)[0], "math@2", 1.0, "equal", "2"), graded(ids(1)[0], "exact@2", 1.0, "equal")])
    assert scores(store, 0, 1) == [0.0, 1.0]
    assert store.verdicts(ids(0, 1)) == dict(zip(ids(0, 1), (False, True)))
    assert store.trace_ids("grade_reason = 'equal' AND extracted IN ('2', '')") == ids(1)
    assert [row["trace_id"] for row in store.listing("score = 1 AND math = 1")] == ids(1)
    assert [row.score for row in short_rows(readers(store.path), [1, 2, 3])] == [0.0, 1.0, 0.0]
    assert list(sorted_places(readers(store.path), "score")) == [1, 3, 2]


def test_a_recipe_sees_the_members_that_it_names(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    for number, name, score in ((0, "math@1", 0.0), (0, "math@2", 1.0), (0, "strict@1", 0.0), (1, "strict@1", 0.0)):
        store.add_facts([graded(ids(number)[0], name, score)])
    assert scores(store, 0, 1, 2) == [0.0, 0.0, None]
    assert scores(store, 0, 1, 2, scope=[MATH2]) == [1.0, None, None]
    assert scores(store, 0, 1, 2, scope=[MATH1]) == [0.0, None, None]
    assert scores(store, 0, 1, scope=[]) == [None, None]
    assert store.verdicts(ids(0, 1), [MATH2]) == {ids(0)[0]: True}
    assert store.trace_ids("score = 1", scope=[MATH2]) == store.meeting("score = 1", ids(2, 0, 1), [MATH2]) == ids(0)
    assert store.meeting("strict = 0", ids(2, 1, 0)) == ids(1, 0)
    with pytest.raises(UsageError, match="a column 'strict', which there is not"):
        store.meeting("strict = 0", ids(0), [MATH2])
    with pytest.raises(UsageError, match="no column 'strict'"):
        list(store.batches(["strict"], scope=[MATH2]))


def test_a_judgement_outranks_every_grader(tmp_path: Path) -> None:
    store = filled(tmp_path, 3)
    by, version, variant = PERSON

    def judged(number: int, passed: bool, note: str) -> Fact:
        return Fact(ids(number)[0], by, version, variant, "judgement", float(passed), passed, reason=note)

    store.add_facts([graded(i, "math@2", value) for i, value in zip(ids(0, 1), (0.0, 1.0))])
    store.add_facts([judged(0, True, "it says so in words"), judged(1, False, "a guess"), judged(2, True, "seen")])
    for scope in (None, [MATH2], []):
        assert scores(store, 0, 1, 2, scope=scope) == [1.0, 0.0, 1.0], scope
        assert store.verdicts(ids(0, 1, 2), scope) == dict(zip(ids(0, 1, 2), (True, False, True)))
    assert store.trace_ids("grade_reason = 'a guess'") == store.trace_ids("person = 0", scope=[MATH2]) == ids(1)
    store.add_facts([judged(1, True, "right after all")])
    assert scores(store, 1) == [1.0], "a second look replaces the first"


def test_the_token_counts_of_two_students_stand_side_by_side(tmp_path: Path) -> None:
    store = filled(tmp_path, 2)
    small, large = (Fact(ids(0)[0], "tokens", 1, variant, "label", count, metrics={"answer": count / 2})
                    for variant, count in (("aaaa", 10.0), ("bbbb", 30.0)))
    store.add_facts([small])
    store.add_facts([large])
    assert store.facts(ids(0)) == {ids(0)[0]: [small, large]}
    assert store.said(ids(0, 1), ("tokens", 1, "aaaa")) == {ids(0)[0]} == store.said(ids(0, 1), ("tokens", 1, "bbbb"))
    for fact in (small, large):
        scope = [("tokens", 1, fact.variant)]
        where = f"tokens = {fact.value} AND tokens_answer = {fact.metrics['answer']}"
        assert store.trace_ids(where, scope=scope) == ids(0)
    assert scores(store, 0) == [None], "a label is no verdict"


def test_what_a_rewrite_says_of_its_own_trace_counts_in_every_scope(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    store.add_traces([trace_number(7, prompt_number(0), parent_id=ids(0)[0], rewrite="extract@1")])
    store.add_facts([Fact(ids(7)[0], "extract", kind="rewrite", value=0.0, passed=False, reason="too long")])
    assert scores(store, 0, 7) == scores(store, 0, 7, scope=[MATH2]) == [None, 0.0]


def test_facts_of_a_prompt_are_columns_of_all_its_traces(tmp_path: Path) -> None:
    store = filled(tmp_path, 4)
    store.add_traces([trace_number(9, prompt_number(1))])
    store.add_facts([label(prompt_number(n).id, "steps", float(n)) for n in range(3)])
    store.add_facts([label(prompt_number(1).id, "language", "en"), label(ids(2)[0], "language", "de")])
    assert store.trace_ids("steps = 1") == ids(1, 9) == [r["trace_id"] for r in store.listing("steps = 1")]
    assert store.trace_ids("steps IS NULL") == ids(3)
    assert store.trace_ids("language = 'en' OR language = 'de'") == ids(1, 2, 9)
    assert store.trace_ids("labels['steps'] = '2'") == ids(2)
    [batch] = store.batches(["steps", "language"], where="steps > 1")
    assert batch.to_pylist() == [{"steps": 2.0, "language": "de"}]


def test_an_undecided_verdict_is_none(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    unsure = Fact(ids(0)[0], "judge", reason="the reply was cut off")
    store.add_facts([unsure])
    assert (store.facts(ids(0)), scores(store, 0), store.verdicts(ids(0))) == ({ids(0)[0]: [unsure]}, [None], {})


def test_columns_are_there_before_the_first_fact_is(tmp_path: Path) -> None:
    store, scope = filled(tmp_path, 2), [("tokens", 1, "aaaa")]
    with pytest.raises(UsageError, match=r"a column 'tokens_answer', which there is not") as caught:
        store.trace_ids("tokens_answer > 5")
    assert "grade_reason" in caught.value.hint
    store.expect_facts(TokensLabel, "aaaa")
    assert {"tokens", "tokens_question", "tokens_reasoning", "tokens_answer"} <= set(store.columns(scope))
    assert store.trace_ids("tokens_answer > 5", scope=scope) == [] == store.meeting("tokens_answer > 5", ids(0), scope)
    assert store.trace_ids("tokens IS NULL", scope=scope) == ids(0, 1)
    assert "tokens" not in store.columns([]) and "tokens" in store.columns()


@pytest.mark.whole
def test_a_condition_is_checked_without_a_store() -> None:
    check_condition("tokens_answer < 500 AND language = 'en' AND status = 'complete'",
                    {"tokens_answer": False, "language": True})
    unknown = "a column 'tokens_anwser', which there is not; did you mean 'tokens_answer'"
    with pytest.raises(UsageError, match=unknown) as no:
        check_condition("tokens_anwser < 500", {"tokens_answer": False})
    assert no.value.hint.startswith("columns: ") and "tokens_answer" in no.value.hint
    for wrong in ("score >", "score = 1; DROP TABLE traces", "language + 1 = 'x'"):
        with pytest.raises(UsageError, match="the condition"):
            check_condition(wrong, {"language": True})


def test_a_fact_of_something_unknown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="a fact is of b2:gone, which is not stored"):
        filled(tmp_path, 1).add_facts([label("b2:gone", "tokens", 1.0)])


@pytest.mark.whole
def test_journals_of_today_and_of_older_versions_hold_facts(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "s.duckdb"), tmp_path / "replies.jsonl"
    own = trace_number(2, parent_id=ids(1)[0], rewrite="summarize@1/3f9a01bc")
    writer = JournalWriter(path)
    old = [{"trace_id": ids(1)[0], "grader": "math@2", "score": 1, "reason": "equal", "extracted": "2"}]
    writer.append({"kind": "trace", "trace": trace_to_json(trace_number(1)), "grades": old})
    kept = [{"trace_id": own.id, "grader": "summarize@1", "score": 0.0, "reason": "empty", "extracted": ""}]
    writer.append({"kind": "trace", "trace": trace_to_json(own), "grades": kept})
    later = {**vars(graded(ids(1)[0], "exact@2", 0.0, "differs")), "metrics": {"n": 1}}
    writer.append({"kind": "facts", "facts": [later, {**later, "subject_id": "b2:lost"}]})
    writer.append({"kind": "facts", "facts": [{**later, "value": [1]}]})
    writer.close()
    assert store.catch_up([path]).damaged == 1
    assert store.facts([*ids(1), own.id]) == {
        ids(1)[0]: [replace(graded(ids(1)[0], "exact@2", 0.0, "differs"), metrics={"n": 1.0}),
                    graded(ids(1)[0], "math@2", 1.0, "equal", "2")],
        own.id: [Fact(own.id, "summarize", kind="rewrite", value=0.0, passed=False, reason="empty")]}


@pytest.mark.whole
def test_replies_to_members_are_known_by_what_was_asked(tmp_path: Path) -> None:
    store, path = Store(tmp_path / "s.duckdb"), tmp_path / "replies.jsonl"
    asked = Request("mine", trace_number(1).asked or (), Sampling(max_tokens=5))
    key = reply_key(asked, "replay", "m")
    assert key == reply_key(replace(asked, id="another's"), "replay", "m")
    others = [reply_key(replace(asked, sample_index=1), "replay", "m"), reply_key(asked, "replay", "n"),
              reply_key(replace(asked, thinks=True), "replay", "m")]
    assert len({key, *others}) == 4 and others[0] == (key[0], 1)
    reply = Reply("mine", "complete", "r \ud83d", "a", "raw", "raw", "stop", Usage(1, 2), 0.5, 1.5,
                  scores=TokenScores((1, 2), (-0.5, -1.0), ((1,), (2,)), ((-0.5,), (-1.0,))))
    writer = JournalWriter(path)
    for _ in range(2):
        writer.append(reply_line(key, "replay", "m", reply, "t"))
    writer.append({**reply_line(others[0], "replay", "m", reply, "t"), "reply": {"status": "complete"}})
    writer.close()
    assert store.catch_up([path]).damaged == 1
    assert store.replies([others[1], key, others[0]]) == {key: reply}


@pytest.mark.whole
def test_no_member_is_called_like_a_column_of_every_store() -> None:
    makers = [family.load(name) for family in (GRADERS, LABELS) for name in family.names()]
    names = [name for maker in makers for name in (maker.name, *(f"{maker.name}_{metric}" for metric in maker.metrics))]
    assert len(set(names)) == len(names) and set(names).isdisjoint({*VIEW_COLUMNS, PERSON[0]})


def test_a_reply_that_holds_scores_comes_back_whole(tmp_path: Path) -> None:
    two = TokenScores((5, 6), (-0.25, float("-inf")), ((5, 7), ()), ((-0.25, -2.0), ()))
    reply = Reply("own", "complete", usage=Usage(7, 0), continuations=(two, TokenScores((), (), (), ())))
    ends = (Continuation("a b"), Continuation(token_ids=(5,)))
    request = Request("own", (Message("user", "?"),), continuations=ends)
    key = reply_key(request, "replay", "m")
    assert key != reply_key(replace(request, continuations=request.continuations[:1]), "replay", "m")
    assert reply_of(json.loads(json.dumps(reply_line(key, "replay", "m", reply, "t")))["reply"]) == reply
