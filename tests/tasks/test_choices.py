"""Multiple choice: the order of the options, worked examples, and scores by likelihood, which are those of a plain
forward pass."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import InputError
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Prompt, Reply, Request, TokenScores
from localdistill.interchange.files import read_prompts
from localdistill.interchange.raw_rows import rows_of
from localdistill.tasks.base import Given, Scored
from localdistill.tasks.choices import Choices
from localdistill.tasks.gpqa import GpqaTask
from localdistill.tasks.items import ItemSource
from localdistill.tasks.mmlu import MmluTask
from tests.tiny_models import tiny_model

SOURCE = ItemSource(read_prompts, rows_of)
GIVEN = Given(8, None)
ROWS = [{"question": f"What is {n} and {n}?", "subject": ("adding", "doubling")[n % 2],
         "choices": [str(2 * n), "a farmer", f"{n}{n} apples", "the basket"], "answer": n % 4} for n in range(12)]


def written(folder: Path, rows: list[dict[str, Any]], name: str = "test.jsonl") -> str:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def mmlu(folder: Path, rows: list[dict[str, Any]] = ROWS, **options: Any) -> MmluTask:
    return MmluTask(MmluTask.Options(path=written(folder, rows), **options), SOURCE)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [2, 4, 5])
def test_mixed_options_are_the_same_ones_and_the_right_one_is_at_every_place_equally_often(
        seed: int, count: int) -> None:
    asked = Choices("Which?", [f"text {place}" for place in range(count)], 1, "kind")
    mixed = [asked.mixed(number, seed) for number in range(5 * count)]
    assert Counter(one.right for one in mixed) == dict.fromkeys(range(count), 5)
    assert all(sorted(one.options) == sorted(asked.options) and one.options[one.right] == "text 1" for one in mixed)
    assert [asked.mixed(number, seed) for number in range(5 * count)] == mixed
    assert count == 2 or [asked.mixed(number, seed + count) for number in range(5 * count)] != mixed


def test_a_limit_leaves_every_item_with_the_order_it_has_among_all(tmp_path: Path) -> None:
    wrong = {f"Incorrect Answer {place}": f"no {place}" for place in (1, 2, 3)}
    rows = [{"Question": f"Item {n}?", "Correct Answer": "yes", **wrong} for n in range(20)]
    path = written(tmp_path, rows)
    every, some = (GpqaTask(GpqaTask.Options(path=path, limit=limit), SOURCE).prompts() for limit in (0, 6))
    assert len(some) == 6 and {one.id for one in some} < {one.id for one in every}
    assert Counter(one.reference for one in every) == dict.fromkeys("ABCD", 5)


def test_examples_of_the_same_category_are_shown_before_an_item_and_never_itself(tmp_path: Path) -> None:
    dev = written(tmp_path, [ROWS[0], ROWS[2], ROWS[3], ROWS[4], ROWS[6]], "dev.jsonl")
    task = mmlu(tmp_path, examples=dev, shots=2)
    [asked] = task.requests(task.prompts()[2], GIVEN)
    shown = [message.content for message in asked.messages if message.role == "user"]
    assert [text.partition("?")[0] for text in shown] == [f"What is {n} and {n}" for n in (0, 4, 2)]
    assert [message.role for message in asked.messages] == ["user", "assistant"] * 2 + ["user"]
    assert [message.content for message in asked.messages if message.role == "assistant"] == ["The answer is (A)."] * 2
    [alone] = task.requests(task.prompts()[2].__class__(task.prompts()[2].messages, "C", metadata={
        "category": "another", "stem": "?", "options": list("abcd")}), GIVEN)
    assert len(alone.messages) == 5, "examples of other categories, where there is none of its own"
    assert len(mmlu(tmp_path, examples=dev, shots=0).requests(task.prompts()[2], GIVEN)[0].messages) == 1


def test_by_likelihood_examples_answer_as_options_are_scored(tmp_path: Path) -> None:
    dev = written(tmp_path, ROWS[4:6], "dev.jsonl")
    for of, said in (("letters", "A"), ("texts", "8")):
        task = mmlu(tmp_path, examples=dev, by="likelihood", of=of)
        [asked] = task.requests(task.prompts()[0], GIVEN)
        assert asked.messages[1].content == said and asked.thinks is False
        assert said in [one.text for one in asked.continuations] or of == "texts"
        assert ("A. " in asked.messages[-1].content) is (of == "letters")


def test_a_row_whose_right_option_is_none_of_them_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"test\.jsonl, row 2: of 4 options number 5 cannot"):
        mmlu(tmp_path, [ROWS[0], ROWS[1] | {"answer": "E"}]).prompts()
    with pytest.raises(InputError, match=r"row 1: 'answer' names no option"):
        mmlu(tmp_path, [ROWS[0] | {"answer": "plum"}]).prompts()


def test_what_could_not_be_scored_is_undecided_and_counts_as_wrong(tmp_path: Path) -> None:
    task = mmlu(tmp_path, by="likelihood")
    scored = task.score(task.prompts()[0], [Reply("", "error", error="too long")], _nobody)
    assert scored == Scored(0.0, undecided="too long")


def test_options_that_are_equally_likely_are_no_right_answer(tmp_path: Path) -> None:
    task = mmlu(tmp_path, by="likelihood")
    scores = tuple(TokenScores((0,), (value,), ((),), ((),)) for value in (-1.0, -1.0, -2.0, -2.0))
    assert task.score(task.prompts()[0], [Reply("", "complete", continuations=scores)], _nobody).score == 0.0


def _nobody(*_: Any) -> Any:
    raise AssertionError("nobody judges what is scored")


def plain_total(model: Any, student: Path, request: Request, text: str) -> float:
    """The log-probability of one continuation by a forward pass over all of it, in float64."""
    import torch

    from localdistill.modelfiles.tokenizer import StudentTokenizer
    from localdistill.templates import ChatTemplate

    tokenizer = StudentTokenizer(student)
    prefix = tokenizer.encode_prompt(ChatTemplate.from_folder(student).prompt(request.messages, request.thinks))
    ids = tokenizer.encode(text)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prefix, *ids]]), use_cache=False).logits[0].double()
    rows = logits[len(prefix) - 1:-1].log_softmax(-1)
    return float(sum(rows[place, token] for place, token in enumerate(ids)))


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    return tiny_model(tmp_path_factory.mktemp("student") / "model", hidden=32)


def scored_by(engine: Any, task: MmluTask, prompt: Prompt) -> tuple[list[Request], Scored]:
    """The requests about an item, and what comes of the engine's replies."""
    asked = list(task.requests(prompt, GIVEN))
    replies = {reply.request_id: reply for reply in engine.answer(iter(asked), silent, Cancel())}
    return asked, task.score(prompt, [replies[request.id] for request in asked], _nobody)


def compared_by_hand(model: Any, student: Path, task: MmluTask, prompt: Prompt, asked: list[Request]) -> list[float]:
    """What the options are compared by, worked out from plain forward passes."""
    found = []
    for place, option in enumerate(prompt.metadata["options"]):
        text = "ABCD"[place] if task.own.of == "letters" else str(option)
        total = plain_total(model, student, asked[0], text)
        if task.own.normalised == "length":
            total /= len(text)
        if task.own.normalised == "unconditional":
            total -= plain_total(model, student, asked[1], text)
        found.append(total)
    return found


@pytest.mark.parametrize("normalised", ["plain", "length", "unconditional"])
@pytest.mark.parametrize("of", ["letters", "texts"])
def test_scores_are_those_of_a_plain_forward_pass(tmp_path: Path, student: Path, of: str, normalised: str) -> None:
    from localdistill.engines.transformers import TransformersEngine

    engine = TransformersEngine(TransformersEngine.Options(model=str(student), dtype="float32"))
    task = mmlu(tmp_path, ROWS[:4], by="likelihood", of=of, normalised=normalised)
    try:
        for prompt in task.prompts():
            asked, scored = scored_by(engine, task, prompt)
            values = compared_by_hand(engine.model, student, task, prompt, asked)
            right = values.pop("ABCD".index(str(prompt.reference)))
            assert scored.metrics["margin"] == pytest.approx(right - max(values), abs=1e-3)
            assert scored.score == float(right > max(values)) and not scored.undecided
    finally:
        engine.close()


@pytest.mark.slow
def test_the_exported_file_and_mlx_score_as_torch_does(tmp_path: Path, student: Path) -> None:
    for module in ("gguf", "llama_cpp", "mlx.core"):
        pytest.importorskip(module)
    from localdistill.engines.llama_cpp import LlamaCppEngine
    from localdistill.engines.mlx import MlxEngine
    from localdistill.engines.transformers import TransformersEngine
    from localdistill.exporters.gguf import convert_to_gguf

    file = tmp_path / "student-F16.gguf"
    convert_to_gguf(student, file, "F16")
    task = mmlu(tmp_path, by="likelihood", of="texts", normalised="unconditional")
    engines = (TransformersEngine(TransformersEngine.Options(model=str(student), dtype="float32")),
               MlxEngine(MlxEngine.Options(model=str(student), dtype="float32")),
               LlamaCppEngine(LlamaCppEngine.Options(model=str(file), threads=1, processes=1)))
    margins = []
    for engine in engines:
        try:
            margins.append([scored_by(engine, task, prompt)[1].metrics["margin"] for prompt in task.prompts()])
        finally:
            engine.close()
    assert margins[1] == pytest.approx(margins[0], abs=1e-3)
    assert margins[2] == pytest.approx(margins[0], abs=0.1), "the file computes in 16 bits"
