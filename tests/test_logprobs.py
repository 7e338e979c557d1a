"""Log-probabilities in Parquet beside the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from localdistill.core.borders import BORDERS
from localdistill.core.errors import InputError
from localdistill.core.records import TokenScores
from localdistill.workspace.logprobs import LogprobWriter, all_logprobs, read_logprobs


def scores(count: int, width: int = 3, shift: int = 0) -> TokenScores:
    return TokenScores(
        tuple(range(shift, shift + count)), tuple(-0.5 * i for i in range(count)),
        tuple(tuple(range(i, i + width)) for i in range(count)),
        tuple(tuple(-0.25 * k for k in range(width)) for _ in range(count)),
    )


def test_what_was_added_is_read_back_by_trace(tmp_path: Path) -> None:
    with LogprobWriter(tmp_path / "scores") as writer:
        for i in range(200):
            writer.add(f"b2:{i:03d}", scores(i % 7 + 1, shift=i))
    assert read_logprobs(tmp_path / "scores", "b2:123") == scores(123 % 7 + 1, shift=123)
    assert read_logprobs(tmp_path / "scores", "b2:none") is None
    assert len(dict(all_logprobs(tmp_path / "scores"))) == 200


def test_no_file_before_there_is_anything_and_none_half_written(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BORDERS, "logprob_values", 50)
    writer = LogprobWriter(tmp_path)
    assert read_logprobs(tmp_path, "a") is None
    writer.add("a", scores(2))
    assert not list(tmp_path.iterdir())
    writer.add("b", scores(9))
    assert len(list(tmp_path.glob("*.parquet"))) == 1 and read_logprobs(tmp_path, "a") == scores(2)
    writer.close()
    writer.close()
    assert len(list(tmp_path.iterdir())) == 1


def test_two_writers_share_a_folder_and_the_newer_row_counts(tmp_path: Path) -> None:
    for count in (2, 5):
        writer = LogprobWriter(tmp_path)
        writer.add("same", scores(count))
        writer.close()
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    assert read_logprobs(tmp_path, "same") == scores(5)


def test_empty_replies_and_uneven_columns(tmp_path: Path) -> None:
    with LogprobWriter(tmp_path) as writer:
        writer.add("empty", scores(0))
        with pytest.raises(InputError, match="odd"):
            writer.add("odd", TokenScores((1, 2), (-1.0,), ((1,), (2,)), ((-1.0,), (-2.0,))))
    assert read_logprobs(tmp_path, "empty") == scores(0)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match=r"x\.parquet"):
        read_logprobs(tmp_path, "a")


def test_no_value_turns_into_another_unseen(tmp_path: Path) -> None:
    with LogprobWriter(tmp_path) as writer:
        for number in range(40):
            writer.add(f"t{number}", scores(number))
    (path,) = tmp_path.iterdir()
    whole, before = path.read_bytes(), list(all_logprobs(tmp_path))
    seen = 0
    for at in range(4, len(whole), 11):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:])
        try:
            assert list(all_logprobs(tmp_path)) == before, at
        except InputError as error:
            assert path.name in error.message
            seen += 1
    assert seen > 20
