"""The grader of a benchmark may ask an engine: it is metered, capped and journalled like any judge of traces, it is
known before a run, and the student answers once whatever becomes of the judge."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from localdistill import Workspace, make_plan
from localdistill.core.errors import BudgetReached, PartialResult, RecipeError
from localdistill.core.events import Cancel, Emit, Warned
from localdistill.core.options import EngineName, Member
from localdistill.core.records import Reply
from localdistill.core.registry import Family
from localdistill.core.samples import TaskSample
from localdistill.engines import ENGINES
from localdistill.recipe import dump_recipe, parse_recipe, read_resolved
from localdistill.recipe.members import members_of
from localdistill.scorecard import ItemResult
from localdistill.stages.benchmarking import BASE, benches
from localdistill.stages.checking import check_recipe
from localdistill.stages.context import StageContext
from localdistill.stages.evaluate import answers_of
from localdistill.stages.export_scores import FormsMeasurer
from localdistill.stages.relay import EngineRelay
from localdistill.tasks import TASKS
from localdistill.tasks.items import FileTask
from localdistill.workspace.terms import engines_in, terms_in
from tests.doors import run_samples
from tests.helpers import CountingServer, counting_server
from tests.stages.test_collecting import FAST, Chain
from tests.stages.test_facts import paid, record
from tests.tiny_models import tiny_model
from tests.toys import listed, with_judge

ITEMS = 6


class JudgedTask(FileTask):
    """A benchmark that names the engine itself."""

    name, grader, is_guard, layout = "judged", "toy_judge", False, "prompts"

    class Options(FileTask.Options):
        """Where the items are, and who judges."""

        judge: EngineName = ""
        """The engine that judges."""

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """One item."""
        row = {"messages": [{"role": "user", "content": "Double 2"}], "reference": "4"}
        return (TaskSample([row], ["Double 2"], "4", "5", options={"judge": "strict"}, replies=[
            Reply("", "complete", answer=said) for said in ("right", "wrong")]),)

    def __init__(self, options: Options, source: Any = None) -> None:
        super().__init__(options, source)
        self.grader_options = {"judge": options.judge, "batch": 4}


class Student:
    """Doubles the number that it is asked; counts its questions."""

    name = "student"
    asked = 0
    fails = False

    def identity(self) -> str:
        return "sha256:student"

    def answer(self, requests: Any, emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        for request in requests:
            type(self).asked += 1
            if self.fails and Student.asked % 3 == 0:
                yield Reply(request.id, "error", error="too long")
                continue
            text = f"The answer is {2 * int(request.messages[-1].content.split()[1])}."
            yield Reply(request.id, "complete", answer=text, raw=text, finish_reason="stop")

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    with_judge(monkeypatch)
    listed(monkeypatch, TASKS, "judged", JudgedTask)
    monkeypatch.setattr(Student, "asked", 0)
    real = StageContext.member

    def member(self: StageContext, family: Family, member: Member) -> Any:
        is_student = family is ENGINES and member.use == "transformers"
        return Student() if is_student else real(self, family, member)

    monkeypatch.setattr(StageContext, "member", member)


@pytest.fixture
def judging() -> Iterator[CountingServer]:
    with counting_server() as made:
        yield made


def at(server: CountingServer, more: str = "") -> str:
    return f'use = "openai_compatible"\nbase_url = "{server.url}"\nmodel = "m"\n{FAST}\n{more}'


def recipe_of(root: Path, engine: str, task: str = "", top: str = "", more: str = "") -> str:
    rows = [{"messages": [{"role": "user", "content": f"Double {n}"}], "reference": str(2 * n)} for n in range(ITEMS)]
    (root / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "rows.jsonl").write_text(json.dumps({"messages": [
        {"role": "user", "content": "Half 1"}, {"role": "assistant", "content": "2"}]}) + "\n")
    task = task or 'use = "jsonl"\ngrader = { use = "toy_judge", judge = "strict", batch = 4 }'
    return (f'name = "t"\n{top}\n[engine.strict]\n{engine}\n[traces]\nown = {{ files = ["rows.jsonl"] }}\n[student]\n'
            f'model = "student"\n[evaluate]\nmax_tokens = 5\n[[evaluate.task]]\n{task}\npath = "items.jsonl"\n{more}')


OWN = 'use = "judged"\njudge = "strict"'


@pytest.fixture
def chain(tmp_path: Path, judging: CountingServer) -> Chain:
    tiny_model(tmp_path / "student", "llama", hidden=32)
    return Chain(tmp_path, recipe_of(tmp_path, at(judging)), {"stages": ["evaluate"]})


def evaluated(chain: Chain) -> tuple[ItemResult, ...]:
    context = chain.context()
    [bench] = benches(context)
    return answers_of(context, bench, BASE).items


def test_its_samples_hold(tmp_path: Path) -> None:
    run_samples(TASKS, "judged", tmp_path)


@pytest.mark.parametrize("task", ["", OWN])
def test_a_judge_scores_the_items_and_is_asked_once(chain: Chain, judging: CountingServer, task: str) -> None:
    chain.recipe = recipe_of(chain.root, at(judging), task)
    items = evaluated(chain)
    assert [item.score for item in items] == [1.0] * ITEMS and not any(item.undecided for item in items)
    assert set(judging.asked.values()) == {1} and judging.asked.total() == ITEMS == Student.asked
    assert chain.context().store.counts().replies == ITEMS, "the judge's replies are kept like a teacher's"
    assert evaluated(chain) == items and judging.asked.total() == ITEMS == Student.asked


def test_a_judge_is_asked_once_the_student_is_gone_whoever_comes_next(
        chain: Chain, judging: CountingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, seen = list[Student](), list[int]()
    monkeypatch.setattr(Student, "close", lambda self: closed.append(self))
    judging.broken = lambda number: bool(seen.append(len(closed)))  # type: ignore[func-returns-value]
    context = chain.context()
    with closing(EngineRelay(context)) as relay:
        answers_of(context, benches(context)[0], BASE, relay)
        assert seen == [1] * ITEMS


def test_another_judge_gives_other_answers_of_the_same_replies(chain: Chain, judging: CountingServer) -> None:
    evaluated(chain)
    record(chain.root / "judge.jsonl", [(f"Check {n} : The answer is {2 * n}.", "wrong") for n in range(ITEMS)])
    chain.recipe = recipe_of(chain.root, f'use = "replay"\npath = "{chain.root / "judge.jsonl"}"')
    assert [item.score for item in evaluated(chain)] == [0.0] * ITEMS
    assert Student.asked == ITEMS, "the student answered before"


def test_a_cap_inside_the_judge_pauses_and_the_student_answers_once(chain: Chain, judging: CountingServer) -> None:
    chain.recipe = recipe_of(chain.root, paid(judging), top="max_usd = 0.02")
    with pytest.raises(BudgetReached, match="the replies of jsonl: base are kept") as error:
        evaluated(chain)
    assert "--max-usd" in error.value.hint and chain.context().ledger.spent_usd <= 0.02
    first = judging.asked.total()
    assert 0 < first < ITEMS and Student.asked == ITEMS
    assert chain.run is not None
    chain.run.amend_request(max_usd=1.0)
    assert [item.score for item in evaluated(chain)] == [1.0] * ITEMS
    assert judging.asked.total() == ITEMS == Student.asked, "nothing is paid for, or answered, twice"


def test_a_judge_that_gives_no_reply_leaves_a_run_that_can_be_resumed(chain: Chain, judging: CountingServer) -> None:
    judging.broken = lambda number: number == 3
    with pytest.raises(PartialResult, match="1 of 6 questions to engines got no reply"):
        evaluated(chain)
    judging.broken, before = lambda number: False, judging.asked.copy()
    assert [item.score for item in evaluated(chain)] == [1.0] * ITEMS
    assert dict(judging.asked - before) == {"Check 3 : The answer is 6.": 1} and Student.asked == ITEMS


def test_a_judge_that_is_gone_is_no_reason_to_leave_a_form_out(
        chain: Chain, judging: CountingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be one of the figures of an export that nobody has."""
    context = chain.context()
    [bench] = benches(context)
    answers_of(context, bench, BASE)
    monkeypatch.setattr("localdistill.stages.export_scores.FormsMeasurer._context_tokens", lambda self, bench: 99)
    monkeypatch.setattr(Student, "answer", lambda self, requests, emit, cancel: (
        Reply(request.id, "complete", answer="7", raw="7", finish_reason="stop") for request in requests))
    judging.fail_all = True
    made = FormsMeasurer(context, BASE, chain.root / "student", "t-base")
    with pytest.raises(PartialResult, match="merged are kept"):
        made([])


@pytest.mark.parametrize(("reply", "reason"), [
    ("I like pie.", "says 'I like pie.'"), ({"answer": "right", "status": "length"}, "(length)")])
def test_what_a_judge_does_not_decide_counts_as_wrong_and_is_said(
        chain: Chain, reply: str | dict[str, object], reason: str) -> None:
    says: list[tuple[str, str | dict[str, object]]] = [(f"Check {n} : The answer is {2 * n}.", "right")
                                                       for n in range(ITEMS)]
    record(chain.root / "judge.jsonl", [*says[:2], (says[2][0], reply), *says[3:]])
    chain.recipe = recipe_of(chain.root, f'use = "replay"\npath = "{chain.root / "judge.jsonl"}"')
    items = evaluated(chain)
    assert [item.score for item in items] == [1, 1, 0, 1, 1, 1] and reason in items[2].undecided
    [warned] = [event.text for event in chain.events if isinstance(event, Warned)]
    assert "1 of 6 items could not be judged and count as wrong: 1 x the judge says" in warned


def test_where_there_is_no_reply_nobody_is_asked_about_it(
        chain: Chain, judging: CountingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Student, "fails", True)
    items = evaluated(chain)
    assert [bool(item.error) for item in items] == [False, False, True, False, False, True]
    assert judging.asked.total() == 4 and not any(item.undecided for item in items)


def test_it_is_found_by_the_type_of_its_option(tmp_path: Path) -> None:
    hosted = 'use = "openai_compatible"\nprovider = "openai"\nmodel = "m"'
    exported = '[arm.a]\nformat = "answer_only"\n[train]\n[export]\narm = "a"\n[[export.to]]\nuse = "gguf"\n'
    for task, role in (("", "grader toy_judge of the task jsonl"), (OWN, "task judged")):
        recipe = parse_recipe(recipe_of(tmp_path, hosted, task, more=exported))
        assert [(stage, who, use) for stage, who, use, _ in engines_in(recipe)] == [
            ("evaluate", role, "openai_compatible"), ("export", role, "openai_compatible")], "its key is at hand"
        [terms] = terms_in(recipe)
        assert terms.roles == (role,) and "openai" in terms.name
        assert read_resolved(dump_recipe(recipe)) == recipe
    placed = {one.key: one for one in members_of(parse_recipe(recipe_of(tmp_path, hosted)))}
    assert placed["evaluate.task.0.grader"].member.use == "toy_judge"


@pytest.mark.parametrize(("grader", "said"), [
    ('{ use = "toy_judge", judge = "strcit" }', "evaluate.task[0].grader.judge: there is no engine named 'strcit'; did "
     "you mean 'strict'?"),
    ('{ use = "toy_judge" }', "evaluate.task[0].grader.judge: 'toy_judge' needs an engine: name one of [engine]"),
    ('{ use = "toy_judge", judge = "strict", bathc = 3 }', "evaluate.task[0].grader.bathc: unknown key; did you mean "
     "'batch'?"),
    ('{ use = "toy_jugde" }', "evaluate.task[0].grader.use: there is no grader named 'toy_jugde'; did you mean"),
    ('{ judge = "strict" }', "evaluate.task[0].grader.use: says which grader to use"),
    ('"toy_jugde"', "evaluate.task[0].grader: there is no grader named 'toy_jugde'; did you mean 'toy_judge'?"),
    ('3', "evaluate.task[0].grader: is the name of a grader, or a table with use and its options"),
    ('"toy_judge"', "evaluate.task[0].grader.judge: 'toy_judge' needs an engine: name one of [engine]"),
])
def test_a_judge_that_cannot_be_is_one_line_at_its_key(tmp_path: Path, grader: str, said: str) -> None:
    text = recipe_of(tmp_path, 'use = "replay"\npath = "x"', f'use = "jsonl"\ngrader = {grader}')
    with pytest.raises(RecipeError) as refused:
        parse_recipe(text)
    lines = refused.value.message.splitlines()
    assert [line for line in lines if line.removeprefix("recipe: ").startswith(said)] and len(lines) == 1, lines


def test_an_engine_that_cannot_write_is_refused_before_anything_runs(chain: Chain) -> None:
    chain.recipe = recipe_of(chain.root, 'use = "replay"\npath = "absent.jsonl"')
    [problem] = check_recipe(parse_recipe(chain.recipe), chain.root)
    assert problem.key == "engine.strict.path" and "absent.jsonl" in problem.text


def test_the_plan_says_what_the_judge_will_take(chain: Chain, judging: CountingServer) -> None:
    def said() -> str:
        plan = make_plan(Workspace(chain.root), parse_recipe(chain.recipe), chain.root)
        return next(line.text for line in plan.lines if line.label == "grader")

    arms = '[arm.a]\nformat = "answer_only"\n[train]\nseeds = 3\n'
    chain.recipe = recipe_of(chain.root, paid(judging), more=arms)
    assert said().startswith(f"grader toy_judge of the task jsonl asks strict about at most {ITEMS * 4} answers;")
    assert "unknown until it was asked" in said()
    evaluated(chain)
    assert "about $0.12 ($0.12 to $0.12) if each is asked about once" in said()
    chain.recipe += "[evaluate.sampling]\ntemperature = 0.8\nsamples = 4\n"
    assert f"at most {ITEMS * 4 * 4} answers" in said() and "about $0.48" in said()
