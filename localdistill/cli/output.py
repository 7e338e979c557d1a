"""The one way from a command to the terminal: data on stdout, talk on stderr, questions, errors with a hint, JSON on
demand. Everything passes `display_safe` or `json_safe` here, so no command has to think of it; nothing else in this
folder writes to a stream or reads from a person."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from localdistill import LocalDistillError, display_safe, json_safe

CLOSED_PIPE = 141
"""Exit code when whoever read what was written has gone: 128 and the number of SIGPIPE, as shells say it."""


class PipeClosed(Exception):
    """Whoever read standard output or standard error has gone."""


def open_streams() -> None:
    """Let the standard streams take any text: what their encoding does not have is escaped, and bytes that are none of
    it are read as U+FFFD. A standard stream that is closed stays so; no file that is opened later takes its place."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors=errors)


def data(text: str, end: str = "\n") -> None:
    """One line of data."""
    _write(_stdout(), display_safe(text) + end)
    if not end:
        flush()


def data_json(value: Any) -> None:
    """One JSON value as data."""
    _write(_stdout(), json_safe(value, 1, _is_ascii(sys.stdout)) + "\n")


def data_json_line(value: Any) -> None:
    """One JSON value as a line of data that is read at once."""
    _write(_stdout(), json_safe(value, None, _is_ascii(sys.stdout)) + "\n")
    flush()


def talk(text: str = "", heading: str = "") -> None:
    """A sentence for the person in front of the terminal; `heading` comes before it, in bold where that can be."""
    bold = f"\x1b[1m{display_safe(heading)}\x1b[0m" if heading and styled() else display_safe(heading)
    _write(sys.stderr, f"{bold}{display_safe(text)}\n")
    _flush(sys.stderr)


def bell() -> None:
    """Ring the terminal of the person in front of it, on a line of its own; nothing where there is none."""
    if sys.stderr.isatty():
        _write(sys.stderr, "\a\n")
        _flush(sys.stderr)


def fail(error: LocalDistillError, as_json: bool = False) -> int:
    """Say what happened and what to do next; returns the error's code."""
    if as_json:
        data_json({"error": error.message, "hint": error.hint, "exit_code": error.exit_code})
        flush()
    talk(f"error: {error.message}")
    if error.hint:
        talk(f"  try: {error.hint}")
    return error.exit_code


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows in aligned columns; numbers right, text left; the last column is not padded."""
    raw = [list(head), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in raw) for i in range(len(head))]
    for row in raw:
        data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def one_line(text: object) -> str:
    """A text as it stands in a row."""
    return display_safe(str(text)).replace("\n", " ")


class Passing:
    """One line on stderr that is rewritten, on a terminal."""

    def __init__(self) -> None:
        self._width = 0

    def show(self, text: str) -> None:
        """Put `text` in place of what was shown."""
        room = max(1, shutil.get_terminal_size().columns - 1)
        line = one_line(text)[:room]
        _write(sys.stderr, "\r" + line.ljust(min(self._width, room)))
        _flush(sys.stderr)
        self._width = len(line)

    def clear(self) -> None:
        """Remove it."""
        if self._width:
            _write(sys.stderr, "\r" + " " * self._width + "\r")
            _flush(sys.stderr)
            self._width = 0

    def leave(self) -> None:
        """Let it stand and begin a new line."""
        if self._width:
            _write(sys.stderr, "\n")
            self._width = 0


# ---- questions


def somebody_is_here() -> bool:
    """True when a person can be asked: nothing is piped in."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str) -> str:
    """What a person types after `question`. EOFError at the end of input."""
    _write(sys.stderr, display_safe(question))
    _flush(sys.stderr)
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line:
        raise EOFError
    return line.rstrip("\n")


def confirm(question: str) -> bool:
    """True when a person says yes; the end of input is a no."""
    try:
        return ask(f"{question} [y/N]: ").strip().lower() in ("y", "yes")
    except EOFError:
        talk()
        return False


def ask_hidden(question: str) -> str:
    """What a person types where nobody sees it, or the first line of what was piped in."""
    if not somebody_is_here():
        return sys.stdin.readline() if sys.stdin is not None else ""
    import getpass

    return getpass.getpass(display_safe(question), stream=sys.stderr)


def piped_in() -> str:
    """All of standard input."""
    return sys.stdin.read() if sys.stdin is not None else ""


# ---- streams


def is_terminal() -> bool:
    """True when a person sees standard output and can type."""
    return somebody_is_here() and sys.stdout is not None and sys.stdout.isatty()


def is_live() -> bool:
    """True when a line on stderr can be rewritten."""
    return sys.stderr is not None and sys.stderr.isatty()


def styled() -> bool:
    """True when stderr is a terminal that wants colour."""
    return is_live() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def flush() -> None:
    """Everything that was written as data has left this process when this returns."""
    _flush(sys.stdout)


def give_up(*numbers: int) -> None:
    """Let nothing more be written to these (1, 2): what waits in them would fail once more at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in numbers:
        os.dup2(nowhere, number)


def _stdout() -> TextIO:
    if sys.stdout is None:
        raise PipeClosed
    return sys.stdout


def _write(stream: TextIO | None, text: str) -> None:
    try:
        if stream is not None:
            stream.write(text)
    except OSError as error:
        raise _unwritten(error) from None


def _flush(stream: TextIO | None) -> None:
    try:
        if stream is not None:
            stream.flush()
    except OSError as error:
        raise _unwritten(error) from None


def _unwritten(error: OSError) -> Exception:
    """What a failed write means."""
    if isinstance(error, BrokenPipeError):
        return PipeClosed()
    return LocalDistillError(f"what was to be printed could not be written: {(error.strerror or 'no reason').lower()}",
                             "send it elsewhere; what the command did besides printing is done")


def _is_ascii(stream: TextIO | None) -> bool:
    """True when the stream cannot take every letter."""
    return stream is None or (stream.encoding or "ascii").lower().replace("-", "") not in ("utf8", "utf16", "utf32")


# ---- words


def counts(values: Mapping[str, Any]) -> str:
    """`name value, name value`."""
    return ", ".join(
        f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in values.items()
    )
