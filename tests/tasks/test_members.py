"""The shipped benchmarks and the real ones."""

from pathlib import Path

import pytest

from localdistill.interchange.files import read_prompts
from localdistill.tasks.gsm8k import Gsm8kTask
from localdistill.tasks.jsonl import JsonlTask
from localdistill.tasks.math500 import Math500Task
from localdistill.tasks.pantry import PantryTask
from localdistill.tasks.pantry_guard import PantryGuardTask

DATA = Path(__file__).resolve().parents[2] / "../shared/data"


def test_the_shipped_tasks_need_no_options() -> None:
    stories, guard = PantryTask(read=read_prompts), PantryGuardTask(read=read_prompts)
    assert all((prompt.reference or "").isdigit() for prompt in stories.prompts()) and not stories.is_guard
    assert all(prompt.metadata["constraints"] for prompt in guard.prompts()) and guard.is_guard
    assert (stories.grader, guard.grader) == ("exact", "instructions")
    assert {stories.category(prompt) for prompt in stories.prompts()} == {"1", "2", "3", "4", "5"}
    assert {guard.category(prompt) for prompt in guard.prompts()} == {""}


def test_jsonl_takes_its_grader_and_role_from_the_options() -> None:
    options = JsonlTask.Options(path="shipped:pantry/guard.jsonl", grader="instructions", is_guard=True, limit=3)
    task = JsonlTask(options, read=read_prompts)
    assert (task.grader, task.is_guard, len(task.prompts())) == ("instructions", True, 3)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real data (../shared/data) is not on this machine")
def test_the_real_benchmarks() -> None:
    gsm8k = Gsm8kTask(Gsm8kTask.Options(path=str(DATA / "gsm8k/test.jsonl")), read=read_prompts)
    math500 = Math500Task(Math500Task.Options(path=str(DATA / "math500/test.jsonl")), read=read_prompts)
    assert (len(gsm8k.prompts()), len(math500.prompts())) == (1319, 500)
    assert gsm8k.grader == math500.grader == "math"
