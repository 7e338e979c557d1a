"""What labels measure beyond their samples."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest

from localdistill.core.means import PART, Means
from localdistill.core.records import Fact, Prompt, Reply, Request, Trace
from localdistill.core.samples import answers, asks
from localdistill.labels import LABELS


def labelled(name: str, pairs: Iterable[tuple[Prompt, Trace]], means: Means | None = None,
             **options: Any) -> list[Fact]:
    label = LABELS.load(name)
    return list(label(label.Options(**options)).facts(pairs, means or Means()))


def each(*prompts: Prompt) -> list[tuple[Prompt, Trace]]:
    return [(prompt, answers(prompt, "2", id=f"t{number}")) for number, prompt in enumerate(prompts)]


def test_of_near_questions_the_first_is_none_and_the_others_name_it() -> None:
    first = asks("A red hen lays three eggs each day on the old farm near the river. How many in a week?")
    other = asks("A red hen lays three eggs each day on the old farm near the river. How many in a year?")
    third = asks("Who wrote the book about plums?")
    facts = labelled("near_duplicates", [*each(first, other, third), *each(first)], threshold=0.7)
    assert [fact.value == 0 for fact in facts] == [True, False, True]
    assert facts[1].reason == f"near {first.id}" and 0.7 <= float(facts[1].value or 0) < 1
    assert len(facts) == 3, "one fact of each prompt"


def test_pass_rates_are_of_all_teachers_and_of_the_weakest_and_strongest() -> None:
    prompt = asks("1 + 1?", "2")
    traces = [replace(answers(prompt, "2", id=f"t{n}"), model=model) for n, model in enumerate("aaabb")]
    passed = dict(zip((trace.id for trace in traces), (True, True, False, False, None)))
    [fact] = labelled("pass_rate", [(prompt, trace) for trace in traces], Means(passed=passed.get))
    assert fact.value == 0.5 and fact.metrics == {
        "judged": 4, "variation": 1.0, "weakest": 0.0, "strongest": pytest.approx(2 / 3)}


def test_rewritten_answers_say_nothing_of_a_prompt() -> None:
    prompt = asks("1 + 1?", "2")
    child = replace(answers(prompt, "2", id="c"), parent_id="t")
    [fact] = labelled("pass_rate", [(prompt, child)], Means(passed={"c": True}.get))
    assert fact.value is None and fact.metrics == {"judged": 0}


def gates(verdicts: Sequence[str], seen: list[Request]) -> Means:
    """A judge that answers by the question's own word for each gate."""
    def ask(requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            seen.append(request)
            text = request.messages[0].content
            wrong = "egg" in text and "contradict" in text
            yield Reply(request.id, "complete", answer=f"Let me see.\n{verdicts[wrong]}")

    return Means({"judge": ask})


def test_questions_go_through_the_gates_together_and_stop_at_the_first_that_they_fail() -> None:
    prompts = [asks(f"How many {word} are 2 + {n}?", "4") for n, word in enumerate(("jars", "eggs", "lids"))]
    seen: list[Request] = []
    facts = {fact.subject_id: fact for fact in labelled("question_validity", each(*prompts, prompts[0]),
                                                        gates(("YES", "NO"), seen))}
    assert [facts[prompt.id].value for prompt in prompts] == [1.0, 0.0, 1.0]
    failed = facts[prompts[1].id]
    assert failed.reason.startswith("fails 'consistent'") and "complete" not in failed.metrics
    assert len(seen) == 3 * 4 + 2
    assert {request.id.partition(PART)[0] for request in seen} == {prompt.id for prompt in prompts}, "forgetting asks"


def test_votes_decide_a_gate_and_one_that_says_neither_counts_only_where_it_could_turn_it() -> None:
    prompt, votes = asks("How many are 2 + 2?", "4"), cycle(["yes", "no", "dunno"])

    def ask(requests: Iterable[Request]) -> Iterator[Reply]:
        return (Reply(request.id, "complete", answer=next(votes)) for request in requests)

    [one] = labelled("question_validity", each(prompt), Means({"judge": ask}), votes=3, least_votes=1)
    assert one.value == 1.0 and one.metrics["form"] == pytest.approx(1 / 3)
    [two] = labelled("question_validity", each(prompt), Means({"judge": ask}), votes=3, least_votes=2)
    assert two.value is None and "neither yes nor no" in two.reason


@pytest.mark.parametrize("text", [
    "So $x = 123456789012$ and 1,234,567,890 / 3 = 411,522,630.", "pi is 3.14159265358979 and e is 2.718281828",
    "call f(123) - 456 - 7890", "2024-11-30 12:34:56", "10.1000/182", "192.168.100.200", "me@example.com", "a@b",
    "see user@localhost and (555) 555-0123", "x^123-456-7890",
])
def test_mathematics_dates_and_examples_are_no_secrets(text: str) -> None:
    prompt = asks("?")
    [fact] = labelled("secrets", [(prompt, answers(prompt, text))])
    assert fact.value == 0, fact.metrics


@pytest.mark.parametrize(("text", "kind"), [
    ("write to eve.plum+jar@mail.plums.co.uk!", "mails"), ("call (212) 664-7665 now", "phones"),
    ("call +44 20 7946 0958", "phones"), ("212-664-7665", "phones"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "keys"), ("AKIA" + "IOSFODNN7ABCDEFG", "keys"),
])
def test_secrets_are_counted_and_never_repeated(text: str, kind: str) -> None:
    prompt = asks(text)
    [fact] = labelled("secrets", [(prompt, answers(prompt, "2"))])
    assert fact.value == 1 and fact.metrics[kind] == 1 and not fact.reason and not fact.extracted


@pytest.mark.parametrize("name", ["language", "repetition", "secrets", "style", "prompt_kind", "near_duplicates"])
@pytest.mark.parametrize("text", ["\x00\ud800 \u202e", "a" * 60_000, "a@" * 20_000, "1-" * 20_000, "等" * 20_000,
                                  "wait " * 10_000, "(" * 20_000, "$" * 20_001, "```" + "x" * 20_000])
def test_long_and_odd_text_is_measured(name: str, text: str) -> None:
    prompt = asks(text)
    [fact] = labelled(name, [(prompt, answers(prompt, text, text))])
    assert fact.by == name
