"""What the grader `code` says of programs that are known to be right, and of as many that are known to be wrong.

    python -m benchmarks.code_proof [--humaneval FILE] [--mbpp FILE] [--mbpp-plus FILE] [--cruxeval FILE] [--children 2]

Right are the canonical solutions, said as a model would say them: in a fence between prose, and for HumanEval also as
the bare rest of the function. Wrong are, by rule: the same program whose function returns something that equals
nothing but claims to equal all (must fail, all of them), and the program with its first operator that can be turned
(`<` for `<=`, `+` for `-`, `and` for `or`, a number plus one) turned; of those, the ones that pass are listed, to be
read: they are equal to the original on what is tested. With MBPP+, turned programs that pass the base tests of MBPP
must fail on its further inputs, or give there what the original gives.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import machine
from localdistill.core.means import Means
from localdistill.core.records import Fact, Prompt, Trace
from localdistill.core.samples import asks
from localdistill.graders.code import CodeGrader
from localdistill.graders.code_tests import tests_of
from localdistill.interchange.files import read_prompts
from localdistill.safety.jail.cells import Limits
from localdistill.safety.jail.running import look_at_jail, run_script

SHOWN = 40
LIAR = "class _Yes:\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n" \
       "    def __hash__(self): return 0\n    def __bool__(self): return True\n"


@dataclass(frozen=True)
class Case:
    """One task, and a program that is right."""

    name: str
    prompt: Prompt
    program: str
    function: str
    rest: str = ""
    """The bare rest of the function that the question begins, where it begins one."""


def main() -> None:
    """Measure what is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("humaneval", "mbpp", "mbpp-plus", "cruxeval"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--children", type=int, default=2)
    arguments = parser.parse_args()
    machine.describe(["localdistill"])
    machine.check_idle(allowed=True)
    confinement = look_at_jail()
    machine.say(f"jail: level {confinement.level} ({confinement.text})")
    grader = CodeGrader(CodeGrader.Options(children=arguments.children))
    sets = {"HumanEval": (arguments.humaneval, humaneval), "MBPP": (arguments.mbpp, mbpp),
            "CRUXEval": (arguments.cruxeval, cruxeval)}
    for name, (path, read) in sets.items():
        if path is not None:
            prove(grader, name, list(read(path)))
    if arguments.mbpp_plus is not None:
        prove_plus(grader, list(mbpp_plus(arguments.mbpp_plus)))


def humaneval(path: Path) -> Iterator[Case]:
    """Rows as they are imported."""
    for prompt in read_prompts(path):
        function = str(prompt.metadata["entry_point"])
        yield Case(str(prompt.metadata["task_id"]), prompt, prompt.question + (prompt.original or ""), function,
                   prompt.original or "")


def mbpp(path: Path) -> Iterator[Case]:
    """Rows as they are imported."""
    for prompt in read_prompts(path):
        tests = tests_of(prompt)
        assert tests is not None
        yield Case(str(prompt.metadata["task_id"]), prompt, prompt.original or "", tests.names[0])


def cruxeval(path: Path) -> Iterator[Case]:
    """A function, one input, one output."""
    for row in map(json.loads, path.read_text().splitlines()):
        prompt = replace(asks(f"Write f ({row['id']})."), tests=f"assert f({row['input']}) == {row['output']}")
        yield Case(row["id"], prompt, row["code"], "f")


def prove(grader: CodeGrader, name: str, cases: Sequence[Case]) -> None:
    """Right ones, wrong ones, turned ones."""
    say_verdicts(f"{name}, right, in a fence", grader, [(case, fenced(case.program)) for case in cases], True)
    bare = [(case, case.rest) for case in cases if case.rest]
    if bare:
        say_verdicts(f"{name}, right, the rest of the function alone", grader, bare, True)
    say_verdicts(f"{name}, wrong, equals everything", grader,
                 [(case, fenced(lying(case.program, case.function))) for case in cases], False)
    turned = [(case, fenced(found)) for case in cases if (found := next(turned_of(case.program), None)) is not None]
    say_verdicts(f"{name}, wrong, first operator turned", grader, turned, False)


def say_verdicts(what: str, grader: CodeGrader, asked: Sequence[tuple[Case, str]], wanted: bool) -> list[Fact]:
    """Judge, and say how many came out as wanted, and which did not."""
    begin = time.perf_counter()
    facts = judged(grader, asked)
    wall = time.perf_counter() - begin
    other = [(case, fact) for (case, _), fact in zip(asked, facts) if fact.passed is not wanted]
    undecided = sum(fact.passed is None for fact in facts)
    machine.say(f"{what}: {len(asked) - len(other)} of {len(asked)} {'pass' if wanted else 'fail'}, {undecided} "
                f"undecided, {wall:.1f} s ({1000 * wall / max(1, len(asked)):.0f} ms each)")
    for case, fact in other[:SHOWN]:
        machine.say(f"    {case.name}: {fact.reason}")
    return facts


def judged(grader: CodeGrader, asked: Sequence[tuple[Case, str]]) -> list[Fact]:
    """What the grader says, in order."""
    pairs = [(case.prompt, Trace(f"t{number}", case.prompt.id, "proof", "proof", "", answer))
             for number, (case, answer) in enumerate(asked)]
    found = {fact.subject_id: fact for fact in grader.facts(pairs, Means())}
    return [found[trace.id] for _, trace in pairs]


def fenced(program: str) -> str:
    """As a chat model says it."""
    return f"Here is a solution.\n\n```python\n{program}\n```\n\nIt runs in linear time."


def lying(program: str, function: str) -> str:
    """The program, whose function returns what claims to equal everything."""
    return f"{program}\n\n{LIAR}\ndef {function}(*arguments, **keywords):\n    return _Yes()\n"


_OPERATORS: Mapping[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.Div: ast.Mult, ast.And: ast.Or, ast.Or: ast.And, ast.In: ast.NotIn, ast.NotIn: ast.In,
}


def turned_of(program: str) -> Iterator[str]:
    """The program with one operator or number turned, every way that there is, in the order of its text."""
    tree = ast.parse(program)
    places = [node for node in ast.walk(tree) if isinstance(node, ast.Compare | ast.BinOp | ast.BoolOp | ast.Constant)]
    for number in range(len(places)):
        own = copy.deepcopy(tree)
        node = [one for one in ast.walk(own)
                if isinstance(one, ast.Compare | ast.BinOp | ast.BoolOp | ast.Constant)][number]
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _OPERATORS:
            node.ops[0] = _OPERATORS[type(node.ops[0])]()
        elif isinstance(node, ast.BinOp | ast.BoolOp) and type(node.op) in _OPERATORS:
            node.op = _OPERATORS[type(node.op)]()
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            node.value += 1
        else:
            continue
        yield ast.unparse(own)


def mbpp_plus(path: Path) -> Iterator[dict[str, Any]]:
    """Rows with further inputs."""
    return (json.loads(line) for line in path.read_text().splitlines())


def prove_plus(grader: CodeGrader, rows: Sequence[Mapping[str, Any]]) -> None:
    """Programs that pass the base inputs and are wrong on the further ones."""
    right, wrong, same = [], [], 0
    for row in rows:
        base, more = cases_of(row, "base_input"), cases_of(row, "plus_input")
        if not base or not more:
            continue
        name = str(row["task_id"])
        right.append((case_of(name, row, [*base, *more]), fenced(row["canonical_solution"])))
        for program in turned_of(row["canonical_solution"]):
            if results(program, row["entry_point"], [one[0] for one in base]) != [one[1] for one in base]:
                continue
            if results(program, row["entry_point"], [one[0] for one in more]) == [one[1] for one in more]:
                same += 1
                continue
            wrong.append((case_of(name, row, base), case_of(name, row, [*base, *more]), fenced(program)))
            break
    machine.say(f"MBPP+: {len(rows)} rows, {len(right)} whose original answers inputs from JSON; {same} turned "
                "programs give what the original gives on all inputs")
    say_verdicts("MBPP+, right, all inputs", grader, right, True)
    say_verdicts("MBPP+, turned, on the base inputs (they pass there)", grader,
                 [(base, answer) for base, _, answer in wrong], True)
    say_verdicts("MBPP+, turned, on all inputs", grader, [(more, answer) for _, more, answer in wrong], False)


def case_of(name: str, row: Mapping[str, Any], pairs: Iterable[tuple[Any, str]]) -> Case:
    """Assertions of what the original gives."""
    function, atol = row["entry_point"], row["atol"]
    near = f"abs({function}(*%r) - %s) <= {atol!r}" if atol else f"{function}(*%r) == %s"
    prompt = replace(asks(row["prompt"]), tests=json.dumps([f"assert {near % pair}" for pair in pairs]))
    return Case(name, prompt, row["canonical_solution"], function)


def cases_of(row: Mapping[str, Any], which: str) -> list[tuple[Any, str]]:
    """Inputs, each with the text of what the original gives; without those that it does not take."""
    found = results(row["canonical_solution"], row["entry_point"], row[which])
    return [(given, said) for given, said in zip(row[which], found) if said != "!"]


def results(program: str, function: str, inputs: Sequence[Any]) -> list[str]:
    """What a program gives, as text; `!` where it raises or gives what its text does not say."""
    script = (f"{program}\n\nimport copy as _copy\nfor _given in {list(inputs)!r}:\n    try:\n"
              f"        _said = {function}(*_copy.deepcopy(_given))\n        _text = repr(_said)\n"
              "        print(_text if eval(_text) == _said else '!')\n    except Exception:\n        print('!')\n")
    ran = run_script(script, "", Limits(timeout_s=20))
    lines = ran.output.splitlines()
    return lines if len(lines) == len(inputs) and not ran.ended else ["!"] * len(inputs)


if __name__ == "__main__":
    main()
