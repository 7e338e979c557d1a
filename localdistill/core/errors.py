"""The one tree of errors: what happened, what to do next, and the exit code that scripts may rely on.

    LocalDistillError            1  failed
    |-- UsageError               2  the command or an option is wrong
    |   |-- RecipeError          2  a recipe has problems (all of them, not the first)
    |   |-- InputError           2  a file or row that was given cannot be used
    |   `-- MissingExtra         2  an optional package is not installed
    |-- ModelFileError           1  a model file is missing, damaged or refused
    |   `-- TemplateRefused      1  a chat template does not render one conversation
    |-- StoreError               1  the store is damaged or from a newer version
    |   |-- StoreLocked          5  another process holds it
    |   `-- StoreReadOnly        1  it lies where nobody may write
    |-- EngineError              1  an engine cannot do what was asked
    |   `-- EngineUnavailable    3  an engine stopped answering; the run can be resumed
    |-- PartialResult            3  something is done, the rest can be resumed
    |-- DiskFull                 1  a file system, a quota or a limit is full
    |-- OutOfMemory              1  memory ran out
    |-- BudgetReached            4  the money cap
    |   `-- SpendingUnknown      4  nobody knows what of it is spent
    `-- Cancelled              130  somebody asked to stop
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from localdistill.core.secrets import HIDDEN, without_keys

LIKE_A_KEY = (f"{HIDDEN} looks like an API key, and a name belongs there: `localdistill keys set PROVIDER` asks for "
              "the key where nobody sees it; one that was typed into a command is in the shell's history: have it "
              "replaced")
"""What to say of a word that is not repeated."""


class LocalDistillError(Exception):
    """Root of every error that a user may see: `message` says what happened, `hint` what to do next."""

    exit_code = 1
    usual_hint = "run it again; when it stays, report it with what LOCALDISTILL_TRACEBACK=1 in front of it prints"
    """What to do next where who raises it knows nothing better: no error is without a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        """An API key that stands in either, typed where a name belongs or echoed by a server, is not repeated."""
        self.message, self.hint = without_keys(message), without_keys(hint or self.usual_hint)
        if self.message != message and isinstance(self, UsageError):
            self.hint = LIKE_A_KEY
        super().__init__(self.message)

    def hide(self, words: Iterable[str]) -> None:
        """Do not repeat these words, which look like keys."""
        for word in words:
            if word in self.message or word in self.hint:
                self.message, self.hint = self.message.replace(word, HIDDEN), LIKE_A_KEY
        self.args = (self.message,)

    def __reduce__(self) -> tuple[type[LocalDistillError], tuple[str, str]]:
        return type(self), (self.message, self.hint)


class UsageError(LocalDistillError):
    """The command line, an option or a name is wrong."""

    exit_code = 2
    usual_hint = "correct it: `localdistill COMMAND --help` and `localdistill recipe schema` say what there is"


class RecipeError(UsageError):
    """A recipe does not say what it must; the message lists every problem with its file and key."""


class InputError(UsageError):
    """A file or a row that was given cannot be used; the message names it."""

    usual_hint = "correct the file, or leave it out"


class MissingExtra(UsageError):
    """An optional package is absent."""

    @classmethod
    def of(cls, extra: str, package: str) -> MissingExtra:
        """The error for a missing `package` that the extra `extra` brings."""
        from localdistill.core.installing import install_command

        return cls(f"this needs {package}, which is not installed", install_command(extra))


class ModelFileError(LocalDistillError):
    """A model file is missing, truncated, damaged or of a kind that is refused."""

    usual_hint = "get the file again and compare its SHA-256, or take another model"


class TemplateRefused(ModelFileError):
    """A chat template does not render one conversation; another one it may. `reason` is one short line."""

    def __init__(self, message: str, hint: str = "", reason: str = "") -> None:
        super().__init__(message, hint)
        self.reason = reason

    def __reduce__(self) -> tuple[type[TemplateRefused], tuple[str, str, str]]:  # type: ignore[override]
        return type(self), (self.message, self.hint, self.reason)


class StoreError(LocalDistillError):
    """The store cannot be read or written."""

    usual_hint = "look again: `localdistill status`; the journals of the runs hold what was answered"


class StoreLocked(StoreError):
    """Another process held the store for longer than the waiting time."""

    exit_code = 5


class StoreReadOnly(StoreError):
    """The store can be read and not written."""


class EngineError(LocalDistillError):
    """An engine refused a request for good (bad key, unknown model, context too small)."""

    usual_hint = "`localdistill teacher probe` says what the engine can do"


class EngineUnavailable(EngineError):
    """An engine stopped answering after all retries; what was acknowledged is kept."""

    exit_code = 3


class PartialResult(LocalDistillError):
    """Part of the work is done and stored; `localdistill resume` does the rest."""

    exit_code = 3


class DiskFull(LocalDistillError):
    """No more can be written: `core.disk` says where, and what was needed."""


class OutOfMemory(LocalDistillError):
    """The machine or a limit gave no more memory."""


class BudgetReached(LocalDistillError):
    """The next call could have cost more than the cap allows."""

    exit_code = 4


class SpendingUnknown(BudgetReached):
    """There is a cap, and what was spent cannot be told: a person has to say it."""


class Cancelled(LocalDistillError):
    """The work was asked to stop and did so at a safe point."""

    exit_code = 130


def refuse_keys(text: str, what: str) -> None:
    """UsageError when `text`, which is called `what`, holds an API key."""
    if without_keys(text) != text:
        raise UsageError(f"{what} holds an API key: {without_keys(text)}", LIKE_A_KEY)


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the known name closest to `name`, or an empty string."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{found[0]}'?" if found else ""
