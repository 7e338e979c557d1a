"""A person's editor, opened on the texts of a trace: reasoning and answer stand in one file, each under a line that
says which it is."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from pathlib import Path

from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.records import Trace
from localdistill.safety.children import start

USUAL = "vi"
"""What is opened where neither VISUAL nor EDITOR says otherwise."""
_OTHERWISE = "set EDITOR, or give --reasoning or --answer"


def texts_from_editor(trace: Trace) -> tuple[str, str]:
    """Reasoning and answer as somebody left them in the editor that VISUAL or EDITOR names. A text that was not touched
    comes back as it was, to the last character. UsageError where a line between the texts is gone: what was written
    is kept in a file then. LocalDistillError where the editor cannot be opened or fails."""
    heads = [f"##### {part} of {trace.id} (leave this line) #####" for part in ("reasoning", "answer")]
    before = (trace.reasoning, trace.answer)
    after = _edited("".join(f"{head}\n{body}\n" for head, body in zip(heads, before, strict=True)))
    places = [[found.span() for found in re.finditer(f"^{re.escape(head)}\r?$\n?", after, re.MULTILINE)]
              for head in heads]
    if [len(found) for found in places] != [1, 1] or places[0][0] > places[1][0]:
        kept = _kept(after)
        raise UsageError("the lines before reasoning and answer are not as they were",
                         f"what was written is in {kept}; leave both lines as they are")
    (first,), (second,) = places
    return _part(trace.reasoning, after[first[1]:second[0]]), _part(trace.answer, after[second[1]:])


def _part(before: str, typed: str) -> str:
    return before if typed.removesuffix("\n") == before else typed.strip("\n")


def _edited(text: str) -> str:
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or USUAL
    try:
        command = shlex.split(named) or [USUAL]
    except ValueError:
        raise LocalDistillError(f"the editor '{named}' cannot be used: a quotation mark is open", _OTHERWISE) from None
    with tempfile.TemporaryDirectory(prefix="localdistill-edit-") as folder:
        path = Path(folder) / "trace.md"
        try:
            path.write_bytes(text.encode("utf-8"))
            code = start([*command, str(path)]).wait()
            after = path.read_bytes().decode("utf-8")
        except UnicodeError:
            raise UsageError("this trace holds bytes that are no text", "give --reasoning or --answer") from None
        except OSError as error:
            raise LocalDistillError(f"the editor '{command[0]}' cannot be used: {error.strerror}",
                                    _OTHERWISE) from None
    if code:
        raise LocalDistillError(f"the editor '{command[0]}' ended with {code}; nothing was stored", _OTHERWISE)
    return after


def _kept(text: str) -> Path:
    number, path = tempfile.mkstemp(suffix=".md", prefix="localdistill-edit-")
    with open(number, "wb") as file:
        file.write(text.encode("utf-8"))
    return Path(path)
