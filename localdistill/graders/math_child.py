"""The process that judges mathematics: one JSON object per line in, one per line out.

sympy can run for minutes or eat all memory on a short hostile string, so all of it happens here, where the parent
(`math.py`) may kill it at any moment. Nothing in this file may be imported for its effects, and nothing here
enforces the wall clock: the limits below only make sure that an orphan cannot live on.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any

from localdistill.graders.algebra import are_equal, is_closed_form, read
from localdistill.graders.choosing import as_asked, choose, is_taken_back, states_doubt
from localdistill.graders.expressions import expressions_in
from localdistill.graders.extraction import TAIL_CHARS, Extracted, last_formula, number_of, other_result, result_of
from localdistill.graders.numbers import Number, only_number, plain_text

_MEMORY_BYTES = 4 << 30
_SHOWN_CHARS = 200


def judge(question: str, reference: str, answer: str) -> dict[str, Any]:
    """`{"score", "reason", "extracted"}` for one answer. Text only; raises nothing for model text."""
    text = answer[-TAIL_CHARS:].strip()
    if not text:
        return _verdict(0.0, "the answer is empty", "")
    passage = result_of(text)
    gold = only_number(reference)
    if gold is None:
        return _judge_formula(question, text, passage, reference)
    if passage is None:
        return _verdict(0.0, "the answer states no result", "")
    return _judge_number(question, text, passage, reference, gold)


def _judge_number(question: str, text: str, passage: Extracted, reference: str, gold: Number) -> dict[str, Any]:
    """Whether the one result that `passage` states is `gold`."""
    how, gold = passage.how, as_asked(gold, question, reference)
    chosen = choose(passage.text, text[:passage.start], question)
    if chosen is None and how == "boxed" and not expressions_in(plain_text(passage.text)):
        return _judge_closed_form(passage.text, how, reference)
    if chosen is None or chosen.is_other:
        shown = chosen.text if chosen else passage.text
        return _verdict(0.0, f"{how}: states no single result", shown)
    if is_taken_back(text[passage.end:], chosen):
        return _verdict(0.0, f"{how}: taken back afterwards", chosen.text)
    if chosen.number is None:
        return _judge_closed_form(chosen.text, how, reference)
    stated = as_asked(chosen.number, question, reference)
    other = other_result(text, passage)
    again = number_of(other, text, question) if other else None
    if again is not None and not again.equals(stated):
        return _verdict(0.0, f"{how}: another result is announced after it", f"{stated.text}, {again.text}")
    equal = stated.equals(gold)
    return _verdict(float(equal), f"{how}: {'equal to' if equal else 'differs from'} {reference}", stated.text)


def _judge_closed_form(expression: str, how: str, reference: str) -> dict[str, Any]:
    """An expression against a reference that is a number: it must have one value, and no name may stay in it."""
    # math-verify drops what is written below the line, so `4_7` would be 4.
    found = [] if re.search(r"(?<!log)(?<!log )_", expression) else read(f"\\boxed{{{expression}}}")
    if not found or not is_closed_form(found[0]):
        return _verdict(0.0, f"{how}: differs from {reference}, it has no single value", expression)
    return _compared(read(f"\\boxed{{{reference}}}"), found, how, reference, expression)


def _judge_formula(question: str, text: str, passage: Extracted | None, reference: str) -> dict[str, Any]:
    """A reference that is no number: math-verify reads what the passage, else the last formula, states."""
    gold = read(f"\\boxed{{{reference}}}")
    if not gold:
        return _verdict(0.0, "the reference could not be read", "")
    if passage is None or passage.how == "conclusion":
        passage = last_formula(text, question)
    if passage is None:
        return _verdict(0.0, "the answer states no result", "")
    doubts = passage.how == "announced" and states_doubt(passage.text) and not states_doubt(reference)
    if doubts:
        return _verdict(0.0, f"{passage.how}: states no single result", passage.text)
    is_marked = passage.how in ("boxed", "####")
    found = read(f"\\boxed{{{passage.text}}}" if is_marked else passage.text)
    if not found:
        return _verdict(0.0, f"{passage.how}: nothing readable", passage.text)
    return _compared(gold, found, passage.how, reference, passage.text)


def _compared(gold: list[Any], found: list[Any], how: str, reference: str, shown: str) -> dict[str, Any]:
    equal = bool(gold) and are_equal(gold, found)
    return _verdict(float(equal), f"{how}: {'equal to' if equal else 'differs from'} {reference} (math-verify)", shown)


def _verdict(score: float, reason: str, extracted: str) -> dict[str, Any]:
    return {"score": score, "reason": reason[:_SHOWN_CHARS], "extracted": extracted[:_SHOWN_CHARS]}


def _limit(memory_bytes: int, cpu_s: int) -> None:
    """Cap memory once and CPU time for the next item, where the system knows how to."""
    try:
        import resource

        if memory_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        if cpu_s:
            usage = resource.getrusage(resource.RUSAGE_SELF)
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + cpu_s, hard))
    except (ImportError, ValueError, OSError):
        return


def main() -> None:
    """Answer lines until standard input closes."""
    logging.disable(logging.CRITICAL)
    sys.setrecursionlimit(2_000)
    _limit(_MEMORY_BYTES, 0)
    for line in sys.stdin.buffer:
        item = json.loads(line)
        if not item:
            import math_verify  # noqa: F401  (loaded before the clock of the first answer runs)

            print("{}", flush=True)
            continue
        _limit(0, int(item["timeout_s"]) * 2 + 5)
        try:
            verdict = judge(item["question"], item["reference"], item["answer"])
        except (Exception, RecursionError, MemoryError) as error:
            verdict = _verdict(0.0, f"could not be judged ({type(error).__name__})", "")
        print(json.dumps(verdict), flush=True)


if __name__ == "__main__":
    main()
