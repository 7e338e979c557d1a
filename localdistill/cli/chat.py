"""The chat command: answers stream into the terminal, thinking folded away."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from localdistill import EngineError
from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, read_recipe, workspace_of

if TYPE_CHECKING:
    from localdistill import ChatSession, Reply

HINTS = {"error": "ask something shorter; --context-tokens N holds more",
         "length": "--max-tokens N lets it write more, --context-tokens N gives it more room",
         "reasoning_only": "--thinking shows what it thought; --max-tokens N lets it write more"}
ANY_HINT = "ask in other words"


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("chat", help="Chat with what a run exported or trained, any GGUF file, a student's folder, an "
                             "adapter, a model of the hub, or an engine of a recipe; with two of them side by side. "
                             "/think shows or folds thinking, /new starts over, Ctrl-D leaves.")(chat)


def chat(
    model: Annotated[
        str, typer.Argument(help="A GGUF file, the id of a run that exported one, RUN:ARM or RUN:base, the folder of a "
                                 "student or an adapter, shipped:NAME, hf://organisation/name; with --recipe, the name "
                                 "of an engine.")
    ] = "last",
    beside: Annotated[
        str, typer.Option("--with", help="Somebody else who is asked the same, with the same history: the first one's.")
    ] = "",
    question: Annotated[str, typer.Option("--ask", help="Ask one question, print the answer and leave.")] = "",
    thinking: Annotated[bool, typer.Option("--thinking", help="Show thinking instead of folding it.")] = False,
    think: Annotated[
        bool | None, typer.Option("--think/--no-think", help="Tell it to think first, or not to; by itself it does as "
                                  "it was trained, or as its chat template says.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Upper limit of new tokens in one answer.")] = 1024,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    context_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens that question and answer have together, of a GGUF file. 0: what the "
                                      "model was trained for, at most 4096.")
    ] = 0,
    chat_template: Annotated[
        str, typer.Option(help="A Jinja file to use instead of the template in a GGUF file, or where it has none.")
    ] = "",
    recipe: Annotated[str, typer.Option(help="Talk to an engine of this recipe, by its name.")] = "",
    student: Annotated[str, typer.Option(help="The student of an adapter that no run here knows.")] = "",
    engine: Annotated[str, typer.Option(help="For a student's folder: transformers or mlx.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Chat with a model, or with two."""
    from localdistill import ChatTarget, chat_target, engine_target, open_chat

    place = workspace_of(workspace)

    def found(name: str) -> ChatTarget:
        if recipe:
            loaded, _, base = read_recipe(recipe, [], None)
            return engine_target(loaded, base, name)
        return chat_target(place, name, student, engine, context_tokens, chat_template)

    targets = [found(name) for name in (model, beside) if name]
    if think is not None:
        targets = [replace(target, thinks=think) for target in targets]
    for target in targets:
        if target.asks:
            output.talk(f"note: every question goes to {', '.join(filter(None, target.asks)) or 'a server'}, which may "
                        "cost money; runs keep an account of that, a chat does not")
    with ExitStack() as stack:
        sessions = [stack.enter_context(open_chat(target, max_tokens=max_tokens, temperature=temperature))
                    for target in targets]
        if question or not output.somebody_is_here():
            _ask_once(sessions, question or output.piped_in().strip(), thinking, as_json)
        else:
            _converse(sessions, thinking)


def _ask_once(sessions: Sequence[ChatSession], text: str, thinking: bool, as_json: bool) -> None:
    """One question, the answers as data, and on stderr what is wrong with them. Where one has no answer the exit code
    is 1."""
    replies = [(session, session.ask(text)) for session in sessions]
    if as_json:
        rows = [{"reasoning": reply.reasoning, "answer": reply.answer, "status": reply.status, "error": session.ending}
                for session, reply in replies]
        output.data_json(rows[0] if len(rows) == 1 else [
            {"model": session.title, **row} for session, row in zip(sessions, rows, strict=True)])
    fails = False
    for session, reply in replies:
        if not as_json:
            _say(session, reply, thinking, len(sessions) > 1)
        if session.ending:
            has_answer = bool(reply.answer) and reply.status != "error"
            output.talk(f"{'note' if has_answer else 'error'}: {session.ending}")
            output.talk(f"  try: {HINTS.get(reply.status, ANY_HINT)}")
            fails = fails or not has_answer
    if fails:
        sys.exit(1)


def _say(session: ChatSession, reply: Reply, thinking: bool, is_named: bool) -> None:
    if is_named:
        output.talk(f"-- {session.title}")
    if thinking and reply.reasoning:
        output.talk(reply.reasoning)
    if reply.answer:
        output.data(reply.answer)


def _converse(sessions: Sequence[ChatSession], thinking: bool) -> None:
    """Questions from the terminal until Ctrl-D. One that cannot be answered ends nothing."""
    from localdistill import share_history

    output.talk(f"{' and '.join(session.title for session in sessions)}  (/think, /new, Ctrl-D)")
    while True:
        try:
            text = output.ask("> ").strip()
        except (EOFError, KeyboardInterrupt):
            output.talk()
            return
        if text == "/new":
            for session in sessions:
                session.reset()
        elif text == "/think":
            thinking = not thinking
            output.talk("thinking is shown" if thinking else "thinking is folded")
        elif text:
            for session in sessions:
                if len(sessions) > 1:
                    output.talk(f"-- {session.title}")
                _answer(session, text, thinking)
            share_history(sessions)


def _answer(session: ChatSession, text: str, thinking: bool) -> None:
    thought, passing = 0, output.Passing()
    try:
        for piece in session.stream(text):
            if piece.is_thinking and not thinking:
                thought += len(piece.text.split())
                passing.show(f"(thinking, {thought} words)")
                continue
            passing.leave()
            output.data(piece.text, end="")
    except KeyboardInterrupt:
        output.talk("\n(stopped)")
    except EngineError as error:
        output.talk(f"\nerror: {error.message}\n  try: {error.hint}; /new starts over")
        return
    output.data("")
    if session.ending:
        output.talk(f"({session.ending})")
