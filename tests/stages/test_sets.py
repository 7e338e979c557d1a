"""Sets of traces through the stages: each asked in its own way, nothing asked twice, filtered and rewritten set by set,
and arms of parts."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from localdistill import Workspace, parse_recipe
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.events import Counted
from localdistill.core.means import Means
from localdistill.core.options import Options as NoOptions
from localdistill.core.prompt_kinds import kind_of
from localdistill.core.records import Fact, Message, Prompt, Trace
from localdistill.labels import LABELS
from localdistill.labels.base import Measures
from localdistill.recipe import Member
from localdistill.rewrites.summarize import summary_request
from localdistill.stages import collect, grade, rewrite, select
from localdistill.stages.context import StageContext
from localdistill.stages.learning import candidates
from localdistill.stages.outputs import RewriteOutput, Selected, SelectOutput, read_output, scope_of_run
from localdistill.stages.sets import ArmPart, arm_parts, collected_ids, ids_of
from tests.helpers import CountingServer, counting_server, write_questions
from tests.stages.test_collecting import FAST, Chain
from tests.toys import listed


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with counting_server() as made:
        yield made


def recipe_of(root: Path, url: str, sets: str, rest: str = "", count: int = 8) -> str:
    questions = write_questions(root / "q.jsonl", count)
    engines = "".join(f'[engine.{name}]\nuse = "openai_compatible"\nbase_url = "{url}"\nmodel = "{name}"\n{FAST}\n'
                      for name in ("one", "two"))
    return (f'name = "t"\n[prompts]\nfiles = ["{questions}"]\n{engines}[traces]\n{sets}\n'
            f'[[grade]]\nuse = "exact"\n{rest}')


VERIFIED = '[[filter]]\nuse = "verified"\n'
ARMS = '[student]\nmodel = "shipped:pantry/student"\n[arm]\n'


def through(chain: Chain, *stages: object) -> StageContext:
    for stage in stages or (collect, grade, select, rewrite):
        context = chain.context()
        stage.run(context)  # type: ignore[attr-defined]
    return context


def test_every_set_is_asked_in_its_own_way_and_sets_of_one_engine_share_it(
    tmp_path: Path, server: CountingServer
) -> None:
    sets = ('plain = { ask = "one" }\ntold = { ask = "one", suffix = "Briefly." }\n'
            'both = { ask = ["one", "two"], system = "Be kind." }\n')
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, sets))
    traces = chain.collect()
    assert Counter(server.asked.values()) == {3: 8, 1: 8}, "what differs by its system prompt alone is one question"
    assert chain.counts("sets") == {"plain": 8, "told": 8, "both": 16} and len(traces) == 32
    context = chain.context()
    told = list(context.store.traces(context.run.ids("collect-told")))
    assert {trace.asked[-1].content.split("\n")[1] for trace in told if trace.asked} == {"Briefly."}
    assert chain.collect() == traces and sum(server.asked.values()) == 32, "nothing is asked twice"


def test_what_two_sets_ask_alike_is_asked_once_and_serves_both(tmp_path: Path, server: CountingServer) -> None:
    server.wrong_tries = lambda number: 2 if number == 3 else 0
    sets = ('tried = { ask = "one", samples = 3, until_verified = true, temperature = 0.5 }\n'
            'all = { ask = "one", samples = 2, temperature = 0.5 }\n')
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, sets))
    chain.collect()
    assert server.asked["Double 3"] == 3 and {server.asked[f"Double {n}"] for n in (0, 1, 2, 4)} == {2}
    context = chain.context()
    assert len(context.run.ids("collect-all")) == 16
    assert context.run.ids("collect") == context.run.ids("collect-tried"), "what it would have asked is its own as well"
    assert len(context.run.ids("collect-tried")) == 7 * 2 + 3


def test_one_model_under_two_names_is_asked_once(tmp_path: Path, server: CountingServer) -> None:
    text = recipe_of(tmp_path, server.url, 'a = { ask = "one" }\nb = { ask = ["one", "two"] }\n')
    chain = Chain(tmp_path, text.replace('model = "two"', 'model = "one"'))
    assert len(chain.collect()) == 8 and set(server.asked.values()) == {1}


def test_a_set_that_lacks_answers_is_named_and_the_others_are_kept(tmp_path: Path, server: CountingServer) -> None:
    sets = 'good = { ask = "one" }\nbad = { ask = "two", suffix = "x" }\n'
    with counting_server() as down:
        down.fail_all = True
        text = recipe_of(tmp_path, server.url, sets)
        head, tail = text.split("[engine.two]")
        chain = Chain(tmp_path, head + "[engine.two]" + tail.replace(server.url, down.url, 1))
        with pytest.raises(LocalDistillError) as caught:
            chain.collect()
        assert caught.value.exit_code == 3
        down.fail_all = False
        assert len(chain.collect()) == 16 and set(server.asked.values()) == {1}


@pytest.mark.parametrize(("prompt", "kind"), [
    (Prompt((Message("user", "q"),), "72"), "math"), (Prompt((Message("user", "q"),), "\\frac{a}{b}"), "math"),
    (Prompt((Message("user", "q"),), tests="assert f() == 1"), "code"),
    (Prompt((Message("user", "q"),), "(B)"), "choice"), (Prompt((Message("user", "q"),), "Paris"), "other"),
    (Prompt((Message("user", "q"),)), "other"),
    (Prompt((Message("user", "q"),), metadata={"constraints": [1]}), "instructions"),
    (Prompt((Message("user", "q"),), "72", metadata={"kind": "story"}), "story"),
])
def test_kinds_of_prompts_follow_from_their_rows(prompt: Prompt, kind: str) -> None:
    assert kind_of(prompt) == kind


def test_a_table_of_suffixes_goes_by_the_kind_of_prompt(tmp_path: Path, server: CountingServer) -> None:
    rows = [{"messages": [{"role": "user", "content": f"Double {n}"}], "reference": reference}
            for n, reference in enumerate(("0", "(B)", "Paris"))]
    text = recipe_of(tmp_path, server.url, 'a = { ask = "one", suffix = { math = "Box it.", other = "Go." } }\n'
                     'b = { ask = "two", suffix = { choice = "A letter." } }\n')
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Chain(tmp_path, text).collect()
    assert set(server.asked) == {"Double 0\nBox it.", "Double 1\nGo.", "Double 2\nGo.",
                                 "Double 0", "Double 1\nA letter.", "Double 2"}


def test_what_is_stored_is_taken_as_it_was_when_the_run_began(tmp_path: Path, server: CountingServer) -> None:
    first = Chain(tmp_path, recipe_of(tmp_path, server.url, 'a = { ask = "one" }\n', VERIFIED, 4))
    through(first, collect, grade, select)
    sets = ('new = { ask = "two" }\nold = { stored = "model LIKE \'%/one\' AND score = 1" }\n'
            'kept = { selection = "t" }\n')
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, sets, VERIFIED))
    context = through(chain, collect)
    assert {name: len(context.run.ids(f"collect-{name}")) for name in ("new", "old", "kept")} == {
        "new": 8, "old": 4, "kept": 4}
    Chain(tmp_path, recipe_of(tmp_path, server.url, 'a = { ask = "one" }\n')).collect()
    again = through(chain, collect)
    assert len(again.run.ids("collect-old")) == 4, "resuming takes no more in"
    with pytest.raises(UsageError, match="scor"):
        through(Chain(tmp_path, recipe_of(tmp_path, server.url, 'old = { stored = "scor = 1" }\n')), collect)
    with pytest.raises(UsageError, match="there is no selection 'tt'; did you mean 't'"):
        through(Chain(tmp_path, recipe_of(tmp_path, server.url, 'old = { selection = "tt" }\n')), collect)


FILLERS = ["of", "the", "red", "small", "round", "old", "new", "cold", "big", "soft", "dry", "thin", "kind"]


def thinking(number: int, wrong: bool = False) -> dict[str, object]:
    """A row with a trace that `extract` shortens: the longer, the greater the number."""
    told = f"I count {number} and {number} more {' '.join(FILLERS[:number // 3])}, {number} + {number} = {2 * number}."
    answer = f"<think>Okay. {told} Fine.</think>The answer is {2 * number + wrong}."
    return {"messages": [{"role": "user", "content": f"Double {number}"}, {"role": "assistant", "content": answer}],
            "reference": str(2 * number)}


def imported(root: Path, rest: str, sets: str = "") -> str:
    """Set `a` of 8 traces, every other one wrong, and set `b` of four more, which no filter looks at."""
    sets_of_rows = {"a": [thinking(n, n % 2 == 1) for n in range(1, 9)], "b": [thinking(n) for n in range(9, 13)]}
    for name, rows in sets_of_rows.items():
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (f'name = "t"\n[traces]\na = {{ files = ["a.jsonl"] }}\nb = {{ files = ["b.jsonl"], filter = [] }}\n{sets}'
            f'[[grade]]\nuse = "exact"\n{VERIFIED}{rest}')


def test_filters_work_set_by_set_and_an_arm_may_bring_its_own(tmp_path: Path) -> None:
    arms = ARMS + ('good = { traces = "a", format = "answer_only" }\n'
                   'every = { traces = ["a", "b"], format = "answer_only", filter = [] }\n'
                   'brief = { traces = "short", format = "reasoning_then_answer", '
                   'filter = [{ use = "length", unit = "characters", maximum = 65 }] }\n')
    chain = Chain(tmp_path, imported(tmp_path, arms, 'short = { from = ["a", "b"], rewrite = "extract" }\n'))
    context = through(chain, collect, grade, select)
    kept = read_output(context.run, SelectOutput).sets
    assert {name: (one.traces, one.kept) for name, one in kept.items()} == {
        "a": (8, 4), "b": (4, 4), "a@every": (8, 8), "b@every": (4, 4)}
    assert kept["a"] == Selected("t/a", 8, 4, {"verified": 4}) and kept["a@every"].selection == "t/a@every"
    assert {(e.trace_set, e.arm) for e in chain.events if isinstance(e, Counted) and e.what == "waterfall"} == {
        ("a", ""), ("b", ""), ("a", "every"), ("b", "every")}
    assert context.store.selection("t/b").trace_ids == tuple(collected_ids(context.run, "b"))
    context = through(chain, rewrite)
    good, every, brief = (arm_parts(context, arm)[0] for arm in context.recipe.arms)
    assert len(good.trace_ids) == 4 and len(every.trace_ids) == 12 and every.name == "a + b"
    made = ids_of(context.run, context.recipe, "short")
    assert len(made) == 8 and 0 < len(brief.trace_ids) < 8 and set(brief.trace_ids) < set(made)
    assert read_output(context.run, RewriteOutput).selected["short@brief"].kept == len(brief.trace_ids)


class LettersLabel(Measures):
    """How long the reasoning is."""

    name, version, Options = "letters", 1, NoOptions

    def __init__(self, options: NoOptions) -> None:
        self.options = options

    def applies(self, prompt: Prompt) -> bool:
        return True

    def facts(self, pairs: Iterable[tuple[Prompt, Trace]], means: Means) -> Iterator[Fact]:
        return (Fact(t.id, "letters", kind="label", value=float(len(t.reasoning))) for _, t in pairs)


def test_what_is_rewritten_is_judged_and_measured_like_the_rest(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewrite passes its own work: that does not make the summary of a wrong answer a right one."""
    listed(monkeypatch, LABELS, "letters", LettersLabel)
    rows = []
    for number in range(1, 9):
        told = str(2 * number + number % 2)
        said = json.dumps(thinking(number)).replace(f"= {2 * number}.", f"= {told}.").replace(
            f"is {2 * number}.", f"is {told}.")
        rows.append(said)
    (tmp_path / "mixed.jsonl").write_text("\n".join(rows))
    sets = ('all = { files = ["mixed.jsonl"], filter = [] }\nshort = { from = "all", rewrite = "extract" }\n'
            'right = { from = "all", rewrite = "extract", filter = [{ use = "verified" }] }\n'
            'even = { from = "all", rewrite = "extract", filter = [{ use = "where", '
            'condition = "letters % 2 = 0" }] }\n')
    chain = Chain(tmp_path, imported(tmp_path, '[[label]]\nuse = "letters"\n', sets))
    context = through(chain)
    scope = scope_of_run(context.run)
    [*told] = candidates(context.store, ids_of(context.run, context.recipe, "short"), scope)
    assert [one.passed for _, own in told for one in own] == [number % 2 == 0 for number in range(1, 9)]
    assert all(one.facts["letters"] == len(one.trace.reasoning) > 0 for _, own in told for one in own)
    assert len(ids_of(context.run, context.recipe, "right")) == 4
    even = sum(len(one.trace.reasoning) % 2 == 0 for _, own in told for one in own)
    assert len(ids_of(context.run, context.recipe, "even")) == even and 0 < even < 8
    counted = [(event.trace_set, dict(event.counts)) for event in chain.events
               if isinstance(event, Counted) and event.what == "exact@3"]
    assert counted == [("short", {"wrong": 4, "right": 4})], "what is judged is not judged again"


def test_a_set_may_be_made_from_one_that_was_made_itself(tmp_path: Path) -> None:
    sets = ('last = { from = "first", rewrite = "summarize", summarizer = "recorded" }\n'
            'first = { from = "a", rewrite = "extract" }\n')
    text = imported(tmp_path, '[engine.recorded]\nuse = "replay"\npath = "recording.jsonl"\n', sets)
    rows = []
    for number in (2, 4, 6, 8):
        prompt = Prompt((Message("user", f"Double {number}"),), str(2 * number))
        [told] = re.findall(r"Okay. (.*) Fine", str(thinking(number)))
        made = Trace("", prompt.id, "", "", told, "")
        rows.append({"messages": [{"role": "user", "content": summary_request(prompt, made)}],
                     "answer": f"{number} + {number} = {2 * number}."})
    (tmp_path / "recording.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chain = Chain(tmp_path, text)
    context = through(chain)
    assert list(read_output(context.run, RewriteOutput).verdicts) == ["first", "last"]
    first, last = (ids_of(context.run, context.recipe, name) for name in ("first", "last"))
    found = list(context.store.traces(last))
    assert [trace.reasoning for trace in found] == [f"{n} + {n} = {2 * n}." for n in (2, 4, 6, 8)]
    assert [trace.parent_id for trace in found] == first
    count = context.store.counts().traces
    assert through(chain).store.counts().traces == count, "what is made is not made again"


def test_parts_of_an_arm_keep_their_shares_and_weights(tmp_path: Path, server: CountingServer) -> None:
    arm = ARMS + ('mix = { parts = [{ traces = "a", format = "full_trace", share = 0.25, reasoning_weight = 0.5 }, '
                  '{ traces = "b", format = "answer_only", weight = 2.0 }, { traces = "b", format = "original" }] }\n')
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, 'a = { ask = "one" }\nb = { ask = "two" }\n', arm))
    context = through(chain, collect, grade, select)
    parts = arm_parts(context, context.recipe.arms[0])
    assert [(part.name, len(part.trace_ids), part.share, part.weight) for part in parts] == [
        ("a", 8, 0.25, 1.0), ("b as answer_only", 8, None, 2.0), ("b as original", 8, None, 1.0)]
    assert isinstance(parts[0], ArmPart) and parts[0].format.use == "full_trace"
    assert parts[0].format.options["reasoning_weight"] == 0.5 and isinstance(parts[1].format, Member)


def test_a_set_of_which_nothing_is_kept_is_named_where_somebody_needs_it(
    tmp_path: Path, server: CountingServer
) -> None:
    server.wrong_tries = lambda number: 9
    text = recipe_of(tmp_path, server.url, 'a = { ask = "one", filter = [] }\nb = { ask = "two" }\n', VERIFIED)
    through(Chain(tmp_path, text), collect, grade, select)
    needed = text + ARMS + 'x = { traces = "b", format = "answer_only" }\n'
    with pytest.raises(LocalDistillError, match="every trace of the set 'b' was removed"):
        through(Chain(tmp_path, needed), collect, grade, select)


def test_lists_of_a_run_that_is_older_than_sets_serve_its_one_set(tmp_path: Path, server: CountingServer) -> None:
    recipe = parse_recipe(recipe_of(tmp_path, server.url, 'a = { ask = "one" }\n'))
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, 'a = { ask = "one" }\n'))
    run = chain.context().run
    run.write_ids("collect", ["x", "y"])
    run.write_ids("select", ["x"])
    assert collected_ids(run, "a") == ["x", "y"] and ids_of(run, recipe, "a") == ["x"]
    assert Workspace(tmp_path).runs == run.path.parent
