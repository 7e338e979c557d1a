"""Opening files: kinds, detection, and errors that name the row."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.borders import BORDERS
from localdistill.core.errors import InputError, UsageError
from localdistill.interchange import json_rows
from localdistill.interchange.files import detect, preview, read_file, read_prompts
from localdistill.interchange.raw_rows import rows_of

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data (../shared/data) is not on this machine")
ROWS = [
    {"messages": [{"role": "user", "content": f"q{i} é 🙂"}, {"role": "assistant", "content": "a"}]} for i in range(7)
]


def questions(path: Path) -> list[tuple[int, str]]:
    return [(number, row.prompt.question) for number, row in read_file(path)]


def lines(rows: list[Any]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


@pytest.mark.parametrize(
    "kind", ["json", "pretty.json", "jsonl", "jsonl.gz", "json.gz", "parquet", "bom.jsonl", "crlf.jsonl"]
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    array, text = json.dumps(ROWS, ensure_ascii=False).encode(), lines(ROWS)
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_bytes(
            {
                "json": array,
                "pretty.json": b" \n" + json.dumps(ROWS, indent=2).encode(),
                "jsonl": text,
                "jsonl.gz": gzip.compress(text),
                "json.gz": gzip.compress(array),
                "bom.jsonl": b"\xef\xbb\xbf" + text,
                "crlf.jsonl": text.replace(b"\n", b"\r\n"),
            }[kind]
        )
    assert questions(path) == [(i + 1, f"q{i} é 🙂") for i in range(7)]
    assert [number for number, _ in preview(path, 3)] == [1, 2, 3]


def test_rows_longer_than_a_chunk_and_cut_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(json.dumps(ROWS, ensure_ascii=False, indent=1).encode())
    for size in (1, 2, 3, 7, 64):
        monkeypatch.setattr(BORDERS, "file_bytes", size)
        assert [row for _, row in rows_of(path)] == ROWS


def test_a_list_behind_many_blanks_is_a_list(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b"\xef\xbb\xbf" + b" \n" * 5000 + json.dumps(ROWS).encode())
    assert [row for _, row in rows_of(path)] == ROWS


def test_reading_is_lazy(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(lines(ROWS) + b"\nbroken")
    assert next(iter(read_file(path)))[0] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines(ROWS) + b"\n{broken", "rows.x, row 8: is not JSON"),
        (lines(ROWS) + b"\n[1]", "rows.x, row 8: is not a JSON object"),
        (lines(ROWS) + b'\n{"a": "\xff"}', "rows.x, row 8: is not UTF-8"),
        (lines(ROWS) + b'\n\n{"messages": []}', "rows.x, row 9: there is no user turn"),
        (json.dumps(ROWS).encode()[:-1], "rows.x, row 7: is followed by 'the end'"),
        (json.dumps(ROWS).encode()[:-9], "rows.x, row 7: is not JSON"),
        (json.dumps([*ROWS, 3]).encode(), "rows.x, row 8: is not a JSON object"),
        (json.dumps(ROWS).encode()[:-1] + b',{"a": "\xff"}]', "is not UTF-8"),
        (b"[" + lines(ROWS[:2]) + b"]", "rows.x, row 1: is followed by '{', expected ','"),
        (b'{"a":' * 100_000, "row 1: is nested too deeply"),
    ],
)
def test_errors_name_the_row(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rows.x"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(read_file(path, "messages"))
    assert message in caught.value.message and caught.value.hint


def test_a_row_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_ROW_CHARS", 300)
    for content in (lines([*ROWS, {"messages": "x" * 400}]), json.dumps([*ROWS, {"messages": "x" * 40_000}]).encode()):
        path = tmp_path / "rows.json"
        path.write_bytes(content)
        monkeypatch.setattr(BORDERS, "file_bytes", 256)
        with pytest.raises(InputError, match="row 8: is longer than 300"):
            list(rows_of(path))


def test_damaged_containers_are_named(tmp_path: Path) -> None:
    cut = tmp_path / "rows.jsonl.gz"
    cut.write_bytes(gzip.compress(lines(ROWS * 100))[:-20])
    with pytest.raises(InputError, match=r"rows\.jsonl\.gz, row"):
        list(read_file(cut, "messages"))
    wrong = tmp_path / "rows.parquet"
    wrong.write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError, match=r"rows\.parquet, row 1"):
        list(read_file(wrong, "messages"))


def test_files_without_a_known_layout_say_what_was_seen(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"frage": "p", "canonical": 1}')
    with pytest.raises(InputError, match="keys seen: canonical, frage") as caught:
        detect(path)
    assert "--map question=COLUMN" in caught.value.hint
    path.write_text("\n\n")
    with pytest.raises(InputError, match="holds no rows"):
        detect(path)
    with pytest.raises(InputError, match="there is no file"):
        detect(tmp_path / "absent")
    path.write_bytes(lines(ROWS))
    with pytest.raises(UsageError, match="did you mean 'messages'"):
        list(read_file(path, "mesages"))


def test_lone_surrogates_become_replacement_characters(tmp_path: Path) -> None:
    for content in (
        '{"messages": [{"role": "user", "content": "a\\ud83d b \\ud83d\\ude42"}]}',
        '[{"messages": [{"role": "user", "content": "a\\uD83d b \\ud83d\\ude42"}]}]',
    ):
        path = tmp_path / "rows.json"
        path.write_text(content)
        assert questions(path) == [(1, "a\ufffd b 🙂")]


@needs_data
def test_the_real_files_are_detected_and_share_582_prompts() -> None:
    test = {prompt.id for prompt in read_prompts(DATA / "gsm8k/test.jsonl")}
    assert len(test) == 1319
    for path in sorted((DATA / "traces").glob("gsm8k_*.json")):
        assert detect(path) == "mip_traces"
        rows = list(read_file(path))
        assert (
            len({row.prompt.id for _, row in rows} & test) == 582 == len({row.trace.id for _, row in rows if row.trace})
        )
    statuses = [row.trace.status for _, row in read_file(DATA / "traces/gsm8k_deepseekR1.json") if row.trace]
    assert statuses.count("truncated") == 1 and statuses.count("complete") == 581
    assert detect(DATA / "gsm8k/train.jsonl") == "gsm8k" and detect(DATA / "math500/test.jsonl") == "math500"
    assert all(
        not prompt.reference or "," not in prompt.reference for prompt in read_prompts(DATA / "gsm8k/test.jsonl")
    )
    [first, *_] = preview(DATA / "humaneval/HumanEval.jsonl.gz")
    assert first[1].prompt.tests and first[1].prompt.original and first[1].trace is None
