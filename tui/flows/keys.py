"""Keeping, listing, forgetting and allowing API keys. A key is typed masked, handed over once, and never shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from localdistill import KeyLine, allow_key, forget_key, keep_key, key_target, list_keys
from tui.text import line, safe
from tui.ui import Ui
from tui.widgets.dialogs import ConfirmDialog, ReportDialog
from tui.widgets.text_dialog import Field, TextDialog, Then

KEEP_TEXT = "It is bound to this one host, and kept in the system's keyring or in a file that only you can read."


def set_key(ui: Ui, name: str, changed: Callable[[], None]) -> None:
    """Ask for a key and keep it; `name` is filled in."""

    def kept(entry: KeyLine) -> None:
        ui.notify(f"kept {line(entry.name, 60)} for {line(entry.host, 60)} ({line(entry.source)})", markup=False)
        changed()

    def typed(values: Mapping[str, str]) -> None:
        key_target(values["name"], values["host"])
        ui.jobs.do(lambda: keep_key(values["name"], values["key"], values["host"]), kept)

    ui.push_screen(TextDialog("Keep an API key", [
        Field("name", "for", name, "a provider, or the name of an environment variable; never the key", is_needed=True),
        Field("host", "host", "", "empty: the provider's"),
        Field("key", "key", "", "nothing is shown while you type", is_masked=True, is_needed=True)], typed, KEEP_TEXT))


def show_keys(ui: Ui) -> None:
    """Names, hosts and origins."""

    def rows(found: list[KeyLine]) -> None:
        told = [(key.name, f"{key.host}   approved: the variable may go there" if key.source == "approved" else
                 f"{key.host}   from {key.source}") for key in found]
        ui.push_screen(ReportDialog("API keys", told or [("", "no key is known; k sets one")]))

    ui.jobs.do(list_keys, rows)


def remove_key(ui: Ui, name: str, changed: Callable[[], None]) -> None:
    """Ask which key, ask whether, forget it."""

    def forgotten(gone: list[KeyLine]) -> None:
        ui.notify(safe(f"forgot {len(gone)} stored keys"), markup=False)
        changed()

    def typed(values: Mapping[str, str]) -> Then:
        where = f" at {line(values['host'], 60)}" if values["host"] else ""
        question = ConfirmDialog(f"Forget the key and the approvals of {line(values['name'], 60)}{where}?",
                                 lambda: ui.jobs.do(lambda: forget_key(values["name"], values["host"]), forgotten))
        return lambda: ui.push_screen(question)

    ui.push_screen(TextDialog("Forget an API key", [
        Field("name", "of", name, "a provider, or the name of an environment variable"),
        Field("host", "host", "", "empty: all hosts")], typed))


def allow_host(ui: Ui, changed: Callable[[], None]) -> None:
    """Approve that a variable is sent to a host."""

    def typed(values: Mapping[str, str]) -> None:
        given = allow_key(values["variable"], values["host"])
        ui.notify(f"{line(given.name, 60)} may now be sent to {line(given.host, 60)}", markup=False)
        changed()

    ui.push_screen(TextDialog("Allow a variable to a host", [
        Field("variable", "environment variable", "", "its name, in capitals", is_variable=True),
        Field("host", "host", "", "for example api.example.com")], typed))
