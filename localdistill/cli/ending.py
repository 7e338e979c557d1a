"""How a command ends: every error, usage error, interruption and closed pipe becomes one sentence, one hint and one
exit code here, whatever raised it. No traceback leaves this file unless it is asked for."""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.exceptions import TyperException

from localdistill import (
    HIDDEN,
    TRACEBACK_VARIABLE,
    Cancelled,
    LocalDistillError,
    UsageError,
    explain,
    in_a_copy,
    looks_like_key,
    refuse_keys,
    without_secrets,
)
from localdistill.cli import output

_BETWEEN_WORDS = re.compile(r"[\s=.,;:'\"{}\[\]]+|^-+")


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    as_json, hidden = "--json" in arguments, _like_keys(arguments)
    try:
        output.open_streams()
        _quieten()
        return _ended(lambda: in_a_copy(lambda: _command(arguments)), as_json, hidden)
    except output.PipeClosed:
        output.give_up(1, 2)
        return output.CLOSED_PIPE
    except BaseException as error:  # standard output cannot take any more; perhaps standard error can
        output.give_up(1)
        try:
            return output.fail(_told(error, hidden))
        except BaseException as another:
            output.give_up(2)
            return explain(another).exit_code


def _like_keys(arguments: Sequence[str]) -> list[str]:
    """What was typed and looks like an API key. No argument is one, so none of it is printed back."""
    words = (word for argument in arguments for word in (argument, *_BETWEEN_WORDS.split(argument)))
    return sorted({word for word in words if looks_like_key(word)}, key=len, reverse=True)


def _ended(command: Callable[[], int], as_json: bool, hidden: Sequence[str]) -> int:
    """Run it to its end, and whatever it raised is said."""
    try:
        code = command()
    except output.PipeClosed:
        raise
    except BaseException as error:
        code = output.fail(_told(error, hidden), as_json)
    output.flush()
    return code


def _command(arguments: Sequence[str]) -> int:
    """Find the command and run it. Raises whatever it raises."""
    from localdistill.cli.app import app, command_words

    for argument in arguments:
        refuse_keys(argument, "an argument")
    tree = typer.main.get_command(app)
    if "_LOCALDISTILL_COMPLETE" in os.environ:
        tree.main(list(arguments), "localdistill")
    try:
        with tree.make_context("localdistill", list(arguments)) as context:
            tree.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0
    except (typer.Abort, EOFError):
        raise Cancelled("cancelled", "nothing was answered, so nothing was done") from None
    except TyperException as error:
        said, words = error.format_message(), " ".join(("localdistill", *command_words(arguments)))
        if said.startswith("Usage: "):  # a group without a command shows its help
            output.talk(said)
            return UsageError.exit_code
        raise UsageError(said.removesuffix("."), f"{words} --help") from None
    return 0


def _told(error: BaseException, hidden: Sequence[str] = ()) -> LocalDistillError:
    """`error` as one of ours, without the words that are not to be printed; where it happened is printed first when
    somebody asked for it."""
    if TRACEBACK_VARIABLE in os.environ:
        told = without_secrets("".join(traceback.format_exception(error)))
        for word in hidden:
            told = told.replace(word, HIDDEN)
        output.talk(told)
    found = explain(error)
    found.hide(hidden)
    return found


def _quieten() -> None:
    """What Python would print beside the command passes the one door too."""

    def warned(message: Warning | str, *_: Any, **__: Any) -> None:
        output.talk(f"warning: {message}")

    def failed(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None:
            output.talk(f"warning: a part of the work stopped: {_told(arguments.exc_value).message}")

    def ignored(arguments: sys.UnraisableHookArgs) -> None:
        if arguments.exc_value is not None and TRACEBACK_VARIABLE in os.environ:
            _told(arguments.exc_value)

    warnings.showwarning = warned
    threading.excepthook = failed
    sys.unraisablehook = ignored
