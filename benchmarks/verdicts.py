"""Verdicts of the graders beside published ones, on a folder of public data; every disagreement is printed.

    python -m benchmarks.verdicts DATA [cases published made choice words clock] [--show 40] [--children 2]

DATA holds `verify_cases/`, `math_verdicts/`, `math/`, `math500/`, `gsm8k/`, `multiple_choice/` and `bbh/`.

cases: Math-Verify's own table of pairs with the verdict that its authors want, as they stand and boxed; plain
math-verify beside it. published: whole replies of nine model runs whose two published graders agree. made: right
answers in other writing and wrong ones made of them by rule (`benchmarks.made_answers`). choice: a statement of each
option of multiple-choice questions in usual words. words: stored replies to BIG-Bench Hard, by text alone.
clock: 2,000 answers, 50 of them hostile, on one process and on two, on an idle machine; `--limit` is the clock.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.made_answers import CHOICE_FORMS, HOSTILE, references_of, right_answers, wrong_answers
from benchmarks.read_verdicts import OURS, READ
from localdistill.core.means import Means
from localdistill.core.records import Fact, Message, Prompt, Trace
from localdistill.graders import GRADERS
from localdistill.graders.math import MathGrader
from localdistill.templates import split_thinking


@dataclass(frozen=True)
class Case:
    """An answer and what must be said of it."""

    name: str
    prompt: Prompt
    answer: str
    right: bool
    told: str = ""
    """What others say of it, for the eye."""
    decimals: int | None = None
    """To which its authors compare."""


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    return map(json.loads, path.read_text("utf-8").splitlines())


def case(name: str, question: str, reference: str, answer: str, right: bool, told: str = "") -> Case:
    """A case of one user turn."""
    return Case(name, Prompt((Message("user", question),), reference=reference), answer, right, told)


def boxed(text: str) -> str:
    """The answer with its formula in a box; one that has a box, or prose around its formula, stays as it is."""
    inner = text.strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if inner.startswith(opening) and inner.endswith(closing) and len(inner) > len(opening) * 2:
            inner = inner[len(opening):-len(closing)]
            break
    return text if "\\boxed" in text or "$" in inner or len(inner) > 120 else f"\\boxed{{{inner.strip()}}}"


def cases_of(data: Path, how: str) -> list[Case]:
    """Math-Verify's table."""
    found = []
    for row in rows_of(data / "verify_cases/math_verify.jsonl"):
        told = "" if row["reproduced_by_math_verify_0_9"] else "math-verify 0.9 says otherwise"
        answer = boxed(row["pred"]) if how == "boxed" else row["pred"]
        one = case(row["id"], "", row["gold"], answer, row["expected"], told)
        found.append(dataclasses.replace(one, decimals=row.get("options", {}).get("precision")))
    return found


def published_of(data: Path) -> list[Case]:
    """Replies whose graders agree."""
    found = []
    for path in sorted((data / "math_verdicts").glob("*.jsonl")):
        for row in rows_of(path):
            if row["graders_agree"]:
                said = split_thinking(row["response"])
                found.append(case(f"{path.stem} {row['idx']}", row["question"], row["gt"],
                                  said.answer or row["response"], row["score"], f"took {(row['pred'] or '')[:60]!r}"))
    return found


def words_of(data: Path) -> list[Case]:
    """Stored replies to BIG-Bench Hard."""
    return [case(f"{row['task']} {row['index']}", "", row["target"], row["prediction"], row["correct"])
            for row in rows_of(data / "bbh/codex_cot_outputs.jsonl")]


def choice_of(data: Path) -> list[Case]:
    """Every wording with the right option and with another one."""
    found = []
    for number, row in enumerate(rows_of(data / "multiple_choice/mmlu_test_sample.jsonl")):
        listed = (f"{label}. {text}" for label, text in zip("ABCDEFGH", row["choices"]))
        question = "\n".join([row["question"], *listed])
        for turn, form in enumerate(CHOICE_FORMS):
            picked = row["answer"] if (number + turn) % 2 else "ABCD"[("ABCD".index(row["answer"]) + 1 + turn % 3) % 4]
            text = row["choices"]["ABCD".index(picked)]
            if "TEXT" in form and row["choices"].count(text) > 1:
                continue
            answer = form.replace("LETTER", picked).replace("TEXT", text)
            found.append(case(f"mmlu {row['id']} {form!r}", question, row["answer"], answer, picked == row["answer"]))
    for name in ("arc_challenge", "openbookqa", "aqua"):
        for number, row in enumerate(json.loads((data / f"multiple_choice/{name}_test.json").read_text("utf-8"))):
            said = re.findall(r"answer\d|\(([A-E])\)", row["output"])
            stated = (said[-1] or row["output"].split()[-1]) if said else ""
            found.append(case(f"{name} {number}", row["instruction"], row["answer"], row["output"],
                              stated == row["answer"]))
    return found


def judged(grader: str, options: dict[str, object], cases: Sequence[Case]) -> list[Fact]:
    """What `grader` says, in the order of `cases`."""
    cls = GRADERS.load(grader)
    made = cls(cls.Options.model_validate(options))
    traces = [Trace(str(number), one.prompt.id, "", "", "", one.answer) for number, one in enumerate(cases)]
    try:
        said = {fact.subject_id: fact for fact in made.facts(zip((one.prompt for one in cases), traces), Means())}
    finally:
        made.close()
    return [said[trace.id] for trace in traces]


def report(name: str, cases: Sequence[Case], facts: Sequence[Fact], show: int) -> None:
    """Counts, and the cases where the verdict is another one."""
    accepted = [pair for pair in zip(cases, facts) if pair[1].passed and not pair[0].right]
    rejected = [pair for pair in zip(cases, facts) if not pair[1].passed and pair[0].right]
    right = sum(one.right for one in cases)
    undecided = sum(fact.passed is None for fact in facts)
    machine.say(f"{name}: {len(cases) - len(accepted) - len(rejected)} of {len(cases)} as they should be; "
                f"{len(accepted)} of {len(cases) - right} wrong ones accepted "
                f"({len(accepted) / max(1, len(cases) - right):.2%}), {len(rejected)} of {right} right ones rejected "
                f"({len(rejected) / max(1, right):.2%}), {undecided} could not be judged")
    for what, pairs in (("ACCEPTED", accepted), ("REJECTED", rejected)):
        for one, fact in pairs[:show]:
            machine.say(f"  {what} {one.name}: reference {one.prompt.reference!r}, answer {one.answer[-160:]!r}\n"
                        f"      {fact.reason} (took {fact.extracted!r}) {one.told}"
                        + (f"\n      read: {READ[one.name]}" if one.name in READ else ""))
    if known := [one.name for one, _ in accepted + rejected if one.name in READ]:
        ours = sum(name in OURS for name in known)
        machine.say(f"  {len(known)} of {len(accepted) + len(rejected)} were read and are named: {len(known) - ours} "
                    f"are right answers that both published graders miss, {ours} of {len(cases)} "
                    f"({ours / len(cases):.2%}) follow a rule of ours")


def clock_of(references: Sequence[tuple[str, str]]) -> list[Case]:
    """2,000 answers, every fortieth of them hostile."""
    made = list(right_answers(references, 2000))
    cases = [case(f"{one.kind} {number}", one.question, one.reference, one.answer, True)
             for number, one in enumerate(made)]
    for number in range(0, len(cases), 40):
        cases[number] = case(f"hostile {number}", "", "x + 1", HOSTILE[number // 40 % len(HOSTILE)], False)
    return cases


class Watched(MathGrader):
    """Adds up how long its processes are at work."""

    busy_s = 0.0

    def grade(self, prompt: Prompt, trace: Trace) -> Fact:
        """See MathGrader."""
        begun = time.perf_counter()
        try:
            return super().grade(prompt, trace)
        finally:
            self.busy_s += time.perf_counter() - begun


def race(cases: Sequence[Case], limit_s: float) -> None:
    """The same answers on one process and on two, in the order A B B A; before it, how many of two are at work at a
    time, which other programs on the machine change little."""
    def judging(children: int) -> list[Fact]:
        return judged("math", {"children": children, "timeout_s": limit_s}, cases)

    watched, begun = Watched(Watched.Options(children=2, timeout_s=limit_s)), time.perf_counter()
    traces = [Trace(str(number), one.prompt.id, "", "", "", one.answer) for number, one in enumerate(cases)]
    facts = list(watched.facts(zip((one.prompt for one in cases), traces), Means()))
    at_work = watched.busy_s / (time.perf_counter() - begun)
    watched.close()
    stopped = sum("no_verdict" in fact.reason for fact in facts)
    machine.say(f"  {len(cases)} answers, {stopped} stopped by the clock of {limit_s:g} s; "
                f"{sum(bool(fact.passed) for fact in facts)} right; {at_work:.2f} of two processes at work at a time")
    found = machine.compare(lambda: judging(1), lambda: judging(2), 1)
    machine.say(f"clock: two processes are {found.ratio():.2f} times as fast as one; target 1.7")


def plain_math_verify(cases: Sequence[Case]) -> int:
    """How many of `cases` math-verify alone says as they should be."""
    from math_verify import parse, verify

    return sum(bool(verify(parse(one.prompt.reference), parse(one.answer))) == one.right for one in cases)


def by_task(cases: Sequence[Case], facts: Sequence[Fact], data: Path) -> None:
    """Accuracy of each task of BIG-Bench Hard beside the one that its stored verdicts have."""
    told = json.loads((data / "bbh/codex_cot_published.json").read_text("utf-8"))
    right, all_ = Counter[str](), Counter[str]()
    for one, fact in zip(cases, facts):
        task = one.name.split()[0]
        right[task] += bool(fact.passed)
        all_[task] += 1
    same = [task for task in all_ if abs(100 * right[task] / all_[task] - told[task]["visible_accuracy"]) < 0.001]
    machine.say(f"  accuracy as published: {len(same)} of {len(all_)} tasks")


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("parts", nargs="*", default=["cases", "published", "made", "choice", "words"])
    parser.add_argument("--show", type=int, default=40, help="disagreements of each kind that are printed")
    parser.add_argument("--children", type=int, default=2, help="processes of the math grader")
    parser.add_argument("--limit", type=float, default=2.0, help="seconds that the clock gives an answer")
    parser.add_argument("--busy", action="store_true", help="measure although other programs run")
    parser.add_argument("--count", type=int, default=2000, help="made answers of each kind")
    given = parser.parse_args()
    machine.describe(["math-verify", "sympy"])
    maths = {"children": given.children}
    for part in given.parts:
        begun = time.monotonic()
        if part == "cases":
            for how in ("as they stand", "boxed"):
                cases = cases_of(given.data, how)
                machine.say(f"plain math-verify, {how}: {plain_math_verify(cases)} of {len(cases)}")
                report(f"cases, {how}", cases, judged("math", maths, cases), given.show)
        elif part == "made":
            references = references_of(given.data)
            for kind, make in (("right", right_answers), ("wrong", wrong_answers)):
                cases = [case(f"{one.kind} {number}", one.question, one.reference, one.answer, kind == "right")
                         for number, one in enumerate(make(references, given.count))]
                report(f"made, {kind}", cases, judged("math", maths, cases), given.show)
        elif part == "words":
            cases = words_of(given.data)
            facts = judged("exact", {"after": "So the answer is", "ignore_case": False}, cases)
            report("words", cases, facts, given.show)
            by_task(cases, facts, given.data)
        elif part == "published":
            cases = published_of(given.data)
            report("published", cases, judged("math", maths, cases), given.show)
        elif part == "clock":
            machine.check_idle(given.busy)
            race(clock_of(references_of(given.data)), given.limit)
        elif part == "choice":
            cases = choice_of(given.data)
            report("choice", cases, judged("choice", {}, cases), given.show)
        else:
            raise SystemExit(f"there is no part '{part}'")
        machine.say(f"  {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
