"""What every task must do, for every name in the family's table."""

import json
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import InputError, UsageError
from localdistill.core.options import Options
from localdistill.core.records import Prompt
from localdistill.graders import GRADERS
from localdistill.interchange.files import read_prompts
from localdistill.tasks import TASKS
from localdistill.tasks.items import ItemSource

ROWS: dict[str, list[dict[str, Any]]] = {
    "gsm8k": [{"question": f"{i} + 1?", "answer": f"#### {i + 1}"} for i in range(9)],
    "math500": [{"problem": f"{i} + 1?", "solution": "s", "answer": str(i + 1)} for i in range(9)],
    "own": [{"messages": [{"role": "user", "content": f"{i} + 1?"}], "reference": str(i + 1)} for i in range(9)],
}


@pytest.fixture(params=TASKS.names())
def cls(request: pytest.FixtureRequest) -> Any:
    found = TASKS.load(request.param)
    assert found.name == request.param
    return found


@pytest.fixture
def path(cls: Any, tmp_path: Path) -> str:
    file = tmp_path / "items.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in ROWS.get(cls.name, ROWS["own"])))
    return str(file)


def task_of(cls: Any, path: str, **options: Any) -> Any:
    """The task on the items in a file, or on those that are set aside out of it where it names no file."""
    def held_out(side: str) -> list[Prompt]:
        return list(read_prompts(Path(path), None)) if Path(path).read_text() else []

    named = {"path": path} if "path" in cls.Options.model_fields else {}
    return cls(cls.Options(**named, **options), source=ItemSource(read_prompts, held_out))


def questions(cls: Any, path: str, **options: Any) -> list[str]:
    return [prompt.question for prompt in task_of(cls, path, **options).prompts()]


def test_options_are_strict_and_explained(cls: Any) -> None:
    assert issubclass(cls.Options, Options)
    assert all(field.description for field in cls.Options.model_fields.values())


def test_items_come_in_the_order_of_the_file(cls: Any, path: str) -> None:
    assert questions(cls, path=path) == [f"{i} + 1?" for i in range(9)]


def test_the_grader_exists_and_items_have_what_it_needs(cls: Any, path: str) -> None:
    task = task_of(cls, path)
    assert task.grader in GRADERS.names() and task.is_guard in (True, False)
    assert all(prompt.reference for prompt in task.prompts())


def test_a_limit_chooses_the_same_items_each_time_in_order(cls: Any, path: str) -> None:
    chosen = questions(cls, path=path, limit=4)
    assert chosen == questions(cls, path=path, limit=4) == sorted(set(chosen)) and len(chosen) == 4
    assert any(questions(cls, path=path, limit=4, seed=seed) != chosen for seed in (1, 2, 3))
    assert len(questions(cls, path=path, limit=50)) == 9


def test_missing_and_empty_files_are_named(cls: Any, tmp_path: Path) -> None:
    if "path" not in cls.Options.model_fields:
        (tmp_path / "empty.jsonl").write_text("")
        with pytest.raises(InputError, match="no prompts are set aside"):
            questions(cls, str(tmp_path / "empty.jsonl"))
        return
    with pytest.raises(InputError, match="absent"):
        questions(cls, path=str(tmp_path / "absent.jsonl"))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match=r"empty\.jsonl holds no"):
        questions(cls, path=str(tmp_path / "empty.jsonl"))


def test_a_task_without_a_source_says_so(cls: Any, path: str) -> None:
    named = {"path": path} if "path" in cls.Options.model_fields else {}
    with pytest.raises(UsageError, match="where its items come from"):
        cls(cls.Options(**named)).prompts()
