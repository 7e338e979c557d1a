"""Rows of conversations with tools: their text is what the template renders, calls of the turn to learn are trained,
and nothing that a tool said or that defines one ever is."""

from __future__ import annotations

from pathlib import Path

import pytest

from localdistill.core.messages import Message
from localdistill.core.records import Candidate, Example, Prompt, Skip, Trace
from localdistill.core.samples import answers
from localdistill.formats import FORMATS
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.modelfiles.training_rows import TokenizedRow, tokenize_example
from localdistill.templates import ChatTemplate
from localdistill.templates.tool_calls import tool_call
from tests.tiny_models import PLAIN_TEMPLATE, tiny_model

pytest.importorskip("torch")
ADD = {"type": "function", "function": {"name": "add", "description": "adds apples", "parameters": {"type": "object"}}}
CALLS = (tool_call("add", {"a": 12, "b": 5}), tool_call("add", {"a": 3, "b": 4}))
ASKED = Message("user", "how many apples are left?", tools=(ADD,))
USED = (ASKED, Message("assistant", "", "First subtract.", CALLS[:1]), Message("tool", "the result is 7"))

CALLING = """{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif -%}
{%- for m in messages -%}
<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>
{{ m.reasoning_content }}
</think>

{% endif %}{{ m.content }}
{%- for call in m.tool_calls or [] %}{% if m.content or not loop.first %}{{ '\n' }}{% endif -%}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}"""
CLOSED = CALLING + "{% if add_generation_prompt and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
OPENING = CALLING + "{% if add_generation_prompt %}<think>\n{% endif %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "m", hidden=32)


def row_of(folder: Path, template: str, form: str, prompt: Prompt, trace: Trace) -> TokenizedRow | Skip:
    member = FORMATS.load(form)
    [example] = member(member.Options()).lay_out(prompt, [Candidate(trace)], len)
    assert isinstance(example, Example), example
    return tokenize_example(example, ChatTemplate(template, isolated=False), StudentTokenizer(folder), 4096)


def trained(folder: Path, row: TokenizedRow) -> str:
    return StudentTokenizer(folder).decode([t for t, w in zip(row.input_ids, row.weights, strict=True) if w])


@pytest.mark.parametrize("answer", ["", "The answer is 7."])
@pytest.mark.parametrize("form", ["answer_only", "full_trace", "reasoning_then_answer"])
@pytest.mark.parametrize("messages", [(ASKED,), USED])
@pytest.mark.parametrize("count", [1, 2])
def test_a_row_that_calls_is_the_text_that_the_template_renders(folder: Path, answer: str, form: str,
                                                                messages: tuple[Message, ...], count: int) -> None:
    prompt, calls = Prompt(messages), CALLS[:count]
    trace = answers(prompt, answer, "Think step by step.")
    trace = Trace(**{**vars(trace), "tool_calls": calls})
    row = row_of(folder, CALLING, form, prompt, trace)
    assert isinstance(row, TokenizedRow), row
    template, tokenizer = ChatTemplate(CALLING, isolated=False), StudentTokenizer(folder)
    said = answer if form == "answer_only" else "\n\n".join(filter(None, ("Think step by step.", answer)))
    turn = Message("assistant", answer, "Think step by step.", calls) if form == "full_trace" else Message(
        "assistant", answer if form == "answer_only" else said, tool_calls=calls)
    whole = template.render((*messages, turn), thinks=form == "full_trace")
    assert tokenizer.decode(row.input_ids) + "\n" == whole
    assert list(row.input_ids) == tokenizer.encode(whole.removesuffix("\n"))
    assert tokenizer.decode(row.input_ids[:row.prompt_tokens]) == template.prompt(messages, form == "full_trace")
    learned = trained(folder, row)
    assert whole.removesuffix("\n").endswith(learned) and learned.endswith("}}\n</tool_call><|im_end|>")
    assert learned.count("<tool_call>") == count and "result" not in learned and "adds apples" not in learned


def test_what_tools_answer_and_what_defines_them_is_read_and_never_trained(folder: Path) -> None:
    prompt = Prompt(USED)
    row = row_of(folder, CALLING, "answer_only", prompt, answers(prompt, "The answer is 7."))
    assert isinstance(row, TokenizedRow) and trained(folder, row) == "The answer is 7.<|im_end|>"
    text = StudentTokenizer(folder).decode(row.input_ids)
    assert '"description": "adds apples"' in text and "the result is 7" in text and "First subtract." in text


def test_a_block_that_the_template_opens_is_closed_before_a_call(folder: Path) -> None:
    prompt = Prompt((ASKED,))
    trace = Trace(**{**vars(answers(prompt, "", "Think step by step.")), "tool_calls": CALLS[:1]})
    thinking = row_of(folder, OPENING, "full_trace", prompt, trace)
    assert isinstance(thinking, TokenizedRow)
    assert trained(folder, thinking).startswith("Think step by step.\n</think>\n\n<tool_call>")
    silent = row_of(folder, OPENING, "answer_only", prompt, trace)
    assert isinstance(silent, TokenizedRow)
    assert trained(folder, silent).startswith("\n</think>\n\n<tool_call>")
    closed = row_of(folder, CLOSED, "answer_only", prompt, trace)
    assert isinstance(closed, TokenizedRow) and trained(folder, closed).startswith("<tool_call>")
    assert "<think>\n\n</think>\n\n<tool_call>" in StudentTokenizer(folder).decode(closed.input_ids)


@pytest.mark.parametrize(("template", "why"), [
    (PLAIN_TEMPLATE, "leaves out which tools there are"),
    (CALLING.replace("{{ m.content }}", "{% if not m.tool_calls %}{{ m.content }}{% endif %}"),
     "leaves out what is said beside a call"),
    (CALLING.replace("</tool_call>", "</tool_call><|im_end|>"), "stop token before its end"),
    (CALLING.replace("{% endfor %}<|im_end|>\n{% endfor -%}", "{% endfor %}{% if m.tool_calls %}<|endoftext|>"
                     "{% else %}<|im_end|>{% endif %}\n{% endfor -%}"),
     "ends a turn that calls tools otherwise"),
])
def test_a_template_that_cannot_hold_a_call_makes_no_row(folder: Path, template: str, why: str) -> None:
    prompt = Prompt((ASKED,))
    trace = Trace(**{**vars(answers(prompt, "The answer is 7.")), "tool_calls": CALLS[:1]})
    row = row_of(folder, template, "answer_only", prompt, trace)
    assert isinstance(row, Skip) and why in row.reason, row
