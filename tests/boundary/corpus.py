"""Texts that try to steer a terminal, and what must never come out of a command or a screen."""

from __future__ import annotations

import json
import re

PIECES = {
    "colour": "\x1b[31mPWN\x1b[0m",
    "clear": "\x1b[2J\x1b[H",
    "title": "\x1b]0;PWNTITLE\x07",
    "clipboard": "\x1b]52;c;UFdORUQ=\x07",
    "link": "\x1b]8;;http://pwn.example\x1b\\link\x1b]8;;\x1b\\",
    "device": "\x1bP+q544e\x1b\\",
    "one byte controls": "\x9b31mPWN \x9d52;c;UFdORUQ=\x9c",
    "back": "\x00\x08\x0e\x7f",
    "return": "here\rover",
    "right to left": "\u202ePWN\u2066x\u2069",
    "invisible": "a\u200bb\ufeffc\u00adD\U000e0041",
    "separators": "\u2028\u2029",
    "half a letter": "\ud83d",
    "markup": "[red]PWN[/red] [@click=app.bell]click[/] [/foo] [link=http://pwn.example]x[/link]",
    "formats": "$PWN {0} {x} %s %(x)s {{y}}",
}
EVIL = "SEEN " + " ".join(PIECES.values()) + " end"
"""Everything at once."""
LONG = "SEEN" + "y" * 100_000
TYPED = EVIL.replace("\x00", "").replace("\ud83d", "\udcff")
"""As an argument of a command can hold it: no NUL, and bytes that are not UTF-8."""
FILE_NAME = "SEEN\x1b]0;PWN\x07\x9b31m\u202e[red]{0}\udcff"
"""As a file may be called."""
WORKSPACE_NAME = "w SEEN\x1b]0;PWN\x07\x9b31m\u202e[red]{0}"

_OWN_STYLES = re.compile(rb"\x1b\[[01]m")
_LINES = re.compile(rb"\r\n|\r(?=\s*\r| {2}|\(thinking)|\r$", re.MULTILINE)
"""What a terminal makes of a line's end, and the progress line, which begins with two blanks."""
_RAW = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f\xad]|\xd8\x9c"
                  rb"|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xed[\xa0-\xbf].|\xf3\xa0[\x80-\xbf].")

_BELL = re.compile(rb"^\x07(?=\r?$)", re.MULTILINE)
"""At the end of a run that was watched: by itself on a line."""


def complaints(output: bytes, on_terminal: bool = False) -> list[str]:
    """What of `output` could steer a terminal, reorder or hide text: each with what stands around it. Our own bold
    type, progress line and bell may be there `on_terminal`."""
    if on_terminal:
        output = _LINES.sub(b"\n", _BELL.sub(b"", _OWN_STYLES.sub(b"", output)))
    found = [f"{match[0]!r} in {output[max(0, match.start() - 60):match.end() + 40]!r}"
             for match in _RAW.finditer(output)]
    try:
        output.decode("utf-8")
    except UnicodeDecodeError as error:
        found.append(f"it is no UTF-8: {error}")
    return found


TRACEBACK = re.compile(r"Traceback \(most recent call last\)|^  File \"|Exception ignored in|Fatal Python error"
                       r"|is a fault of localdistill", re.MULTILINE)


def faults(code: int, out: bytes, err: bytes, as_json: bool, on_terminal: bool = False) -> list[str]:
    """What is wrong with how a command ended and what it said; empty when nothing is.

    It says no raw byte, no traceback and no library's own error; a failing one says one sentence and one hint and has a
    code that scripts know; with `--json` its data is JSON."""
    wrong = [*complaints(out, on_terminal), *complaints(err, on_terminal)]
    said = (out + b"\n" + err).decode("utf-8", "replace")
    if found := TRACEBACK.search(said):
        wrong.append(f"a traceback: {said[max(0, found.start() - 200):][:300]} ... {said[-700:]}")
    if code not in (0, 1, 2, 3, 4, 5, 130):
        wrong.append(f"the exit code {code}")
    if code in (2, 3, 4, 5) and "error: " not in said and "Usage: " not in said:
        wrong.append(f"it ends with {code} and says no error: {said[-500:]!r}")
    if "error: " in said and "  try: " not in said:
        wrong.append(f"an error without a hint: {said[-500:]!r}")
    if as_json and out.strip():
        wrong += _no_json(out)
    return wrong


def _no_json(out: bytes) -> list[str]:
    """Why this is neither one JSON value nor one a line."""
    try:
        json.loads(out, parse_constant=_refuse)
    except ValueError:
        try:
            for line in out.splitlines():
                json.loads(line, parse_constant=_refuse)
        except ValueError as error:
            return [f"no JSON ({error}): {out[-500:]!r}"]
    return []


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
