"""What every task must do, for every name in the family's table, on the rows of its own samples."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import InputError, UsageError
from localdistill.core.options import Options
from localdistill.core.records import Prompt
from localdistill.graders import GRADERS
from localdistill.interchange.files import read_prompts
from localdistill.interchange.raw_rows import rows_of
from localdistill.tasks import TASKS
from localdistill.tasks.items import ItemSource

COUNT = 9


@pytest.fixture(params=TASKS.names())
def cls(request: pytest.FixtureRequest) -> Any:
    found = TASKS.load(request.param)
    assert found.name == request.param
    return found


@pytest.fixture
def path(cls: Any, tmp_path: Path) -> str:
    """Nine items: the first of its samples, each with a question of its own."""
    text = json.dumps(cls.samples()[0].rows[0])
    file = tmp_path / "items.jsonl"
    stated = stated_question(cls)
    assert text.count(json.dumps(stated)[1:-1]) == 1, "a row says its question once"
    file.write_text("\n".join(text.replace(json.dumps(stated)[1:-1], json.dumps(numbered(stated, n))[1:-1])
                              for n in range(COUNT)))
    return str(file)


def stated_question(cls: Any) -> str:
    """What a row says of the question of the first sample: all of it, or what a task asks more of begins with it."""
    sample = cls.samples()[0]
    said = [value for value in strings_in(sample.rows[0]) if sample.questions[0].startswith(value) and value]
    return max(said, key=len, default=sample.questions[0])


def strings_in(value: Any) -> Iterator[str]:
    """All texts in JSON data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings_in(part)


def numbered(question: str, number: int) -> str:
    return f"{question} (number {number})"


def task_of(cls: Any, path: str, **options: Any) -> Any:
    """The task on the items in a file, or on those that are set aside out of it where it names no file."""
    def held_out(side: str) -> list[Prompt]:
        return list(read_prompts(Path(path), None)) if Path(path).read_text() else []

    sample = cls.samples()[0]
    for name, text in sample.files.items():
        (Path(path).parent / name).write_text(text)
    named = {"path": path} if "path" in cls.Options.model_fields else {}
    beside = {key: str(Path(path).parent / str(sample.options[key])) for key in cls.Options.file_fields()
              if sample.options.get(key) in sample.files}
    stated = {**sample.options, **beside, **named, **options}
    return cls(cls.Options.model_validate(stated), source=ItemSource(read_prompts, rows_of, held_out))


def questions(cls: Any, path: str, **options: Any) -> list[str]:
    return [prompt.question for prompt in task_of(cls, path, **options).prompts()]


def test_options_are_strict_and_explained(cls: Any) -> None:
    assert issubclass(cls.Options, Options)
    assert all(field.description for field in cls.Options.model_fields.values())


def test_items_come_in_the_order_of_the_file(cls: Any, path: str) -> None:
    asked, stated = questions(cls, path=path), stated_question(cls)
    assert [numbered(stated, n) in one for n, one in enumerate(asked)] == [True] * COUNT


def test_its_grader_exists_takes_its_options_and_applies_to_every_item(cls: Any, path: str) -> None:
    task = task_of(cls, path)
    assert task.is_guard in (True, False) and all(task.metrics.values())
    if not task.grader:  # a rule of its own: its samples show it
        assert not task.grader_options
        return
    grader = GRADERS.load(task.grader)(GRADERS.load(task.grader).Options.model_validate(task.grader_options))
    assert all(grader.applies(prompt) for prompt in task.prompts())
    grader.close()


def test_an_engine_that_its_options_name_is_handed_to_its_grader(cls: Any, path: str) -> None:
    """Nobody else asks engines about replies."""
    own = {field: f"the engine of {field}" for field in cls.Options.engine_fields()}
    task = task_of(cls, path, **own)
    asked = GRADERS.load(task.grader).Options.engine_fields() if task.grader else {}
    assert set(own.values()) <= {task.grader_options.get(field) for field in asked}


def test_a_limit_chooses_the_same_items_each_time_in_order(cls: Any, path: str) -> None:
    chosen = questions(cls, path=path, limit=4)
    assert chosen == questions(cls, path=path, limit=4) == sorted(set(chosen)) and len(chosen) == 4
    assert any(questions(cls, path=path, limit=4, seed=seed) != chosen for seed in (1, 2, 3))
    assert len(questions(cls, path=path, limit=50)) == COUNT


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
    stated = {**cls.samples()[0].options, **named}
    with pytest.raises(UsageError, match="where its items come from"):
        cls(cls.Options.model_validate(stated)).prompts()
