"""Where reasoning ends and the answer begins, in the marks of all the models we know; and the one way we write it.

Pure text functions. Answer extraction, training targets and evaluation all go through here.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

from localdistill.templates.marks import (
    HARMONY_STARTS,
    HARMONY_THOUGHT,
    MARKS,
    OURS,
    PROMPT_ENDS,
    Hit,
    Mark,
    bare,
    begins_with_mark,
    call_start,
    hit_at,
    hits,
    opened_by,
    unwrapped,
    without_empty_blocks,
    without_turn_ends,
)

_FENCE = re.compile(r"^[ \t]{0,3}(`{3,}|~{3,})", re.MULTILINE)
_INLINE_CODE = re.compile(r"(?<!`)(`{1,2})(?!`)[^\n]*?(?<!`)\1(?!`)")
_CHANNEL = re.compile(
    r"(?:<\|start\|>assistant([^<\n]{0,200}))?<\|channel\|>\s*(\w+)((?:(?!<\|channel\|>)[^\n]){0,200}?)<\|message\|>(.*?)"
    r"(?:<\|end\|>|<\|return\|>|<\|call\|>|(?=<\|start\|>|<\|channel\|>)|\Z)",
    re.DOTALL,
)
_BARE_CHANNELS = re.compile(r"(?:assistant\n*)?(?:analysis|commentary)(?=[A-Z]|.*assistant\n*final)", re.DOTALL)
_BARE_CHANNEL = re.compile(r"(?:\A|assistant\n*)(analysis|commentary|final)(?=\W|[A-Z0-9])")
THOUGHT_BEGIN, THOUGHT_END = f"{OURS.opening}\n", f"\n{OURS.closing}\n\n"
"""What stands before and behind reasoning where we write it."""

_QUOTES = "\"'“”‘’«»`"


@dataclass(frozen=True, slots=True)
class Split:
    """A reply taken apart, outer whitespace removed."""

    reasoning: str
    answer: str
    found: bool
    """There was reasoning, marked by a tag in the text or in the prompt."""
    closed: bool
    """The reasoning ended: a closing tag was there. False also when there was no reasoning at all."""


def split_thinking(text: str, opened: bool = False) -> Split:
    """Reasoning and answer of a reply.

    `opened`: the prompt already held the opening mark. Without any opening mark, a closing mark outside of code still
    ends reasoning, as some models never write the opening one. The first closing mark that is neither in code nor
    only spoken of splits; further blocks that follow at once are reasoning too, later ones belong to the answer.
    Reasoning that never closes leaves no answer.
    """
    body = without_turn_ends(bare(text))
    channels = _split_channels(body, opened)
    if channels is not None:
        return channels
    found = hits(body)
    if found:
        return _split_marked(_Marked(body, found, code_ranges(body)), opened)
    if opened:
        return _ended_by_call(_Marked(body, [], code_ranges(body)), 0, [body])
    return Split("", unwrapped(body, False), found=False, closed=False)


@dataclass(frozen=True, slots=True)
class _Marked:
    """A text with its marks and the ranges of it that are code."""

    body: str
    hits: list[Hit]
    code: list[tuple[int, int]]


def split_beside(named: str, text: str) -> Split:
    """Reasoning and answer of a reply whose reasoning came apart, as `named`: what stands in marks at the beginning of
    `text` as well belongs to it, and is not taken twice."""
    said_again = bool(named) and text.lstrip().startswith(named)
    if not begins_with_mark(text) and not said_again:
        return Split(named, text.strip(), found=bool(named), closed=bool(named))
    inline = split_thinking(text)
    if said_again and inline.reasoning != named:  # the answer begins with the same words
        return Split(named, text.strip(), found=True, closed=True)
    same = inline.reasoning in named or named in inline.reasoning
    both = max(named, inline.reasoning, key=len) if same else f"{named}\n\n{inline.reasoning}"
    return Split(both, inline.answer, inline.found, inline.closed)


def _split_marked(text: _Marked, opened: bool) -> Split:
    first = text.hits[0]
    mark = opened_by(first.text) if first.start == 0 else None
    if mark is not None:
        return _cut(text, first.end, mark)
    if opened:
        for mark in MARKS:
            if _closing(text, mark, 0) is not None:
                return _cut(text, 0, mark)
        return _ended_by_call(text, 0, [text.body])
    return _split_unannounced(text)


def _split_unannounced(text: _Marked) -> Split:
    """A text that does not begin with a mark: a missing opening mark, a mark after some words, or plain answer."""
    body = text.body
    found = [hit for hit in text.hits if not _is_inside(hit, text.code)]
    names = {hit.text for hit in found}
    for mark in (mark for mark in MARKS if mark.opening in names or mark.closing in names):
        opening = next((hit for hit in found if mark.opening and hit.text == mark.opening), None)
        closing = next((hit for hit in found if hit.text == mark.closing and not _is_mentioned(body, hit)), None)
        if opening is not None and (closing is None or opening.start < closing.start):
            if body[:opening.start].rstrip(" \t").endswith("\n"):
                cut = _cut(text, opening.end, mark)
                answer = "\n\n".join(filter(None, (body[:opening.start].strip(), cut.answer)))
                return Split(cut.reasoning, answer, cut.found, cut.closed)
        elif closing is not None:
            return _cut(text, 0, mark)
    return Split("", unwrapped(body, False), found=False, closed=False)


def _cut(text: _Marked, begin: int, mark: Mark) -> Split:
    """What follows `begin`, where a block of `mark` has just opened, and all blocks that come right behind it."""
    body, reasoning = text.body, list[str]()
    while True:
        closing = _closing(text, mark, begin)
        reasoning.append(body[begin:closing.start if closing else len(body)].strip())
        whole = "\n\n".join(filter(None, reasoning))
        if closing is None:
            return _ended_by_call(text, begin, reasoning)
        rest = body[closing.end:].lstrip()
        while (stray := hit_at(rest)) is not None and stray.text == mark.closing:  # it closes twice
            rest = rest[stray.end:].lstrip()
        again = hit_at(body, len(body) - len(rest))
        mark_again = opened_by(again.text) if again else None
        if again is None or mark_again is None:
            return Split(whole, unwrapped(without_empty_blocks(rest.rstrip()), True), found=True, closed=True)
        mark, begin = mark_again, again.end


def _ended_by_call(text: _Marked, begin: int, reasoning: list[str]) -> Split:
    """Reasoning that never closes, unless by a call of a tool: what is called is no thought any more."""
    call = call_start(text.body, begin)
    while call is not None and _is_inside(Hit("", call, call), text.code):
        call = call_start(text.body, call + 1)
    parts = reasoning if call is None else [*reasoning[:-1], text.body[begin:call].strip()]
    whole = "\n\n".join(filter(None, parts))
    return Split(whole, text.body[call:] if call is not None else "", found=True, closed=call is not None)


def _closing(text: _Marked, mark: Mark, begin: int) -> Hit | None:
    """Where `mark` closes: neither in code nor in words about it when that is anywhere, because code that was never
    closed must not hide the end of the reasoning."""
    mentioned = coded = None
    for place in range(bisect_left(text.hits, begin, key=lambda hit: hit.start), len(text.hits)):
        hit = text.hits[place]
        if hit.text != mark.closing:
            continue
        if _is_inside(hit, text.code):
            coded = coded or hit
        elif _is_mentioned(text.body, hit):
            mentioned = mentioned or hit
        else:
            return hit
    return mentioned or coded


def _is_inside(hit: Hit, code: list[tuple[int, int]]) -> bool:
    place = bisect_right(code, hit.start, key=lambda span: span[0]) - 1
    return place >= 0 and hit.start < code[place][1]


def _is_mentioned(body: str, hit: Hit) -> bool:
    """True when the sentence around the mark goes on through it, or quotes it: it is spoken of."""
    before, after = body[max(0, hit.start - 2):hit.start], body[hit.end:hit.end + 2]
    if before[-1:] and before[-1:] in _QUOTES and after[:1] in _QUOTES and after:
        return True
    goes_on = before[-1:] == " " and (before[:1].isalpha() or before[:1] == ",")
    return goes_on and (after[:1] in (".", ",", ";", ":", "?", "!", ")") or (after[:1] == " " and after[1:].islower()))


def code_ranges(body: str) -> list[tuple[int, int]]:
    """Character ranges of fenced blocks that are closed, and of inline code outside of them."""
    if "`" not in body and "~~~" not in body:
        return []
    ranges: list[tuple[int, int]] = []
    opening: re.Match[str] | None = None
    for fence in _FENCE.finditer(body):
        if opening is None:
            opening = fence
        elif fence[1].startswith(opening[1]):
            ranges.append((opening.start(), fence.end()))
            opening = None
    inline = [m.span() for m in _INLINE_CODE.finditer(body)]
    return sorted(ranges + [(a, b) for a, b in inline if not any(start <= a < end for start, end in ranges)])

def _split_channels(body: str, opened: bool) -> Split | None:
    """Harmony channels, also with their special tokens left out: `final` is the answer, everything else reasoning.
    None when the text has none."""
    if opened and "<|channel|>" in body and not body.startswith(HARMONY_STARTS):
        body = HARMONY_THOUGHT + body
    if body.startswith(HARMONY_STARTS):
        # What is addressed to a tool is a call: neither reasoning nor answer.
        found = [("call" if "to=" in before + behind and channel != "final" else channel, content)
                 for before, channel, behind, content in _CHANNEL.findall(body)]
    elif body.startswith(("analysis", "commentary", "assistant")) and _BARE_CHANNELS.match(body):
        pieces = _BARE_CHANNEL.split(body)
        found = list(zip(pieces[1::2], pieces[2::2], strict=True))
    else:
        return None
    if not found:
        return None
    reasoning = [content.strip() for channel, content in found if channel not in ("final", "call")]
    answer = [content.strip() for channel, content in found if channel == "final"]
    return Split(
        "\n\n".join(filter(None, reasoning)), "\n\n".join(filter(None, answer)),
        found=bool(reasoning), closed=bool(reasoning and answer),
    )


def join_thinking(reasoning: str, answer: str, opened: bool = False) -> str:
    """The canonical training text of a thinking turn. `opened`: the prompt already ends with the opening mark and its
    newline, so the text starts inside it."""
    return f"{'' if opened else THOUGHT_BEGIN}{reasoning}{THOUGHT_END}{answer}"


def opens_thinking_tag(prompt: str) -> bool:
    """True when `prompt` ends inside a block of reasoning that it just opened."""
    return prompt.rstrip().endswith(PROMPT_ENDS)
