"""The text of one training row: the prompt as generation renders it, and behind it the turn to learn in the marks and
calls of the student's own template. Knows no tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from localdistill.core.messages import Message, ToolCall
from localdistill.core.records import Example, Span
from localdistill.templates.chat import CalledTurn
from localdistill.templates.marks import PROMPT_ENDS, opened_by
from localdistill.templates.thinking import THOUGHT_BEGIN, THOUGHT_END, opens_thinking_tag


class RenderingTemplate(Protocol):
    """What is needed of a chat template."""

    def prompt(self, messages: tuple[Message, ...], thinks: bool | None) -> str:
        """The text before the assistant's turn."""

    def turn_end(self) -> str:
        """What the template writes after an assistant's turn."""

    @property
    def thought_marks(self) -> tuple[str, str]:
        """What the template writes before and behind reasoning."""

    def answer_lead(self, messages: Sequence[Message], thinks: bool) -> str:
        """What the template writes between the prompt and an answer without reasoning."""

    def called_turn(self, messages: Sequence[Message], calls: Sequence[ToolCall], thinks: bool, has_thought: bool,
                    has_text: bool) -> CalledTurn:
        """What the template writes round the parts of a turn that calls tools."""


@dataclass(frozen=True)
class LaidTurn:
    """A row as text."""

    prompt: str
    """Not trained."""
    spans: tuple[Span, ...]
    """What stands behind it, but for calls and the turn's end."""
    ending: str
    """What the template writes behind the spans: the calls where there are any, and what ends the turn."""
    calls: bool = False


def laid_turn(example: Example, template: RenderingTemplate) -> LaidTurn | str:
    """The text of `example` for the student whose template this is, or why there is none. Raises TemplateRefused for
    turns that the template does not take, ModelFileError when it is of no use for any row."""
    context, last = tuple(turn.message for turn in example.turns[:-1]), example.turns[-1]
    prompt = template.prompt(context, example.thinks)
    spans = tuple(span for span in last.spans if span.part != "call")
    has_thought = any(span.part == "tag" for span in spans)
    marks, lead, ending = template.thought_marks, "", template.turn_end()
    if calls := last.message.tool_calls:
        has_text = any(span.text for span in spans if not has_thought or span.part == "answer")
        called = template.called_turn(context, calls, example.thinks, has_thought, has_text)
        ending = called.behind
        if has_thought and called.between is not None:
            return LaidTurn(prompt, _in_own_marks(spans, (called.before, called.between)), ending, True)
        lead = "" if has_thought else called.before
    elif not has_thought:
        lead = template.answer_lead(context, example.thinks)
    if lead:
        return LaidTurn(prompt, (Span(lead, 1.0, "tag"), *spans), ending, bool(calls))
    spans = _in_own_marks(spans, marks)
    if opens_thinking_tag(prompt):
        after = _after_opening(spans, prompt, marks)
        if after is None:
            return "the template opens a thinking block that nobody knows how to close"
        spans = after
    return LaidTurn(prompt, spans, ending, bool(calls))


def _in_own_marks(spans: tuple[Span, ...], marks: tuple[str, str]) -> tuple[Span, ...]:
    """`spans` with the marks of reasoning that the student's template writes, where formats wrote ours."""
    own = dict(zip((THOUGHT_BEGIN, THOUGHT_END), marks, strict=True))
    return tuple(replace(span, text=own.get(span.text, span.text)) if span.part == "tag" else span for span in spans)


def _after_opening(spans: tuple[Span, ...], prompt: str, marks: tuple[str, str]) -> tuple[Span, ...] | None:
    """`spans` behind a prompt that ends with an opened block of reasoning: without the tag that opens it, and without
    the blanks behind that, which are the prompt's to set. Where the example does not think, it closes the block first;
    where the template writes no reasoning itself, the block that it opened is the one that is closed. None when it is
    not known what closes it."""
    text = "".join(span.text for span in spans)
    tag = next((tag for tag in PROMPT_ENDS if prompt.rstrip().endswith(tag)), "")
    if not tag or not text.startswith(tag):
        mark = opened_by(tag)
        is_own = marks[0].rstrip().endswith(tag)
        if mark is None and not is_own:
            return None
        closing = marks[1] if mark is None or is_own else f"\n{mark.closing}\n\n"
        if spans and spans[0].part == "tag":
            return tuple(Span(closing, span.weight, "tag") if span.part == "tag" else span for span in spans[1:])
        return (Span(closing, 1.0, "tag"), *spans)
    after, blanks = prompt.rpartition(tag)[2], len(text) - len(tag) - len(text[len(tag):].lstrip())
    left = len(tag) + (min(blanks, len(after)) if after else 0)
    kept: list[Span] = []
    for span in spans:
        cut = min(left, len(span.text))
        left -= cut
        if span.text[cut:]:
            kept.append(Span(span.text[cut:], span.weight, span.part, span.step))
    return tuple(kept)
