"""Who says what of collected traces: judges that ask an engine are metered, journalled and asked nothing twice; a
batching judge never holds up the asking; and what was said decides what is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from localdistill import Workspace, make_plan, start
from localdistill.api.traces.judging import favourite_trace, judge, note_trace, tag_trace
from localdistill.core.errors import BudgetReached, PartialResult, RecipeError, UsageError
from localdistill.core.events import Warned
from localdistill.core.records import PERSON, Fact, Request
from localdistill.engines.replay import ReplayEngine
from localdistill.labels import LABELS
from localdistill.recipe import parse_recipe
from localdistill.stages import grade, rewrite, select
from localdistill.stages.checking import check_recipe
from localdistill.stages.outputs import GradeOutput, read_output
from localdistill.workspace.terms import engines_in, terms_in
from tests.helpers import CountingServer, counting_server, write_questions
from tests.stages.test_collecting import FAST, Chain
from tests.toys import ToyScorer, listed, with_judge


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    with_judge(monkeypatch)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every question that reaches a recording."""
    seen: list[str] = []
    reply = ReplayEngine._reply

    def counted(self: ReplayEngine, request: Request) -> object:
        seen.append(request.messages[-1].content)
        return reply(self, request)

    monkeypatch.setattr(ReplayEngine, "_reply", counted)
    return seen


def record(path: Path, rows: Sequence[tuple[str, dict[str, object] | str]]) -> None:
    said = [{"question": question, **({"answer": reply} if isinstance(reply, str) else reply)}
            for question, reply in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in said))


def recipe_of(root: Path, count: int, *, collecting: str = "", more: str = "", judging: str = "") -> str:
    """`count` questions to a recording, judged by another one."""
    questions = write_questions(root / "q.jsonl", count)
    engine = judging or f'use = "replay"\npath = "{root / "judge.jsonl"}"'
    return f"""
name = "t"
[prompts]
files = ["{questions}"]
[collect]
{collecting}
[teacher]
use = "replay"
path = "{root / 'said.jsonl'}"
[engine.strict]
{engine}
[[grade]]
use = "toy_judge"
judge = "strict"
{more}
[[filter]]
use = "verified"
"""


def answers(count: int, first_wrong: Sequence[int] = ()) -> list[tuple[str, str]]:
    """Recorded answers: the right one, after a wrong one to `first_wrong`."""
    return [(f"Double {n}", f"The answer is {2 * n + wrong}.") for n in range(count)
            for wrong in ((1, 0) if n in first_wrong else (0,))]


def verdicts(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """What a judge says of recorded answers."""
    return [(f"Check {question.split()[1]} : {answer}",
             "right" if answer == f"The answer is {2 * int(question.split()[1])}." else "wrong")
            for question, answer in pairs]


def facts_of(chain: Chain) -> list[Fact]:
    context = chain.context()
    ids = context.run.ids("collect")
    return [fact for facts in context.store.facts(ids).values() for fact in facts]


def test_a_batching_judge_is_no_deadlock_at_the_tail(tmp_path: Path, asked: list[str]) -> None:
    said = answers(7, first_wrong=(2, 5))
    record(tmp_path / "said.jsonl", said)
    record(tmp_path / "judge.jsonl", verdicts(said))
    chain = Chain(tmp_path, recipe_of(tmp_path, 7, collecting="samples = 3\nuntil_verified = true"))
    assert len(chain.collect()) == 9
    assert sorted(q for q in asked if q.startswith("Double")) == sorted(q for q, _ in said)
    assert [fact.passed for fact in facts_of(chain)].count(True) == 7 and len(facts_of(chain)) == 9
    before = list(asked)
    grade.run(context := chain.context())
    select.run(context)
    assert len(context.run.ids("select")) == 7 and asked == before, "what was judged is not judged again"


def test_the_same_question_is_asked_once_however_often_it_comes(tmp_path: Path, asked: list[str]) -> None:
    said = answers(5)
    record(tmp_path / "said.jsonl", said)
    record(tmp_path / "judge.jsonl", verdicts(said))
    chain = Chain(tmp_path, recipe_of(tmp_path, 5))
    chain.collect()
    grade.run(chain.context())
    first = facts_of(chain)
    assert len(first) == 5 and len(asked) == 10
    twice = recipe_of(tmp_path, 5, more='[[grade]]\nuse = "toy_judge"\njudge = "strict"\nbatch = 2')
    other = Chain(tmp_path, twice)
    other.collect()
    grade.run(other.context())
    scope = read_output(other.context().run, GradeOutput).scope
    assert scope is not None and len({variant for _, _, variant in scope}) == 2, "other options are another variant"
    assert len(facts_of(other)) == 10 and len(asked) == 10, "another run and another member ask nothing"
    chain.context().store.path.unlink()
    shutil.rmtree(Workspace(tmp_path).kept)  # with the facts: what is left is the journals of runs
    lost = Chain(tmp_path, recipe_of(tmp_path, 5), run=chain.run)
    lost.context().take_in_journals()
    assert len(Chain(tmp_path, recipe_of(tmp_path, 5)).collect()) == 5
    grade.run(lost.context())
    assert [fact.passed for fact in facts_of(lost)] == [True] * 5 and len(asked) == 10, "the journal has the replies"


@pytest.mark.parametrize(("reply", "reason"), [
    ("I like pie.", "says 'I like pie.'"), ({"answer": "right", "status": "length"}, "(length)"),
    ({"answer": "", "status": "refusal"}, "(refusal)"),
])
def test_a_judge_that_cannot_be_understood_leaves_it_undecided(
    tmp_path: Path, reply: str | dict[str, object], reason: str
) -> None:
    said = answers(3)
    record(tmp_path / "said.jsonl", said)
    record(tmp_path / "judge.jsonl", [verdicts(said)[0], (verdicts(said)[1][0], reply), verdicts(said)[2]])
    chain = Chain(tmp_path, recipe_of(tmp_path, 3))
    chain.collect()
    grade.run(context := chain.context())
    assert chain.counts("toy_judge@1") == {"right": 2, "undecided": 1}
    [undecided] = [fact for fact in facts_of(chain) if fact.passed is None]
    assert reason in undecided.reason and undecided.value is None
    select.run(context)
    assert len(context.run.ids("select")) == 2


def test_an_undecided_answer_is_asked_again_until_one_is_verified(tmp_path: Path) -> None:
    record(tmp_path / "said.jsonl", [("Double 0", "Perhaps."), ("Double 0", "The answer is 0.")])
    record(tmp_path / "judge.jsonl", [("Check 0 : Perhaps.", "Hm."), ("Check 0 : The answer is 0.", "right")])
    chain = Chain(tmp_path, recipe_of(tmp_path, 1, collecting="samples = 4\nuntil_verified = true"))
    assert [trace.answer for trace in chain.collect()] == ["Perhaps.", "The answer is 0."]


@pytest.fixture
def judging() -> Iterator[CountingServer]:
    with counting_server() as made:
        yield made


@pytest.mark.parametrize("collecting", ["", "samples = 2\nuntil_verified = true"])
def test_an_error_is_counted_and_asked_for_again(tmp_path: Path, judging: CountingServer, collecting: str) -> None:
    record(tmp_path / "said.jsonl", answers(4))
    judging.broken = lambda number: number == 3
    engine = f'use = "openai_compatible"\nbase_url = "{judging.url}"\nmodel = "m"\n{FAST}'
    chain = Chain(tmp_path, recipe_of(tmp_path, 4, collecting=f"{collecting}\nmay_fail = 0.0", judging=engine))
    if collecting:
        with pytest.raises(PartialResult, match="1 of 4 questions have no answer yet"):
            chain.collect()
    else:
        chain.collect()
        with pytest.raises(PartialResult, match="1 of 4 questions to engines got no reply: 1 x "):
            grade.run(chain.context())
    assert sum(fact.passed is True for fact in known(chain)) == 3
    judging.broken = lambda number: False
    before = judging.asked.copy()
    assert len(chain.collect()) == 4
    grade.run(chain.context())
    again = judging.asked - before
    assert dict(again) == {"Check 3 : The answer is 6.": 1}, "only what had no reply is asked again"
    assert sum(fact.passed is True for fact in facts_of(chain)) == 4


def test_a_judge_that_stays_silent_makes_nobody_ask_the_teacher_again(
        tmp_path: Path, judging: CountingServer) -> None:
    record(tmp_path / "said.jsonl", answers(4) * 2)
    judging.broken = lambda number: number == 3
    engine = f'use = "openai_compatible"\nbase_url = "{judging.url}"\nmodel = "m"\n{FAST}'
    verified = "samples = 2\ntemperature = 1.0\nuntil_verified = true\nmay_fail = 0.0"
    chain = Chain(tmp_path, recipe_of(tmp_path, 4, collecting=verified, judging=engine))
    for _ in range(2):
        with pytest.raises(PartialResult, match="1 of 4 questions have no answer yet"):
            chain.collect()
        assert chain.context().store.counts().traces == 4, "its answer is there and only waits for a verdict"
    judging.broken = lambda number: False
    assert len(chain.collect()) == 4 and chain.context().store.counts().traces == 4


def paid(server: CountingServer) -> str:
    server.usage = {"prompt_tokens": 10, "completion_tokens": 50}
    return (f'use = "openai_compatible"\nbase_url = "{server.url}"\nmodel = "m"\n{FAST}\nconcurrency = 2\n'
            "usd_per_million_input = 1.0\nusd_per_million_output = 100.0")


@pytest.mark.parametrize("collecting", ["", "samples = 2\nuntil_verified = true"])
def test_a_cap_that_is_reached_inside_a_judge_pauses_and_a_raised_one_goes_on(
    tmp_path: Path, judging: CountingServer, collecting: str
) -> None:
    record(tmp_path / "said.jsonl", answers(12))
    recipe = recipe_of(tmp_path, 12, collecting=collecting, judging=paid(judging), more="[[label]]\nuse = \"tries\"")
    chain = Chain(tmp_path, f"max_usd = 0.03\n{recipe}")

    def work() -> None:
        chain.collect()
        grade.run(chain.context())

    with pytest.raises(BudgetReached, match="kept") as error:
        work()
    assert "--max-usd" in error.value.hint and error.value.exit_code == 4
    first = sum(judging.asked.values())
    assert 0 < first < 12 and chain.context().ledger.spent_usd <= 0.03
    assert chain.context().store.counts().replies == first, "what was paid for is kept"
    with pytest.raises(BudgetReached):
        work()
    assert sum(judging.asked.values()) == first, "the cap holds over restarts"
    assert chain.run is not None
    chain.run.amend_request(max_usd=1.0)
    work()
    assert sum(judging.asked.values()) == 12, "nothing is paid for twice"
    assert sum(fact.passed is True for fact in facts_of(chain)) == 12


def known(chain: Chain) -> list[Fact]:
    """Every fact that is stored, of whatever was collected."""
    store = chain.context().store
    return [fact for facts in store.facts([trace.id for trace in store.traces()]).values() for fact in facts]


def test_who_judges_is_found_by_the_type_of_the_option(tmp_path: Path) -> None:
    hosted = 'use = "openai_compatible"\nprovider = "openai"\nmodel = "m"'
    recipe = parse_recipe(recipe_of(tmp_path, 1, judging=hosted))
    assert [(stage, role, use) for stage, role, use, _ in engines_in(recipe)] == [
        ("collect", "teacher", "replay"), ("grade", "grader toy_judge", "openai_compatible")]
    verified = parse_recipe(recipe_of(tmp_path, 1, judging=hosted, collecting="until_verified = true"))
    assert [(stage, role) for stage, role, _, _ in engines_in(verified)] == [
        ("collect", "teacher"), ("collect", "grader toy_judge"), ("grade", "grader toy_judge")], "its key is at hand"
    [terms] = terms_in(recipe)
    assert terms.roles == ("grader toy_judge",) and "openai" in terms.name


def test_a_judge_without_an_engine_or_with_an_unknown_one_is_one_clear_line(tmp_path: Path) -> None:
    record(tmp_path / "said.jsonl", answers(1))
    for name, said in (('"strcit"', "there is no engine named 'strcit'; did you mean 'strict'"),
                       ('""', r"grade\[0\].judge: 'toy_judge' needs an engine: name one of \[engine\]")):
        with pytest.raises(RecipeError, match=said):
            parse_recipe(recipe_of(tmp_path, 1).replace('judge = "strict"', f"judge = {name}"))


def test_a_judgement_outranks_the_graders_in_a_selection(tmp_path: Path) -> None:
    said = answers(4)
    record(tmp_path / "said.jsonl", said)
    record(tmp_path / "judge.jsonl", [*verdicts(said)[:3], (verdicts(said)[3][0], "wrong")])
    chain = Chain(tmp_path, recipe_of(tmp_path, 4))
    ids = [trace.id for trace in chain.collect()]
    grade.run(context := chain.context())
    workspace = context.workspace
    said_so = judge(workspace, ids[0], False, " a guess ")
    assert said_so.after.fact(ids[0]) == Fact(ids[0], *PERSON, "judgement", 0.0, False, reason="a guess")
    judge(workspace, ids[3], True)
    select.run(context)
    assert context.run.ids("select") == ids[1:]
    judge(workspace, ids[0], None)
    select.run(context)
    assert context.run.ids("select") == ids, "taken back"
    tag_trace(workspace, ids[0], ["short"])
    select.run(context)
    assert context.run.ids("select") == ids, "a tag is no verdict"
    with pytest.raises(UsageError, match="there is no trace 'b2:nothing' here"):
        judge(workspace, "b2:nothing", True)


def test_what_a_person_marked_is_a_condition_of_a_recipe_also_before_anybody_marked_anything(tmp_path: Path) -> None:
    said = answers(3)
    record(tmp_path / "said.jsonl", said)
    record(tmp_path / "judge.jsonl", verdicts(said))
    condition = "NOT list_contains(tags, 'bad') AND (favourite OR note = '')"
    chain = Chain(tmp_path, recipe_of(tmp_path, 3) + f'[[filter]]\nuse = "where"\ncondition = "{condition}"\n')
    ids = [trace.id for trace in chain.collect()]
    context = chain.context()
    check_recipe(context.recipe, tmp_path)
    grade.run(context)
    select.run(context)
    assert context.run.ids("select") == ids
    tag_trace(context.workspace, ids[0], ["bad", "short"])
    note_trace(context.workspace, ids[1], "look again")
    note_trace(context.workspace, ids[2], "shown around")
    favourite_trace(context.workspace, ids[2])
    select.run(context)
    assert context.run.ids("select") == ids[2:]


def test_an_answer_that_a_person_only_marked_is_accepted_as_the_graders_say(tmp_path: Path) -> None:
    record(tmp_path / "said.jsonl", answers(2, first_wrong=(1,)))
    text = recipe_of(tmp_path, 2, collecting="samples = 2\nuntil_verified = true").replace(
        '[[grade]]\nuse = "toy_judge"\njudge = "strict"', '[[grade]]\nuse = "exact"')
    chain = Chain(tmp_path, text)
    first = chain.collect()
    for trace in first:
        tag_trace(chain.context().workspace, trace.id, ["seen"])
    assert chain.collect() == first, "nothing is asked again"
    judge(chain.context().workspace, first[0].id, False)
    assert len(chain.collect()) == len(first) + 1, "one more try at what a person found wrong"


def test_labels_are_facts_that_a_where_can_name(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"Double {n}"}], "reference": str(2 * n),
             "metadata": {"steps": n}} for n in range(6)]
    record(tmp_path / "said.jsonl", answers(6, first_wrong=(1,)))
    labels = "".join(f'[[label]]\nuse = "{name}"\n' for name in ("steps", "tokens", "tries"))
    text = recipe_of(tmp_path, 6, collecting="samples = 2\nuntil_verified = true", more=labels + """
[[filter]]
use = "where"
condition = "tries = 1 AND steps >= 2 AND tokens_answer BETWEEN 1 AND 100 AND tokens_reasoning = 0"
[student]
model = "shipped:pantry/student"
""").replace('[[grade]]\nuse = "toy_judge"\njudge = "strict"', '[[grade]]\nuse = "exact"')
    write_rows(tmp_path / "q.jsonl", rows)
    chain = Chain(tmp_path, text)
    chain.collect()
    grade.run(context := chain.context())
    assert chain.counts("tries@1") == {"1": 5, "2": 1} and not context.reused_all
    select.run(context)
    kept = [prompt.question for prompt, _ in context.pairs(context.run.ids("select"))]
    assert kept == ["Double 2", "Double 3", "Double 4", "Double 5"]
    again = chain.context()
    grade.run(again)
    assert again.reused_all and not any(isinstance(event, Warned) for event in chain.events)


def write_rows(path: Path, rows: Sequence[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(("condition", "message", "hint"), [
    ("tries = 1 AND toy_judge = 1 AND person IS NULL", "", ""),
    ("tokens_answer < 10", "filter 'where': the condition 'tokens_answer < 10' names a column 'tokens_answer'",
     'add a [[label]] with use = "tokens"'),
    ("scroe = 1", "did you mean 'score'", "columns: trace_id, "),
    ("score =", "is no SQL expression", "a condition looks like"),
    ("score = 1; DROP TABLE traces", "the condition", ""),
])
def test_a_where_is_checked_before_anything_runs(tmp_path: Path, condition: str, message: str, hint: str) -> None:
    record(tmp_path / "said.jsonl", answers(1))
    text = recipe_of(tmp_path, 1, collecting="samples = 2\nuntil_verified = true")
    recipe = parse_recipe(f"{text}[[filter]]\nuse = \"where\"\ncondition = \"{condition}\"\n")
    record(tmp_path / "judge.jsonl", answers(1))
    if not message:
        assert check_recipe(recipe, tmp_path) == []
        return
    for ask in (lambda: make_plan(Workspace(tmp_path), recipe, tmp_path),
                lambda: start(Workspace(tmp_path), recipe, "", tmp_path)):
        with pytest.raises(RecipeError, match=message) as refused:
            ask()
        assert hint in refused.value.hint
    assert not list(tmp_path.glob("runs/*"))


def test_the_plan_says_what_a_judge_will_take(tmp_path: Path, judging: CountingServer) -> None:
    def said() -> str:
        recipe = parse_recipe(recipe_of(tmp_path, 12, judging=paid(judging)))
        [line] = [line for line in make_plan(Workspace(tmp_path), recipe, tmp_path).lines if line.label == "grader"]
        return line.text

    record(tmp_path / "said.jsonl", answers(12))
    assert said().startswith("grader toy_judge asks strict about at most 12 answers")
    assert "unknown until it was asked" in said()
    chain = Chain(tmp_path, recipe_of(tmp_path, 12, judging=paid(judging)))
    chain.collect()
    grade.run(chain.context())
    assert "about $0.06 ($0.06 to $0.06) if each is asked about once" in said()


def test_a_judge_looks_at_rewritten_traces_too_and_its_key_and_price_are_known(
        tmp_path: Path, judging: CountingServer, asked: list[str]) -> None:
    """With the same answers: it is asked nothing that it was asked before."""
    record(tmp_path / "said.jsonl", [(question, {"answer": answer, "reasoning": f"Okay. I count on, {n} + {n} = "
                                     f"{2 * n}. Fine, and that is all there is to be said of it in so many words."})
                                     for n, (question, answer) in enumerate(answers(6))])
    sets = '[traces]\nshort = { from = "teacher", rewrite = "extract" }\n'
    chain = Chain(tmp_path, recipe_of(tmp_path, 6, judging=paid(judging), more=sets))
    chain.collect()
    recipe = chain.context().recipe
    assert [(stage, role) for stage, role, _, _ in engines_in(recipe)] == [
        ("collect", "teacher"), ("grade", "grader toy_judge"), ("rewrite", "grader toy_judge")]
    [line] = [line for line in make_plan(Workspace(tmp_path), recipe, tmp_path).lines if line.label == "grader"]
    assert "at most 12 answers" in line.text
    for stage in (grade, select, rewrite):
        stage.run(context := chain.context())
    made = context.run.ids("rewrite-short")
    found = context.store.facts(made)
    assert len(made) == 6 and all(
        {fact.by: fact.passed for fact in found[trace]} == {"extract": True, "toy_judge": True} for trace in made)
    assert set(judging.asked.values()) == {1} and len(judging.asked) == 6


def test_a_scorer_with_another_tokenizer_is_one_line_and_goes_on_with_the_right_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token ids mean nothing to it: what it said of others is kept, and a resume asks only for the rest."""
    listed(monkeypatch, LABELS, "toy_scorer", ToyScorer)
    record(tmp_path / "said.jsonl", answers(3))
    record(tmp_path / "judge.jsonl", verdicts(answers(3)))

    def scored(*tokenizers: str) -> None:
        rows = [{"question": f"Double {n}", "token_ids": [5, 6], "tokenizer": tokenizer,
                 "scores": {"ids": [5, 6], "logprobs": [-0.5, -0.25 * n]}} for n, tokenizer in enumerate(tokenizers)]
        (tmp_path / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    scorer = (f'[engine.scorer]\nuse = "replay"\npath = "{tmp_path / "scores.jsonl"}"\n'
              '[[label]]\nuse = "toy_scorer"\nscorer = "scorer"\n')
    chain = Chain(tmp_path, recipe_of(tmp_path, 3, more=scorer))
    chain.collect()
    scored("mine", "another", "another")
    with pytest.raises(PartialResult) as stopped:
        grade.run(chain.context())
    assert "2 of 6 questions to engines got no reply" in stopped.value.message and "\n" not in stopped.value.message
    assert "made for the tokenizer mine, the recording holds those of another" in stopped.value.message
    assert chain.run is not None and f"resume {chain.run.id}" in stopped.value.hint
    said = [fact for fact in facts_of(chain) if fact.by == "toy_scorer"]
    assert [fact.value for fact in said] == [-0.5], "what was scored is kept"
    scored("mine", "mine", "mine")
    grade.run(chain.context())
    newest = {fact.subject_id: fact.value for fact in facts_of(chain) if fact.by == "toy_scorer"}
    assert sorted(newest.values()) == [-1.0, -0.75, -0.5]


def test_a_column_that_two_members_say_differently_is_no_ground_for_a_filter(tmp_path: Path) -> None:
    """What counts is the lowest score of all; the column of one name would hold whichever came last."""
    record(tmp_path / "said.jsonl", answers(1))
    record(tmp_path / "judge.jsonl", verdicts(answers(1)))

    def problems(second: str, condition: str) -> list[str]:
        more = f'{second}\n[[filter]]\nuse = "where"\ncondition = "{condition}"\n'
        return [problem.text for problem in check_recipe(parse_recipe(recipe_of(tmp_path, 1, more=more)), tmp_path)]

    other = '[[grade]]\nuse = "toy_judge"\njudge = "strict"\nbatch = 2'
    [said] = problems(other, "toy_judge = 1")
    assert "the column 'toy_judge' is said by more than one member" in said
    assert problems(other, "score = 1") == problems("", "toy_judge = 1") == []
    assert problems('[[grade]]\nuse = "toy_judge"\njudge = "strict"', "toy_judge = 1") == [], "the same twice is one"
