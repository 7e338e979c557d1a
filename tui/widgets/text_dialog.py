"""Windows that ask for text: some fields, or the path of a file with what lies beside it. A masked field forgets what
was typed the moment it is handed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from localdistill import LocalDistillError, UsageError
from tui.text import joined, line, safe, shown
from tui.widgets.dialogs import MUTED, Dialog, Texts
from tui.widgets.fields import VARIABLE, OpenInput

Then = Callable[[], object] | None
MOST_NAMES = 200
"""Files shown of one folder."""


@dataclass(frozen=True)
class Field:
    """One line to fill in."""

    name: str
    label: str
    value: str = ""
    help: str = ""
    is_masked: bool = False
    """What is typed is not shown."""
    is_variable: bool = False
    """It is the name of an environment variable: anything else that is pasted may be a key and is not shown."""
    is_needed: bool = False
    """Nothing is handed over while it is empty."""


class TextDialog(Dialog[None]):
    """Some fields; enter goes to the next one, and hands all over after the last. A masked field has the focus first,
    because what is meant for it must not be read in another one. ctrl+s hands all over from any field."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+s", "hand_over", "go on", show=False, priority=True)]
    DEFAULT_CSS = """
    TextDialog #fields { height: auto; max-height: 70vh; scrollbar-size-vertical: 1; margin-top: 1; }
    TextDialog Input { background: $panel; }
    TextDialog Input:focus { background: $primary 30%; }
    TextDialog .label { height: auto; }
    TextDialog #problem { height: auto; }
    """

    def __init__(self, title: str, fields: Sequence[Field], done: Callable[[Mapping[str, str]], Then],
                 text: str = "") -> None:
        """done: gets what was typed by the fields' names; a LocalDistillError that it raises is shown in the window,
        which then stays open. What it returns is called once the window is closed."""
        super().__init__()
        self._title, self._text, self._fields, self._done = title, text, tuple(fields), done

    def compose(self) -> ComposeResult:
        """A title, the fields, the keys."""
        with Vertical():
            yield Static(shown(self._title, "bold"))
            if self._text:
                with Texts():
                    yield Static(shown(self._text, MUTED))
            with VerticalScroll(id="fields", can_focus=False):
                for field in self._fields:
                    yield Static(_field_label(field), classes="label")
                    kind = Input if field.is_masked else OpenInput
                    # A masked field may get the focus in the middle of a key: what it holds then must not be selected,
                    # or the next letter would take its place.
                    yield kind(safe(field.value), password=field.is_masked, id=f"field-{field.name}", compact=True,
                               select_on_focus=not field.is_masked, classes=VARIABLE if field.is_variable else None)
            yield Static(id="problem")
            goes_on = "enter: next, then go on   ctrl+s: go on" if len(self._fields) > 1 else "enter: go on"
            yield Static(shown(f"{goes_on}   escape: close"), classes="keys")

    def on_mount(self) -> None:
        """The masked field has the focus, else the first."""
        self._begin()

    def _begin(self) -> None:
        boxes = self.query(Input)
        next((box for box in boxes if box.password), boxes.first()).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Next field, or all of them."""
        inputs = list(self.query(Input))
        place = inputs.index(event.input)
        if place + 1 < len(inputs):
            inputs[place + 1].focus()
        else:
            self.action_hand_over()

    def action_hand_over(self) -> None:
        """All fields as they stand, wherever the cursor is."""
        values = {field.name: self.query_one(f"#field-{field.name}", Input).value.strip() for field in self._fields}
        if missing := next((field for field in self._fields if field.is_needed and not values[field.name]), None):
            self.query_one("#problem", Static).update(_problem(UsageError(f"'{missing.label}' is empty", "fill it in")))
            self.query_one(f"#field-{missing.name}").focus()
            return
        self._forget()
        try:
            then = self._done(values)
        except LocalDistillError as error:
            self.query_one("#problem", Static).update(_problem(error))
            self._begin()
            return
        self.dismiss(None)
        if then is not None:
            then()

    def action_close(self) -> None:
        """Close; nothing that was typed stays."""
        self._forget()
        super().action_close()

    def _forget(self) -> None:
        for field in self._fields:
            if field.is_masked:
                self.query_one(f"#field-{field.name}", Input).value = ""


def _field_label(field: Field) -> Content:
    return joined(shown(field.label, "bold"), shown(f"  {field.help}" if field.help else "", MUTED))


def _problem(error: LocalDistillError) -> Content:
    return joined(shown("✗ ", "$error"), shown(line(error.message, 2000)),
                  shown(f"\n  next: {line(error.hint)}" if error.hint else "", MUTED))


class PathDialog(Dialog[None]):
    """The path of a file: typed, completed with tab, or chosen from the list of what lies there."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "complete", show=False, priority=True),
        Binding("down", "into_list", "list", show=False),
    ]
    DEFAULT_CSS = """
    PathDialog > Vertical { height: 90%; }
    PathDialog Input { background: $panel; }
    PathDialog #names { height: 1fr; min-height: 3; border: none; background: transparent; padding: 0; }
    PathDialog #said { height: auto; max-height: 60%; }
    """

    def __init__(self, title: str, done: Callable[[Path], None], start: Path, endings: Sequence[str] = (),
                 text: str = "") -> None:
        """start: the folder that is shown first. endings: only files with these endings are listed; none lists all."""
        super().__init__()
        self._title, self._text, self._done = title, text, done
        self._start, self._endings = start, tuple(endings)
        self._names: list[Path] = []
        self._names_of = ""
        """What was typed when the names were looked for."""
        self._completes = ""
        """What is to be completed once its names are known."""

    def compose(self) -> ComposeResult:
        """A line for the path, what lies there, and what is known of the chosen file."""
        with Vertical():
            yield Static(shown(self._title, "bold"))
            if self._text:
                yield Static(shown(self._text, MUTED))
            yield Input(placeholder="path of a file", id="path", compact=True)
            yield OptionList(id="names", markup=False, compact=True)
            with Texts(id="said"):
                yield Static(id="said-text")
            yield Static(shown("tab: complete   down: list   enter: take it   escape: close"), classes="keys")

    def on_mount(self) -> None:
        """Show the first folder."""
        self.query_one("#path", Input).focus()
        self._list()

    @property
    def path(self) -> Path:
        """What is typed, as a path."""
        text = self.query_one("#path", Input).value.strip()
        path = Path(text).expanduser()
        return path if path.is_absolute() else self._start / path

    def on_input_changed(self, event: Input.Changed) -> None:
        """List what fits, look at what is meant."""
        self._list()
        self.looked_at(self.path)

    def _list(self) -> None:
        typed = self.query_one("#path", Input).value.strip()
        folder = self.path if not typed or typed.endswith("/") else self.path.parent
        stem = "" if not typed or typed.endswith("/") else self.path.name
        self.ui.jobs.do(lambda: names_in(folder, stem, self._endings), partial(self._listed, typed), group="names",
                        failed=self.said)

    def _listed(self, typed: str, names: list[Path]) -> None:
        self._names, self._names_of = names, typed
        for listing in self.query("#names").results(OptionList):  # none once the window is closed
            listing.clear_options()
            listing.add_options([Option(_name(path)) for path in names])
            if not names:
                listing.add_option(Option(shown("nothing here fits", MUTED), disabled=True))
            if typed and typed == self._completes:
                self.action_complete()

    def said(self, error: LocalDistillError) -> None:
        """Show what went wrong in the window itself."""
        self.tell(_problem(error))

    def tell(self, text: Content) -> None:
        """Say something below the names. Harmless once the window is closed.

        Who asks `is_mounted` instead loses what is there at once: for a moment `on_mount` has run already and that is
        not true yet."""
        for said in self.query("#said-text").results(Static):
            said.update(text)

    def action_complete(self) -> None:
        """Take over what all names that fit have in common; when they are not known yet, as soon as they are."""
        typed = self.query_one("#path", Input).value.strip()
        self._completes = "" if typed == self._names_of else typed
        if self._names and not self._completes:
            same = _common_start([str(path) for path in self._names])
            only = "/" if len(self._names) == 1 and self._names[0].is_dir() else ""
            self._type(same + only)

    def _type(self, text: str) -> None:
        box = self.query_one("#path", Input)
        box.value = text if text == safe(text) else box.value
        box.cursor_position = len(box.value)

    def action_into_list(self) -> None:
        """Go down into the list."""
        self.query_one("#names", OptionList).focus()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Look at the file under the cursor."""
        if self.query_one("#names").has_focus and event.option_index < len(self._names):
            self.looked_at(self._names[event.option_index])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Into a folder, or take the file."""
        path = self._names[event.option_index]
        if path.is_dir():
            self._type(f"{path}/")
            self.query_one("#path", Input).focus()
        else:
            self.take(path)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take what is typed."""
        if self.path.is_dir():
            self._type(f"{self.path}/")
        elif event.value.strip():
            self.take(self.path)

    def looked_at(self, path: Path) -> None:
        """The file that is meant changed; for windows that show what is in it."""

    def take(self, path: Path) -> None:
        """The file is chosen."""
        self.dismiss(None)
        self.ui.guarded(lambda: self._done(path))


def _common_start(texts: Sequence[str]) -> str:
    """The letters that all texts begin with."""
    first, last = min(texts), max(texts)
    same = next((place for place, (a, b) in enumerate(zip(first, last)) if a != b), len(first))
    return first[:same]


def _name(path: Path) -> Content:
    return shown(line(path.name) + "/", "bold") if path.is_dir() else shown(line(path.name))


def names_in(folder: Path, stem: str, endings: Sequence[str]) -> list[Path]:
    """Folders and files in `folder` whose names begin with `stem`, folders first. LocalDistillError when it cannot be
    read."""
    try:
        found = [path for path in folder.iterdir() if path.name.startswith(stem)
                 and (stem.startswith(".") or not path.name.startswith("."))]
    except OSError as error:
        raise LocalDistillError(f"{folder}: {error.strerror}", "type another path") from None
    fitting = [path for path in found if path.is_dir() or not endings or path.name.endswith(tuple(endings))]
    return sorted(fitting, key=lambda path: (not path.is_dir(), path.name))[:MOST_NAMES]
