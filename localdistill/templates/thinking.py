"""Where reasoning ends and the answer begins, in the tags of all the models we know; and the one way we write it.

Pure text functions. Answer extraction, training targets and evaluation all go through here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TAG_PAIRS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("◁think▷", "◁/think▷"),
    ("<reasoning>", "</reasoning>"),
)
"""Opening and closing tags, the most usual first."""

_FENCE = re.compile(r"^[ \t]{0,3}(`{3,}|~{3,})", re.MULTILINE)
_INLINE_CODE = re.compile(r"(?<!`)(`{1,2})(?!`)[^\n]*?(?<!`)\1(?!`)")
_CHANNEL = re.compile(
    r"(?:<\|start\|>assistant)?<\|channel\|>(\w+)[^<]*<\|message\|>(.*?)"
    r"(?:<\|end\|>|<\|return\|>|<\|call\|>|(?=<\|start\|>|<\|channel\|>)|\Z)",
    re.DOTALL,
)


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

    `opened`: the prompt already held the opening tag. Without any opening tag, a closing tag outside of code still
    ends reasoning, as some models never write the opening one. The first closing tag outside of a code block
    splits; later ones belong to the answer. Reasoning that never closes leaves no answer.
    """
    body = text.strip()
    if body.startswith(("<|channel|>", "<|start|>assistant<|channel|>")):
        return _split_channels(body)
    code = _code_ranges(body)
    for open_tag, close_tag in TAG_PAIRS:
        if body.startswith(open_tag):
            return _cut(body, len(open_tag), _closing(body, close_tag, code, len(open_tag)), close_tag)
    if opened:
        for _, close_tag in TAG_PAIRS:
            position = _closing(body, close_tag, code, 0)
            if position >= 0:
                return _cut(body, 0, position, close_tag)
        return Split(body, "", found=True, closed=False)
    return _split_unannounced(body, code)


def _split_unannounced(body: str, code: list[tuple[int, int]]) -> Split:
    """A text that does not begin with a tag: a missing opening tag, a tag after some words, or plain answer."""
    for open_tag, close_tag in TAG_PAIRS:
        closing = _outside(body, close_tag, code, 0)
        opening = _outside(body, open_tag, code, 0)
        if opening >= 0 and (closing < 0 or opening < closing):
            if body[:opening].endswith("\n"):
                begin = opening + len(open_tag)
                cut = _cut(body, begin, _closing(body, close_tag, code, begin), close_tag)
                answer = "\n\n".join(filter(None, (body[:opening].strip(), cut.answer)))
                return Split(cut.reasoning, answer, cut.found, cut.closed)
        elif closing >= 0:
            return _cut(body, 0, closing, close_tag)
    return Split("", _unwrap(body), found=False, closed=False)


def _cut(body: str, begin: int, position: int, close_tag: str) -> Split:
    if position < 0:
        return Split(body[begin:].strip(), "", found=True, closed=False)
    answer = _unwrap(body[position + len(close_tag) :].strip())
    return Split(body[begin:position].strip(), answer, found=True, closed=True)


def _closing(body: str, tag: str, code: list[tuple[int, int]], begin: int) -> int:
    """Where `tag` closes: outside of code when it is anywhere there, because code that was never closed must not hide
    the end of the reasoning."""
    position = _outside(body, tag, code, begin)
    return position if position >= 0 else body.find(tag, begin)


def _outside(body: str, tag: str, code: list[tuple[int, int]], begin: int) -> int:
    position = body.find(tag, begin)
    while position >= 0 and any(start <= position < end for start, end in code):
        position = body.find(tag, position + len(tag))
    return position


def _code_ranges(body: str) -> list[tuple[int, int]]:
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
    return ranges + [(a, b) for a, b in inline if not any(start <= a < end for start, end in ranges)]


def _unwrap(answer: str) -> str:
    """`answer` without a wrapper that encloses all of it."""
    if not answer.startswith("<answer>"):
        return answer
    inner = answer.removeprefix("<answer>")
    if "</answer>" not in inner:
        return inner.strip()
    return inner.removesuffix("</answer>").strip() if inner.find("</answer>") == len(inner) - 9 else answer


def _split_channels(body: str) -> Split:
    """Harmony channels: `final` is the answer, everything before it reasoning."""
    reasoning: list[str] = []
    answer: list[str] = []
    for channel, content in _CHANNEL.findall(body):
        (answer if channel == "final" else reasoning).append(content.strip())
    return Split(
        "\n\n".join(filter(None, reasoning)), "\n\n".join(filter(None, answer)),
        found=bool(reasoning), closed=bool(reasoning and answer),
    )


def join_thinking(reasoning: str, answer: str, opened: bool = False) -> str:
    """The canonical training text of a thinking turn. `opened`: the prompt already ends with the opening tag and its
    newline, so the text starts inside it."""
    return f"{'' if opened else '<think>' + chr(10)}{reasoning}\n</think>\n\n{answer}"


def opens_thinking_tag(prompt: str) -> bool:
    """True when `prompt` ends inside a think tag that it just opened."""
    return prompt.rstrip().endswith((*(pair[0] for pair in TAG_PAIRS), "<|channel|>analysis<|message|>"))
