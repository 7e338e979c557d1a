"""Summaries by a model: what is asked, what is kept of the reply, and every reason to reject one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import pytest

from localdistill.core.means import Ask, Means
from localdistill.core.records import Fact, Message, Prompt, Reply, Request, Status, Trace, Usage
from localdistill.rewrites.summarize import SUMMARY_PROMPT, SummarizeRewrite

PROMPT = Prompt((Message("user", "Tom has 1,200 {apples} and sells 5. How many are left?"),), reference="1195")
TRACE = Trace("t1", PROMPT.id, "teacher", "m", reasoning="Okay, so Tom has 1200 apples. Wait, he sells 5. " * 4,
              answer="He keeps \\boxed{1,195} apples.", trace_kind="raw", source="s")
GOOD = "Tom has 1200 apples and sells 5: 1200 - 5 = 1195."


def answering(text: str, status: Status = "complete", seen: list[str] | None = None) -> Ask:
    """An engine that always says `text`."""
    def ask(requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            if seen is not None:
                seen.append(request.messages[0].content)
            yield Reply(request.id, status, reasoning="I should shorten it: 999", answer=text, raw=f"raw {text}",
                        usage=Usage(5, 7), cost_usd=0.5)
    return ask


def run(ask: Ask, *traces: Trace) -> list[tuple[Trace, Fact]]:
    rewrite = SummarizeRewrite(SummarizeRewrite.Options())
    return list(rewrite.rewrite([(PROMPT, trace) for trace in traces or (TRACE,)], Means({"summarizer": ask})))


def test_the_request_is_the_shipped_prompt() -> None:
    seen: list[str] = []
    run(answering(GOOD, seen=seen))
    assert seen == [SUMMARY_PROMPT.replace("{question}", PROMPT.question).replace("{reasoning}",
                                                                                  TRACE.reasoning.strip())]
    assert seen[0].startswith("Summarize the reasoning below as the few steps that lead to its result. Keep every "
                              "number that is used, drop checks and repetitions.\n\nQuestion:\nTom has 1,200 {apples}")


def test_a_good_summary_is_kept_with_its_parent() -> None:
    [(trace, fact)] = run(answering(f" {GOOD}\n"))
    assert fact == Fact(trace.id, "summarize", 1, kind="rewrite", value=1.0, passed=True, reason="kept")
    assert (trace.reasoning, trace.answer, trace.trace_kind) == (GOOD, TRACE.answer, "summary")
    assert (trace.parent_id, trace.rewrite, trace.prompt_id) == ("t1", "summarize@1", PROMPT.id)
    assert trace.id.startswith("b2:") and trace.id != TRACE.id
    asked = dataclasses.replace(TRACE, asked=(Message("user", "?"),), thinks=True)
    assert run(answering(GOOD), asked) == run(answering(GOOD)), "what the parent was asked is the parent's"
    assert (trace.cost_usd, trace.raw) == (0.5, f"raw  {GOOD}\n")
    assert run(answering(GOOD))[0][0].id == trace.id


@pytest.mark.parametrize(("text", "reason"), [
    ("", "the summary is empty"),
    (GOOD * 20, "the summary is not shorter than the reasoning"),
    ("Wait, 1200 - 5 = 1195.", "the summary still talks to itself"),
    ("1200 - 5 = 1195. Let me check that.", "the summary still talks to itself"),
    ("1200 - 5 is left.", "the answer's number is not in the summary"),
    ("1200 - 5 = 11950.", "the answer's number is not in the summary"),
])
def test_rejected_summaries_stay_with_their_reason(text: str, reason: str) -> None:
    [(trace, fact)] = run(answering(text))
    assert (fact.value, fact.reason) == (0.0, reason) and trace.parent_id == "t1"


def test_an_unfinished_reply_is_rejected() -> None:
    [(trace, fact)] = run(answering(GOOD, status="length"))
    assert (fact.value, fact.reason) == (0.0, "the summarizer's reply is length") and trace.status == "length"


def test_other_people_may_wait_in_a_story() -> None:
    [(_, fact)] = run(answering("Five people wait in line and 1195 do not; I is a letter."))
    assert fact.value == 1.0


def test_an_answer_without_a_number_needs_none() -> None:
    [(_, fact)] = run(answering("Blue and yellow make green."), dataclasses.replace(TRACE, answer="Green."))
    assert fact.value == 1.0


def test_no_reasoning_is_rejected_without_asking() -> None:
    seen: list[str] = []
    [(_, fact)] = run(answering(GOOD, seen=seen), dataclasses.replace(TRACE, reasoning=" "))
    assert fact.reason == "there is no reasoning to summarize" and not seen


def test_replies_may_come_in_any_order_and_some_not_at_all() -> None:
    def ask(requests: Iterable[Request]) -> Iterator[Reply]:
        for request in reversed(list(requests)):
            if request.id != "t2":
                yield Reply(request.id, "complete", answer=GOOD)
    found = run(ask, *(dataclasses.replace(TRACE, id=f"t{number}") for number in (1, 2, 3)))
    assert [trace.parent_id for trace, _ in found] == ["t3", "t1"]
