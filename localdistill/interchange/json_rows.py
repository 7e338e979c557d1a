"""JSON objects out of bytes, one at a time, however the file arranges them: one on each line, one behind the other over
many lines, in one array, or inside an object, in an array or each under a name. Holds one object and one window,
whatever the file's size.

Text must be UTF-8 (a byte order mark is fine); surrogates that stand alone in escapes become U+FFFD, because no store
could hold them.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from localdistill.core.borders import BORDERS
from localdistill.core.errors import InputError
from localdistill.interchange.base import Rows
from localdistill.interchange.rows import RowPlace
from localdistill.interchange.usual import ANSWER, QUESTION, REASONING
from localdistill.safety.bounded_json import MOST_DEPTH, is_within, values_at_most

MAX_ROW_CHARS = 8 << 20
"""Longest row that is read, in characters (bytes for JSON lines)."""
MOST_ROW_VALUES = 1_000_000
"""Values that a row may hold, with the separators in its texts."""
HEAD_BYTES = 1 << 20
"""How much of a file is looked at to see how it is arranged."""
WRAPPERS = frozenset(("data", "rows", "examples", "records", "samples", "instances", "dataset", "train", "test",
                      "validation"))
"""Keys under which an object holds the rows of a whole file."""
_MAYBE_WRAPPERS = frozenset(("results", "items", "entries", "problems", "questions"))
_ASKING = frozenset({"messages", "conversations", *QUESTION})
_COLUMNS = frozenset({*_ASKING, *ANSWER, *REASONING, "chosen", "rejected"})
Leave = Callable[[InputError], None]
"""Told of a row that cannot be read, when the next one can."""

_LOOKED_LINES = 20
_LARGE_ROW = 1 << 18
_SPACE = re.compile(r"[ \t\r\n]*")
_SURROGATE = re.compile(r"\\u[dD]")
_JSON_SPACE = " \t\r\n"
_CUT_LITERAL = 12
"""Where text was cut, a parser stops so many characters before its end at most, unless it stands in a string."""
_DECODER = json.JSONDecoder()


def json_rows(file: IO[bytes], head: bytes, name: str, leave: Leave) -> Rows:
    """The objects of `file` with their numbers (the line where each has one of its own, else the position). head: how
    it begins, all of it when it is shorter than HEAD_BYTES. Raises InputError that names the row."""
    if _is_one_a_line(head):
        yield from _lines(file, name, leave)
        return
    text = _Window(file, name)
    is_array = text.peek() == "["
    if is_array:
        text.take("[", 1)
    for number, value in _items(text, 1) if is_array else _objects(text):
        if isinstance(value, dict):
            yield number, _without_viewer(value)
        else:
            leave(RowPlace(name, number).error("is not a JSON object"))


def _is_one_a_line(head: bytes) -> bool:
    """Whether each object has a line of its own, or none can be seen."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if text[:1] == b"[":
        return False
    lines = text.split(b"\n", _LOOKED_LINES)
    is_whole = len(head) < HEAD_BYTES
    if not is_whole:
        lines = lines[:-1]
    found = [_object_of(line) for line in lines]
    if found and found[0] is not None and not any(map(bytes.strip, lines[1:])) and _holds_rows(found[0]):
        return False
    return any(one is not None for one in found) or text[:1] != b"{"


def _object_of(line: bytes) -> dict[str, Any] | None:
    """The object that is all of `line`; a line that is set in belongs to a larger one."""
    if not line.startswith(b"{"):
        return None
    try:
        text = line.decode("utf-8").rstrip()
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and end == len(text) else None


def _holds_rows(value: dict[str, Any]) -> bool:
    first = next(iter(value.items()), ("", None))
    return _is_keyed(*first) or _of_columns(value) is not None or any(
        _wraps(key, value) and isinstance(inner, list) and all(isinstance(one, dict) for one in inner)
        for key, inner in value.items())


def _wraps(key: str, row: Mapping[str, Any]) -> bool:
    """Whether a list under `key` may hold the rows of a file; in an object that asks something it holds others."""
    return key in WRAPPERS or (key in _MAYBE_WRAPPERS and _ASKING.isdisjoint(row))


def _of_columns(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The rows of an object that holds a file's columns, as lists of one length or as objects with the same keys, among
    them one of questions; None for any other object."""
    asks = next((name for name in value if name.lower() in QUESTION), "")
    inner = [list(one.values()) if isinstance(one, dict) else one for one in value.values()]
    same = len({tuple(one) if isinstance(one, dict) else len(one) for one in value.values()
                if isinstance(one, (dict, list))}) == 1
    if not asks or not same or not all(isinstance(one, list) for one in inner) or len(inner[0]) < 2:
        return None
    if not all(isinstance(one, str) for one in inner[list(value).index(asks)]):
        return None
    return [dict(zip(value, cells, strict=True)) for cells in zip(*inner, strict=True)]


def _is_keyed(key: str, value: object) -> bool:
    """Whether the first entry of an object is a row under its name: it asks something, and its name is no column."""
    return (isinstance(value, dict) and key.lower() not in _COLUMNS
            and any(name in value and value[name] for name in _ASKING))


def _keyed(key: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row with the name that it stands under, where it does not hold that already."""
    return row if "id" in row or key in row.values() else {"id": key, **row}


def _without_viewer(row: dict[str, Any]) -> dict[str, Any]:
    """The row that the viewer of Hugging Face wraps with its number."""
    inner = row.get("row")
    return inner if isinstance(inner, dict) and "row_idx" in row else row


def _lines(file: IO[bytes], name: str, leave: Leave) -> Rows:
    number = 0
    while line := file.readline(MAX_ROW_CHARS + 1):
        number += 1
        if len(line) > MAX_ROW_CHARS:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_ROW_CHARS + 1)
            leave(RowPlace(name, number).error(f"is longer than {MAX_ROW_CHARS} bytes"))
            continue
        if not line.strip():
            continue
        try:
            value = _decoded(line if number > 1 else line.removeprefix(codecs.BOM_UTF8), RowPlace(name, number))
        except InputError as error:
            leave(error)
            continue
        if isinstance(value, dict):
            yield number, value
        else:
            leave(RowPlace(name, number).error("is not a JSON object"))


def _decoded(line: bytes, place: RowPlace) -> Any:
    """The JSON value that is all of `line`, read in half the time that `json.loads` takes for a short one."""
    try:
        text = line.decode("utf-8").strip(_JSON_SPACE)
        require_few(line, place)
        value, end = _DECODER.raw_decode(text)
        if end != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
    except UnicodeDecodeError as error:
        raise place.error(f"is not UTF-8 (byte {error.start + 1} of the row)", "save the file as UTF-8") from error
    except RecursionError as error:
        raise place.error("is nested too deeply") from error
    except ValueError as error:
        raise place.error(f"is not JSON ({error})", "each line must be one JSON object") from error
    return checked(value, place, b"\\" in line and rb"\ud" in line.lower(),
                   line.count(b"{") + line.count(b"[") > MOST_DEPTH)


def require_few(line: bytes, place: RowPlace) -> None:
    """InputError for a large row that is made of little else than separators."""
    if len(line) > _LARGE_ROW and (count := values_at_most(line)) > MOST_ROW_VALUES:
        raise place.error(f"holds some {count:,} values; {MOST_ROW_VALUES:,} are taken")


def checked(value: Any, place: RowPlace, has_escapes: bool, may_be_deep: bool = True) -> Any:
    """`value` without half surrogate pairs. InputError when it is nested too deeply."""
    if may_be_deep and not is_within(value):
        raise place.error(f"is nested more than {MOST_DEPTH} deep")
    return without_lone_surrogates(value) if has_escapes else value


def without_lone_surrogates(value: Any) -> Any:
    """`value` with U+FFFD in place of each surrogate that stands alone."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_lone_surrogates(k): without_lone_surrogates(v) for k, v in value.items()}
    return value


def _items(text: _Window, number: int) -> Iterator[tuple[int, Any]]:
    """The items of an array behind its bracket, numbered from `number`."""
    while text.peek() != "]":
        yield number, text.value(number)
        if text.peek() == "]":
            break
        text.take(",", number)
        number += 1
    text.take("]", number)


def _objects(text: _Window) -> Iterator[tuple[int, Any]]:
    """Objects one behind the other; of one that holds the rows of a file, in a list or each under a name, those."""
    number = 0
    while text.peek():
        row: dict[str, Any] = {}
        begins, has_rows, is_keyed = text.position, False, False
        text.take("{", number + 1)
        while text.peek() != "}":
            key = text.value(number + 1)
            text.take(":", number + 1)
            if _wraps(key, row) and text.peek() == "[":
                text.take("[", number + 1)
                is_list_of_rows = text.peek() in "{]"
                for place, value in _items(text, number + 1):
                    if is_list_of_rows:
                        number, has_rows = place, True
                        yield place, value
                    else:
                        row.setdefault(key, []).append(value)
                begins = text.position
            else:
                value = text.value(number + 1)
                is_keyed |= not row and not has_rows and _is_keyed(key, value)
                if is_keyed:
                    number, has_rows, begins = number + 1, True, text.position
                    yield number, _keyed(key, value) if isinstance(value, dict) else value
                else:
                    row[key] = value
            if text.position - begins > MAX_ROW_CHARS:
                raise RowPlace(text.name, number + 1).error(f"is longer than {MAX_ROW_CHARS} characters")
            if text.peek() != "}":
                text.take(",", number + 1)
        text.take("}", number + 1)
        for one in (_of_columns(row) or [row]) if not has_rows else ():
            number += 1
            yield number, one
        if text.peek() == ",":
            text.take(",", number)


class _Window:
    """A moving window on the text of a file, white space skipped between tokens."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file, self.name = file, name
        self._buffer, self._at, self._gone = "", 0, 0
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()

    @property
    def position(self) -> int:
        """Characters behind which the window begins."""
        return self._gone + self._at

    def peek(self) -> str:
        """The next character that is not white space, empty at the end of the file."""
        while True:
            if space := _SPACE.match(self._buffer, self._at):
                self._at = space.end()
            if self._at < len(self._buffer) or not self._more(1):
                return self._buffer[self._at:self._at + 1]

    def take(self, mark: str, number: int) -> None:
        """Go past `mark`, which must be next."""
        found = self.peek()
        if found != mark:
            raise RowPlace(self.name, number).error(
                f"is followed by '{found or 'the end'}', expected '{mark}'", "the file is cut off or damaged")
        self._at += 1

    def value(self, number: int) -> Any:
        """The JSON value that comes next."""
        place = RowPlace(self.name, number)
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except RecursionError as error:
                raise place.error("is nested too deeply") from error
            except json.JSONDecodeError as error:
                self._read_on(error, place)
                continue
            except ValueError as error:
                raise place.error(f"is not JSON ({error})") from error
            begins, self._at = self._at, end
            if end - begins > MAX_ROW_CHARS:
                raise place.error(f"is longer than {MAX_ROW_CHARS} characters")
            return checked(value, place, _SURROGATE.search(self._buffer, begins, end) is not None)

    def _read_on(self, error: json.JSONDecodeError, place: RowPlace) -> None:
        """Read more where a value was cut by the window; InputError where it is damaged, too long, or cut by the end of
        the file."""
        is_cut = error.msg.startswith("Unterminated string") or error.pos > len(self._buffer) - _CUT_LITERAL
        held = len(self._buffer) - self._at
        if is_cut and held > MAX_ROW_CHARS:
            raise place.error(f"is longer than {MAX_ROW_CHARS} characters") from error
        if is_cut and held > _LARGE_ROW:
            require_few(self._buffer[self._at:].encode("utf-8", "replace"), place)
        if not is_cut or not self._more(place.number):
            raise place.error(f"is not JSON ({error.msg})", "the file is cut off or damaged") from error

    def _more(self, number: int) -> bool:
        """Read as much again as is held, so that a long row is not parsed again and again; False at the end."""
        self._gone += self._at
        self._buffer, self._at = self._buffer[self._at:], 0
        chunk = self._file.read(max(BORDERS.file_bytes, len(self._buffer)))
        try:
            self._buffer += self._utf8.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise RowPlace(self.name, max(number, 1)).error(
                "or a row soon after it is not UTF-8", "save the file as UTF-8") from error
        return bool(chunk)
