"""A window to write over a trace: its reasoning and its answer in two boxes. What a terminal cannot show as it is, is
not edited here."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static, TextArea

from localdistill import LocalDistillError, Trace, UsageError, edit_trace
from tui.text import joined, line, safe, shown
from tui.widgets.dialogs import MUTED, Dialog
from tui.widgets.fields import FREE_TEXT, without
from tui.widgets.toml_pane import is_editable


class Prose(TextArea, inherit_bindings=False):
    """Text to write over."""

    BINDINGS = without(TextArea.BINDINGS, "ctrl+k")


class EditDialog(Dialog[None]):
    """Two boxes; what is saved is a new trace, and the old one stays."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "save", "save", priority=True)]
    DEFAULT_CSS = """
    EditDialog > Vertical { height: 90%; width: 90%; }
    EditDialog Prose { height: 1fr; min-height: 3; padding: 0; }
    EditDialog #edit-problem { height: auto; color: $text-error; }
    """

    def __init__(self, trace: Trace, done: Callable[[Trace], None]) -> None:
        """done: told the new trace. UsageError for a trace that cannot be edited here."""
        super().__init__()
        if not (is_editable(trace.reasoning) and is_editable(trace.answer)):
            raise UsageError("this trace holds what a terminal cannot show as it is, or very long lines",
                             f"localdistill traces edit {line(trace.id)} opens it in an editor")
        self._trace, self._done = trace, done
        self._is_saving = False

    def compose(self) -> ComposeResult:
        """The boxes, what is wrong, the keys."""
        with Vertical():
            yield Static(shown("Edit: a new trace; this one stays", "bold"))
            yield Static(shown("reasoning", MUTED))
            yield Prose(safe(self._trace.reasoning), id="edit-reasoning", compact=True, classes=FREE_TEXT,
                        tab_behavior="focus")
            yield Static(shown("answer", MUTED))
            yield Prose(safe(self._trace.answer), id="edit-answer", compact=True, classes=FREE_TEXT,
                        tab_behavior="focus")
            yield Static(id="edit-problem")
            yield Static(shown("tab: other box   ctrl+s: save   escape: close, nothing is stored"), classes="keys")

    def on_mount(self) -> None:
        """The answer has the focus."""
        self.query_one("#edit-answer").focus()

    def action_save(self) -> None:
        """Store what stands there."""
        reasoning, answer = (self.query_one(f"#edit-{part}", Prose).text for part in ("reasoning", "answer"))

        def saved(made: Trace) -> None:
            self.dismiss(None)
            self._done(made)

        if not self._is_saving:
            self._is_saving = True
            self.ui.jobs.do(lambda: edit_trace(self.ui.workspace, self._trace.id, reasoning, answer), saved,
                            group="edit", failed=self._refused)

    def _refused(self, error: LocalDistillError) -> None:
        self._is_saving = False
        for problem in self.query("#edit-problem").results(Static):
            problem.update(joined(shown(line(error.message, 600)), shown(f"\n{line(error.hint, 300)}", MUTED)))
