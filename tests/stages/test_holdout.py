"""What is set aside before anything is asked: the same whatever the order, near-duplicates and documents together, and
never trained on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from localdistill import Store, Workspace, make_plan, parse_recipe
from localdistill.core.errors import RecipeError, UsageError
from localdistill.core.records import Message, Prompt
from localdistill.recipe.trace_sets import HoldoutSection
from localdistill.stages.holdout import split
from tests.helpers import counting_server
from tests.stages.test_collecting import Chain

WORDS = [f"word{n:03}" for n in range(600)]


def prompt(text: str, source: str = "") -> Prompt:
    return Prompt((Message("user", text),), source=source)


def texts(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=30)) for _ in range(count)]


def names(found: dict[str, tuple[Prompt, ...]]) -> dict[str, set[str]]:
    return {side: {p.question for p in prompts} for side, prompts in found.items()}


def test_sides_follow_from_the_content_and_not_from_the_order_or_from_what_comes_later() -> None:
    prompts = [prompt(text) for text in texts(400)]
    section = HoldoutSection(test=0.2, dev=0.1)
    first = split(prompts, section)
    assert names(dict(split(prompts[::-1], section).sides)) == names(dict(first.sides))
    sizes = {side: len(found) for side, found in first.sides.items()}
    assert 55 <= sizes["test"] <= 105 and 20 <= sizes["dev"] <= 60
    assert first.left == 400 - sum(sizes.values()) and first.groups == 400
    more = split([*prompts, *(prompt(text) for text in texts(100, 1))], section)
    assert names(dict(first.sides))["test"] <= names(dict(more.sides))["test"]
    assert not names(dict(more.sides))["test"] & names(dict(more.sides))["dev"]


def test_near_duplicates_stay_together_and_a_preface_makes_none() -> None:
    plain = texts(60)
    changed = [f"{text} and so it was" for text in plain[:20]] + [text.upper() + "!" for text in plain[20:40]]
    found = split([prompt(text) for text in plain + changed], HoldoutSection(test=0.3))
    assert found.groups == 60
    held = {p.question for p in found.sides["test"]}
    for one, other in zip(plain, changed):
        assert (one in held) is (other in held)
    preface = " ".join(WORDS[:40])
    told = split([prompt(f"{preface} {text}") for text in texts(60)], HoldoutSection(test=0.3))
    assert told.groups == 60, "what all of them begin with tells nothing"


def test_documents_stay_together_where_that_is_asked_for() -> None:
    prompts = [prompt(text, f"book {n % 10}") for n, text in enumerate(texts(200))]
    found = split(prompts, HoldoutSection(test=0.3, by="document"))
    held = {p.source for p in found.sides["test"]}
    assert found.groups == 10 and held and not held & {
        p.source for p in prompts if p not in found.sides["test"]}
    paged = [Prompt((Message("user", text),), metadata={"document": f"d{n % 4}"}) for n, text in enumerate(texts(40))]
    assert split(paged, HoldoutSection(dev=0.3, by="document")).groups == 4


def test_a_side_that_was_asked_for_is_never_empty_and_nothing_left_is_refused() -> None:
    few = split([prompt(text) for text in texts(5)], HoldoutSection(test=0.001, dev=0.001))
    assert [len(found) for found in few.sides.values()] == [1, 1] and few.left == 3
    with pytest.raises(UsageError, match=r"leaves nothing: of 50 prompts in 1 groups") as caught:
        split([prompt(text, "one book") for text in texts(50)], HoldoutSection(test=0.1, by="document"))
    assert 'by = "prompt"' in caught.value.hint


def asking(folder: Path, url: str, more: str = "") -> str:
    rows = [{"messages": [{"role": "user", "content": f"Double {n} {text}"}], "reference": str(2 * n)}
            for n, text in enumerate(texts(40))]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = [{"messages": [*row["messages"], {"role": "assistant", "content": "It is 4."}]} for row in rows[:20]]
    (folder / "known.jsonl").write_text("".join(json.dumps(row) + "\n" for row in known))
    return (f'name = "t"\n[prompts]\nfiles = ["q.jsonl"]\nholdout = {{ test = 0.25, dev = 0.1 }}\n[engine.e]\n'
            f'use = "openai_compatible"\nbase_url = "{url}"\nmodel = "m"\n[traces]\nasked = {{ ask = "e" }}\n'
            f'known = {{ files = ["known.jsonl"] }}\n{more}\n[[grade]]\nuse = "exact"\n[student]\nmodel = "x"\n'
            '[arm]\na = { traces = "asked", format = "answer_only" }\n[train]\n[evaluate]\n'
            '[[evaluate.task]]\nuse = "holdout"\n[[evaluate.task]]\nuse = "holdout"\nsplit = "dev"\n')


def test_what_is_set_aside_is_neither_asked_nor_taken_from_files_and_is_the_task(tmp_path: Path) -> None:
    with counting_server() as server:
        chain = Chain(tmp_path, asking(tmp_path, server.url))
        traces = chain.collect()
        context = chain.context()
        test, dev = ({p.question for p in task.prompts()} for task in context.tasks())
        assert len(server.asked) == 40 - len(test) - len(dev) and not (test | dev) & set(server.asked)
        asked = {p.question for p, _ in context.store.pairs([trace.id for trace in traces])}
        assert not asked & (test | dev)
        known = {p.question for p, _ in context.store.pairs(context.run.ids("collect-known"))}
        assert known == {q for q in asked if int(q.split()[1]) < 20} and known
        (tmp_path / "q.jsonl").write_text((tmp_path / "q.jsonl").read_text().splitlines()[0] + "\n")
        again = chain.context()
        assert {p.question for p in again.tasks()[0].prompts()} == test, "what the run set aside stays set aside"


def test_the_plan_says_what_is_left_and_a_holdout_that_leaves_nothing_is_refused_there(tmp_path: Path) -> None:
    recipe = parse_recipe(asking(tmp_path, "http://127.0.0.1:9/v1").replace('[student]\nmodel = "x"\n', "").split(
        "[arm]")[0])
    plan = make_plan(Workspace(tmp_path), recipe, tmp_path)
    line = next(line.text for line in plan.lines if line.label == "holdout")
    assert "for 'test'" in line and "left to train on" in line
    assert recipe.prompts is not None and recipe.prompts.holdout is not None
    by_book = recipe.prompts.model_copy(update={"holdout": HoldoutSection(test=0.2, by="document")})
    rows = [json.loads(row) | {"source": "book"} for row in (tmp_path / "q.jsonl").read_text().splitlines()]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "known.jsonl").write_text("".join(json.dumps({**row, "answer": "4"}) + "\n" for row in rows))
    with pytest.raises(UsageError, match="leaves nothing"):
        make_plan(Workspace(tmp_path), recipe.model_copy(update={"prompts": by_book, "sets": recipe.asked}), tmp_path)
    assert not Store(Workspace(tmp_path).store_path).path.exists()


def test_a_task_without_its_side_is_a_problem_of_the_recipe(tmp_path: Path) -> None:
    text = asking(tmp_path, "http://127.0.0.1:9/v1").replace(", dev = 0.1", "")
    with pytest.raises(UsageError, match=r"evaluate.task\[1\].split: nothing is set aside for 'dev'"):
        parse_recipe(text)


def test_what_is_set_aside_is_the_benchmark_where_a_recipe_names_none() -> None:
    text = ('name = "t"\n[prompts]\nfiles = ["q.jsonl"]\nholdout = { test = 0.2 }\n[teacher]\nuse = "replay"\n'
            'path = "r"\n[[grade]]\nuse = "math"\n[evaluate]\nmax_tokens = 64\n')
    recipe = parse_recipe(text)
    assert recipe.evaluate is not None and [task.use for task in recipe.evaluate.tasks] == ["holdout"]
    assert recipe.evaluate.tasks[0].options["split"] == "test"
    assert recipe.evaluate.tasks[0].options["grader"]["use"] == "math" == recipe.graders[0].use
    with pytest.raises(RecipeError, match=r"\[evaluate\] needs at least one"):
        parse_recipe(text.replace("{ test = 0.2 }", "{ dev = 0.2 }"))
