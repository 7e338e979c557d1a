"""Right answers score 100 % and wrong ones 0 %, by every task: on the items that ship, and on real benchmarks where
they are."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.means import Means
from localdistill.core.records import Fact, Prompt, Reply, Trace, Usage
from localdistill.graders import GRADERS
from localdistill.graders.obedience import detecting
from localdistill.interchange.files import read_prompts
from localdistill.interchange.raw_rows import rows_of
from localdistill.tasks import TASKS
from localdistill.tasks.base import Given
from localdistill.tasks.items import ItemSource

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
SOURCE = ItemSource(read_prompts, rows_of)
RAMBLING = ("Okay, so somebody wants 3 things here, and on the one hand water is safe, on the other hand it rains; I "
            "should think about that again, since all readings might be meant. ") * 6
Says = Callable[[Prompt], str | Sequence[str]]


def task_of(name: str, **options: Any) -> Any:
    cls = TASKS.load(name)
    return cls(cls.Options.model_validate(options), source=SOURCE)


def scores(task: Any, says: Says) -> Counter[float]:
    """How often each score is given where every item is answered so: one text, or one to each of its requests."""
    cls = GRADERS.load(task.grader)
    patient = {"timeout_s": 60.0} if "timeout_s" in cls.Options.model_fields else {}  # however busy the machine is
    grader = cls(cls.Options.model_validate({**task.grader_options, **patient}))

    def judge(prompt: Prompt, reply: Reply) -> Fact:
        [fact] = grader.facts([(prompt, Trace("t", prompt.id, "", "", "", reply.answer))], Means())
        assert isinstance(fact, Fact)
        return fact

    try:
        found = Counter[float]()
        for prompt in task.prompts():
            said, asked = says(prompt), task.requests(prompt, Given(64, None))
            texts = [said] * len(asked) if isinstance(said, str) else said
            found[task.score(prompt, [replied(text) for text in texts], judge).score] += 1
        return found
    finally:
        grader.close()


def replied(text: str, status: Any = "complete") -> Reply:
    return Reply("", status, answer=text, finish_reason="stop", usage=Usage(1, len(text) // 4))


def boxed(prompt: Prompt) -> str:
    return "So it is $\\boxed{" + str(prompt.reference).replace("$", "") + "}$."


def picked(prompt: Prompt) -> str:
    return f"I think so. The answer is ({prompt.reference})."


def another(prompt: Prompt) -> str:
    letters = [chr(ord("A") + place) for place in range(len(prompt.metadata["options"]))]
    return f"The answer is ({letters[letters.index(str(prompt.reference)) - 1]})."


def premise(prompt: Prompt) -> Sequence[str]:
    missing, whole = "There is not enough information.", f"So the answer is {prompt.metadata.get('twin_reference')}."
    return [missing, whole] if "twin" in prompt.metadata else [missing]


def called(prompt: Prompt) -> str:
    """The calls that are wanted, in the first of the values that are allowed."""
    said = []
    for [(name, arguments)] in (one.items() for one in prompt.metadata["calls"]):
        stated = {key: first_of(values) for key, values in arguments.items() if values and "" not in values}
        said.append(f"<tool_call>{json.dumps({'name': name, 'arguments': stated})}</tool_call>")
    return "\n".join(said) or "None of these tools can do that."


def first_of(values: Any) -> Any:
    """Inside objects, too, every key has a list of allowed values."""
    if isinstance(values, list):
        values = next((value for value in values if value != ""), None)
    if isinstance(values, dict):
        return {key: first_of(value) for key, value in values.items()}
    return [first_of([value]) for value in values] if isinstance(values, list) else values


def test_every_item_of_the_everyday_guard_can_be_kept_and_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detecting, "_langdetect", lambda: None)  # which takes its time to load
    task = task_of("everyday")
    kinds = Counter(task.category(prompt) for prompt in task.prompts())
    assert kinds == {"instructions": 20, "format": 20, "no overthinking": 16, "short chat": 12, "another language": 16}
    assert scores(task, lambda prompt: prompt.original or "") == {1.0: 84}
    assert scores(task, lambda prompt: RAMBLING) == {0.0: 84}


def test_the_everyday_guard_fails_what_is_thought_over_too_long_or_cut() -> None:
    task = task_of("everyday")
    prompt = next(one for one in task.prompts() if task.category(one) == "no overthinking")
    kept = Fact("t", "instructions", value=1.0, passed=True)

    def scored(**changes: Any) -> Any:
        return task.score(prompt, [Reply("", **{"status": "complete", "answer": "12", **changes})], lambda *_: kept)

    assert (scored(usage=Usage(9, 200)).score, scored(usage=Usage(9, 201)).score) == (1.0, 0.0)
    assert scored(usage=Usage(9, 201)).metrics == {"obeyed": 1.0, "overthought": 1.0}
    assert scored(status="length").score == 0.0


REAL = {
    "mmlu": ({"path": "multiple_choice/mmlu_test_sample.jsonl", "order": 3}, picked, another),
    "mmlu, dev": ({"path": "multiple_choice/mmlu_dev.jsonl"}, picked, another),
    "arc": ({"path": "multiple_choice/arc_challenge_test.json"}, picked, another),
    "arc, openbookqa": ({"path": "multiple_choice/openbookqa_test.json", "order": 0}, picked, another),
    "aime, 24": ({"path": "math/aime24.jsonl"}, boxed, "\\boxed{987654.25}"),
    "aime, 25": ({"path": "math/aime25.jsonl"}, boxed, "\\boxed{987654.25}"),
    "aime, amc": ({"path": "math/amc23.jsonl"}, boxed, "\\boxed{987654.25}"),
    "minerva": ({"path": "math/minerva.jsonl"}, boxed, "\\boxed{987654.25}"),
    "olympiad": ({"path": "math/olympiadbench.jsonl"}, boxed, "\\boxed{987654.25}"),
    "gsm8k": ({"path": "gsm8k/test.jsonl"}, boxed, "It is 987654."),
    "math500": ({"path": "math500/test.jsonl"}, boxed, "\\boxed{987654.25}"),
    "bbh": ({"path": "bbh"}, lambda prompt: f"Hm. So the answer is {prompt.reference}.", "So the answer is unknown."),
    "bbh, anywhere": ({"path": "bbh", "reads": "anywhere"}, lambda prompt: f"Hm. So the answer is {prompt.reference}.",
                      "So the answer is unknown."),
    "missing_premise": ({"path": "mip/gsm8k.json"}, premise, "So the answer is 7."),
    "missing_premise, svamp": ({"path": "mip/svamp.json"}, premise, "So the answer is 7."),
    **{f"bfcl, {kind}": ({"path": f"tools/bfcl_{kind}.jsonl", "answers": f"tools/bfcl_{kind}_answers.jsonl"}, called,
                         "I would rather not.")
       for kind in ("simple_python", "live_simple", "multiple", "parallel", "parallel_multiple")},
    "bfcl, irrelevance": ({"path": "tools/bfcl_irrelevance.jsonl", "wants": "none"}, called, '[any_tool(x=1)]'),
}
"""Task and part -> options, what is right, and what is wrong."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not DATA.is_dir(), reason="the real data (../shared/data) is not on this machine")
@pytest.mark.parametrize("name", REAL)
def test_right_answers_to_real_items_all_count_and_wrong_ones_never(name: str) -> None:
    options, right, wrong = REAL[name]
    placed = {key: str(DATA / value) if key in ("path", "answers") else value for key, value in options.items()}
    task = task_of(name.partition(",")[0], **placed)
    count = len(task.prompts())
    assert scores(task, right) == {1.0: count}
    assert scores(task, wrong if callable(wrong) else lambda prompt: wrong) == {0.0: count}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not DATA.is_dir(), reason="the real data (../shared/data) is not on this machine")
def test_stored_replies_to_bbh_have_the_accuracies_that_were_published_for_all_27_kinds() -> None:
    task = task_of("bbh", path=str(DATA / "bbh"))
    told = json.loads((DATA / "bbh/codex_cot_published.json").read_text("utf-8"))
    cls = GRADERS.load(task.grader)
    grader, right, all_ = cls(cls.Options.model_validate(task.grader_options)), Counter[str](), Counter[str]()
    for line in (DATA / "bbh/codex_cot_outputs.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        prompt = Prompt((), reference=row["target"])
        [fact] = grader.facts([(prompt, Trace("t", "p", "", "", "", row["prediction"]))], Means())
        right[row["task"]] += bool(fact.passed)
        all_[row["task"]] += 1
    assert len(all_) == 27 == len({task.category(prompt) for prompt in task.prompts()})
    for kind, count in all_.items():
        assert 100 * right[kind] / count == pytest.approx(told[kind]["visible_accuracy"], abs=1e-3), kind
