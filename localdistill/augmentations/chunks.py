"""Documents in pieces: text files of a folder, cut at paragraphs into pieces of about so many words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from localdistill.core.errors import InputError
from localdistill.core.events import Emit, Warned

ENDINGS = (".txt", ".text", ".md", ".markdown", ".rst")
MOST_BYTES = 64 << 20
LEAST_WORDS = 20
"""A shorter piece says too little to ask about."""


def chunks_in(place: Path, words: int, emit: Emit) -> Iterator[tuple[str, int, str]]:
    """Name of the document, number of the piece from 1, and its text, for a file or for every text file of a folder and
    of those in it, by name. What cannot be read is named and passed over; InputError when nothing can be."""
    files = [place] if place.is_file() else sorted(
        path for path in place.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not files:
        raise InputError(f"{place.name} holds no text file", f"endings that are read: {', '.join(ENDINGS)}")
    were_read = False
    for path in files:
        name = path.name if path == place else path.relative_to(place).as_posix()
        try:
            text = _text(path, name)
        except InputError as error:
            emit(Warned(f"{error.message}: it is passed over", error.hint))
            continue
        were_read = True
        for number, chunk in enumerate(cut(text, words), start=1):
            yield name, number, chunk
    if not were_read:
        raise InputError(f"none of the {len(files)} text files of {place.name} can be read", "save them as UTF-8")


def _text(path: Path, name: str) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{name} is larger than {MOST_BYTES >> 20} MB", "cut it into several files")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}", "") from None
    except UnicodeDecodeError:
        raise InputError(f"{name} is no UTF-8 text", "save it as UTF-8") from None
    if "\0" in text:
        raise InputError(f"{name} holds NUL bytes and is no text", "save it as UTF-8")
    return text


def cut(text: str, words: int) -> Iterator[str]:
    """Pieces of about so many words, cut between paragraphs, and inside of one that is longer by itself. A short rest
    goes with the piece before it, and a text that is short as a whole is none."""
    held: list[str] = []
    size = 0
    ready = ""
    for piece in _pieces(text, words):
        count = len(piece.split())
        if held and size + count > words:
            if ready:
                yield ready
            ready, held, size = "\n\n".join(held), [], 0
        held.append(piece)
        size += count
    rest = "\n\n".join(held)
    if ready and 4 * size < words:
        yield f"{ready}\n\n{rest}"
        return
    if ready:
        yield ready
    if size >= LEAST_WORDS:
        yield rest


def _pieces(text: str, words: int) -> Iterator[str]:
    """Paragraphs, and parts of those that are too long."""
    for paragraph in text.replace("\r\n", "\n").split("\n\n"):
        every = paragraph.split()
        if 0 < len(every) <= words:
            yield paragraph.strip()
        elif every:
            yield from (" ".join(every[start:start + words]) for start in range(0, len(every), words))
