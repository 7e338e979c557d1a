"""A line that asks for a few words: hidden until something is asked, with what was wrong with the words below it."""

from __future__ import annotations

from collections.abc import Iterable

from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from localdistill import UsageError
from tui.text import joined, safe, shown


class AskLine(Vertical):
    """One question at a time; enter answers it."""

    DEFAULT_CSS = """
    AskLine { height: auto; }
    AskLine #asking { height: auto; display: none; }
    AskLine #asking Input { width: 1fr; border: none; height: 1; padding: 0; background: $boost; }
    AskLine #asking #ask-label { width: auto; padding: 0 1 0 0; text-style: bold; }
    AskLine #ask-problem { height: auto; max-height: 4; color: $text-error; display: none; }
    """

    class Said(Message):
        """Words were typed. The question stands until somebody ends it."""

        def __init__(self, what: str, words: str) -> None:
            super().__init__()
            self.what, self.words = what, words

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.what = ""
        """What is asked now; empty while nothing is."""

    def compose(self) -> Iterable[Widget]:
        """The question, the line, what was wrong."""
        with Horizontal(id="asking"):
            yield Static(id="ask-label")
            yield Input(id="ask", disabled=True)
        yield Static(id="ask-problem")

    def ask(self, what: str, label: str, example: str, value: str = "") -> None:
        """Ask for something, by a name that `Said` will bear."""
        self.what = what
        self.accept()
        self.query_one("#asking").display = True
        self.query_one("#ask-label", Static).update(shown(label))
        box = self.query_one("#ask", Input)
        box.disabled = False
        box.placeholder = safe(example)
        box.value = safe(value)
        box.cursor_position = len(box.value)
        box.focus()

    def end(self) -> None:
        """Nothing is asked any more. Who shows the line gives the focus to something else."""
        self.what = ""
        self.query_one("#asking").display = False
        self.query_one("#ask", Input).disabled = True  # else a screen that comes back may give it the focus, unseen
        self.query_one("#ask-problem").display = False

    def refuse(self, error: UsageError) -> None:
        """Say what was wrong with the words."""
        problem = self.query_one("#ask-problem", Static)
        problem.update(joined(shown(error.message, longest=600),
                              shown(f"\n{safe(error.hint, 300)}", "$foreground-muted")))
        problem.display = True

    def accept(self) -> None:
        """Nothing is wrong with the words any more."""
        self.query_one("#ask-problem").display = False

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Hand the words on."""
        event.stop()
        self.post_message(self.Said(self.what, event.value.strip()))
