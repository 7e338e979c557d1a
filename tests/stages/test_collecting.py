"""The collect stage with teachers behind a network: budgets, several teachers, pools, second tries, quarantine."""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from localdistill import Store, Workspace, budget_of, parse_recipe, render_trace
from localdistill.core.borders import BORDERS
from localdistill.core.errors import (
    BudgetReached,
    EngineUnavailable,
    LocalDistillError,
    PartialResult,
    SpendingUnknown,
    StoreError,
    UsageError,
)
from localdistill.core.events import Cancel, Counted, Event, Measured, Noted, Warned
from localdistill.core.records import Message, Prompt, Reply, Sampling, Trace, request_id, request_namer
from localdistill.engines.openai_compatible import OpenAICompatibleEngine, OpenAICompatibleOptions
from localdistill.spending.ledger import SpendLedger
from localdistill.spending.reading import state_spent
from localdistill.stages import collect, grade, rewrite, select
from localdistill.stages.asking import Asker, RequestQueue, Teacher, find_open
from localdistill.stages.context import StageContext
from localdistill.stages.export import strictest_terms
from localdistill.stages.outputs import CollectOutput, TermsOfUse, read_output
from localdistill.stages.rechecking import SilenceWatch
from localdistill.workspace.quarantine import read_quarantine
from localdistill.workspace.run_folder import RunFolder
from tests.helpers import CountingServer, counting_server, write_questions

FAST = "retries = 2\nbackoff_s = 0.01\npatience_s = 0.3\nfinish_s = 5"


@dataclass
class Chain:
    """One workspace with a recipe; every call of `collect` is a new process's worth of state in the same run."""

    root: Path
    recipe: str
    request: dict[str, object] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    run: RunFolder | None = None

    def context(self) -> StageContext:
        workspace = Workspace(self.root)
        recipe = parse_recipe(self.recipe)
        if self.run is None:
            self.run = RunFolder.create(workspace.runs, recipe, self.recipe, {
                "base": str(self.root), "stages": [], **self.request})
        self.events.clear()
        return StageContext(workspace, self.run, recipe, Store(workspace.store_path), self.events.append, Cancel())

    def collect(self) -> list[Trace]:
        context = self.context()
        collect.run(context)
        return list(context.store.traces(context.run.ids("collect")))

    def counts(self, what: str) -> dict[str, int]:
        return dict(next(e.counts for e in self.events if isinstance(e, Counted) and e.what == what))


def listening(root: Path, recipe: str, *stages: str) -> StageContext:
    """A stage of a new run of `recipe`; `heard` holds what it reports."""
    chain = Chain(root, recipe, {"stages": list(stages)})
    context = chain.context()
    context.heard = chain.events  # type: ignore[attr-defined]
    return context


def recipe_of(root: Path, count: int, *teachers: str, collecting: str = "", top: str = "") -> str:
    questions = write_questions(root / "q.jsonl", count)
    blocks = "\n".join(f'[[teacher]]\nuse = "openai_compatible"\n{FAST}\n{text}' for text in teachers)
    return (f'name = "t"\n{top}\n[prompts]\nfiles = ["{questions}"]\n[collect]\nmax_tokens = 50\n{collecting}\n'
            f'{blocks}\n[[grade]]\nuse = "exact"\n[[filter]]\nuse = "verified"\n')


def at(server: CountingServer, more: str = "", model: str = "m") -> str:
    return f'base_url = "{server.url}"\nmodel = "{model}"\n{more}'


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with counting_server() as made:
        yield made


def test_several_teachers_answer_the_same_prompts_side_by_side(tmp_path: Path, server: CountingServer) -> None:
    with counting_server() as second:
        chain = Chain(tmp_path, recipe_of(tmp_path, 20, at(server, 'name = "one"'), at(second, 'name = "two"', "n")))
        traces = chain.collect()
    assert Counter(trace.model.rsplit("/", 1)[1] for trace in traces) == {"m": 20, "n": 20}
    assert len({trace.prompt_id for trace in traces}) == 20
    assert sum(server.asked.values()) == sum(second.asked.values()) == 20
    assert chain.collect() == traces and sum(server.asked.values()) == 20, "nothing is asked twice"


def test_what_other_runs_lost_is_said_before_it_may_be_paid_for_again(tmp_path: Path, server: CountingServer) -> None:
    earlier = Chain(tmp_path, recipe_of(tmp_path, 4, at(server)))
    earlier.collect()
    assert earlier.run is not None
    lines = earlier.run.journal.read_bytes().splitlines(keepends=True)
    earlier.run.journal.write_bytes(b"".join(lines[:-1]))
    with closing(SpendLedger(earlier.run.calls)) as ledger:
        ledger.reserve(5, "host/m", 3, "0123456789abcdef")
    chain = Chain(tmp_path, recipe_of(tmp_path, 4, at(server)))
    chain.collect()
    lost = [event.text for event in chain.events if isinstance(event, Warned) and event.text.startswith("t-1")]
    assert len(lost) == 1 and f"its journal has lost {len(lines[-1]):,} of" in lost[0]
    batching = Chain(tmp_path, recipe_of(tmp_path, 5, at(server, "batch = true")))
    with pytest.raises(EngineUnavailable):  # this server takes no batches
        batching.collect()
    lost = [event.text for event in batching.events if isinstance(event, Warned) and event.text.startswith("t-1")]
    assert len(lost) == 2 and "t-1 handed in a batch of 3 requests to host/m, and the file" in lost[1]


def test_a_rejected_answer_is_asked_again_until_one_is_right(tmp_path: Path, server: CountingServer) -> None:
    server.wrong_tries = lambda number: {3: 1, 5: 2, 7: 9}.get(number, 0)
    recipe = recipe_of(tmp_path, 10, at(server), collecting="samples = 4\nuntil_verified = true")
    chain = Chain(tmp_path, recipe)
    traces = chain.collect()
    asked = {question: count for question, count in server.asked.items() if count > 1}
    assert asked == {"Double 3": 2, "Double 5": 3, "Double 7": 4}
    assert len(traces) == 10 + 1 + 2 + 3
    assert chain.counts("tries until verified") == {"1": 7, "2": 1, "3": 1, ">4": 1}
    context = chain.context()
    grade.run(context)
    prompts = list(context.store.prompts())
    labels = context.store.facts([p.id for p in prompts], [("tries", 1, "")])
    tries = {p.question: (labels[p.id][0].value, labels[p.id][0].metrics["asked"]) for p in prompts}
    assert (tries["Double 0"], tries["Double 5"], tries["Double 7"]) == ((1, 1), (3, 3), (None, 4))
    chain.collect()
    assert sum(server.asked.values()) == 16, "what is settled is not asked again"


def test_what_was_sent_is_kept_and_shown_where_it_is_not_the_prompts_own(
    tmp_path: Path, server: CountingServer
) -> None:
    own = Chain(tmp_path, recipe_of(tmp_path, 1, at(server))).collect()
    said = recipe_of(tmp_path, 1, at(server), collecting='suffix = "Be short."\nsystem = "Add."\nthinks = true')
    chain = Chain(tmp_path, said)
    sent = chain.collect()
    assert [(trace.asked, trace.thinks) for trace in own + sent] == [
        ((), None), ((Message("system", "Add."), Message("user", "Double 0\nBe short.")), True)]
    plain, marked = (render_trace(chain.context().store, trace.id).text for trace in own + sent)
    assert "[user]\nDouble 0\n\n[reasoning]" in plain and "as sent" not in plain and "[thinks]" not in plain
    assert "[system, as sent]\nAdd.\n\n[user, as sent]\nDouble 0\nBe short.\n\n[thinks] yes" in marked


def test_a_run_that_asks_for_one_answer_several_times_says_so(tmp_path: Path, server: CountingServer) -> None:
    def warned(collecting: str) -> list[str]:
        chain = Chain(tmp_path, recipe_of(tmp_path, 2, at(server), collecting=collecting))
        chain.collect()
        return [event.text for event in chain.events if isinstance(event, Warned)]

    assert [text.split(":")[0] for text in warned("samples = 2")] == ["collect.temperature"]
    assert warned("samples = 2\ntemperature = 0.5") == []


def test_second_tries_go_on_where_an_interrupted_run_left_them(tmp_path: Path, server: CountingServer) -> None:
    server.wrong_tries = lambda number: 2
    recipe = recipe_of(tmp_path, 4, at(server), collecting="samples = 2\nuntil_verified = true\nmay_fail = 1.0")
    Chain(tmp_path, recipe).collect()
    assert set(server.asked.values()) == {2}
    longer = Chain(tmp_path, recipe.replace("samples = 2", "samples = 5"))
    longer.collect()
    assert set(server.asked.values()) == {3}, "the two rejected answers are remembered, the third is right"


def test_a_cap_pauses_and_a_raised_one_goes_on(tmp_path: Path, server: CountingServer) -> None:
    server.usage = {"prompt_tokens": 10, "completion_tokens": 50}
    prices = "usd_per_million_input = 1.0\nusd_per_million_output = 100.0\nconcurrency = 4"
    recipe = recipe_of(tmp_path, 40, at(server, prices), top="max_usd = 0.1")
    chain = Chain(tmp_path, recipe)
    with pytest.raises(BudgetReached, match="cap") as error:
        chain.collect()
    assert error.value.exit_code == 4
    first = sum(server.asked.values())
    context = chain.context()
    assert 0 < first < 40 and context.ledger.spent_usd <= 0.1
    assert len(list(context.store.traces())) == first, "what was paid for is kept"
    with pytest.raises(BudgetReached):
        chain.collect()
    assert sum(server.asked.values()) == first, "the cap holds over restarts"
    assert chain.run is not None
    chain.run.amend_request(max_usd=5.0)
    traces = chain.collect()
    assert len(traces) == 40 and sum(server.asked.values()) == 40
    spent = chain.context().ledger.spent_usd
    assert spent == pytest.approx(40 * (10 * 1.0 + 50 * 100.0) / 1e6)
    assert sum(trace.cost_usd or 0 for trace in traces) == pytest.approx(spent)


@pytest.mark.parametrize("lost", ["ledger", "ledger and size", "ledger, size and journal", "end of the ledger"])
def test_a_capped_run_that_lost_its_ledger_asks_nothing_until_somebody_says_what_was_spent(
        tmp_path: Path, server: CountingServer, lost: str) -> None:
    server.usage = {"prompt_tokens": 10, "completion_tokens": 50}
    prices = "usd_per_million_input = 1.0\nusd_per_million_output = 100.0\nconcurrency = 4"
    chain = Chain(tmp_path, recipe_of(tmp_path, 40, at(server, prices), top="max_usd = 0.1"))
    with pytest.raises(BudgetReached):
        chain.collect()
    asked, run = sum(server.asked.values()), chain.run
    assert run is not None and asked
    spent = budget_of(run).spent_usd
    run.path.joinpath("events.jsonl").write_text(
        "".join(json.dumps(e.to_json()) + "\n" for e in chain.events if e.is_fact))
    if lost == "end of the ledger":
        run.calls.write_bytes(run.calls.read_bytes()[:-300])
    else:
        run.calls.unlink()
    if "size" in lost:
        run.calls.with_name("calls.jsonl.size").unlink()
    if "journal" in lost:
        run.journal.unlink()
    with pytest.raises(SpendingUnknown) as caught:
        chain.collect()
    assert f"resume {run.id} --spent USD" in caught.value.hint and sum(server.asked.values()) == asked
    assert budget_of(run).problem
    state_spent(run.calls, spent)
    with pytest.raises(BudgetReached, match="the cap of"):
        chain.collect()
    assert sum(server.asked.values()) == asked and budget_of(run).problem == ""
    run.amend_request(max_usd=5.0)
    assert len(chain.collect()) == 40


def test_a_capped_run_that_asked_nobody_needs_no_ledger(tmp_path: Path, server: CountingServer) -> None:
    prices = "usd_per_million_input = 1.0\nusd_per_million_output = 1.0"
    chain = Chain(tmp_path, recipe_of(tmp_path, 2, at(server, prices), top="max_usd = 0.1"))
    chain.context()
    assert chain.run is not None and budget_of(chain.run).problem == ""
    assert len(chain.collect()) == 2


def test_a_cap_without_a_price_is_refused_before_anything_is_sent(tmp_path: Path, server: CountingServer) -> None:
    with pytest.raises(UsageError, match="price"):
        Chain(tmp_path, recipe_of(tmp_path, 3, at(server), top="max_usd = 1.0")).collect()
    assert not server.asked


@pytest.mark.usefixtures("unheard_of")
def test_the_words_of_a_stranger_carry_terms_that_nobody_knows(tmp_path: Path) -> None:
    """From the engine's silence over the trace to the model card."""
    questions = write_questions(tmp_path / "q.jsonl", 2)
    recipe = f'name = "t"\n[prompts]\nfiles = ["{questions}"]\n[teacher]\nuse = "unheard_of"\n'
    chain = Chain(tmp_path, recipe)
    traces = chain.collect()
    assert [trace.terms for trace in traces] == ["unknown:unheard_of"] * 2
    said = strictest_terms(chain.context().store.terms([trace.id for trace in traces]))
    assert said == TermsOfUse("unknown", ("unheard_of (unknown)",))
    with pytest.raises(UsageError, match="price"):
        Chain(tmp_path / "capped", recipe.replace("[prompts]", "max_usd = 1.0\n[prompts]")).collect()


@pytest.mark.usefixtures("unheard_of")
def test_what_a_stranger_rewrote_carries_its_terms(tmp_path: Path, server: CountingServer) -> None:
    rewriting = '[[rewrite]]\nname = "short"\nuse = "summarize"\nengine = { use = "unheard_of" }\n'
    chain = Chain(tmp_path, recipe_of(tmp_path, 2, at(server)) + rewriting)
    asked = chain.collect()
    for stage in (grade, select, rewrite):
        context = chain.context()
        stage.run(context)
    written = [trace for trace in context.store.traces() if trace.parent_id]
    assert len(written) == 2 and {trace.terms for trace in asked} == {""}
    assert context.store.terms([trace.id for trace in written]) == ["unknown:unheard_of"]


def test_the_cost_of_a_kept_trace_counts_the_rejected_ones(tmp_path: Path, server: CountingServer) -> None:
    server.wrong_tries = lambda number: number % 2
    prices = "usd_per_million_input = 0.0\nusd_per_million_output = 1000.0"
    chain = Chain(tmp_path, recipe_of(tmp_path, 10, at(server, prices)))
    chain.collect()
    context = chain.context()
    grade.run(context)
    select.run(context)
    each = next(e.value for e in chain.events if isinstance(e, Measured) and e.name == "usd_per_kept_trace")
    assert each == pytest.approx(10 * 9 * 1000 / 1e6 / 5)
    assert any("per kept trace" in e.text for e in chain.events if isinstance(e, Noted))


def test_unreadable_bodies_go_to_quarantine_with_their_bytes(tmp_path: Path, server: CountingServer) -> None:
    server.broken = lambda number: number == 2
    chain = Chain(tmp_path, recipe_of(tmp_path, 5, at(server), collecting="may_fail = 0.5"))
    assert len(chain.collect()) == 4
    assert chain.run is not None
    (kept,) = read_quarantine(chain.run.quarantine)
    assert kept.body == b"\xff\xfe<html>\x00" and "no JSON" in kept.error
    assert any("quarantine" in e.hint for e in chain.events if isinstance(e, Warned))
    server.broken = lambda number: False
    assert len(chain.collect()) == 5, "a resume asks again for exactly that one"
    assert server.asked["Double 1"] == 1


def test_a_pool_goes_on_without_the_servers_that_fail(tmp_path: Path, server: CountingServer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with counting_server() as broken, counting_server(0.002) as slow:
        broken.fail_all = True
        places = ", ".join(f'{{ base_url = "{url}" }}' for url in (server.url, slow.url, broken.url, gone))
        pool = f'endpoints = [{places}]\nmodel = "m"\nconcurrency = 4'.replace(FAST, "")
        chain = Chain(tmp_path, recipe_of(tmp_path, 200, pool).replace("retries = 2", "retries = 20"))
        traces = chain.collect()
        assert sum(slow.asked.values()) > 0 and sum(server.asked.values()) > 0
        assert sum(slow.asked.values()) + sum(server.asked.values()) == 200
    assert len(traces) == 200 and {trace.model for trace in traces} == {"pool/m"}
    assert chain.counts("replies") == {"complete": 200}


def test_a_pool_in_which_all_fail_ends_resumable(tmp_path: Path, server: CountingServer) -> None:
    server.fail_all = True
    with counting_server() as other:
        other.fail_all = True
        places = ", ".join(f'{{ base_url = "{url}" }}' for url in (server.url, other.url))
        chain = Chain(tmp_path, recipe_of(tmp_path, 20, f'endpoints = [{places}]\nmodel = "m"'))
        with pytest.raises((EngineUnavailable, PartialResult)) as error:
            chain.collect()
        assert error.value.exit_code == 3
        other.fail_all = False
        assert len(chain.collect()) == 20


def test_an_error_of_one_teacher_keeps_what_the_other_said(tmp_path: Path, server: CountingServer) -> None:
    with counting_server() as down:
        down.fail_all = True
        chain = Chain(tmp_path, recipe_of(tmp_path, 12, at(server), at(down, model="n")))
        with pytest.raises(LocalDistillError) as error:
            chain.collect()
        assert error.value.exit_code == 3
        stored = Counter(t.model.rsplit("/", 1)[1] for t in chain.context().store.traces())
        assert set(stored) <= {"m"}
        down.fail_all = False
        assert Counter(t.model.rsplit("/", 1)[1] for t in chain.collect()) == {"m": 12, "n": 12}
        assert set(server.asked.values()) == {1}


def test_a_sample_asks_evenly_spaced_prompts_and_they_are_kept(tmp_path: Path, server: CountingServer) -> None:
    recipe = recipe_of(tmp_path, 100, at(server))
    assert len(Chain(tmp_path, recipe, {"sample": 5}).collect()) == 5
    assert set(server.asked) == {f"Double {i}" for i in (0, 20, 40, 60, 80)}
    assert len(Chain(tmp_path, recipe).collect()) == 100
    assert set(server.asked.values()) == {1}


def test_names_of_requests_are_the_same_by_either_way() -> None:
    messages = (Message("system", "s“\ud800"), Message("user", 'a "b"\n'))
    for sampling in (Sampling(), Sampling(7, 0.5, 0.9, 3, 11, ("x", "é")), Sampling(json_schema="{}")):
        for thinks in (None, True, False):
            name = request_namer("e", "m\"", sampling, thinks)
            for index in (0, 3):
                assert name(messages, index) == request_id("e", "m\"", messages, sampling, index, thinks)


def engine() -> OpenAICompatibleEngine:
    return OpenAICompatibleEngine(OpenAICompatibleOptions(model="m", base_url="http://127.0.0.1:9/v1"))


def asked_by(text: str = "") -> tuple[Asker, list[Prompt]]:
    members = '[prompts]\nfiles = ["q.jsonl"]\n[[teacher]]\nuse = "replay"\npath = "x"\n[[grade]]\nuse = "exact"\n'
    recipe = parse_recipe(f'name = "t"\n[collect]\nsamples = 2\nsuffix = "Think."\n{text}\n{members}')
    return Asker(recipe.asked[0], engine()), [Prompt((Message("user", f"q{n}"),)) for n in range(8)]


@pytest.mark.parametrize("held", [0, 2, 100])
def test_what_is_answered_is_counted_and_what_is_open_is_asked_once(monkeypatch: pytest.MonkeyPatch,
                                                                    held: int) -> None:
    monkeypatch.setattr(BORDERS, "block_prompts", 3)
    monkeypatch.setattr(BORDERS, "held_questions", held)
    monkeypatch.setattr(BORDERS, "fetched_prompts", 2)
    asker, prompts = asked_by()
    every = [request.id for prompt in prompts for request in asker.question(prompt).requests]
    answered = {*every[:6], every[9]}
    kept: list[Prompt] = []
    looked_up: list[int] = []
    fetched: list[list[str]] = []

    def stored(ids: list[str]) -> set[str]:
        looked_up.append(len(ids))
        return answered.intersection(ids)

    def fetch(ids: list[str]) -> list[Prompt]:
        fetched.append(ids)
        return [prompt for prompt in prompts if prompt.id in ids]

    teachers = [Teacher(name, engine(), asker, "m", "") for name in "ab"]
    same = [replace(prompts[n], reference="another") for n in (0, 6)]
    assert find_open(teachers, iter(prompts + same), stored, kept.extend) == 7
    assert kept == prompts[3:] and looked_up == [12, 12, 8]
    for teacher in teachers:
        assert teacher.ids == every and teacher.unasked == set(every) - answered
        assert len(teacher.questions) == min(held, 5)
        queue = RequestQueue(teacher, fetch)
        assert len(queue) == 9
        taken = [request for size in (2, 4, 100) for request in queue.take(size)]
        assert [request.id for request in taken] == [key for key in every if key not in answered]
        assert [queue.question(request.id).prompt for request in taken] == [
            prompts[every.index(request.id) // 2] for request in taken]
        assert not queue and not queue.take(1)
        queue.answered(taken[0].id, True)
        queue.gave_up(taken[1].id)
        assert not queue
    later = [prompt.id for prompt in prompts[3 + held:]]
    assert fetched == [later[at:at + 2] for at in range(0, len(later), 2)] * 2


def test_what_is_verified_is_held_whole_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BORDERS, "held_questions", 0)
    asker, prompts = asked_by("until_verified = true")
    every = [request.id for prompt in prompts for request in asker.question(prompt).requests]
    teacher = Teacher("a", engine(), asker, "m", "", until_verified=True)
    find_open([teacher], prompts, lambda ids: {every[0]}.intersection(ids), lambda _: None)
    assert [question.prompt for question in teacher.questions] == prompts
    teacher.questions[0].tries, teacher.questions[0].accepted = 1, True
    queue = RequestQueue(teacher, lambda _: [])
    assert len(queue) == 7
    first = queue.take(2)
    assert [request.id for request in first] == [every[2], every[4]]
    queue.answered(every[2], False)
    queue.answered(every[4], True)
    assert len(queue) == 6 and [request.id for request in queue.take(2)] == [every[3], every[6]]
    queue.answered(every[3], False)
    assert len(queue) == 4, "both tries of this one are used up"


def test_a_file_that_changes_or_goes_while_a_run_asks_changes_nothing(
    tmp_path: Path, server: CountingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BORDERS, "held_questions", 2)
    monkeypatch.setattr(BORDERS, "fetched_prompts", 5)
    chain = Chain(tmp_path, recipe_of(tmp_path, 40, at(server)))
    keep = collect._keep

    def keep_and_remove(context: StageContext, prompts: Sequence[Prompt]) -> None:
        keep(context, prompts)
        (tmp_path / "q.jsonl").unlink(missing_ok=True)

    monkeypatch.setattr(collect, "_keep", keep_and_remove)
    traces = chain.collect()
    assert len(traces) == 40 and set(server.asked.values()) == {1}
    assert len(list(chain.context().store.pairs([trace.id for trace in traces]))) == 40


def test_a_store_that_fails_ends_the_reading() -> None:
    asker, prompts = asked_by()
    with pytest.raises(StoreError, match="gone"):
        find_open([Teacher("a", engine(), asker, "m", "")], prompts, gone, lambda _: None)


def gone(ids: list[str]) -> set[str]:
    raise StoreError("gone", "")


def test_marks_that_nobody_knows_are_counted_and_told_when_they_come(tmp_path: Path, server: CountingServer) -> None:
    server.preface = "<|musing|>Twice as many.<|/musing|>"
    chain = Chain(tmp_path, recipe_of(tmp_path, 3, at(server)))
    assert all(trace.answer.startswith("<|musing|>") for trace in chain.collect())
    [warned] = [event for event in chain.events if isinstance(event, Warned)]
    assert "3 x <|musing|>" in warned.text and "text_marks" in warned.hint
    assert chain.counts("unknown marks") == {"<|musing|>": 3}
    assert chain.run is not None and read_output(chain.run, CollectOutput).unknown_marks == {"<|musing|>": 3}


def test_marks_that_nobody_knows_are_counted_and_told_when_files_are_taken_in(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": text}]}
            for n, text in enumerate(("<deep_thought>Hm.</deep_thought>It is 6.", "It is 6.", "<b>It</b> is 6."))]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    chain = Chain(tmp_path, 'name = "t"\n[traces]\nfiles = ["rows.jsonl"]\n')
    assert len(chain.collect()) == 3
    assert chain.counts("unknown marks") == {"<deep_thought>": 1}
    [warned] = [event for event in chain.events if isinstance(event, Warned)]
    assert "1 x <deep_thought>" in warned.text


ARM = '\n[student]\nmodel = "tiny"\n[arm.a]\ntraces = "teacher"\nformat = "{format}"\n'


@pytest.mark.parametrize(("collecting", "arm"), [
    ("thinks = true", ""), ("", ARM.format(format="full_trace")), ("", ARM.format(format="reasoning_then_answer")),
])
def test_a_teacher_that_is_to_think_and_shows_nothing_of_it_is_not_asked_on(
        tmp_path: Path, server: CountingServer, collecting: str, arm: str) -> None:
    server.thinks_in = "inner_voice"
    recipe = recipe_of(tmp_path, 60, at(server, "concurrency = 2"), collecting=collecting) + arm
    chain = Chain(tmp_path, recipe)
    with pytest.raises(PartialResult) as stopped:
        chain.collect()
    stored = Store(Workspace(tmp_path).store_path).traces()
    assert 8 <= len(list(stored)) == sum(server.asked.values()) < 60
    assert "none of its first 8 replies shows reasoning" in stopped.value.message
    assert "content, inner_voice" in stopped.value.message and "reasoning_fields" in stopped.value.hint
    assert f"{sum(server.asked.values())} of 60 answers are kept" in stopped.value.message
    chain.recipe = recipe.replace("concurrency = 2", 'reasoning_fields = ["inner_voice"]')
    chain.run = None
    assert len(chain.collect()) == 60 and set(server.asked.values()) == {1}


@pytest.mark.parametrize(("collecting", "arm"), [
    ("thinks = true\nreasoning_within = 0", ""), ("thinks = false", ARM.format(format="full_trace")),
    ("", ARM.format(format="answer_only")), ("", ""),
])
def test_answers_without_reasoning_are_taken_where_none_is_wanted(
        tmp_path: Path, server: CountingServer, collecting: str, arm: str) -> None:
    server.thinks_in = "inner_voice"
    assert len(Chain(tmp_path, recipe_of(tmp_path, 20, at(server), collecting=collecting) + arm).collect()) == 20


def test_one_reply_with_reasoning_shows_that_a_teacher_thinks(tmp_path: Path) -> None:
    watch = SilenceWatch(3)
    for reasoning in ("", "", "So.", "", "", "", ""):
        watch.saw(Reply("q", "complete", reasoning, "7"))
    failed = SilenceWatch(2)
    for _ in range(5):
        failed.saw(Reply("q", "error"))
        failed.saw(Reply("q", "refusal", answer="No."))
    assert not watch.fired and not failed.fired
