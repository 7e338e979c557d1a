"""The grader `tool_calls`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localdistill.core.means import Means
from localdistill.core.records import Fact, Message, Prompt, Trace
from localdistill.graders.tool_calls import ToolCallsGrader

WANTED: list[Any] = [{"name": "weather.get", "arguments": {"city": ["Bern", "Bern, CH"], "days": [3, ""]}}]


def said(wanted: Any, answer: str = "", calls: list[tuple[str, Any]] | None = None, tools: Any = None,
         **options: Any) -> Fact:
    prompt = Prompt((Message("user", "?"),), metadata={"calls": wanted, **({"tools": tools} if tools else {})})
    made = tuple({"id": "", "type": "function", "function": {
        "name": name, "arguments": said if isinstance(said, str) else json.dumps(said)}} for name, said in calls or ())
    trace = Trace("t", prompt.id, "e", "m", "", answer, tool_calls=made)
    [fact] = ToolCallsGrader(ToolCallsGrader.Options(**options)).facts([(prompt, trace)], Means())
    return fact


@pytest.mark.parametrize(("arguments", "why"), [
    ({"city": "Bern"}, ""),
    ({"city": "bern - ch", "days": 3}, ""),
    ({"city": "Basel"}, "'city' is \"Basel\""),
    ({"days": 3}, "'city' is missing"),
    ({"city": "Bern", "days": 4}, "'days' is 4"),
    ({"city": "Bern", "days": "3"}, "'days' is"),
    ({"city": "Bern", "days": 3.0}, "'days' is"),
    ({"city": "Bern", "days": True}, "'days' is"),
    ({"city": "Bern", "days": None}, "'days' is"),
    ({"city": "Bern", "unit": "C"}, "'unit' is no argument"),
    ({"city": ["Bern"]}, "'city' is"),
])
def test_every_argument_must_be_an_allowed_value(arguments: dict[str, Any], why: str) -> None:
    fact = said(WANTED, calls=[("weather_get", arguments)])
    assert fact.passed is (why == "") and why in fact.reason


def test_values_of_every_kind_are_compared_by_their_kind() -> None:
    def passes(allowed: Any, value: Any, kind: str = "integer") -> bool:
        tools = [{"name": "f", "parameters": {"properties": {"x": {"type": kind}}}}]
        return said([{"f": {"x": [allowed]}}], calls=[("f", {"x": value})], tools=tools).passed is True

    assert passes(5.0, 5) and passes(5, 5.0, "float") and not passes(5, 5.0)
    assert passes([1, 2], [1, 2]) and not passes([1, 2], [2, 1]) and not passes([1], [1, 1])
    assert passes({"name": ["John"], "age": [3, ""]}, {"name": "john"})
    assert not passes({"name": ["John"]}, {"name": "John", "age": 3})
    assert passes([{"field": ["age"]}], [{"field": "age"}])
    for arguments, is_right in (({}, True), ({"x": []}, True), ({"x": 1}, False)):
        assert said([{"f": {"x": []}}], calls=[("f", arguments)]).passed is is_right
    assert passes(None, None) and not passes(None, "") and passes(True, True) and not passes(1, True)


def test_several_calls_may_come_in_any_order_and_each_counts_once() -> None:
    wanted = [{"play": {"artist": ["A"], "minutes": [20, 15]}}, {"play": {"artist": ["A", "B"], "minutes": [15]}}]
    one, two = ("play", {"artist": "A", "minutes": 15}), ("play", {"artist": "A", "minutes": 20})
    assert said(wanted, calls=[one, two]).passed and said(wanted, calls=[two, one]).passed
    half = said(wanted, calls=[one])
    assert not half.passed and half.metrics["right"] == 0.5
    assert not said(wanted, calls=[two, two]).passed
    more = said(wanted, calls=[one, two, one])
    assert not more.passed and "3 calls where 2 were wanted" in more.reason


def test_where_nothing_may_be_called_a_call_is_wrong_and_words_are_right() -> None:
    assert said([], "I cannot look that up.").passed
    fact = said([], calls=[("weather", {})])
    assert fact.passed is False and "1 calls where none was wanted" in fact.reason


def test_calls_that_are_only_written_count_unless_they_must_not() -> None:
    answer = '<tool_call>\n{"name": "weather.get", "arguments": {"city": "Bern"}}\n</tool_call>'
    assert said(WANTED, answer).passed
    assert not said(WANTED, answer, reads_text=False).passed


def test_the_trace_s_own_calls_come_before_what_is_written() -> None:
    assert not said(WANTED, 'weather.get(city="Bern")', calls=[("weather.get", {"city": "Rome"})]).passed


@pytest.mark.parametrize("arguments", ["{", "[1]", "null and void", '"text"'])
def test_arguments_that_are_no_object_are_wrong(arguments: str) -> None:
    fact = said(WANTED, calls=[("weather.get", arguments)])
    assert fact.passed is False and "no JSON object" in fact.reason


@pytest.mark.parametrize("wanted", [["weather"], [{"a": 1, "b": 2}], [{"name": "f", "arguments": [1]}]])
def test_a_prompt_whose_calls_cannot_be_read_decides_nothing(wanted: Any) -> None:
    fact = said(wanted, "x")
    assert fact.passed is None and "cannot be judged" in fact.reason
