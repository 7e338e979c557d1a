"""What is done to whole journals: closing one (what was appended is compressed), writing one that is closed from the
beginning, and taking things out of lines. Each part is replaced whole or stays as it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from localdistill.safety.files import publish, sync_folder
from localdistill.safety.frames import FAST, SMALL, ClosedEnd, FrameWriter, copy_of, frames, text_of, write_frame
from localdistill.safety.journal import GOES_ON, base_of, closed_part, goes_on, opened_part
from localdistill.safety.record_lines import decode, encode, line_of

Edit = Callable[[dict[str, Any] | None], Mapping[str, Any] | None]
"""A record in, or None for lines that cannot be read; out comes what is to stand there instead: the same, one with less
in it, or None for nothing. What cannot be read stays when anything comes out."""


def close_lines(path: Path, level: int = SMALL, known: ClosedEnd | None = None) -> ClosedEnd | None:
    """Move the open part of a journal into its closed part; returns what that holds now, None where nothing was open.
    Nobody may append meanwhile; a reader may read. After a crash it can be done again. known: what the closed part
    held when it was closed last."""
    with ExitStack() as stack:
        opened = opened_part(path, stack)
        if opened is None:
            return None
        closed = stack.enter_context(open(closed_part(path), "ab"))
        if known is not None and known.size_bytes == closed.tell() and goes_on(opened) == known.offset:
            base, lines = known.offset, known.lines
        else:
            base, skipped = base_of(path, opened)
            lines = _cut_behind(closed, closed_part(path), base)
            opened.seek(skipped)
        now = FrameWriter(closed, base, lines, level).copy(opened)
        closed.flush()
        os.fsync(closed.fileno())
    sync_folder(path.parent)
    path.unlink()
    return now


def _cut_behind(closed: BinaryIO, path: Path, base: int) -> int:
    """Remove what an interrupted closing left behind the offset `base`; the number of lines before it."""
    place = line = 0
    with open(path, "rb") as reader:
        for frame in frames(reader):
            if frame.end <= base:
                place, line = frame.behind, frame.first_line + frame.lines
    closed.truncate(place)
    return line


@contextmanager
def closed_writer(path: Path, level: int = FAST) -> Iterator[FrameWriter]:
    """Write a journal that is closed from the beginning: it is there, on disk, when the block ends well."""
    final = closed_part(path)
    partial = final.with_name(final.name + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(partial, "wb") as file:
            writer = FrameWriter(file, level=level)
            yield writer
            writer.flush()
        publish(partial, final)
    finally:
        partial.unlink(missing_ok=True)


def edit_lines(path: Path, edit: Edit) -> int:
    """Let every line of a journal say what `edit` makes of it, and return how many changed. What is gone leaves spaces,
    so that offsets stay. Nobody may append meanwhile."""
    return sum(_replaced(part, change, edit) for part, change in
               ((path, _edited_open), (closed_part(path), _edited_closed)) if part.exists())


def _replaced(part: Path, change: Callable[[BinaryIO, BinaryIO, Edit], int], edit: Edit) -> int:
    partial = part.with_name(part.name + ".partial")
    try:
        with open(part, "rb") as source, open(partial, "wb") as target:
            changed = change(source, target, edit)
        if changed:
            publish(partial, part)
        return changed
    finally:
        partial.unlink(missing_ok=True)


def _edited_open(source: BinaryIO, target: BinaryIO, edit: Edit) -> int:
    changed = 0
    for line in source:
        new = _edited(line, edit)
        changed += new != line
        target.write(new)
    return changed


def _edited_closed(source: BinaryIO, target: BinaryIO, edit: Edit) -> int:
    changed = 0
    for frame in frames(source):
        text, is_whole = text_of(source, frame)
        old = [line + b"\n" for line in text.split(b"\n")[:-1]]
        new = [_edited(line, edit) for line in old]
        if not is_whole and edit(None) is None:
            new += [_blank(frame.size - len(text))]
        differ = sum(a != b for a, b in zip(old, new)) + len(new) - len(old)
        if differ and (is_whole or len(new) > len(old)):
            write_frame(target, b"".join(new), frame.start, frame.first_line, frame.lines)
            changed += differ
        else:
            target.write(copy_of(source, frame))
    return changed


def _edited(line: bytes, edit: Edit) -> bytes:
    if not line.strip():
        return line
    old = decode(line.removesuffix(b"\n"))
    if old is not None and GOES_ON in old:
        return line
    new = edit(old)
    if new is None:
        return _blank(len(line))
    if new == old or old is None:
        return line
    body = encode(new).split(b" ", 1)[1].rstrip(b"\n")
    return line_of(body.ljust(len(line) - 10))


def _blank(size: int) -> bytes:
    """So many bytes that say nothing."""
    return b" " * (size - 1) + b"\n" if size else b""
