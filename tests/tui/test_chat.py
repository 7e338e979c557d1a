"""Chat drives real model files in processes of their own: streaming, folding, two sides, stopping, errors in place, and
nothing left behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from textual import events
from textual.widgets import Input, OptionList, Static

import tui.conversation
from localdistill import ChatFile, ChatPiece, Workspace, shipped_path
from localdistill.core.errors import EngineError
from localdistill.core.records import Reply, Usage
from tests.tui.driving import piloted, until
from tests.tui.snapshots import calm
from tui.app import LocalDistillApp
from tui.conversation import ChatExchange, Conversation
from tui.widgets.chat_log import ChatLog

pytest.importorskip("llama_cpp")
TEACHER = shipped_path("pantry/teacher.gguf")
QUESTION = "To begin with, 33 masks lay in the crate. A little later, 7 masks were carried out. How many are left?"


def children() -> list[psutil.Process]:
    """Processes with a model that this process started and that still run."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "llama_cpp_native" in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.Error:
            continue
    return found


def page_of(app: LocalDistillApp) -> Any:
    return app.screen


def log(app: LocalDistillApp, side: str = "a") -> str:
    return "\n".join(str(row.content) for row in app.screen.query_one(f"#log-{side}", ChatLog).query(Static))


async def ask(pilot: Any, text: str) -> None:
    pilot.app.screen.query_one("#line", Input).value = text
    await pilot.press("enter")


@pytest.fixture
def app(tmp_path: Path) -> LocalDistillApp:
    return LocalDistillApp(tmp_path, start="chat", file=TEACHER)


class Deaf(Conversation):
    """Notes what it is asked and answers at once."""

    def begin(self, question: str) -> Callable[[Callable[[], None]], None]:
        self.exchanges = (*self.exchanges, ChatExchange(question, answer="yes", state="done"))
        return lambda told: told()


@pytest.fixture
def deaf(app: LocalDistillApp, monkeypatch: pytest.MonkeyPatch) -> LocalDistillApp:
    monkeypatch.setattr("tui.screens.chat.Conversation", Deaf)
    return app


def questions(app: LocalDistillApp) -> list[str]:
    return [exchange.question for conversation in page_of(app)._conversations for exchange in conversation.exchanges]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@piloted
async def test_a_pasted_text_of_several_lines_is_one_message(deaf: LocalDistillApp, end: str) -> None:
    async with deaf.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: page_of(deaf)._conversations and page_of(deaf).query_one("#line").has_focus)
        deaf.post_message(events.Paste(f"one plum\r\ntwo\n\nfour{end}"))
        await pilot.pause()
        assert questions(deaf) == []
        await pilot.press(*" ok", "enter")
        await until(pilot, lambda: questions(deaf))
        assert questions(deaf) == ["one plum\ntwo\n\nfour ok"]


@piloted
async def test_lines_that_come_at_once_are_one_message_and_typed_ones_are_several(deaf: LocalDistillApp) -> None:
    async with deaf.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: page_of(deaf)._conversations and page_of(deaf).query_one("#line").has_focus)
        names = {"\r": "enter"}
        for letter in "one\rtwo\rthree":
            deaf.post_message(events.Key(names.get(letter, letter), letter))
        await until(pilot, lambda: page_of(deaf).query_one("#line", Input).value.endswith("three"))
        assert questions(deaf) == []
        await pilot.press("enter")
        await until(pilot, lambda: questions(deaf) == ["one\ntwo\nthree"])
        await pilot.press(*"four", "enter", *"five", "ctrl+j", *"six", "enter")
        await until(pilot, lambda: questions(deaf)[1:] == ["four", "five\nsix"])


@piloted
async def test_a_pasted_text_that_a_place_cannot_hold_is_said_to_be_left_out(deaf: LocalDistillApp) -> None:
    async with deaf.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: page_of(deaf)._conversations and page_of(deaf).query_one("#line").has_focus)
        await pilot.press("escape")
        deaf.post_message(events.Paste("nowhere"))
        await until(pilot, lambda: "left out" in told(deaf))
        await pilot.press("ctrl+o")
        await until(pilot, lambda: deaf.screen.is_modal and deaf.screen.query(Input))
        box = deaf.screen.query_one(Input)
        box.focus()
        await pilot.pause()
        deaf.post_message(events.Paste("\nfirst.gguf\nsecond.gguf\n"))
        await until(pilot, lambda: box.value == "first.gguf" and "the first of 2" in told(deaf))


def told(app: LocalDistillApp) -> str:
    return " ".join(notice.message for notice in app._notifications)


@piloted
async def test_a_conversation_streams_folds_copies_and_ends_with_the_screen(app: LocalDistillApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: page_of(app)._conversations)
        assert not children()
        await ask(pilot, QUESTION)
        page = page_of(app)
        conversation = page._conversations[0]
        await until(pilot, lambda: conversation.exchanges and conversation.exchanges[0].state == "done")
        exchange = conversation.exchanges[0]
        assert exchange.thinking and "answer" in exchange.answer and exchange.tokens > 10 and exchange.rate > 0
        assert exchange.thinking.splitlines()[0] not in log(app) and "▸ thought" in log(app)
        assert "tokens" in log(app)
        await pilot.press("ctrl+t")
        assert exchange.thinking.splitlines()[0] in log(app)
        await pilot.press("ctrl+y")
        assert app.clipboard == exchange.answer
        assert len(children()) == 1
        await pilot.press("escape", "1")
        await until(pilot, lambda: app.screen.TITLE == "Home")
        await until(pilot, lambda: not children())
        await pilot.press("0")
        await until(pilot, lambda: app.screen.TITLE == "Chat")
        assert exchange.answer in log(app)
        await ask(pilot, "And now?")
        await until(pilot, lambda: len(conversation.exchanges) == 2 and conversation.exchanges[1].state == "done")
        assert [m.role for m in conversation._memory] == ["user", "assistant"] * 2
    assert not children()


@piloted
async def test_two_files_answer_side_by_side_and_one_behind_the_other_where_it_is_narrow(app: LocalDistillApp) -> None:
    async with app.run_test(size=(120, 30)) as pilot:
        page = page_of(app)
        await until(pilot, lambda: page._conversations)
        await pilot.press("ctrl+b")
        await until(pilot, lambda: app.screen.query("#typed"))
        app.screen.query_one("#typed", Input).focus().value = str(TEACHER)
        await pilot.press("enter")
        await until(pilot, lambda: len(page._conversations) == 2)
        await ask(pilot, QUESTION)
        await until(pilot, lambda: all(t.exchanges and t.exchanges[0].state == "done" for t in page._conversations), 60)
        first, second = (conversation.exchanges[0].answer for conversation in page._conversations)
        assert log(app, "a") and first == second
        assert app.screen.query_one("#side-a").display and app.screen.query_one("#side-b").display
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: not app.screen.query_one("#side-a").display)
        await pilot.press("f2")
        assert app.screen.query_one("#side-a").display and not app.screen.query_one("#side-b").display
        await pilot.press("ctrl+b")
        assert len(page._conversations) == 1
        await until(pilot, lambda: len(children()) == 1)
        await pilot.press("ctrl+n")
        assert page._conversations[0].exchanges == () and "loaded with the first question" in log(app)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Until this is set, the list of files is being made."""
    event = threading.Event()

    def slow(workspace: Workspace) -> list[ChatFile]:
        event.wait(20)
        return [ChatFile(TEACHER, "teacher")]

    monkeypatch.setattr("tui.screens.chat.chat_files", slow)
    return event


@piloted
async def test_a_question_asked_before_the_files_are_known_waits_for_them(tmp_path: Path,
                                                                          known: threading.Event) -> None:
    app = LocalDistillApp(tmp_path, start="chat")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "looking for model files" in log(app))
        await ask(pilot, QUESTION)
        assert app.screen.query_one("#line", Input).value == QUESTION and not app.screen.is_modal
        known.set()
        await until(pilot, lambda: page_of(app)._conversations and page_of(app)._conversations[0].exchanges)
        assert page_of(app)._conversations[0].exchanges[0].question == QUESTION
        assert app.screen.query_one("#line", Input).value == ""
        await pilot.press("escape")


@piloted
async def test_a_question_asked_too_early_is_dropped_with_the_screen(tmp_path: Path, known: threading.Event) -> None:
    app = LocalDistillApp(tmp_path, start="chat")
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "looking for model files" in log(app))
        page = page_of(app)
        await ask(pilot, QUESTION)
        app.go("home")
        await pilot.pause()
        known.set()
        await until(pilot, lambda: page._conversations)
        await calm(pilot)
        assert not page._conversations[0].exchanges and not children()


@pytest.mark.parametrize(("content", "said"), [(None, "does not exist"), (b"GGUF\x03", "not a usable GGUF"),
                                               (b"\x1b]52;c;eA==\x07" * 9, "not a usable GGUF")])
def test_a_file_that_cannot_be_used_is_said_in_place(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "broken [@click=app.bell]x.gguf"
    if content is not None:
        path.write_bytes(content)

    @piloted
    async def body() -> None:
        app = LocalDistillApp(tmp_path, start="chat", file=path)
        async with app.run_test(size=(80, 24)) as pilot:
            page = page_of(app)
            await until(pilot, lambda: page._conversations)
            await ask(pilot, "hello")
            await until(pilot, lambda: page._conversations[0].exchanges[0].state == "failed")
            assert said in log(app) and "✗" in log(app) and len(app.screen_stack) == 2

    body()


@piloted
async def test_a_question_that_is_too_long_is_refused_and_the_conversation_goes_on(app: LocalDistillApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        page = page_of(app)
        await until(pilot, lambda: page._conversations)
        await ask(pilot, "apple " * 6000)
        conversation = page._conversations[0]
        await until(pilot, lambda: conversation.exchanges and conversation.exchanges[0].state == "failed")
        assert "the context holds" in log(app) and "next: ask something shorter" in log(app)
        await ask(pilot, QUESTION)
        await until(pilot, lambda: page._conversations[0].exchanges[1].state == "done")
        assert page._conversations[0].exchanges[1].answer and len(page._conversations[0]._memory) == 2


class SlowSession:
    """Writes one piece every few milliseconds until it is stopped."""

    def __init__(self) -> None:
        self.messages: list[object] = []
        self.last: Reply | None = None
        self.stopped = False
        self.ending = "stopped"
        self.thinks: bool | None = None

    def stop(self) -> None:
        self.stopped = True

    def stream(self, text: str) -> Iterator[ChatPiece]:
        if text == "die":
            yield ChatPiece("half", False)
            raise EngineError("llama.cpp died while it was writing", "ask again")
        self.stopped, count = False, 0
        while not self.stopped:
            time.sleep(0.005)
            count += 1
            yield ChatPiece("word ", count < 4)
        self.last = Reply("r", "truncated", reasoning="word word word", answer="word " * (count - 3),
                          usage=Usage(9, count), elapsed_s=0.1)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A model that writes for ever; the list says what was opened and closed."""
    said: list[str] = []

    @contextmanager
    def opened(path: Path, cancel: object = None) -> Iterator[SlowSession]:
        said.append("open")
        try:
            yield SlowSession()
        finally:
            said.append("close")

    monkeypatch.setattr(tui.conversation, "open_chat", opened)
    return said


def test_escape_stops_an_answer_and_keeps_it(app: LocalDistillApp, slow: list[str]) -> None:
    @piloted
    async def body() -> None:
        async with app.run_test(size=(80, 24)) as pilot:
            page = page_of(app)
            await until(pilot, lambda: page._conversations)
            await ask(pilot, "go on")
            await until(pilot, lambda: "word word" in page._conversations[0].exchanges[0].answer)
            assert "writing" in log(app)
            await ask(pilot, "again")
            assert len(page._conversations[0].exchanges) == 1
            await pilot.press("escape")
            await until(pilot, lambda: page._conversations[0].exchanges[0].state == "done")
            assert "stopped" in log(app) and page._conversations[0].answer.startswith("word")
            await pilot.press("escape")
            assert not isinstance(app.focused, Input)
            await pilot.press("i")
            assert isinstance(app.focused, Input)
            await ask(pilot, "die")
            await until(pilot, lambda: page._conversations[0].exchanges[-1].state == "failed")
            assert "llama.cpp died" in log(app) and page._conversations[0].exchanges[-1].answer == ""

    body()
    assert slow == ["open", "close"]


def test_leaving_while_it_writes_ends_the_model_and_a_window_in_front_does_not(
        app: LocalDistillApp, slow: list[str]) -> None:
    @piloted
    async def body() -> None:
        async with app.run_test(size=(80, 24)) as pilot:
            page = page_of(app)
            await until(pilot, lambda: page._conversations)
            await ask(pilot, "go on")
            await until(pilot, lambda: page._conversations[0].exchanges[0].answer)
            await pilot.press("f1")
            await until(pilot, lambda: app.screen.is_modal)
            assert slow == ["open"]
            await pilot.press("escape")
            app.go("home")
            await until(pilot, lambda: slow == ["open", "close"])
            await until(pilot, lambda: not page._conversations[0].is_busy)

    body()


def test_the_end_is_followed_until_somebody_scrolls_up(app: LocalDistillApp, slow: list[str]) -> None:
    @piloted
    async def body() -> None:
        async with app.run_test(size=(60, 20)) as pilot:
            page = page_of(app)
            await until(pilot, lambda: page._conversations)
            past = tuple(ChatExchange(f"question {n}", "", "yes", "done") for n in range(30))
            page._conversations[0].exchanges = past
            page._draw()
            pane = app.screen.query_one("#log-a", ChatLog)
            await until(pilot, lambda: pane.max_scroll_y > 0 and pane.scroll_y == pane.max_scroll_y)
            await ask(pilot, "go on")
            await until(pilot, lambda: page._conversations[0].exchanges[-1].answer.count("word") > 60)
            assert pane.scroll_y >= pane.max_scroll_y - 1
            pane.scroll_home(animate=False)
            seen = len(page._conversations[0].exchanges[-1].answer)
            await until(pilot, lambda: len(page._conversations[0].exchanges[-1].answer) > seen + 200)
            assert pane.scroll_y < 5
            await pilot.press("escape")
            await until(pilot, lambda: not page._conversations[0].is_busy)

    body()


def test_a_conversation_without_a_screen() -> None:
    conversation = Conversation(Path(os.devnull), "x")
    assert conversation.answer == "" and not conversation.is_busy and not conversation.is_loaded
    conversation.begin("one")(lambda: None)
    assert conversation.exchanges[0].state == "failed" and "does not exist" in conversation.exchanges[0].ending
    conversation.reset()
    conversation.close()
    assert conversation.exchanges == ()
    assert ChatExchange("q", tokens=10, seconds=2).rate == 5


@piloted
async def test_without_any_file_the_screen_says_what_to_do(tmp_path: Path) -> None:
    app = LocalDistillApp(tmp_path, start="chat")
    async with app.run_test(size=(60, 20)) as pilot:
        await until(pilot, lambda: "No run exported a model file yet" in log(app))
        await ask(pilot, "hello")
        await until(pilot, lambda: app.screen.query("#typed"))
        assert not app.screen.query(OptionList)
        await pilot.press("escape")


@piloted
async def test_a_name_that_is_typed_may_mean_an_engine_of_a_recipe_or_nobody(tmp_path: Path) -> None:
    (tmp_path / "replies.jsonl").write_text('{"messages": [{"role": "user", "content": "hi"}], "answer": "good day"}\n')
    (tmp_path / "talk.toml").write_text('name = "talk"\n[engine]\ntaped = { use = "replay", path = "replies.jsonl" }\n'
                                        '[prompts]\nfiles = ["p.jsonl"]\n[traces]\nt = { ask = "taped" }\n')
    app = LocalDistillApp(tmp_path, start="chat", file=TEACHER)
    async with app.run_test(size=(120, 30)) as pilot:
        page = page_of(app)
        await until(pilot, lambda: page._conversations)
        await pilot.press("ctrl+b")
        await until(pilot, lambda: app.screen.query("#typed"))
        app.screen.query_one("#typed", Input).focus().value = f"{tmp_path}/talk.toml:taped"
        await pilot.press("enter")
        await until(pilot, lambda: len(page._conversations) == 2)
        assert page._conversations[1].label == "taped of talk"
        await pilot.press("ctrl+b")
        await until(pilot, lambda: len(page._conversations) == 1)
        await pilot.press("ctrl+b")
        await until(pilot, lambda: app.screen.query("#typed"))
        app.screen.query_one("#typed", Input).focus().value = "nobody"
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.is_modal and "no run and no file" in " ".join(
            str(one.content) for one in app.screen.query(Static)))


def test_two_sides_have_one_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Named(SlowSession):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def stream(self, text: str) -> Iterator[ChatPiece]:
            answer = f"{self.name} after {len(self.messages)}"
            self.last = Reply("r", "complete", answer=answer)
            self.messages = [*self.messages, text, answer]
            yield ChatPiece(answer, False)

    @contextmanager
    def opened(path: Path, cancel: object = None) -> Iterator[Named]:
        yield Named(path.name)

    monkeypatch.setattr(tui.conversation, "open_chat", opened)
    sides = [Conversation(tmp_path / name, name) for name in "ab"]
    for question in ("one", "two"):
        for side in sides:
            side.follow(sides[0])
        for side in sides:
            side.begin(question)(lambda: None)
    assert [side.exchanges[1].answer for side in sides] == ["a after 2", "b after 2"]
    assert sides[1]._memory[:2] == ["one", "a after 0"]


class Noting(SlowSession):
    """A session that notes whether it is told to think."""

    def __init__(self) -> None:
        super().__init__()
        self.thinks, self.ending = True, ""
        self.told: list[bool | None] = []

    def stream(self, text: str) -> Iterator[ChatPiece]:
        self.told.append(self.thinks)
        self.last = Reply("r", "complete", answer="yes")
        yield ChatPiece("yes", False)


@piloted
async def test_a_model_is_told_to_think_or_not_and_then_left_to_itself(
    app: LocalDistillApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Noting()

    @contextmanager
    def opened(model: object, **given: object) -> Iterator[Noting]:
        yield session

    monkeypatch.setattr(tui.conversation, "open_chat", opened)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: page_of(app)._conversations)
        heads = []
        for count in range(1, 5):
            await ask(pilot, f"question {count}")
            await until(pilot, lambda count=count: len(session.told) == count and not page_of(
                app)._conversations[0].is_busy)
            heads.append(str(app.screen.query_one("#head-a", Static).content))
            await pilot.press("ctrl+g")
    assert session.told == [True, True, False, True], "by itself it does as it was trained"
    assert ["told to think" in heads[1], "told not to think" in heads[2], "told" in heads[3]] == [True, True, False]
