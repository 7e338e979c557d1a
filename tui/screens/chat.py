"""Chat: talk to models, one or two side by side with the same history. Each is held from the first question until this
screen is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Static

from localdistill import ChatFile, ChatTarget, Workspace, chat_files, chat_target, engine_target, load_recipe
from tui.commands import Command
from tui.conversation import Conversation
from tui.screens.base import Page
from tui.state import AppState
from tui.text import joined, line, safe, shown
from tui.ui import Wanted
from tui.widgets.chat_line import ChatLine
from tui.widgets.chat_log import ChatLog
from tui.widgets.choose import Choose
from tui.widgets.copy_line import copyable

WIDE = 100
"""Columns from which two conversations stand side by side."""
_TOLD = {None: "", True: " told to think ", False: " told not to think "}
_SIDES = ("a", "b")
_TYPED = "or a file, RUN:ARM, RUN:base, a folder of a student or adapter, shipped:NAME, hf://organisation/name"
_NOTE = ("What a run trained is asked as it was measured: pantry-1:full_trace; what it was made of is pantry-1:base. "
         "RECIPE.toml:ENGINE asks an engine of a recipe.")


class Written(Message):
    """A conversation has something new to show; sent by workers."""


class ChatPage(Page):
    """Talking to what came out."""

    TITLE = "Chat"
    HELP = ("Type a question and press enter; ctrl+j begins a new line, and what is pasted stays one message. With two "
            "models open the question goes to both, with the history of the chosen side, so that a student and its "
            "base or teacher can be compared. Thinking is folded and never sent back. Escape stops an answer, or "
            "leaves the line so that the keys of the menu work. The models end when this screen is left; what was said "
            "stays.")
    ACTIONS = (
        Command("chat.ask", "write: question", "chat", "screen.write", "i", "Goes to the line at the bottom.",
                in_footer=False),
        Command("chat.stop", "stop: answer", "chat", "screen.stop_or_leave", "escape",
                "Ends the answer that is being written and keeps what is there; else leaves the line."),
        Command("chat.thinking", "think: shown or folded", "chat", "screen.fold", "ctrl+t", "Shows or folds thinking."),
        Command("chat.told", "tell: to think or not", "chat", "screen.tell", "ctrl+g",
                "Tells the model to think from the next question on, then not to, then leaves it to itself.",
                in_footer=False),
        Command("chat.copy", "copy: answer", "chat", "screen.copy_answer", "ctrl+y", "Copies the newest answer."),
        Command("chat.choose", "file: choose", "chat", "screen.choose_file", "ctrl+o",
                "Talks to another model; a new conversation."),
        Command("chat.compare", "both: second file", "chat", "screen.choose_second", "ctrl+b",
                "Opens a second model beside the first, in its conversation, or closes it."),
        Command("chat.switch", "other: side", "chat", "screen.switch_side", "f2",
                "Goes to the other conversation; on narrow screens it comes to the front.", in_footer=False),
        Command("chat.reset", "new: conversation", "chat", "screen.reset", "ctrl+n", "Forgets all turns."),
    )
    CSS_PATH = "chat.tcss"

    def __init__(self) -> None:
        super().__init__()
        self._conversations: list[Conversation] = []
        self._files: tuple[ChatFile, ...] | None = None
        self._side = 0
        self._unfolded = False
        self._early = ""
        """A question that was asked before the files were known."""
        self._wanted: Path | None = None
        """The file that somebody comes to talk to."""

    def body(self) -> Iterable[Widget]:
        """Two conversations (one hidden until it is opened) and the line."""
        with Horizontal(id="sides"):
            for side in _SIDES:
                with Vertical(id=f"side-{side}", classes="side"):
                    yield Static(id=f"head-{side}", classes="head")
                    yield ChatLog(id=f"log-{side}")
        yield ChatLine("ask something", id="line")

    # ---- files

    def came(self, what: Wanted) -> None:
        """To talk to a file."""
        self._wanted = what.get("file")

    def on_screen_resume(self) -> None:
        """The screen came to the front: the file that was asked for is opened, else the newest export."""
        super().on_screen_resume()
        if self._wanted is not None:
            self._open(0, self._wanted, "")
            self._wanted = None
        self.ui.jobs.do(lambda: chat_files(self.ui.workspace), self._listed, group="chat-files",
                        failed=lambda _: self._listed(()))
        self.query_one("#line").focus()

    def _listed(self, files: Sequence[ChatFile]) -> None:
        self._files = tuple(files)
        if not self._conversations and self._files:
            self._open(0, self._files[0].path, self._files[0].label)
        self._draw()
        early, self._early = self._early, ""
        if early and self._conversations and self.is_current:
            box = self.query_one(ChatLine)
            if box.message == early:
                box.clear()
            self._ask_all(early)

    def _open(self, side: int, model: Path | ChatTarget, label: str) -> None:
        """Talk to `model` on one side; nothing is loaded before the first question. A second side joins the
        conversation of the first."""
        if isinstance(model, Path):
            model = model.expanduser()
            label = label or next((file.label for file in self._files or () if file.path == model), model.name)
        if side < len(self._conversations):
            self._conversations[side].close()
        made = Conversation(model, label or model.title if isinstance(model, ChatTarget) else label)
        if side:
            made.follow(self._conversations[0])
        self._conversations[side:side + 1] = [made]
        self._side = side
        self._draw()
        if made.asks:
            self.notify(safe(f"every question goes to {', '.join(filter(None, made.asks)) or 'a server'}, which may "
                             "cost money; a chat keeps no account of that"), severity="warning", markup=False)

    def on_screen_suspend(self) -> None:
        """Another screen came to the front: the processes end. A window in front changes nothing."""
        if not self.app.screen.is_modal:
            self._early = ""
            self._close_all()

    def on_unmount(self) -> None:
        """The app ends: the processes end."""
        self._close_all()

    def _close_all(self) -> None:
        for conversation in self._conversations:
            conversation.close()

    # ---- drawing

    def show(self, state: AppState) -> None:
        """Nothing here follows runs; the frame may have changed."""
        self._draw()

    def on_resize(self) -> None:
        """One column more, or one less."""
        self._draw()

    def on_written(self, _: Written) -> None:
        """A worker wrote something."""
        self._draw()

    def _draw(self) -> None:
        if not self.is_mounted:
            return
        both = len(self._conversations) == 2
        wide = self.size.width >= WIDE
        self.query_one("#sides").set_class(both and wide, "two")
        for number, side in enumerate(_SIDES):
            pane = self.query_one(f"#side-{side}")
            pane.display = number < max(1, len(self._conversations)) and (wide or not both or number == self._side)
            pane.set_class(both and wide and number == self._side, "chosen")
            self.query_one(f"#head-{side}", Static).update(self._head(number, both, wide))
            exchanges = self._conversations[number].exchanges if number < len(self._conversations) else ()
            self.query_one(f"#log-{side}", ChatLog).show(exchanges, self._unfolded, self._nothing(number))

    def _head(self, number: int, both: bool, wide: bool) -> Content:
        """Whom this side talks to; on narrow screens both sides, the one in front marked."""
        if number >= len(self._conversations):
            return Content("")
        sides = range(len(self._conversations)) if both and not wide else [number]
        parts: list[Content] = []
        for side in sides:
            conversation = self._conversations[side]
            mark = f" {_SIDES[side].upper()} " if both else ""
            parts.append(shown(mark, "bold reverse" if side == self._side else "$foreground-muted"))
            style = "bold" if side == self._side else "$foreground-muted"
            parts.append(shown(f" {line(conversation.label, 60)} ", style))
            idle = "" if conversation.is_loaded else "not loaded"
            doing = conversation.exchanges[-1].state if conversation.is_busy else idle
            parts.append(shown(f" {doing} ", "$success" if conversation.is_busy else "$foreground-muted"))
            parts.append(shown(_TOLD[conversation.told], "$foreground-muted"))
        return joined(*parts)

    def _nothing(self, number: int) -> Content:
        """What an empty conversation says."""
        if number < len(self._conversations):
            place = self._conversations[number].place
            return shown(f"{line(place, 300)}\n\nThe model is loaded with the first question.", "$foreground-muted")
        if self._files is None:
            return shown("looking for model files ...", "$foreground-muted")
        return shown(f"No run exported a model file yet. Press escape, then 9 for Export; or ctrl+o for the path of a "
                     f"GGUF file, or another model.\n\n{_NOTE}", "$foreground-muted")

    # ---- talking

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Ask all sides."""
        question = self.query_one(ChatLine).message
        if not question:
            return
        if not self._conversations:
            if self._files is None:
                self._early = question
            else:
                self.action_choose_file()
            return
        if any(conversation.is_busy for conversation in self._conversations):
            self.notify("an answer is being written; escape stops it", markup=False, timeout=3)
            return
        event.input.clear()
        self._ask_all(question)

    def _ask_all(self, question: str) -> None:
        for conversation in self._conversations:
            conversation.follow(self._conversations[self._side])
        for conversation in self._conversations:
            self._ask(conversation, question)
        self._draw()

    def _ask(self, conversation: Conversation, question: str) -> None:
        work = conversation.begin(question)
        self.ui.jobs.do(lambda: work(lambda: self._tell()), lambda _: self._draw())

    def _tell(self) -> None:
        """Called by workers."""
        self.post_message(Written())

    # ---- actions

    def action_write(self) -> None:
        """To the line."""
        self.query_one("#line").focus()

    def action_stop_or_leave(self) -> None:
        """Stop what is being written; else leave the line."""
        busy = [conversation for conversation in self._conversations if conversation.is_busy]
        for conversation in busy:
            conversation.stop()
        if not busy:
            self.query_one(f"#log-{_SIDES[self._side]}").focus()

    def action_fold(self) -> None:
        """Show thinking or fold it."""
        self._unfolded = not self._unfolded
        self._draw()

    def action_tell(self) -> None:
        """Tell the chosen side to think, not to, or neither."""
        if self._conversations:
            conversation = self._conversations[self._side]
            conversation.told = {None: True, True: False, False: None}[conversation.told]
            self._draw()

    def action_copy_answer(self) -> None:
        """Copy the newest answer of the chosen side, made safe for a terminal it may be pasted into."""
        answer = self._conversations[self._side].answer if self._conversations else ""
        if answer:
            self.app.copy_to_clipboard(copyable(safe(answer)))
            self.notify("copied the answer", markup=False, timeout=2)

    def action_reset(self) -> None:
        """Forget all exchanges of both sides."""
        for conversation in self._conversations:
            conversation.reset()
        self._draw()

    def action_switch_side(self) -> None:
        """To the other side."""
        if len(self._conversations) == 2:
            self._side = 1 - self._side
            self._draw()

    def action_choose_file(self) -> None:
        """Pick the file of the chosen side."""
        side = self._side if self._conversations else 0
        self._choose("Talk to", partial(self._open_named, side))

    def action_choose_second(self) -> None:
        """Open a second side, or close it."""
        if len(self._conversations) == 2:
            self._conversations.pop().close()
            self._side = 0
            self._draw()
        elif self._conversations:
            self._choose("Talk to a second file as well", partial(self._open_named, 1))
        else:
            self.action_choose_file()

    def _open_named(self, side: int, name: str) -> None:
        """Talk to whom `name` means: one of the files, or anybody that the command line finds."""
        if any(str(file.path) == name for file in self._files or ()):
            self._open(side, Path(name), "")
            return
        self.ui.jobs.do(lambda: _found(self.ui.workspace, name), lambda target: self._open(side, target, ""),
                        group=f"chat-target-{side}")

    def _choose(self, title: str, taken: Callable[[str], None]) -> None:
        choices = [(str(file.path), file.label, file.path.name) for file in self._files or ()]
        self.ui.push_screen(Choose(title, choices, taken, typed=_TYPED, note=_NOTE))


def _found(workspace: Workspace, name: str) -> ChatTarget:
    """Whom a typed name means."""
    recipe, _, engine = name.rpartition(":")
    if recipe.endswith(".toml"):
        path = Path(recipe).expanduser()
        return engine_target(load_recipe(path), path.resolve().parent, engine)
    return chat_target(workspace, name)
