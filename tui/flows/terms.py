"""Terms of use that nobody decided about, asked once before anybody is asked anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from localdistill import TermsQuestion
from tui.text import safe
from tui.ui import Ui
from tui.widgets.dialogs import ConfirmDialog


def ask_terms(ui: Ui, questions: Sequence[TermsQuestion], go_on: Callable[[list[str]], None]) -> None:
    """Show the open questions; `go_on` gets the names that were accepted."""
    text = "\n\n".join(safe(question.text) for question in questions)
    names = [question.name for question in questions]
    ui.push_screen(ConfirmDialog(f"{text}\n\nGo on all the same?", lambda: go_on(names)))
