"""What errors of the system and of libraries mean for a person: the one door through which an error that nobody
expected becomes a sentence, a hint and an exit code. Whoever shows errors calls `explain`; nothing here shows any."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

from localdistill.core.disk import FULL, disk_full
from localdistill.core.errors import Cancelled, InputError, LocalDistillError, OutOfMemory, UsageError

TRACEBACK_VARIABLE = "LOCALDISTILL_TRACEBACK"
"""Environment variable: set, a fault of ours is told with the lines of the program where it happened."""
LONGEST = 300
"""Characters of what a library says."""

_OUT_OF_MEMORY = ("can't start new thread", "Cannot allocate memory", "failed to map segment", "bad_alloc",
                  "std::bad_alloc", "Unable to allocate", "DefaultCPUAllocator", "failed to allocate", "out of memory")
"""What libraries say when memory ran out and they raise something else than MemoryError."""
_MEANING = {
    errno.ENOENT: ("there is no {path}", "look at its name and its folder: ls {folder}"),
    errno.EACCES: ("{path} is not open to this user", "see who owns it: ls -ld {path}; or use a folder of yours"),
    errno.EPERM: ("{path} may not be changed by this user", "see who owns it: ls -ld {path}; or use a folder of yours"),
    errno.EROFS: ("{path} cannot be written: its disk is mounted read-only",
                  "looking works there; to write, take a folder on another disk (--workspace)"),
    errno.EISDIR: ("{path} is a folder, and a file is needed", "name a file in it: ls {path}"),
    errno.ENOTDIR: ("{path} cannot be: a part of its path is a file, not a folder", "look at it: ls -ld {folder}"),
    errno.EEXIST: ("{path} exists already", "move it away or take another name: ls -ld {path}"),
    errno.ENAMETOOLONG: ("a name is too long for this disk: {path}", "take a shorter one"),
    errno.ELOOP: ("{path} is a link that leads to itself", "remove the link: ls -l {folder}"),
    errno.EIO: ("the disk could not read or write {path}", "it may be failing: copy what you need, and look at dmesg"),
    errno.EBUSY: ("{path} is in use", "end what uses it: lsof {path}"),
}
"""Number of a system's error -> message, hint."""
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_MANY_FILES = (errno.EMFILE, errno.ENFILE)


def explain(error: BaseException) -> LocalDistillError:
    """`error` as one of ours. What nobody can make sense of is called a fault of localdistill."""
    match error:
        case LocalDistillError():
            return error
        case KeyboardInterrupt():
            return Cancelled("cancelled", "what was finished is kept; the same command goes on from there")
        case MemoryError():
            return _out_of_memory("")
        case RecursionError():
            return InputError("what was read is nested too deeply", "a recipe or a row of some hundred levels was not "
                                                                    "made by hand: take the nesting out")
        case UnicodeDecodeError():
            return InputError(f"what was read is not UTF-8 text (byte {error.object[error.start]:#04x} at "
                              f"{error.start:,})", "save the file as UTF-8: iconv -f latin1 -t utf-8 FILE")
        case UnicodeEncodeError():
            return UsageError("a text or a name holds letters that no encoding has (bytes that are not UTF-8)",
                              "type it again, or rename the file")
        case OSError():
            return _of_system(error)
    text = _first_line(error)
    if any(said in text for said in _OUT_OF_MEMORY):
        return _out_of_memory(text)
    if isinstance(error, ValueError) and "integer string conversion" in text:
        return InputError("a number that was read has thousands of digits", "no option needs such a number: correct it")
    if isinstance(error, ValueError) and "null byte" in text:
        return UsageError("a name holds a NUL character, which no file has", "type it again")
    if isinstance(error, ImportError):
        return LocalDistillError(f"a library cannot be loaded: {text}",
                                 "`localdistill doctor` says what is missing and the command that installs it")
    return LocalDistillError(f"{type(error).__name__}: {text}",
                             "this is a fault of localdistill: please report it with what "
                             f"{TRACEBACK_VARIABLE}=1 in front of the command prints")


def reason_of(error: BaseException, otherwise: str = "") -> str:
    """Why something could not be read, in a few words to stand behind its name: what the system says of an error that
    has a number, and `otherwise` for what only a library can make sense of; without that, the first line of it."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return otherwise or _first_line(error)


def _of_system(error: OSError) -> LocalDistillError:
    if error.errno == errno.ENOMEM:
        return _out_of_memory("")
    named = error.filename if isinstance(error.filename, str | bytes | Path) else ""
    path = Path(named.decode("utf-8", "surrogateescape") if isinstance(named, bytes) else named)
    if error.errno in FULL:
        return disk_full(path.absolute(), error.errno or errno.ENOSPC)
    if error.errno in _MANY_FILES:
        return LocalDistillError("too many files are open", "let more be opened: ulimit -n 4096")
    if not named or error.errno not in _MEANING:
        what = f"{path}: " if named else ""
        return LocalDistillError(f"{what}{reason_of(error).lower()}",
                                 "what the system said; run it again, and report it when it stays")
    if error.errno in _REFUSED and not os.path.lexists(path):
        path = path.parent  # what refuses is the folder in which it would have been made
    message, hint = _MEANING[error.errno]
    return _kind(error)(message.format(path=path, folder=path.parent),
                        hint.format(path=shlex.quote(str(path)), folder=shlex.quote(str(path.parent))))


def _kind(error: OSError) -> type[LocalDistillError]:
    """Usage errors are those that another name mends."""
    by_name = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)
    return InputError if error.errno in by_name else LocalDistillError


def _out_of_memory(text: str) -> OutOfMemory:
    return OutOfMemory("memory ran out" + (f": {text}" if text else ""),
                       "close other programs, raise a limit (ulimit -v), or ask for less at once (a smaller model, "
                       "batch or context); what was finished is kept")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else "no reason was given")[:LONGEST]
