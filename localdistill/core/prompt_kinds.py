"""What kind of prompt it is, by rule: suffixes of questions and thresholds of selections are given by kind."""

from __future__ import annotations

import re

from localdistill.core.records import Prompt

_CODE = re.compile(r"```|\bdef \w+\(|\b(?:write|implement|complete)\b[^.\n]{0,40}"
                   r"\b(?:function|program|script|class|query)\b"
                   r"|\bpython\b|\bjavascript\b|\bsql\b", re.IGNORECASE)
_MATH = re.compile(r"\\(?:frac|sqrt|boxed|sum|int|begin)\b|\$[^$\n]+\$|\d\s*[-+*/^=]\s*\d"
                   r"|\b(?:how many|how much|what is the (?:value|sum|probability|area|number)|calculate|compute|solve"
                   r"|prove|evaluate|simplify|find (?:the|all))\b", re.IGNORECASE)
_MOST_CHARS = 4000


def kind_of(prompt: Prompt) -> str:
    """What kind of prompt it is: what its row says under `kind`; else by what there is to judge an answer with."""
    if stated := prompt.metadata.get("kind"):
        return str(stated)
    if prompt.tests is not None:
        return "code"
    if prompt.metadata.get("constraints"):
        return "instructions"
    reference = (prompt.reference or "").strip()
    if re.fullmatch(r"\(?[A-J]\)?\.?", reference):
        return "choice"
    return "math" if re.search(r"\d|\\[a-z]", reference) else "other"


def guessed_kind_of(prompt: Prompt) -> str:
    """The same; where nothing says it, by the words of the question: code, math, chat (several turns), else other."""
    kind = kind_of(prompt)
    if kind != "other":
        return kind
    question = prompt.question[:_MOST_CHARS]
    if _CODE.search(question):
        return "code"
    if _MATH.search(question):
        return "math"
    return "chat" if sum(message.role == "user" for message in prompt.messages) > 1 else "other"
