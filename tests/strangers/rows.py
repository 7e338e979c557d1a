"""Hostile files of rows: text that lies about its arrangement, rows that are huge, deep or of nothing but brackets, and
packed files that unfold to far more than they hold. The large ones are written as streams."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

Write = Callable[[Path], Path]
"""Writes a file into a folder; returns where it lies."""

ROW = {"messages": [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "<think>easy</think>2"}]}
_LINE = json.dumps(ROW).encode()
_DEEP = 5_000


def _put(name: str, *parts: bytes | tuple[bytes, int]) -> Write:
    """A file of parts, each a text or one that is repeated."""
    def write(folder: Path) -> Path:
        path = folder / name
        with path.open("wb") as file:
            for part in parts:
                text, times = part if isinstance(part, tuple) else (part, 1)
                at_once = max(1, min(times, (1 << 20) // max(1, len(text))))
                for _ in range(times // at_once):
                    file.write(text * at_once)
                file.write(text * (times % at_once))
        return path
    return write


def _packed(name: str, begin: bytes, repeated: bytes, megabytes: int, end: bytes = b"") -> Write:
    """A packed file: a beginning, some megabytes of one text, an end. What is repeated is packed once, in parts that
    both formats take one behind the other."""
    def pack(text: bytes) -> bytes:
        if name.endswith(".gz"):
            return gzip.compress(text)
        import pyarrow as pa

        return bytes(pa.compress(text, codec="zstd", asbytes=True))

    def write(folder: Path) -> Path:
        path = folder / name
        part = pack(repeated * (2_000_000 // len(repeated)))
        path.write_bytes(pack(begin) + part * (megabytes // 2) + pack(end))
        return path
    return write


def small() -> Iterator[tuple[str, Write]]:
    """Files of some kilobytes."""
    yield "empty", _put("a.jsonl")
    yield "blanks", _put("a.json", b" \n\t\r\n" * 10)
    yield "only a byte order mark", _put("a.jsonl", b"\xef\xbb\xbf")
    yield "UTF-16", _put("a.jsonl", json.dumps(ROW).encode("utf-16"))
    yield "NUL bytes", _put("a.jsonl", b"\0" * 1000)
    yield "random bytes", _put("a.json", bytes(range(256)) * 10)
    for mark in (b"[", b"]", b"{", b"}", b"[]", b"{}", b"[[]]", b"[{}]", b"[1]", b"null", b"1", b'"a"', b"[,]",
                 b"[{},]", b"[{}", b"{]", b"[}", b"{,}", b'{"a"}', b'{"a":}', b'{"a":1,}', b"[{}{}]", b"{}{}", b"{} {}",
                 b"{},{}",
                 b'{"data"', b'{"data":', b'{"data":[', b'{"data":[]', b'{"data":[]}', b'{"data":[{}', b'{"data":[{}]',
                 b'{"data":[{}]}x', b'{"data":{}}', b'{"data":[1]}', b'{"data":[{},1]}', b'{"data":null}', b"\xff",
                 b'{"a": "\xff"}', b'{"a": "\\ud800"}', b'{"a": tru', b'{"a": NaN}', b'{"a": 1e999}'):
        for name in ("a.json", "a.jsonl", "a"):
            yield f"{name}: {mark!r}", _put(name, mark)
            yield f"{name}: a row, then {mark!r}", _put(name, _LINE, b"\n", mark)
            yield f"{name}: {mark!r}, then a row", _put(name, mark, b"\n", _LINE)
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"), (b'{"messages":[', b"]}")):
        for depth in (70, 500, 990, _DEEP, 100_000):
            for name in ("a.json", "a.jsonl"):
                nested = opening * depth + b"1" + closing * depth
                yield f"{name}: {opening!r} {depth} deep", _put(name, b'{"x":' + nested + b"}\n", _LINE)
                yield f"{name}: {opening!r} {depth} deep, never closed", _put(name, opening * depth)
        yield f"{opening!r} with half a pair, 900 deep", _put("a.jsonl", opening * 900 + b'"\\ud800"' + closing * 900)
    yield "a number of 6,000 digits", _put("a.jsonl", b'{"messages": ' + b"9" * 6000 + b"}")
    for row in _wrong_rows():
        for text in (row, {"data": [row]}, [row]):
            yield f"{json.dumps(text)[:60]}", _put("a.json", json.dumps(text).encode())
    for text in (b"", b"\n", b",", b",,,\n1,2,3,4", b"a,a\n1,2", b"a,b\n1,2,3", b"a,b\n1", b'a,b\n"1,2',
                 b'a,b\n1"x"2,"3"4',
                 b"instruction,output\n\xff,2", b"instruction,output\n\0,2", b"instruction\toutput\n1\t2",
                 b"a" * 10_000, b"," * 20_000, b"instruction;output\n1;2", b"instruction,output\r1,2\r",
                 b"\xef\xbb\xbfinstruction,output\n1,2"):
        yield f"a.csv: {text[:30]!r}", _put("a.csv", text)
        yield f"a.TSV: {text[:30]!r}", _put("a.TSV", text)
    packed = gzip.compress(_LINE * 100)
    for cut in (1, 2, 10, 18, len(packed) // 2, len(packed) - 8, len(packed) - 1):
        yield f"gzip cut at {cut}", _put("a.jsonl.gz", packed[:cut])
    for place in range(0, len(packed), 7):
        changed = packed[:place] + bytes([packed[place] ^ 0x55]) + packed[place + 1:]
        yield f"gzip with byte {place} flipped", _put("a.jsonl.gz", changed)
    yield "gzip, then rubbish", _put("a.jsonl.gz", gzip.compress(_LINE + b"\n"), b"rubbish")
    yield "gzip of gzip", _put("a.jsonl.gz", gzip.compress(gzip.compress(_LINE)))
    yield "zstd of nothing", _put("a.jsonl.zst", b"\x28\xb5\x2f\xfd")
    yield "zstd with a window of 2 GB", _put("a.jsonl.zst", b"\x28\xb5\x2f\xfd\x00\xa8" + b"\0" * 20)
    for magic in (b"PK\x03\x04", b"BZh9", b"\xfd7zXZ\0", b"7z\xbc\xaf", b"Rar!"):
        yield f"an archive {magic!r}", _put("a.jsonl", magic, b"\0" * 50)


def _wrong_rows() -> Iterator[object]:
    for value in (None, 1, "text", [], {}, [1], [None], [[]], [{}], [{"role": 1}], [{"role": "user"}], True, 1.5,
                  [{"role": "user", "content": {}}], [{"role": "user", "content": [{"text": 1}]}],
                  [{"role": ["user"], "content": "x"}], {"role": "user"}):
        for key in ("messages", "conversations", "instruction", "question", "problem", "output", "metadata", "info"):
            yield {key: value}
            yield {**ROW, key: value}


def large() -> Iterator[tuple[str, Write]]:
    """Files of some megabytes, or that become such."""
    line, begin = _LINE + b"\n", b'{"messages": [{"role": "user", "content": "'
    words = (b"word ", 10_000_000)
    yield "a row of 50 MB", _put("a.jsonl", line, begin, words, b'"}]}\n', line)
    yield "a row of 50 MB in an array", _put("a.json", b"[", _LINE, b",", begin, words, b'"}]}]')
    yield "a row of 50 MB that never ends", _put("a.json", b'[{"messages": "', (b"word ", 10_000_000))
    yield "50 MB of blanks", _put("a.json", (b" ", 50_000_000), b"[", _LINE, b"]")
    yield "50 MB of empty lines", _put("a.jsonl", (b"\n", 50_000_000), line)
    yield "2 million empty lists in a row", _put("a.jsonl", line, b'{"a":[', (b"[],", 2_000_000), b"[]]}\n", line)
    yield "2 million empty lists in an array", _put("a.json", b'[{"a":[', (b"[],", 2_000_000), b"[]]}]")
    yield "3 million numbers where rows belong", _put("a.json", b"[", (b"1,", 3_000_000), b"1]")
    yield "a million keys in a pretty object", _put("a.json", b"{\n", (b'"key": [],\n', 1_000_000), b'"messages": []}')
    yield "8 MB of text in four bytes each", _put("a.jsonl", begin, b"\xf0\x9f\x99\x82", (b"a", 8_000_000),
                                                  b'"}, {"role": "assistant", "content": "2"}]}\n')
    yield "a column that never ends", _put("a.csv", b'instruction,output\n"', (b"word\n", 10_000_000))
    yield "4 million columns", _put("a.csv", b"instruction,output\n", (b",", 4_000_000), b"\n")
    yield "600 MB out of gzip", _packed("a.jsonl.gz", b"", line, 600)
    yield "600 MB out of zstd", _packed("a.jsonl.zst", b"", line, 600)
    yield "one row of 300 MB out of gzip", _packed("a.jsonl.gz", b'{"messages": "', b"x", 300, b'"}')
    yield "an array of 600 MB out of gzip", _packed("a.json.gz", b"[", _LINE + b",", 600, _LINE + b"]")
    yield "a table of 300 MB out of zstd", _packed("a.csv.zst", b"instruction,output\n", b"1 + 1,2\n", 300)
