"""Several replies to each item, and measurements that were killed: what is asked, what is kept, what the card says."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localdistill import Workspace, make_plan
from localdistill.core.errors import RecipeError
from localdistill.core.events import Cancel, Emit, Noted
from localdistill.core.options import Member
from localdistill.core.records import Reply, Request, Usage
from localdistill.core.registry import Family
from localdistill.engines import ENGINES
from localdistill.recipe import parse_recipe
from localdistill.scorecard import ScoreCards
from localdistill.stages import evaluate
from localdistill.stages.benchmarking import BASE, MeasuredAnswers, benches
from localdistill.stages.context import StageContext
from localdistill.stages.evaluate import answers_of
from localdistill.stages.outputs import SCORECARD_FILE, EvaluateOutput, read_output
from localdistill.workspace.forgetting import forget, plan_forgetting
from tests.stages.test_collecting import Chain
from tests.tiny_models import tiny_model

ITEMS, IN_FLIGHT = 6, 3
SAMPLED = "[evaluate.sampling]\ntemperature = 0.7\ntop_p = 0.9\nsamples = 4\nseed = 8\n"


class Student:
    """Doubles the number that it is asked; when it is warm it errs as often as the number says. Holds a few questions
    in flight, and writes down what it pulls."""

    name = "student"
    asked: list[Request] = []
    breaks_at = 10**9
    log = ""

    def identity(self) -> str:
        return "sha256:student"

    def computes_with(self) -> dict[str, str]:
        return {"dtype": "float32", "weights": "as stored"}

    def answer(self, requests: Any, emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        flying: list[Request] = []
        for request in requests:
            Student.asked.append(request)
            if self.log:
                with open(self.log, "a") as file:
                    file.write(f"{request.id}\n")
                time.sleep(0.002)
            flying.append(request)
            if len(flying) == IN_FLIGHT:
                yield self.reply(flying.pop(0))
            if len(Student.asked) == self.breaks_at:
                raise KeyboardInterrupt
        yield from map(self.reply, flying)

    def reply(self, request: Request) -> Reply:
        number = int(request.messages[-1].content.split()[1])
        drawn = hashlib.sha256(f"{number} {request.sampling.seed} {request.sample_index}".encode()).digest()[0] % ITEMS
        wrong = request.sampling.temperature > 0 and drawn < number
        text = f"The answer is {2 * number + wrong}."
        return Reply(request.id, "complete", answer=text, raw=text, finish_reason="stop")

    def close(self) -> None:
        pass


def with_student(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Student, "asked", [])
    real = StageContext.member

    def member(self: StageContext, family: Family, member: Member) -> Any:
        is_student = family is ENGINES and member.use == "transformers"
        return Student() if is_student else real(self, family, member)

    patch.setattr(StageContext, "member", member)


def recipe_of(root: Path, sampling: str = "", items: int = ITEMS) -> str:
    rows = [{"messages": [{"role": "user", "content": f"Double {n}"}], "reference": str(2 * n)} for n in range(items)]
    (root / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "rows.jsonl").write_text(json.dumps({"messages": [
        {"role": "user", "content": "Half 1"}, {"role": "assistant", "content": "2"}]}) + "\n")
    return ('name = "t"\n[traces]\nown = { files = ["rows.jsonl"] }\n[student]\nmodel = "student"\n[evaluate]\n'
            f'max_tokens = 5\n{sampling}[[evaluate.task]]\nuse = "jsonl"\ngrader = "exact"\npath = "items.jsonl"\n')


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    with_student(monkeypatch)
    tiny_model(tmp_path / "student", "llama", hidden=32)
    return Chain(tmp_path, recipe_of(tmp_path, SAMPLED), {"stages": ["evaluate"]})


def measured(chain: Chain) -> MeasuredAnswers:
    context = chain.context()
    [bench] = benches(context)
    return answers_of(context, bench, BASE)


def test_each_item_is_asked_as_often_as_the_recipe_says_and_scored_on_the_average(chain: Chain) -> None:
    items = measured(chain).items
    assert len(Student.asked) == 4 * ITEMS == len({request.id for request in Student.asked})
    assert {(r.sampling.temperature, r.sampling.top_p, r.sampling.seed) for r in Student.asked} == {(0.7, 0.9, 8)}
    assert Counter(request.sample_index for request in Student.asked) == dict.fromkeys(range(4), ITEMS)
    for item in items:
        assert len(item.samples) == 4 and item.score == sum(one.score for one in item.samples) / 4
        assert [one.score == 1.0 for one in item.samples] == [
            one.output == f"The answer is {2 * items.index(item)}." for one in item.samples]
    assert items[0].score == 1.0 and 0 < sum(item.score for item in items) < ITEMS
    assert measured(chain).items == items and len(Student.asked) == 4 * ITEMS, "nothing is asked twice"


def test_a_recipe_that_says_nothing_of_sampling_asks_once_and_greedily(chain: Chain) -> None:
    chain.recipe = recipe_of(chain.root)
    items = measured(chain).items
    assert len(Student.asked) == ITEMS and {request.sampling.temperature for request in Student.asked} == {0.0}
    assert [item.score for item in items] == [1.0] * ITEMS and not any(item.samples for item in items)


def test_samples_that_could_not_differ_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="4 samples at temperature 0 are 4 times the same reply"):
        parse_recipe(recipe_of(tmp_path, "[evaluate.sampling]\nsamples = 4\n"))


@pytest.mark.parametrize("breaks_at", [IN_FLIGHT + 1, 2 * ITEMS, 4 * ITEMS])
def test_a_measurement_that_ended_early_asks_again_for_what_was_in_flight_alone(
        chain: Chain, monkeypatch: pytest.MonkeyPatch, breaks_at: int) -> None:
    monkeypatch.setattr(Student, "breaks_at", breaks_at)
    with pytest.raises(KeyboardInterrupt):
        measured(chain)
    monkeypatch.setattr(Student, "breaks_at", 10**9)
    items = measured(chain).items
    asked = Counter(request.id for request in Student.asked)
    assert len(asked) == 4 * ITEMS and asked.total() - len(asked) <= IN_FLIGHT
    assert any(isinstance(event, Noted) and "are there from before" in event.text for event in chain.events)
    monkeypatch.setattr(Student, "asked", [])
    chain.recipe = chain.recipe.replace("max_tokens = 5", "max_tokens = 6")
    assert measured(chain).items == items, "a measurement that nobody interrupted finds the same"


def test_a_damaged_line_of_what_was_kept_costs_one_question(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Student, "breaks_at", 15)
    with pytest.raises(KeyboardInterrupt):
        measured(chain)
    monkeypatch.setattr(Student, "breaks_at", 10**9)
    [journal] = chain.root.rglob("replies.journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b"answer", b"unswer")
    journal.write_bytes(b"".join(lines))
    measured(chain)
    assert len(Student.asked) == 4 * ITEMS + (IN_FLIGHT - 1) + 1
    assert not list(chain.root.rglob("replies.journal")), "whole answers need no journal"


def test_the_card_says_how_replies_were_drawn_and_what_several_of_them_say(chain: Chain) -> None:
    context = chain.context()
    evaluate.run(context)
    artifact = context.artifact("scorecard", read_output(context.run, EvaluateOutput).scorecard)
    [card] = ScoreCards.from_bytes(artifact.file(SCORECARD_FILE).read_bytes(), "card").cards
    row = card.row("base")
    assert [(one.k, one.is_sure) for one in row.pass_at] == [(1, True), (2, True), (4, False)]
    assert row.pass_at[0].share == pytest.approx(row.score) and row.pass_at[2].share > row.score
    assert card.sampler == "temperature 0.7, top_p 0.9, 4 replies to each item, seed 8"
    assert row.served == {"engine": "student", "dtype": "float32", "weights": "as stored"}
    for name in ("scorecard.txt", "scorecard.md"):
        text = artifact.file(name).read_text()
        assert all(word in text for word in ("pass@2", "maj@4", "± replies", card.sampler, "dtype float32"))


def test_a_plan_says_how_long_answering_takes_and_which_measurement_it_cannot_go_by(
        chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    reply = Student.reply
    monkeypatch.setattr(Student, "reply", lambda self, request: replace(reply(self, request), usage=Usage(3, 4)))

    def plan() -> tuple[str, list[str]]:
        made = make_plan(Workspace(chain.root), parse_recipe(chain.recipe), chain.root)
        [time] = [line.text for line in made.lines if line.label == "time"]
        return time, [text for text in made.warnings if "served.json" in text]

    unknown = ("jsonl: unknown until this student has answered something here", [])
    assert plan() == unknown
    measured(chain)
    time, warnings = plan()
    assert "4 tokens a reply that this student came to there" in time and not warnings
    [file] = chain.root.rglob("served.json")
    file.write_text(file.read_text().replace("jsonl", "jsonk"))
    time, [warning] = plan()
    assert time == unknown[0] and "is damaged: served.json" in warning and warning.endswith("is not known")


def test_what_is_forgotten_is_in_no_sample_and_in_no_half_measurement(chain: Chain,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(chain)
    chain.recipe = chain.recipe.replace("max_tokens = 5", "max_tokens = 6")
    monkeypatch.setattr(Student, "breaks_at", len(Student.asked) + 15)
    with pytest.raises(KeyboardInterrupt):
        measured(chain)
    context = chain.context()
    workspace, [bench] = context.workspace, benches(context)
    context.store.add_prompts(bench.prompts)
    forget(workspace, plan_forgetting(workspace, bench.prompts[0].id))
    [place] = [path for path in chain.root.rglob("items.jsonl") if path.parent.name in whole.answers]
    first, second = (json.loads(line) for line in place.read_text().splitlines()[:2])
    assert {one["output"] for one in first["samples"]} == {""}
    assert [one["score"] for one in first["samples"]] == [1.0] * 4
    assert all(one["output"] for one in second["samples"])
    assert not list(chain.root.rglob("replies.journal"))


KILLED = """
import sys
from pathlib import Path
import pytest
from tests.stages import test_sampling as own
from tests.stages.test_collecting import Chain
root, log = Path(sys.argv[1]), sys.argv[2]
patch = pytest.MonkeyPatch()
own.with_student(patch)
own.Student.log = log
chain = Chain(root, own.recipe_of(root, own.SAMPLED, 60), {"stages": ["evaluate"]})
print(sum(item.score for item in own.measured(chain).items))
"""


@pytest.mark.slow
def test_twenty_kills_cost_no_more_than_what_was_in_flight_each_time(tmp_path: Path) -> None:
    tiny_model(tmp_path / "student", "llama", hidden=32)
    log, draw, kills, lines = tmp_path / "asked.log", random.Random(7), 0, 0
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    while True:
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), str(log)], env=environment,
                                 stdout=subprocess.PIPE, text=True)
        wanted = lines + draw.randint(4, 11)
        while child.poll() is None and (kills == 20 or lines < wanted):
            time.sleep(0.001)
            lines = len(log.read_text().splitlines()) if log.exists() else 0
        if child.poll() is not None:
            break
        child.kill()
        child.communicate()
        kills += 1
    said, _ = child.communicate()
    assert child.returncode == 0 and float(said) > 0
    asked = Counter(log.read_text().splitlines())
    assert kills == 20 and len(asked) == 240
    assert asked.total() - len(asked) <= kills * IN_FLIGHT
