"""The process that judges mathematics: one JSON object per line in, one per line out.

sympy can run for minutes or eat all memory on a short hostile string, so all of it happens here, where the parent
(`math.py`) may kill it at any moment. Nothing in this file may be imported for its effects, and nothing here
enforces the wall clock: the limits below only make sure that an orphan cannot live on.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from localdistill.graders.extraction import TAIL_CHARS, Extracted, number_of, result_of
from localdistill.graders.numbers import is_symbolic, only_number, plain_text

_MEMORY_BYTES = 4 << 30
_SHOWN_CHARS = 200


def judge(question: str, reference: str, answer: str) -> dict[str, Any]:
    """`{"score", "reason", "extracted"}` for one answer. Text only; raises nothing for model text."""
    text = answer[-TAIL_CHARS:].strip()
    passage = result_of(text)
    if passage is None and not text:
        return _verdict(0.0, "the answer is empty", "")
    gold = only_number(reference)
    if gold is not None and passage is not None:
        return _judge_number(question, text, passage, reference)
    return _judge_expression(text, passage, reference)


def _judge_number(question: str, text: str, passage: Extracted, reference: str) -> dict[str, Any]:
    gold = only_number(reference)
    stated = only_number(passage.text)
    if stated is None and passage.how == "boxed" and is_symbolic(plain_text(passage.text)):
        return _judge_expression(text, passage, reference)
    stated = stated or number_of(passage, text, question)
    if stated is None or gold is None:
        return _judge_expression(text, passage, reference)
    equal = stated.equals(gold)
    return _verdict(float(equal), f"{passage.how}: {'equal to' if equal else 'differs from'} {reference}", stated.text)


def _judge_expression(text: str, passage: Extracted | None, reference: str) -> dict[str, Any]:
    """math-verify's comparison; its own extraction from the tail when no passage was announced."""
    from math_verify import parse, verify

    gold = parse(f"\\boxed{{{reference}}}", parsing_timeout=None)
    if not gold:
        return _verdict(0.0, "the reference could not be read", "")
    if passage is not None and passage.how in ("boxed", "####"):
        source, how = f"\\boxed{{{passage.text}}}", passage.how
    elif passage is not None and passage.how == "announced":
        source, how = passage.text, passage.how
    else:
        source, how = text[-1_500:], "math-verify's own extraction"
    found = parse(source, parsing_timeout=None)
    shown = passage.text if passage is not None and how == passage.how else str(found[-1]) if found else ""
    if not found:
        return _verdict(0.0, f"{how}: nothing readable", shown)
    equal = bool(verify(gold, found, timeout_seconds=None))
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
