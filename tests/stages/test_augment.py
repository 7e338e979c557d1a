"""Prompts from little: what is written is new, checked, stored with where it comes from, and bought once; what is not
is counted by reason and not stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from localdistill import Workspace, forget, make_plan, parse_recipe, plan_forgetting
from localdistill.core.errors import PartialResult, RecipeError, UsageError
from localdistill.core.events import Warned
from localdistill.core.records import Prompt
from localdistill.interchange.files import read_prompts
from localdistill.safety.journal import read
from localdistill.stages import augment, collect
from localdistill.stages.asked_prompts import terms_with
from localdistill.stages.outputs import AugmentOutput, read_output
from tests.helpers import CountingServer, counting_server
from tests.stages.test_collecting import FAST, Chain

TOM = "Tom has 3 bags of 4 apples and gives 2 of them away. How many apples has he left?"
ANN = "Ann reads 7 pages on each of 5 days in the long holidays. How many pages does she read in all?"


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with counting_server() as made:
        yield made


def scripted(written: Callable[[str], str], solved: Callable[[str], str] = lambda question: "ANSWER: 10",
             judged: Callable[[str], str] = lambda question: "VERDICT: yes") -> Callable[[str], str]:
    """What a server says to the questions of writer, solver and judge, each known by how it ends."""
    def says(asked: str) -> str:
        if asked.endswith("VERDICT: no."):
            return judged(asked)
        return solved(asked) if "End with one line: ANSWER:" in asked else written(asked)
    return says


def recipe_of(root: Path, url: str, rest: str, questions: tuple[tuple[str, str], ...] = ((TOM, "10"), (ANN, "35")),
              head: str = "") -> str:
    rows = [{"messages": [{"role": "user", "content": text}], "reference": answer, "source": "mine", "licence": "CC0"}
            for text, answer in questions]
    (root / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return (f'name = "t"\n[prompts]\nfiles = ["{root / "q.jsonl"}"]\n{head}\n[engine.one]\nuse = "openai_compatible"\n'
            f'base_url = "{url}"\nmodel = "m"\n{FAST}\n[traces]\nt = {{ ask = "one" }}\n{rest}')


def made_of(chain: Chain) -> list[Prompt]:
    context = chain.context()
    augment.run(context)
    return list(context.store.prompts(context.run.ids("augment")))


def counts_of(chain: Chain) -> dict[str, dict[str, int]]:
    assert chain.run is not None
    return {name: dict(counts) for name, counts in read_output(chain.run, AugmentOutput).made.items()}


def rephrased(asked: str) -> str:
    if "Tom" in asked:
        return "QUESTION: Of Tom's 3 bags, each with 4 apples, 2 apples are given away. What remains?"
    return "QUESTION: During 5 holidays, 7 pages a day: what does Ann read altogether?"


def test_a_question_in_other_words_keeps_its_answer_and_says_where_it_comes_from(
        tmp_path: Path, server: CountingServer) -> None:
    server.says = scripted(rephrased)
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, '[[augment]]\nuse = "rephrase"\n'))
    first, second = made_of(chain)
    assert (first.reference, first.source, first.licence) == ("10", "mine", "CC0") and second.reference == "35"
    parents = {prompt.question: prompt.id for prompt in parse_prompts(tmp_path)}
    assert list(first.metadata["made_from"]) == [parents[TOM]] and list(second.metadata["made_from"]) == [parents[ANN]]
    assert str(first.metadata["made_by"]).startswith("rephrase@1/")
    assert list(first.metadata["checked"]) == ["question", "language", "facts", "consistent", "complete"]
    assert counts_of(chain) == {"rephrase": {"kept": 2}}


def parse_prompts(root: Path) -> list[Prompt]:
    return list(read_prompts(root / "q.jsonl"))


def test_nothing_is_bought_twice(tmp_path: Path, server: CountingServer) -> None:
    server.says = scripted(rephrased)
    recipe = recipe_of(tmp_path, server.url, '[[augment]]\nuse = "rephrase"\n')
    first = Chain(tmp_path, recipe).context()
    augment.run(first)
    made, asked = list(first.store.prompts(first.run.ids("augment"))), server.asked.total()
    assert asked == 2 * (1 + 5) and len(made) == 2 and not first.reused_all
    again = Chain(tmp_path, recipe).context()
    augment.run(again)
    assert again.run.ids("augment") == first.run.ids("augment") and server.asked.total() == asked
    assert again.reused_all


def test_what_is_garbage_is_counted_by_reason_and_not_stored(tmp_path: Path, server: CountingServer) -> None:
    server.says = scripted(lambda asked: "asdf asdf" if "Tom" in asked else "QUESTION: What are 7 + 8?")
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, '[[augment]]\nuse = "rephrase"\n'))
    assert made_of(chain) == []
    assert counts_of(chain) == {"rephrase": {"the reply has no line QUESTION:": 1,
                                             "it holds other numbers than the question": 1}}
    assert [event.text for event in chain.events if isinstance(event, Warned)] == [
        "rephrase: nothing that was written can be used"]
    assert chain.context().store.counts().prompts == 0


def test_a_judge_is_asked_gate_by_gate_until_one_fails(tmp_path: Path, server: CountingServer) -> None:
    server.says = scripted(rephrased, judged=lambda asked: "I doubt it.\nVERDICT: " + (
        "no" if "possible by itself" in asked and "Ann" in asked else "yes"))
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, '[[augment]]\nuse = "rephrase"\n'))
    assert [prompt.reference for prompt in made_of(chain)] == ["10"]
    assert counts_of(chain) == {"rephrase": {"kept": 1, "gate 'facts': no": 1}}
    gates = sum(count for asked, count in server.asked.items() if asked.endswith("VERDICT: no."))
    assert gates == 5 + 3


def test_most_votes_decide_at_a_gate(tmp_path: Path, server: CountingServer) -> None:
    votes: list[str] = []

    def judged(asked: str) -> str:
        votes.append(asked)
        return "VERDICT: no" if votes.count(asked) == 2 else "VERDICT: yes"

    server.says = scripted(rephrased, judged=judged)
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url,
                                      '[[augment]]\nuse = "rephrase"\nvotes = 3\ngates = ["complete"]\n'))
    assert len(made_of(chain)) == 2 and len(votes) == 6


def test_a_near_duplicate_and_what_was_made_already_stay_out(tmp_path: Path, server: CountingServer) -> None:
    near = f"QUESTION: {ANN.replace('long holidays', 'holidays')}"
    server.says = scripted(lambda asked: rephrased("Tom") if "Tom" in asked else near)
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url,
                                      '[[augment]]\nuse = "rephrase"\ncount = 2\ngates = []\n'))
    assert [prompt.reference for prompt in made_of(chain)] == ["10"]
    assert counts_of(chain) == {"rephrase": {"it asks what another prompt asks, or nearly": 3, "kept": 1}}


def test_an_item_of_a_benchmark_stays_out(tmp_path: Path, server: CountingServer) -> None:
    item = rephrased("Tom").partition(": ")[2]
    (tmp_path / "items.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": item.upper()}],
                                                     "reference": "10"}) + "\n")
    server.says = scripted(rephrased)
    chain = Chain(tmp_path, recipe_of(
        tmp_path, server.url, '[[augment]]\nuse = "rephrase"\ngates = []\n[evaluate]\n[[evaluate.task]]\n'
        f'use = "jsonl"\npath = "{tmp_path / "items.jsonl"}"\n'))
    assert [prompt.reference for prompt in made_of(chain)] == ["35"]
    assert counts_of(chain)["rephrase"]["it holds an item of a benchmark"] == 1


def test_nothing_is_made_from_what_is_set_aside_and_nothing_like_it_is_kept(
        tmp_path: Path, server: CountingServer) -> None:
    questions = tuple((f"{name} buys {n} pens for {n + 1} euros each at the market on Monday morning. What is paid?",
                       str(n * n + n)) for n, name in enumerate(("Ada", "Bo", "Cy", "Di", "Ed", "Flo", "Gus"), start=3))
    server.says = scripted(lambda asked: "QUESTION: Who pays how much altogether? "
                           + next(text for text, _ in questions if text in asked))
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, '[[augment]]\nuse = "similar"\nshown = 1\ngates = []\n'
                                      'tries = 0\n', questions, "holdout = { test = 0.3 }\n"))
    context = chain.context()
    assert context.holdout is not None
    held = {prompt.question for prompt in context.holdout.sides["test"]}
    assert 0 < len(held) < 7
    made_of(chain)
    writers = [asked for asked in server.asked if "examples of the questions" in asked]
    assert len(writers) == 7 - len(held) and not any(text in asked for asked in writers for text in held)
    one_held = min(held)
    server.says = scripted(lambda asked: f"QUESTION: {one_held}\nANSWER: 1")
    other = Chain(tmp_path, chain.recipe.replace("shown = 1", "shown = 2"))
    assert made_of(other) == []
    assert counts_of(other) == {"similar": {"it holds a prompt that is set aside": 7 - len(held)}}


def test_a_reversed_question_is_kept_where_both_directions_check(tmp_path: Path, server: CountingServer) -> None:
    def written(asked: str) -> str:
        if "Tom" in asked:
            return "QUESTION: Tom gives 2 apples away and keeps 10. They came in bags of 4. How many bags?\nANSWER: 3"
        return "QUESTION: Ann reads 35 pages in 5 days. How many a day?\nANSWER: 7"

    def solved(asked: str) -> str:
        return "ANSWER: " + ("3" if "Tom gives" in asked else "10" if "Tom" in asked else
                             "7" if "35 pages" in asked else "12")

    server.says = scripted(written, solved)
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, '[[augment]]\nuse = "reverse"\ngates = []\n'))
    [made] = made_of(chain)
    assert (made.reference, list(made.metadata["checked"])) == ("3", ["both directions"])
    assert counts_of(chain) == {"reverse": {
        "kept": 1, "the solver's answers to the question itself are not its reference": 1}}


def test_new_questions_carry_an_answer_that_most_tries_of_a_solver_find(tmp_path: Path, server: CountingServer) -> None:
    tries: list[str] = []

    def solved(asked: str) -> str:
        tries.append(asked)
        return "ANSWER: 5" if len(tries) % 3 == 1 else "It is 8 eggs.\nANSWER: 8 eggs"

    server.says = scripted(lambda asked: "QUESTION: A hen lays 2 eggs a day, how many in 4 days?\nANSWER: 8", solved)
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, '[[augment]]\nuse = "similar"\ngates = []\n'))
    [made] = made_of(chain)
    assert (made.reference, made.source, len(tries)) == ("8", "similar", 3)
    assert len(list(made.metadata["made_from"])) == 2, "both examples were shown"


def test_documents_become_questions_that_can_be_answered_without_them(tmp_path: Path, server: CountingServer) -> None:
    texts = tmp_path / "texts"
    (texts / "more").mkdir(parents=True)
    (texts / "hens.txt").write_text("Hens lay fewer eggs in winter, for the days are short then. " * 12)
    (texts / "more" / "owls.md").write_text("Owls hunt at night and hear a mouse below the snow from afar. " * 12)
    (texts / "latin.txt").write_bytes("Über Hühner wird hier viel erzählt. ".encode("latin-1") * 20)

    def written(asked: str) -> str:
        return ("QUESTION: Which season makes hens lay fewer eggs?\nANSWER: winter" if "Hens" in asked else
                "QUESTION: Under what does an owl hear a mouse?\nANSWER: snow")

    server.says = scripted(written, lambda asked: "ANSWER: in winter" if "hens" in asked else "ANSWER: leaves")
    recipe = recipe_of(tmp_path, server.url, f'[[augment]]\nuse = "documents"\ndocuments = "{texts}"\nwords = 100\n'
                       "gates = []\n")
    chain = Chain(tmp_path, recipe.replace(f'[prompts]\nfiles = ["{tmp_path / "q.jsonl"}"]\n', ""))
    [made] = made_of(chain)
    assert (made.reference, made.source, made.metadata["chunk"]) == ("winter", "hens.txt", 1)
    assert made.metadata["document"] == "hens.txt" and str(next(iter(made.metadata["made_from"]))).startswith("b2:")
    reasons = counts_of(chain)["documents"]
    assert reasons["the solver's answers are not the one that is claimed"] == 1 and sum(reasons.values()) > 2
    assert any("latin.txt is no UTF-8 text" in event.text for event in chain.events if isinstance(event, Warned))


def test_what_got_no_reply_is_asked_again_by_a_resume_and_only_that(tmp_path: Path, server: CountingServer) -> None:
    server.says = scripted(lambda asked: "" if "Ann" in asked else rephrased(asked))
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, '[[augment]]\nuse = "rephrase"\ngates = []\n'))
    with pytest.raises(PartialResult, match="1 of 2 questions to engines got no reply"):
        made_of(chain)
    server.says = scripted(rephrased)
    server.asked.clear()
    assert [prompt.reference for prompt in made_of(chain)] == ["10", "35"]
    assert server.asked.total() == 1, "the other reply was kept"


def test_teachers_are_asked_what_was_made_too_and_its_writers_terms_count(tmp_path: Path,
                                                                         server: CountingServer) -> None:
    server.says = scripted(rephrased)
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, '[[augment]]\nuse = "rephrase"\ngates = []\n'))
    made = made_of(chain)
    server.says = lambda asked: "It is 10."
    assert {trace.prompt_id for trace in chain.collect()} == {p.id for p in (*made, *parse_prompts(tmp_path))}
    context = chain.context()
    [(prompt, trace)] = [pair for pair in context.pairs(context.run.ids("collect")) if pair[0].id == made[0].id]
    strict = replace(prompt, metadata={**prompt.metadata, "made_terms": "prohibited:x"})
    assert (terms_with("", prompt), terms_with("allowed:y", strict)) == ("", "prohibited:x") and trace.terms == ""


def test_made_prompts_that_are_lost_are_named_and_come_back_without_being_bought(tmp_path: Path,
                                                                                server: CountingServer) -> None:
    server.says = scripted(rephrased)
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, '[[augment]]\nuse = "rephrase"\ngates = []\n'))
    made, asked = made_of(chain), server.asked.total()
    Workspace(tmp_path).store_path.unlink()
    context = chain.context()
    context.take_in_journals()
    assert list(context.store.prompts([prompt.id for prompt in made])) == made, "the journal of the run holds them"
    chain.context().run.write_ids("augment", [*(prompt.id for prompt in made), "b2:" + "0" * 32])
    with pytest.raises(UsageError, match="1 of 3 prompts that this run made are not in the store"):
        collect.run(chain.context())
    assert made_of(chain) == made and server.asked.total() == asked


def test_a_plan_says_how_many_may_be_made_and_who_is_asked(tmp_path: Path, server: CountingServer) -> None:
    recipe = recipe_of(tmp_path, server.url, '[[augment]]\nuse = "rephrase"\ncount = 3\n')
    plan = make_plan(Workspace(tmp_path), parse_recipe(recipe), tmp_path)
    lines = [f"{line.label} {line.text}" for line in plan.lines]
    assert lines[0] == "stages augment > collect > select"
    assert any(line.startswith("augmentation augmentation rephrase asks one about at most 6 new questions")
               for line in lines)
    assert any("at most 6 more are made and asked, too" in line for line in lines) and not server.asked


def test_a_sample_makes_no_more_than_it_asks(tmp_path: Path, server: CountingServer) -> None:
    texts = tmp_path / "t.txt"
    texts.write_text("\n\n".join("Owls hunt at night and hear a mouse below the snow from very far away." * 2
                                 for _ in range(9)))
    server.says = scripted(lambda asked: "nothing")
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, f'[[augment]]\nuse = "documents"\ndocuments = "{texts}"\n'
                                      'words = 30\n[[augment]]\nuse = "rephrase"\n'), {"sample": 1})
    made_of(chain)
    assert server.asked.total() == 2


@pytest.mark.parametrize(("rest", "says"), [
    ('[[augment]]\nuse = "rephrase"\nwriter = "two"\n', r"augment\[0\]\.writer: there is no engine named 'two'"),
    ('[[augment]]\nuse = "rephras"\n', "did you mean 'rephrase'"),
    ('[[augment]]\nuse = "documents"\n', r"augment\[0\]\.documents: is missing"),
    ('[[augment]]\nuse = "similar"\ngates = ["all"]\n', r"augment\[0\]\.gates"),
])
def test_a_recipe_says_what_is_wrong_with_its_augmentations(tmp_path: Path, rest: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        parse_recipe(recipe_of(tmp_path, "http://127.0.0.1:9/v1", rest))


def test_an_augmentation_of_prompts_needs_some(tmp_path: Path) -> None:
    text = recipe_of(tmp_path, "http://127.0.0.1:9/v1", '[[augment]]\nuse = "reverse"\n')
    with pytest.raises(RecipeError, match=r"augment\[0\]: reverse needs \[prompts\] with files"):
        parse_recipe(text.replace(f'[prompts]\nfiles = ["{tmp_path / "q.jsonl"}"]\n', ""))


def test_what_was_made_of_a_forgotten_prompt_is_forgotten_with_it(tmp_path: Path, server: CountingServer) -> None:
    server.says = scripted(rephrased)
    chain = Chain(tmp_path, recipe_of(tmp_path, server.url, '[[augment]]\nuse = "rephrase"\n'))
    first, second = made_of(chain)
    context = chain.context()
    context.store.add_prompts(parse_prompts(tmp_path))
    forget(Workspace(tmp_path), plan_forgetting(Workspace(tmp_path), parse_prompts(tmp_path)[0].id))
    assert context.store.known_prompts([first.id, second.id]) == {second.id}
    assert chain.run is not None
    kept = json.dumps([record for record, _ in read(chain.run.journal)])
    assert "Of Tom" not in kept and "During 5 holidays" in kept
    asked = server.asked.total()
    assert made_of(Chain(tmp_path, chain.recipe)) == [second] and server.asked.total() == asked
