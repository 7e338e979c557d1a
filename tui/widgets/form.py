"""A form of labelled values: one line per value, its problem below it, its help shown while it has the focus. Knows
nothing of recipes: it is given fields and tells what was typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import DescendantFocus
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Select, Static

from tui.recipe_fields import RecipeField, text_of
from tui.text import joined, line, shown
from tui.widgets.fields import VARIABLE, OpenInput, without

PROBLEM_MARKS = {"error": "✗", "warning": "!"}
LONGEST_VALUE = 20_000
"""A longer value is shown, not edited: a line of a terminal is no place for it."""


class ValueInput(OpenInput, inherit_bindings=False):
    """One value. Left empty, the default counts."""

    BINDINGS = without(Input.BINDINGS, "ctrl+k")


class ValueRow(Vertical):
    """One value: its name, the box, and what is wrong with it."""

    class ValueChanged(Message):
        """Somebody typed."""

        def __init__(self, field: RecipeField, text: str) -> None:
            super().__init__()
            self.field, self.text = field, text

    def __init__(self, field: RecipeField) -> None:
        super().__init__()
        self.field = field
        self._problem = self._doubt = ""

    def compose(self) -> ComposeResult:
        """Name and box on one line, the problem below."""
        with Horizontal():
            yield Static(_label(self.field), classes="name")
            yield self._box()
        yield Static(classes="problem")

    def _box(self) -> Widget:
        field = self.field
        text = "" if field.value is None else text_of(field.value, field.kind)
        if len(text) > LONGEST_VALUE:
            return Static(shown(f"{len(text):,} characters: change it in the text", "$foreground-muted"))
        if field.kind == "switch":
            return _select([("yes", "true"), ("no", "false")], text, field)
        if field.kind == "choice":
            return _select([(name, name) for name in field.choices], text, field)
        return ValueInput(text, placeholder=_placeholder(field), compact=True, select_on_focus=False,
                          classes=VARIABLE if field.name.endswith("key_env") else None)

    def show(self, field: RecipeField) -> None:
        """The value changed elsewhere; the box that is being typed in is left alone."""
        self.field = field
        text = "" if field.value is None else text_of(field.value, field.kind)
        for box in self.query(ValueInput):
            if box.value != text and not box.has_focus:
                with box.prevent(Input.Changed):
                    box.value = text
        for choice in self.query(Select):
            wanted = text if text in _values(field, text) else Select.NULL
            if choice.value != wanted:
                with choice.prevent(Select.Changed):
                    choice.value = wanted

    def problem(self, text: str, doubt: str = "") -> None:
        """Say what is wrong with it, or else what is probably not meant; empty when nothing is."""
        self._problem, self._doubt = text, doubt
        mark = PROBLEM_MARKS["warning" if doubt and not text else "error"]
        for below in self.query(".problem").results(Static):  # none while the row is being built
            below.display = bool(text or doubt)
            below.update(shown(f"{mark} {line(text or doubt, 1000)}"))
        self.set_class(bool(text), "wrong")
        self.set_class(bool(doubt) and not text, "doubtful")

    def on_mount(self) -> None:
        """What became known to be wrong meanwhile."""
        self.problem(self._problem, self._doubt)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Tell the form's owner."""
        event.stop()
        self.post_message(self.ValueChanged(self.field, event.value))

    def on_select_changed(self, event: Select.Changed) -> None:
        """Tell the form's owner."""
        event.stop()
        text = "" if event.value is Select.NULL else str(event.value)
        if text != ("" if self.field.value is None else text_of(self.field.value, self.field.kind)):
            self.post_message(self.ValueChanged(self.field, text))


def _values(field: RecipeField, text: str) -> list[str]:
    return ["true", "false"] if field.kind == "switch" else [*field.choices]


def _select(options: list[tuple[str, str]], text: str, field: RecipeField) -> Select[str]:
    if text and text not in {value for _, value in options}:
        options = [*options, (line(f"{text} (unknown)", 60), text)]
    prompt = f"{_word(field.default)} (default)" if field.default else "choose" if field.is_required else "not set"
    return Select([(line(name), value) for name, value in options], value=text or Select.NULL, prompt=line(prompt, 60),
                  compact=True, allow_blank=not field.is_required or not text)


def _word(default: str) -> str:
    return {"true": "yes", "false": "no"}.get(default, default)


def _placeholder(field: RecipeField) -> str:
    return line(field.default, 60) if field.default else "must be given" if field.is_required else "not set"


def _label(field: RecipeField) -> Content:
    if not field.is_known:
        return shown(f"{line(field.name, 60)} ?", "$error")
    return joined(shown(line(field.name, 60), "bold" if field.value is not None else ""),
                  shown(" *" if field.is_required else "", "$warning"))


class Form(Vertical):
    """Values of one section, and the help of the one in focus."""

    DEFAULT_CSS = """
    Form { height: 1fr; }
    Form #rows { height: 1fr; scrollbar-size-vertical: 1; }
    Form #help { height: 4; border-top: solid $panel-lighten-2; color: $foreground-muted; }
    ValueRow { height: auto; }
    ValueRow Horizontal { height: 1; }
    ValueRow .name { width: 24; max-width: 40%; height: 1; text-wrap: nowrap;
        text-overflow: ellipsis; padding-right: 1; }
    ValueRow Input, ValueRow Select { width: 1fr; }
    ValueRow Select SelectOverlay { height: auto; max-height: 12; }
    ValueRow Input { background: $panel; }
    ValueRow Input:focus { background: $primary 30%; }
    ValueRow .problem { height: auto; padding-left: 2; color: $error; }
    ValueRow.doubtful .problem { color: $warning; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._about = ""

    def compose(self) -> ComposeResult:
        """Rows above, help below."""
        yield VerticalScroll(id="rows", can_focus=False)
        yield Static(id="help")

    async def show(self, fields: Sequence[RecipeField], about: str) -> None:
        """Show these fields. The same ones as before keep their boxes and the cursor."""
        self._about = about
        rows = list(self.query(ValueRow))
        shape = [(f.key, f.kind, f.choices, f.is_known) for f in fields]
        if [(r.field.key, r.field.kind, r.field.choices, r.field.is_known) for r in rows] == shape:
            for row, field in zip(rows, fields):
                row.show(field)
            return
        place = self.query_one("#rows")
        await place.remove_children()
        await place.mount_all([ValueRow(field) for field in fields])
        self._explain(None)

    def problems(self, found: Mapping[str, str], doubts: Mapping[str, str] | None = None) -> None:
        """Say at each field what is wrong with it, or probably not meant: key -> text."""
        for row in self.query(ValueRow):
            row.problem(found.get(row.field.key, ""), (doubts or {}).get(row.field.key, ""))

    def focus_first(self) -> None:
        """Into the first field."""
        for box in self.query("ValueInput, Select").results(Widget):
            box.focus()
            return

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Explain the field that has the focus."""
        row = next((node for node in event.widget.ancestors_with_self if isinstance(node, ValueRow)), None)
        self._explain(row.field if row else None)

    def _explain(self, field: RecipeField | None) -> None:
        self.query_one("#help", Static).update(_about(self._about) if field is None else _help(field))


def _about(text: str) -> Content:
    return shown(text)


def _help(field: RecipeField) -> Content:
    default = f", default {line(field.default, 80)}" if field.default else ""
    return joined(shown(line(field.key, 80), "bold"), shown(f"  {line(field.type_name, 200)}{default}\n"),
                  shown(field.help))
