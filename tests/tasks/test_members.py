"""The shipped benchmarks and the real ones."""

from pathlib import Path

import pytest

from localdistill.core.errors import InputError
from localdistill.core.records import Message, Prompt
from localdistill.interchange.files import read_prompts
from localdistill.interchange.raw_rows import rows_of
from localdistill.tasks.gsm8k import Gsm8kTask
from localdistill.tasks.holdout import HoldoutTask
from localdistill.tasks.items import ItemSource
from localdistill.tasks.jsonl import JsonlTask
from localdistill.tasks.math500 import Math500Task
from localdistill.tasks.pantry import PantryTask
from localdistill.tasks.pantry_guard import PantryGuardTask

SOURCE = ItemSource(read_prompts, rows_of)
DATA = Path(__file__).resolve().parents[2] / "../shared/data"


def test_the_shipped_tasks_need_no_options() -> None:
    stories, guard = PantryTask(source=SOURCE), PantryGuardTask(source=SOURCE)
    assert all((prompt.reference or "").isdigit() for prompt in stories.prompts()) and not stories.is_guard
    assert all(prompt.metadata["constraints"] for prompt in guard.prompts()) and guard.is_guard
    assert (stories.grader, guard.grader) == ("exact", "instructions")
    assert {stories.category(prompt) for prompt in stories.prompts()} == {"1", "2", "3", "4", "5"}
    assert {guard.category(prompt) for prompt in guard.prompts()} == {""}


def test_jsonl_takes_its_grader_and_role_from_the_options() -> None:
    options = JsonlTask.Options(path="shipped:pantry/guard.jsonl", grader="instructions", is_guard=True, limit=3)
    task = JsonlTask(options, source=SOURCE)
    assert (task.grader, task.is_guard, len(task.prompts())) == ("instructions", True, 3)


def test_the_holdout_asks_what_was_set_aside_for_its_side() -> None:
    held = {"test": [Prompt((Message("user", "1 + 1?"),), "2")], "dev": []}
    source = ItemSource(read_prompts, rows_of, held.__getitem__)
    task = HoldoutTask(HoldoutTask.Options(grader="math"), source=source)
    assert (task.grader, task.prompts()) == ("math", held["test"])
    dev = HoldoutTask(HoldoutTask.Options(split="dev"), source=source)
    with pytest.raises(InputError, match="no prompts are set aside for 'dev'") as caught:
        dev.prompts()
    assert "holdout = { dev = 0.1 }" in caught.value.hint


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data (../shared/data) is not on this machine")
def test_the_real_benchmarks() -> None:
    gsm8k = Gsm8kTask(Gsm8kTask.Options(path=str(DATA / "gsm8k/test.jsonl")), source=SOURCE)
    math500 = Math500Task(Math500Task.Options(path=str(DATA / "math500/test.jsonl")), source=SOURCE)
    assert (len(gsm8k.prompts()), len(math500.prompts())) == (1319, 500)
    assert gsm8k.grader == math500.grader == "math"
