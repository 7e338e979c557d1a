"""Contestants of an evaluation answer one after the other over one loaded base, with the answers of engines that load
by themselves; and whoever else wants the memory finds it free."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.events import Cancel, Emit
from localdistill.core.options import Member
from localdistill.core.records import Reply
from localdistill.modelfiles import loading
from localdistill.stages import evaluate
from localdistill.stages.benchmarking import BASE, Contestant, benches
from localdistill.stages.context import StageContext
from localdistill.stages.evaluate import answers_of
from localdistill.stages.outputs import EvaluateOutput, FormatOutput, TrainOutput, read_output, write_output
from localdistill.stages.relay import EngineRelay
from tests.stages.test_collecting import listening
from tests.stages.test_export import adapter, dataset
from tests.tiny_models import tiny_adapter, tiny_model

pytest.importorskip("torch")
TASK = '[[evaluate.task]]\nuse = "jsonl"\npath = "items.jsonl"\ngrader = "exact"\n'
ARMS = ("one", "two")


def race(root: Path) -> StageContext:
    """A run whose arms are trained, before its evaluation on two benchmarks."""
    student = tiny_model(root / "student", "llama", hidden=32, initializer_range=0.3)
    rows = [{"messages": [{"role": "user", "content": f"Double {n}"}], "reference": str(2 * n)} for n in range(4)]
    (root / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    talk = [{"role": "user", "content": "Half 1"}, {"role": "assistant", "content": "2"}]
    (root / "rows.jsonl").write_text(json.dumps({"messages": talk}) + "\n")
    arms = "".join(f'[arm.{name}]\nformat = "answer_only"\n' for name in ARMS)
    text = (f'name = "t"\n[traces]\nown = {{ files = ["rows.jsonl"] }}\n[student]\nmodel = "student"\n{arms}[train]\n'
            f'rank = 2\n[evaluate]\nmax_tokens = 6\n{TASK}{TASK}limit = 2\n')
    context = listening(root, text, "evaluate")
    for number, name in enumerate(ARMS):
        context.workspace.make_artifact("adapter", f"b2:{name}", {}, lambda staging, rank=2 + number: tiny_adapter(
            student, staging / "adapter", rank=rank))
    write_output(context.run, TrainOutput({name: (adapter(f"b2:{name}"),) for name in ARMS}))
    write_output(context.run, FormatOutput({name: dataset() for name in ARMS}, 3, "sha256:student"))
    return context


def test_a_race_loads_its_base_once_and_finds_what_engines_find_that_load_by_themselves(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads, load = list[Path](), loading.load_causal_model
    monkeypatch.setattr(loading, "load_causal_model", lambda *how: (loads.append(how[0].path), load(*how))[1])
    context = race(tmp_path)
    evaluate.run(context)
    made = read_output(context.run, EvaluateOutput).answers
    assert len(made) == 6 and len({one.answers for one in made}) == 6 and len(loads) == 1
    (tmp_path / "apart").mkdir()
    apart = race(tmp_path / "apart")
    found = [[answers_of(apart, bench, one).items for one in evaluate.contestants(apart)] for bench in benches(apart)]
    assert len(loads) == 1 + 6
    again = [[answers_of(context, bench, one).items for one in evaluate.contestants(context)]
             for bench in benches(context)]
    assert found == again and len(loads) == 7, "what is kept is not asked again"
    assert len({tuple(item.output for item in items) for items in found[0]}) == 3, "base and arms differ"


class Watched:
    """An engine that says what becomes of it."""

    name = "watched"

    def __init__(self, said: list[str], number: int, shares: bool) -> None:
        self.said, self.number = said, number
        if shares:
            self.take_over = lambda other: not said.append(f"{number} takes {other.number} over")

    def identity(self) -> str:
        return "watched"

    def answer(self, requests: Any, emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        self.said.append(f"{self.number} answers")
        for request in requests:
            if self.number == 9:
                raise RuntimeError("broken")
            yield Reply(request.id, "complete", answer="1", raw="1", finish_reason="stop")

    def close(self) -> None:
        self.said.append(f"{self.number} closes")


def relayed(monkeypatch: pytest.MonkeyPatch, numbers: list[int], shares: bool) -> list[str]:
    said: list[str] = []
    waiting = iter(numbers)

    def opened(self: StageContext, member: Member) -> Any:
        return Watched(said, next(waiting), shares)

    monkeypatch.setattr(StageContext, "open_engine", opened)
    return said


def test_what_the_last_engine_loaded_is_taken_over_or_freed_before_the_next_answers(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = race(tmp_path)
    [bench, _] = benches(context)
    others = [Contestant(name, dataset(), adapter(f"b2:{name}")) for name in ARMS]
    for shares, between in ((True, ["2 takes 1 over"]), (False, ["1 closes"])):
        for folder in (context.workspace.artifacts / "answers").glob("*"):
            folder.rename(tmp_path / f"{shares}-{folder.name}")
        said = relayed(monkeypatch, [1, 2], shares)
        with closing(EngineRelay(context)) as relay:
            for one in (BASE, others[0]):
                answers_of(context, bench, one, relay)
        assert said == ["1 answers", *between, "2 answers", "2 closes"]
    said = relayed(monkeypatch, [8, 9], True)
    with closing(EngineRelay(context)) as relay:
        with relay.engine(Member(use="transformers")):
            pass
        with pytest.raises(RuntimeError, match="broken"):
            answers_of(context, bench, others[1], relay)
        assert said == ["9 takes 8 over", "9 answers", "9 closes"]
    assert said[-1] == "9 closes", "once"


def test_one_contestant_alone_frees_what_it_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = race(tmp_path)
    said = relayed(monkeypatch, [1], True)
    answers_of(context, benches(context)[0], BASE)
    assert said == ["1 answers", "1 closes"]
