"""The one table of the marks that models put around reasoning and answer, and how a mark is found in a text.

Whoever splits, writes, shows or refuses marks reads this table: nothing else in the tree names one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """What stands around reasoning."""

    opening: str
    """Empty where nothing but the closing mark is special."""
    closing: str
    whose: str


@dataclass(frozen=True, slots=True)
class Wrapper:
    """What stands around the answer that follows reasoning."""

    opening: str
    closing: str
    needs_reasoning: bool = False
    """An ordinary word: it is taken off only behind reasoning, as it may be the XML that somebody asked for."""


MARKS = (
    Mark("<think>", "</think>", "DeepSeek, Qwen, GLM and most others"),
    Mark("<thinking>", "</thinking>", "prompts that ask for reasoning"),
    Mark("◁think▷", "◁/think▷", "Kimi-VL, Kimi k1.5"),
    Mark("<reasoning>", "</reasoning>", "prompts that ask for reasoning"),
    Mark("<thought>", "</thought>", "Gemini behind chat completions, Marco-o1"),
    Mark("<thoughts>", "</thoughts>", "prompts that ask for reasoning"),
    Mark("<reflection>", "</reflection>", "Reflection"),
    Mark("<scratchpad>", "</scratchpad>", "prompts that ask for reasoning"),
    Mark("<|im_start|>think", "<|im_start|>answer", "s1"),
    Mark("<mm:think>", "</mm:think>", "MiniMax"),
    Mark("<seed:think>", "</seed:think>", "Seed-OSS"),
    Mark("<longcat_think>", "</longcat_think>", "LongCat"),
    Mark("[THINK]", "[/THINK]", "Magistral, Ministral"),
    Mark("<|begin_of_thought|>", "<|end_of_thought|>", "Sky-T1, OpenThoughts"),
    Mark("<|thought_start|>", "<|thought_end|>", "ShareGPT sets"),
    Mark("<|START_THINKING|>", "<|END_THINKING|>", "Command"),
    Mark("<|inner_prefix|>", "<|inner_suffix|>", "Apertus"),
    Mark("<|open|>think<|sep|>", "<|close|>think<|sep|>", "Kimi K3"),
    Mark("<|channel>thought", "<channel|>", "Gemma 4"),
    Mark("<|channel>", "<channel|>", "Gemma 4, the channel left unnamed"),
    Mark("<unused94>thought", "<unused95>", "MedGemma"),
    Mark("[unused16]", "[unused17]", "Pangu"),
    Mark("", "[BEGIN FINAL RESPONSE]", "Apriel"),
)
"""The most usual first. Of two that begin alike the longer one comes first."""

_NO_WIDTH = "\ufeff\u200b\u2060\x00"

OURS = MARKS[0]
"""What we write."""

WRAPPERS = (
    Wrapper("<answer>", "</answer>"),
    Wrapper("<|begin_of_solution|>", "<|end_of_solution|>"),
    Wrapper("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    Wrapper("<|START_TEXT|>", "<|END_TEXT|>"),
    Wrapper("<|open|>response<|sep|>", "<|close|>response<|sep|>"),
    Wrapper("[BEGIN FINAL RESPONSE]", "[END FINAL RESPONSE]"),
    Wrapper("<response>", "</response>", needs_reasoning=True),
    Wrapper("<output>", "</output>", needs_reasoning=True),
    Wrapper("<solution>", "</solution>", needs_reasoning=True),
    Wrapper("<final>", "</final>", needs_reasoning=True),
    Wrapper("<final_answer>", "</final_answer>", needs_reasoning=True),
)

HARMONY_THOUGHT = "<|channel|>analysis<|message|>"
"""How gpt-oss opens reasoning; its channels are more than a pair of marks."""

HARMONY_STARTS = ("<|channel|>", "<|start|>assistant")
"""How its replies begin."""

PROMPT_ENDS = (*(mark.opening for mark in MARKS if mark.opening), HARMONY_THOUGHT, "Here are my reasoning steps:")
"""A prompt that ends so has opened the reasoning already."""

CALL_STARTS = (
    "<tool_call>", "<tool_calls>", "<|tool_call>", "<|tool_call|>", "<|tool_call_start|>", "<|tool_call_begin|>",
    "<|tool_calls_section_begin|>", "<｜tool▁calls▁begin｜>", "<｜DSML｜tool_calls>", "<｜DSML｜function_calls>",
    "[TOOL_CALLS]", "<TOOLCALL>", "<minimax:tool_call>", "<seed:tool_call>", "<|START_ACTION|>", "<|open|>tools<|sep|>",
    "<|tools_prefix|>", "<function_calls>",
)
"""What stands before calls of tools that a model writes into its text."""

TURN_ENDS = (
    "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>", "<|return|>", "<|eom_id|>", "<|eos|>",
    "<|role_end|>", "<|close|>message<|sep|>", "<|END_OF_TURN_TOKEN|>", "<end_of_turn>", "<turn|>", "<eos>", "</s>",
    "<｜end▁of▁sentence｜>", "[EOS]",
)
"""What a tokenizer that shows its special tokens leaves behind a reply: no part of it, and no mark of reasoning."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A mark where it stands."""

    text: str
    """As the table has it."""
    start: int
    end: int


def _pattern(text: str) -> str:
    """`text` in either case; in a tag of the usual form a blank may stand before the bracket that closes it."""
    return re.escape(text[:-1]) + r"\s*>" if re.fullmatch(r"</?[a-z][\w:]*>", text) else re.escape(text)


def _one_of(texts: list[str]) -> re.Pattern[str]:
    ordered = sorted(dict.fromkeys(texts), key=len, reverse=True)
    return re.compile("|".join(map(_pattern, ordered)), re.IGNORECASE)


_TEXTS = [text for mark in MARKS for text in (mark.opening, mark.closing) if text]
_BY_KEY = {re.sub(r"\s+", "", text).casefold(): text for text in _TEXTS}
_ANY = _one_of(_TEXTS)
_FIRST = tuple({text[0] for text in _TEXTS})
_PATTERNS = {text: re.compile(_pattern(text), re.IGNORECASE)
             for text in (*_TEXTS, *(t for w in WRAPPERS for t in (w.opening, w.closing)))}


def hits(text: str) -> list[Hit]:
    """Every mark of the table in `text`, in order."""
    found: list[Hit] = []
    for char in _FIRST:  # to search for the few characters takes a third of the time that a search for all marks does
        place = text.find(char)
        while place >= 0:
            hit = hit_at(text, place)
            if hit is not None:
                found.append(hit)
            place = text.find(char, hit.end if hit else place + 1)
    return sorted(found, key=lambda hit: hit.start)


def hit_at(text: str, begin: int = 0) -> Hit | None:
    """The mark that `text` has exactly at `begin`."""
    found = _ANY.match(text, begin) if text.startswith(_FIRST, begin) else None
    return Hit(_BY_KEY[re.sub(r"\s+", "", found[0]).casefold()], found.start(), found.end()) if found else None


def marks_in(text: str) -> list[str]:
    """The marks of the table in `text`, wherever they stand, as the table has them."""
    return [hit.text for hit in hits(text)]


def opened_by(text: str) -> Mark | None:
    """The mark that is called `text` when it opens."""
    return next((mark for mark in MARKS if mark.opening == text), None) if text else None


def begins_with_mark(text: str) -> bool:
    """True when `text`, outer blanks aside, begins with a mark that opens or closes reasoning."""
    return hit_at(bare(text)) is not None


def closing_alone(text: str) -> str:
    """The first mark in `text` that closes what nothing in it opened; empty when there is none."""
    found = [hit.text for hit in hits(text)]
    return next((mark.closing for mark in MARKS if mark.closing in found and mark.opening not in found), "")


def may_grow_into_opening(text: str) -> bool:
    """True when more text could make `text`, the beginning of a reply, an opening mark or a longer one."""
    begin = text.casefold()
    return any(len(mark.opening) > len(begin) and mark.opening.casefold().startswith(begin) for mark in MARKS)


def bare(text: str) -> str:
    """`text` without outer blanks, nor characters of no width before a mark."""
    body = text.strip()
    if not body.startswith(tuple(_NO_WIDTH)):
        return body
    seen = body.lstrip(_NO_WIDTH).lstrip()
    first = hit_at(seen)
    return seen if seen.startswith("<|") or (first and opened_by(first.text)) else body


def unwrapped(answer: str, has_reasoning: bool) -> str:
    """`answer` without a wrapper that encloses all of it."""
    if answer[:1] not in ("<", "[") and answer[-1:] not in (">", "]"):
        return answer
    for wrapper in WRAPPERS:
        if wrapper.needs_reasoning and not has_reasoning:
            continue
        opening, closing = _PATTERNS[wrapper.opening].match(answer), _PATTERNS[wrapper.closing].search(answer)
        if closing is not None and (opening is not None or not wrapper.closing.startswith("</")):
            inner = answer[opening.end() if opening else 0:closing.start()].strip()
            rest = without_turn_ends(answer[closing.end():].strip())
            if rest and not rest.startswith(CALL_STARTS):
                continue
            return f"{inner}\n{rest}" if rest else inner
        if opening is not None and closing is None:
            return answer[opening.end():].strip()
    return answer


def call_start(text: str, begin: int = 0) -> int | None:
    """Where a call of a tool begins in `text` at or behind `begin`; None where none does."""
    found = [place for mark in CALL_STARTS if (place := text.find(mark, begin)) >= 0]
    return min(found, default=None)


def without_empty_blocks(text: str) -> str:
    """`text` without blocks of reasoning at its end that hold nothing, as some models write behind their answer."""
    if not text.endswith((">", "]", "▷")):
        return text
    begin, opened = len(text), False
    for hit in reversed(hits(text)):
        if text[hit.end:begin].strip():
            break
        begin = hit.start
        opened |= opened_by(hit.text) is not None
    return text[:begin].rstrip() if opened else text


def without_turn_ends(text: str) -> str:
    """`text` without the special tokens that end a turn, unless a sentence ends with the name of one."""
    if not text.endswith((">", "]")):
        return text
    body = text
    while end := next((end for end in TURN_ENDS if body.endswith(end)), ""):
        left = body.removesuffix(end)
        if left.endswith(" ") or (end == "</s>" and "<s>" in left):
            return text
        body = left.rstrip()
    return body


def opens_wrapper(text: str, begin: int) -> bool:
    """True when a wrapper of an answer opens in `text` at `begin`."""
    return any(_PATTERNS[wrapper.opening].match(text, begin) for wrapper in WRAPPERS)
