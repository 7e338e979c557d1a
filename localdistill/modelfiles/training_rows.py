"""Turns one example into the tokens and weights that a trainer sees, by the same rendering that generation uses, and
refuses every row that could not teach what it should. Must not cut a row, and must not guess a template."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from localdistill.core.errors import TemplateRefused
from localdistill.core.records import Example, Skip, Span, content_id
from localdistill.modelfiles.target_turns import RenderingTemplate, laid_turn
from localdistill.modelfiles.tokenizer import StudentTokenizer

_PLAIN = (1, "", None, 1.0)
"""What most examples say of sign, group, epoch and weight: it is no part of a row's id."""


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
    try:
        laid = laid_turn(example, template)
    except TemplateRefused as refusal:
        return skip(f"the student's chat template refuses it: {refusal.reason}")
    if isinstance(laid, str):
        return skip(laid)
    prompt_ids = tokenizer.encode_prompt(laid.prompt)
    target_ids, target_weights = _target(laid.spans, tokenizer)
    if any(token in tokenizer.stop_token_ids for token in target_ids):
        return skip("the target contains a stop token before its end")
    ends = [1.0] * len(end_ids)
    if laid.calls:
        whole_ids, whole_weights = _target((*laid.spans, Span(laid.ending, 1.0, "call")), tokenizer)
        if end_ids[-1] not in whole_ids:
            return skip("the template ends a turn that calls tools otherwise than one that answers")
        if whole_ids.count(end_ids[-1]) > 1:
            return skip("a call holds a stop token before its end")
        size = whole_ids.index(end_ids[-1])
        target_ids, target_weights, end_ids, ends = whole_ids[:size], whole_weights[:size], end_ids[-1:], [1.0]
        if any(token in tokenizer.stop_token_ids for token in target_ids):
            return skip("a call holds a stop token before its end")
    ids = (*prompt_ids, *target_ids, *end_ids)
    ids = tuple(map(_IDS.setdefault, ids, ids))
    weights = (*[0.0] * len(prompt_ids), *target_weights, *ends)
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


def _target(spans: tuple[Span, ...], tokenizer: StudentTokenizer) -> tuple[list[int], list[float]]:
    filled = [span for span in spans if span.text]
    borders, position = [], 0
    for span in filled:
        borders.append(position)
        position += len(span.text)
    ids, starts = tokenizer.encode_with_starts("".join(span.text for span in filled))
    return ids, [filled[bisect_right(borders, start) - 1].weight for start in starts]
