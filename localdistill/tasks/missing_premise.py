"""Questions that lack a premise, each beside its whole twin: whether a model says that something is missing, or thinks
on and on about what cannot be known (arXiv 2504.06514). The file is the user's own copy (`gsm8k.json`, `svamp.json`).

An item is right where the model says so of the question without the premise, and does not of the whole one. What is
said is told by rule, from the end of the answer; the published figures had a model judge that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from localdistill.core.records import Message, Prompt, Reply, Request
from localdistill.core.samples import TaskSample
from localdistill.tasks.base import Given, Judge, Scored
from localdistill.tasks.rows import ItemRow, RowTask

_NOT = r"(?:\bnot\b|n['’]t\b|\bnever\b|\bnowhere\b)"
_DOUBT = re.compile(
    r"\b(?:insufficient|under-?(?:determined|specified)|unspecified|unanswerable)\b"
    r"|\b(?:question|problem|information|statement|it)\b(?: \w+){0,2} (?:is|seems|appears|looks) (?:\w+ ){0,2}"
    r"incomplete\b"
    r"|\b(?:not|isn['’]t|without) enough (?:information|data|details?|context|facts)"
    r"|\b(?:lacks?|lacking|missing|more|additional|further|no) (?:\w+ ){0,2}?(?:information|data|details?|premises?"
    r"|conditions?)\b"
    r"|\b(?:information|premise|condition|detail|data|value|number|quantity|part)s? (?:is|are|seems?(?: to be)?)"
    r" missing"
    rf"|\b(?:cannot|can ?not|can['’]t|impossible|unable|{_NOT} possible|no way)(?: to)? (?:be )?(?:\w+ly )?(?:be )?"
    r"(?:determined?|answer(?:ed)?|calculated?|computed?|solved?|known?|told|tell|found|find|established?)\b"
    rf"|{_NOT} (?:\w+ly )?(?:say|state|specify|mention|give|provide|tell|include|specified|given|provided|stated"
    r"|mentioned|told|know how (?:many|much))\b"
    r"|\b(?:need|have|want) to know (?:how|the|what|at)\b", re.IGNORECASE)
"""Words by which something is said to be missing."""
_STATED = re.compile(r"\\boxed\s*\{|\banswer(?: is|:)\s*[*$\\(]*\d|####\s*\d|\*\*\s*\$?\d", re.IGNORECASE)
"""A result."""
_END_PARAGRAPHS = 2


def first_doubt(text: str) -> float | None:
    """Where it is first said that something is missing, as a share of the text; None where it is nowhere."""
    found = _DOUBT.search(text)
    return found.start() / len(text) if found else None


def abstains(answer: str) -> bool:
    """Whether the last two paragraphs of an answer say that something is missing, and state no result behind it."""
    end = "\n\n".join(re.split(r"\n\s*\n", answer.strip())[-_END_PARAGRAPHS:])
    doubts = list(_DOUBT.finditer(end))
    return bool(doubts) and not _STATED.search(end, doubts[-1].end())


class MissingPremiseTask(RowTask):
    """The `missing_premise` task."""

    name = "missing_premise"
    grader = "math"
    rule = "whether it says that a premise is missing"
    is_guard = True
    metrics: Mapping[str, str] = {
        "abstained": "1 where it says that a premise is missing, and one is (abstain rate).",
        "token_ratio": "Tokens of the reply without the premise by those of the reply with it.",
        "doubted": "1 where the reply without the premise doubts anywhere, its reasoning included.",
        "first_doubt": "Where it first does, as a share of the reply (of those that do).",
        "twin_abstained": "1 where it says so of the whole question, to which nothing is missing.",
        "twin_right": "1 where it answers the whole question right.",
    }

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        row = {"question": "2 jars of 3 plums. How many plums?", "answer": "2*3=<<2*3=6>>6\n#### 6",
               "insufficient_question": "2 jars. How many plums?"}
        missing, said = "It cannot be determined: how many are in a jar is not stated.", "The answer is 6."
        alone = {"insufficient_question": "2 jars. How many plums?", "answer": 6.0}
        return (
            TaskSample([row], ["2 jars. How many plums?"], (missing, said), (missing, missing)),
            TaskSample([row], ["2 jars. How many plums?"], (missing, "It is 5."), (said, said)),
            TaskSample([alone], ["2 jars. How many plums?"], missing, "It does not say. Say 3: the answer is 6."),
        )

    def item(self, row: ItemRow) -> Prompt:
        """The question without the premise; the whole one, where the file has it, with its result."""
        _, _, result = row.text("answer").rpartition("####")
        whole = row.maybe("question")
        twin = {"twin": whole, "twin_reference": result.strip().replace(",", "")} if whole else {}
        return row.prompt(row.text("insufficient_question"), "a premise is missing", **twin)

    def requests(self, prompt: Prompt, given: Given) -> Sequence[Request]:
        """The question without the premise, then the whole one."""
        [asked] = super().requests(prompt, given)
        twin = self._twin(prompt)
        return [asked, *([replace(asked, id="twin", messages=self.turns(twin))] if twin else [])]

    def score(self, prompt: Prompt, replies: Sequence[Reply], judge: Judge) -> Scored:
        """1 where it tells the question from its twin."""
        missing, whole = replies[0], replies[-1]
        text, twin = f"{missing.reasoning}\n\n{missing.answer}".strip(), self._twin(prompt)
        abstained, doubt = abstains(missing.answer), first_doubt(text)
        metrics = {"abstained": float(abstained), "doubted": float(doubt is not None)}
        if doubt is not None:
            metrics["first_doubt"] = doubt
        told_apart = abstained
        if twin is not None:
            told_apart &= not abstains(whole.answer)
            metrics["twin_abstained"] = float(abstains(whole.answer))
            if (right := judge(twin, whole).passed) is not None:
                metrics["twin_right"] = float(right)
            if missing.usage.completion_tokens and whole.usage.completion_tokens:
                metrics["token_ratio"] = missing.usage.completion_tokens / whole.usage.completion_tokens
        said = "an answer" if not abstained else f"a premise is missing{'' if told_apart else ', of the whole one too'}"
        return Scored(float(told_apart), said if missing.answer.strip() else "", metrics)

    def _twin(self, prompt: Prompt) -> Prompt | None:
        """The whole question, where there is one."""
        if not (whole := prompt.metadata.get("twin")):
            return None
        return replace(prompt, messages=(Message("user", str(whole)),),
                       reference=str(prompt.metadata["twin_reference"]))
