"""What every filter must do, for every name in the family's table."""

from typing import Any

import pyarrow as pa
import pytest

from localdistill.core.means import Means
from localdistill.core.options import Options
from localdistill.filters import FILTERS
from tests import doors
from tests.doors import ROW


def batch(*rows: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{**ROW, **row} for row in rows])


def kept(rule: Any, *rows: dict[str, Any]) -> list[bool]:
    """The verdict of a filter on rows, through its door."""
    return doors.kept(rule, [{**doors.good_row(rule), **row} for row in rows])


@pytest.fixture(params=FILTERS.names())
def rule(request: pytest.FixtureRequest) -> Any:
    cls = FILTERS.load(request.param)
    assert cls.name == request.param
    made = cls(cls.Options())
    made.begin(Means(items=[item for sample in cls.samples() for item in sample.items]))
    return made


def test_options_are_strict_and_explained(rule: Any) -> None:
    assert issubclass(rule.Options, Options) and isinstance(rule.version, int)
    assert all(field.description for field in rule.Options.model_fields.values())


def test_a_good_row_stays_and_every_verdict_is_a_bool(rule: Any) -> None:
    nothing = {"score": None, "completion_tokens": None, "reasoning": None, "answer": None, "question": None}
    verdicts = kept(rule, {}, {**nothing, "prompt_id": "p2"})
    assert verdicts[0] is True and all(isinstance(verdict, bool) for verdict in verdicts)


def test_a_batch_filter_names_its_columns(rule: Any) -> None:
    if rule.sql() is None:
        assert list(rule.keep(doors.row_batch(rule, doors.good_row(rule)))) == [True]


def test_the_teacher_filter_keeps_the_models_that_a_pattern_names() -> None:
    cls = FILTERS.load("teacher")
    rows = [{"model": "api.deepseek.com/deepseek-v4"}, {"model": "sha256:abc"}, {"model": None}]
    assert kept(cls(cls.Options(models=("*/DeepSeek-*",))), *rows) == [True, False, False]
    assert kept(cls(cls.Options(models=("sha256:*", "*/deepseek-*"))), *rows) == [True, True, False]
    assert kept(cls(), *rows) == [True, True, True]
