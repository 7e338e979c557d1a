"""The layouts' own peculiarities."""

from typing import Any

from localdistill.core.records import Trace
from localdistill.interchange import LAYOUTS
from localdistill.interchange.imported import Imported


def read(name: str, row: dict[str, Any], source: str = "file.json") -> Imported:
    result: Imported = LAYOUTS.load(name)().read(row, 1, source)
    return result


def trace_of(name: str, row: dict[str, Any], source: str = "file.json") -> Trace:
    trace = read(name, row, source).trace
    assert trace is not None
    return trace


def chat(content: str, **turn: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": content, **turn}]}


def test_gsm8k_loses_calculator_marks_and_commas_only() -> None:
    prompt = read("gsm8k", {"question": " Q? ", "answer": "2*500=<<2*500=1000>>1,000 < 2\n#### 1,000"}).prompt
    assert (prompt.question, prompt.reference, prompt.original) == (" Q? ", "1000", "2*500=1,000 < 2\n#### 1,000")


def test_mip_traces_take_the_model_from_the_key_or_the_file() -> None:
    row = {"question": "q", "answer": "#### 2", "model_answer": "so\n</think>\n\nIt is 2."}
    trace = trace_of("mip_traces", row, "gsm8k_QwQ.json")
    assert (trace.model, trace.reasoning, trace.answer, trace.trace_kind) == ("QwQ", "so", "It is 2.", "raw")
    row = {"question": "q", "answer": "#### 2", "deepseek-reasoner (question)": "so it"}
    trace = trace_of("mip_traces", row)
    assert (trace.model, trace.reasoning, trace.answer, trace.status) == ("deepseek-reasoner", "so it", "", "truncated")
    row = {"question": "q", "answer": "#### 2", "gpt-4o (question)": "It is 2."}
    trace = trace_of("mip_traces", row)
    assert (trace.model, trace.answer, trace.trace_kind, trace.status) == ("gpt-4o", "It is 2.", "none", "complete")


def test_reasoning_is_found_in_all_its_places_and_never_twice() -> None:
    for row in (
        chat("<think>\nwhy\n</think>\n\n2"),
        chat("2", reasoning_content="why"),
        chat("2", reasoning="why"),
        chat("why</think>2"),
        chat("<think>why</think><answer>2</answer>"),
        chat("x", info={"think_content": "why", "answer_content": "2"}),
    ):
        trace = trace_of("messages", row)
        assert (trace.reasoning, trace.answer, trace.status) == ("why", "2", "complete"), row


def test_tags_in_the_answer_stay_when_reasoning_has_its_own_key() -> None:
    trace = trace_of("messages", chat("`</think>` closes", reasoning_content=""))
    assert (trace.reasoning, trace.answer) == ("", "`</think>` closes")


def test_a_m_team_rows() -> None:
    row = {
        "messages": [
            {"role": "user", "content": "q", "info": {"source": "s", "reference_answer": "2", "test_case": None}},
            {
                "role": "assistant",
                "content": "<think>why</think><answer>2</answer>",
                "info": {"think_content": "\nwhy\n", "answer_content": "2"},
            },
        ]
    }
    item = read("messages", row)
    assert item.prompt.reference == "2" and item.trace is not None
    assert (item.trace.reasoning, item.trace.answer) == ("why", "2")
    row = {
        "system": "be kind",
        "conversations": [
            {"from": "human", "value": "q", "info": {"ground_truth": "2"}},
            {"from": "assistant", "value": "<think>why</think>2", "info": {"think_content": "why", "model_name": "M"}},
        ],
    }
    item = read("sharegpt", row)
    assert [m.role for m in item.prompt.messages] == ["system", "user"] and item.prompt.reference == "2"
    assert item.trace is not None and (item.trace.model, item.trace.reasoning) == ("M", "why")


def test_earlier_turns_belong_to_the_prompt() -> None:
    row = {
        "messages": [
            {"role": role, "content": text}
            for role, text in [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
        ]
    }
    item = read("messages", row)
    assert [m.content for m in item.prompt.messages] == ["a", "b", "c"] and item.trace and item.trace.answer == "d"


def test_text_parts_are_joined() -> None:
    row = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}
    assert read("messages", row).prompt.question == "ab"


def test_identity_is_content() -> None:
    one, two = (trace_of("messages", chat("2", **extra)) for extra in ({}, {"reasoning_content": "w"}))
    assert one.id != two.id and one.engine == "imported"
    assert one.id == trace_of("messages", chat("2")).id != trace_of("messages", chat("2"), "other.json").id


def test_every_known_mark_is_split_on_import() -> None:
    for content in ("<|begin_of_thought|>why<|end_of_thought|>\n<|begin_of_solution|>2<|end_of_solution|>",
                    "<mm:think>why</mm:think>2", "[THINK]why[/THINK]2",
                    "<|thought_start|>why<|thought_end|>2", "<think>why</think><response>2</response>"):
        trace = trace_of("messages", chat(content))
        assert (trace.reasoning, trace.answer, trace.status) == ("why", "2", "complete"), content
        trace = trace_of("alpaca", {"instruction": "q", "output": content})
        assert (trace.reasoning, trace.answer) == ("why", "2"), content


def test_an_empty_field_of_reasoning_does_not_hide_the_marks_in_the_text() -> None:
    for row in (chat("<think>why</think>2", reasoning_content=""), chat("</think>2", reasoning_content="why"),
                chat("<think>why</think>2", reasoning="why")):
        trace = trace_of("messages", row)
        assert (trace.reasoning, trace.answer, trace.status) == ("why", "2", "complete"), row
    assert trace_of("messages", chat("<think>why", reasoning_content="")).status == "truncated"


def test_alpaca_reads_a_column_of_reasoning() -> None:
    trace = trace_of("alpaca", {"instruction": "q", "reasoning": "why", "output": "2"})
    assert (trace.reasoning, trace.answer, trace.trace_kind) == ("why", "2", "raw")


def test_a_row_says_how_its_reply_ended() -> None:
    for reason, status in (("stop", "complete"), ("length", "length"), ("MAX_TOKENS", "length"),
                           ("content_filter", "filtered"), ("abort", "truncated"), ("no_such_reason", "error"),
                           ("", "complete"), (None, "complete")):
        for row in (chat("2", finish_reason=reason), {**chat("2"), "finish_reason": reason},
                    {**chat("2"), "finish_reasons": [reason]}):
            trace = trace_of("messages", row)
            assert (trace.status, trace.finish_reason) == (status, reason or ""), row
    said = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "2"}], "stop_reason": "length"}
    assert trace_of("sharegpt", said).status == "length"
    assert trace_of("alpaca", {"instruction": "q", "output": "2", "finish_reason": "length"}).status == "length"
    assert trace_of("messages", {**chat("2", finish_reason="length"), "status": "complete"}).status == "complete"
