"""Terms of use that nobody decided about, asked once before anybody is asked anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from localdistill import TermsQuestion
from tui.text import safe
from tui.widgets.dialogs import Question

if TYPE_CHECKING:
    from tui.app import LocalDistillApp


def ask_terms(ui: LocalDistillApp, questions: Sequence[TermsQuestion], go_on: Callable[[list[str]], None]) -> None:
    """Show the open questions; `go_on` gets the names that were accepted."""
    text = "\n\n".join(safe(question.text) for question in questions)
    names = [question.name for question in questions]
    ui.push_screen(Question(f"{text}\n\nGo on all the same?", lambda: go_on(names)))
