"""Proves that the shipped pantry files are what the README says: evaluation does not repeat training."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PANTRY = Path(__file__).resolve().parents[2] / "data" / "pantry"
KINDS = {
    "exact",
    "one_of",
    "contains",
    "count_words",
    "uppercase",
    "lowercase",
    "no_digits",
    "ends_with",
    "repeat",
}


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pantry_generate", PANTRY / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pantry_generate"] = module
    spec.loader.exec_module(module)
    return module


world: Any = _load()


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (PANTRY / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def _texts(name: str) -> list[str]:
    return [row["messages"][0]["content"] for row in _rows(name)]


def test_shipped_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    world.write_shipped(tmp_path)
    for name in ("prompts", "eval", "guard"):
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (PANTRY / f"{name}.jsonl").read_bytes()


def test_new_items_are_of_the_same_world_and_none_of_them_ships() -> None:
    made = world.fresh(25)
    assert Counter(row["metadata"].get("steps") for row in made["stories"]) == {steps: 5 for steps in range(1, 6)}
    texts = [row["messages"][0]["content"] for rows in made.values() for row in rows]
    shipped = {text for name in ("prompts", "eval", "guard") for text in _texts(name)}
    assert len(made["guards"]) == 8 and len(set(texts)) == len(texts) == 33 and not shipped & set(texts)
    assert world.overlap(_texts("prompts"), [row["messages"][0]["content"] for row in made["stories"]]) == 0.0
    assert made == world.fresh(25)


def test_sizes() -> None:
    prompts, evaluation = _rows("prompts"), _rows("eval")
    assert Counter(r["metadata"].get("steps") for r in prompts) == {
        1: 600,
        2: 600,
        3: 600,
        4: 600,
        5: 600,
        None: 300,
    }
    assert Counter(r["metadata"]["steps"] for r in evaluation) == {1: 60, 2: 60, 3: 60, 4: 60, 5: 60}
    assert len(_rows("guard")) == 100


def test_no_prompt_is_shipped_twice() -> None:
    texts = _texts("prompts") + _texts("eval") + _texts("guard")
    assert len(set(texts)) == len(texts)


def test_overlap_of_shipped_files_is_under_one_percent() -> None:
    assert world.overlap(_texts("prompts"), _texts("eval")) < 0.01


def test_a_planted_copy_with_other_numbers_is_found() -> None:
    evaluation = _texts("eval")
    planted = [re.sub(r"\d+", lambda m: str(int(m.group()) + 3), text) for text in evaluation[:30]]
    found = world.overlap([*_texts("prompts"), *planted], evaluation)
    assert found >= 30 / len(evaluation)


def test_evaluation_shares_no_name_object_or_frame_with_the_prompts() -> None:
    collect, evaluation = world.COLLECT, world.EVAL
    for part in ("women", "men", "objects", "openings", "place_openings", "questions", "place_questions"):
        assert not set(getattr(collect, part)) & set(getattr(evaluation, part)), part
    assert not set(collect.connectors) & set(evaluation.connectors)
    for part in world.Clauses.__dataclass_fields__:
        assert not set(getattr(collect.clauses, part)) & set(getattr(evaluation.clauses, part)), part
    words = set(re.findall(r"[A-Za-z]+", " ".join(_texts("prompts"))))
    assert not words & set(evaluation.women + evaluation.men)


def test_pretraining_does_not_open_join_or_ask_as_evaluation_does() -> None:
    pretrain, evaluation = world.PRETRAIN, world.EVAL
    for part in ("openings", "place_openings", "connectors", "questions", "place_questions"):
        assert not set(getattr(pretrain, part)) & set(getattr(evaluation, part)), part


@pytest.mark.parametrize("frames", ["collect", "eval", "pretrain"])
def test_stories_are_consistent(frames: str) -> None:
    rng = random.Random(3)
    for steps in range(1, 6):
        for _ in range(100):
            story = world.make_story(rng, steps, frames)
            value = story.start
            for step in story.steps:
                assert step.before == value
                left, right = step.equation.split(" = ")
                assert eval(left) == int(right)
                value = step.after
                assert 2 <= value <= 99
            assert story.text.endswith(("?", "."))
            assert all(int(n) <= 99 for n in re.findall(r"\d+", story.text))
            assert "{" not in story.text and "{" not in world.trace(rng, story)
            assert world.final_answer(story) == f"The answer is {value}."
            assert world.wrong_number(rng, story) != value


def test_guard_replies_meet_their_constraints() -> None:
    rows = _rows("guard") + [r for r in _rows("prompts") if r["metadata"]["kind"] == "guard"]
    for row in rows:
        constraints = row["metadata"]["constraints"]
        assert {c["kind"] for c in constraints} <= KINDS
        assert world.satisfied(row["reference"], constraints)
        assert not world.satisfied("I am 3 tired Cats, sorry about that", constraints)


def test_original_answers_are_wrong_at_about_the_stated_rate() -> None:
    stories = [r for r in _rows("prompts") if r["metadata"]["kind"] == "story"]
    wrong = sum(re.findall(r"\d+", r["original"])[-1] != r["reference"] for r in stories)
    assert abs(wrong / len(stories) - world.ORIGINAL_ERROR_RATE) < 0.02
