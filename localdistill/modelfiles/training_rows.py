"""Turns one example into the tokens and weights that a trainer sees, by the same rendering that generation uses, and
refuses every row that could not teach what it should. Must not cut a row, and must not guess a template."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Protocol

from localdistill.core.errors import TemplateRefused
from localdistill.core.records import Example, Message, Skip, Span, content_id
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.templates.marks import PROMPT_ENDS, opened_by
from localdistill.templates.thinking import THOUGHT_BEGIN, THOUGHT_END, opens_thinking_tag

_PLAIN = (1, "", None, 1.0)
"""What most examples say of sign, group, epoch and weight: it is no part of a row's id."""


class RenderingTemplate(Protocol):
    """What is needed of a chat template."""

    def prompt(self, messages: tuple[Message, ...], thinks: bool | None) -> str:
        """The text before the assistant's turn."""

    def turn_end(self) -> str:
        """What the template writes after an assistant's turn."""

    @property
    def thought_marks(self) -> tuple[str, str]:
        """What the template writes before and behind reasoning."""


_IDS: dict[int, int] = {}
"""Every token id that a row holds, as one object for all of them: a library makes a new one for every token, and those
of a million rows take gigabytes."""


@dataclass(frozen=True, slots=True)
class TokenizedRow:
    """One tokenized example, with what the example says of itself. `weights[i]` counts token i as a target; 0 = not
    trained."""

    row_id: str
    prompt_id: str
    trace_id: str
    input_ids: tuple[int, ...]
    weights: tuple[float, ...]
    prompt_tokens: int
    trained_tokens: int
    sign: int = 1
    group: str = ""
    epoch: int | None = None
    row_weight: float = 1.0


def tokenize_example(example: Example, template: RenderingTemplate, tokenizer: StudentTokenizer,
                     max_tokens: int) -> TokenizedRow | Skip:
    """The row of `example`, or why there is none.

    The prompt is encoded by itself, as generation does; a target token takes the weight of the span that it starts
    in; the turn's end is trained up to its stop token, which is the last token of the row. A row longer than
    `max_tokens` is skipped, never cut. Raises ModelFileError when the template is of no use for any row.
    """
    def skip(reason: str) -> Skip:
        return Skip(example.prompt_id, example.trace_id, reason)

    if not example.turns or example.turns[-1].role != "assistant":
        return skip("the last turn is not the assistant's")
    if not all(_is_unicode(turn.text) for turn in example.turns):
        return skip("the text holds half a surrogate pair, which is no character")
    end_ids = tokenizer.turn_ending(template.turn_end())
    if not end_ids:
        return skip("the template ends a turn without a stop token")
    context = tuple(Message(turn.role, turn.text) for turn in example.turns[:-1])
    try:
        prompt = template.prompt(context, example.thinks)
    except TemplateRefused as refusal:
        return skip(f"the student's chat template refuses it: {refusal.reason}")
    spans: tuple[Span, ...] | None = _in_own_marks(example.turns[-1].spans, template.thought_marks)
    if opens_thinking_tag(prompt):
        spans = _after_opening(spans or (), prompt, template.thought_marks)
        if spans is None:
            return skip("the template opens a thinking block that nobody knows how to close")
    assert spans is not None
    prompt_ids = tokenizer.encode_prompt(prompt)
    target_ids, target_weights = _target(spans, tokenizer)
    if any(token in tokenizer.stop_token_ids for token in target_ids):
        return skip("the target contains a stop token before its end")
    ids = (*prompt_ids, *target_ids, *end_ids)
    ids = tuple(map(_IDS.setdefault, ids, ids))
    weights = (*[0.0] * len(prompt_ids), *target_weights, *[1.0] * len(end_ids))
    trained = sum(weight > 0 for weight in weights)
    if not prompt_ids:
        return skip("the prompt is empty")
    if not any(weight > 0 for weight in target_weights):
        return skip("no token of the target is trained")
    if len(ids) > max_tokens:
        return skip(f"longer than {max_tokens} tokens")
    said = (example.sign, example.group, example.epoch, example.weight)
    more = () if said == _PLAIN else (said,)
    row_id = content_id("row", example.prompt_id, example.trace_id, ids, weights, *more)
    return TokenizedRow(row_id, example.prompt_id, example.trace_id, ids, weights, len(prompt_ids), trained, *said)


def _is_unicode(text: str) -> bool:
    """Tokenizers take nothing else; JSON of some servers holds halves of a cut emoji."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_own_marks(spans: tuple[Span, ...], marks: tuple[str, str]) -> tuple[Span, ...]:
    """`spans` with the marks of reasoning that the student's template writes, where formats wrote ours."""
    own = dict(zip((THOUGHT_BEGIN, THOUGHT_END), marks, strict=True))
    return tuple(replace(span, text=own.get(span.text, span.text)) if span.part == "tag" else span for span in spans)


def _after_opening(spans: tuple[Span, ...], prompt: str, marks: tuple[str, str]) -> tuple[Span, ...] | None:
    """`spans` behind a prompt that ends with an opened block of reasoning: without the tag that opens it, and without
    the blanks behind that, which are the prompt's to set. Where the example does not think, it closes the block first.
    None when it is not known what closes it."""
    text = "".join(span.text for span in spans)
    tag = next((tag for tag in PROMPT_ENDS if prompt.rstrip().endswith(tag)), "")
    if not tag or not text.startswith(tag):
        mark = opened_by(tag)
        if mark is None:
            return None
        closing = marks[1] if marks[1].strip() == mark.closing else f"\n{mark.closing}\n\n"
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


def _target(spans: tuple[Span, ...], tokenizer: StudentTokenizer) -> tuple[list[int], list[float]]:
    filled = [span for span in spans if span.text]
    borders, position = [], 0
    for span in filled:
        borders.append(position)
        position += len(span.text)
    ids, starts = tokenizer.encode_with_starts("".join(span.text for span in filled))
    return ids, [filled[bisect_right(borders, start) - 1].weight for start in starts]
