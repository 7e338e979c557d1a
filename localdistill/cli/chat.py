"""The chat command: answers stream into the terminal, thinking folded away."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("chat", help="Chat with what a run exported, or with any GGUF file. /think shows or folds thinking, "
                             "/new starts over, Ctrl-D leaves.")(chat)


def chat(
    model: Annotated[str, typer.Argument(help="A GGUF file, or the id of a run that exported one.")] = "last",
    question: Annotated[str, typer.Option("--ask", help="Ask one question, print the answer and leave.")] = "",
    thinking: Annotated[bool, typer.Option("--thinking", help="Show thinking instead of folding it.")] = False,
    max_tokens: Annotated[int, typer.Option(help="Upper limit of new tokens in one answer.")] = 1024,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Chat with a GGUF file."""
    from localdistill import model_to_chat, open_chat

    path = model_to_chat(workspace_of(workspace), model)
    with open_chat(path, max_tokens=max_tokens, temperature=temperature) as session:
        if question or not sys.stdin.isatty():
            text = question or sys.stdin.read().strip()
            reply = session.ask(text)
            if as_json:
                output.data_json({"reasoning": reply.reasoning, "answer": reply.answer, "status": reply.status})
            else:
                if thinking and reply.reasoning:
                    output.talk(output.safe(reply.reasoning))
                output.data(output.safe(reply.answer))
            return
        _converse(session, thinking)


def _converse(session: object, thinking: bool) -> None:
    """Questions from the terminal until Ctrl-D."""
    from localdistill.chatting import ChatSession

    assert isinstance(session, ChatSession)
    output.talk(f"{session.title}  (/think, /new, Ctrl-D)")
    while True:
        try:
            text = input("> ").strip()
        except (EOFError, KeyboardInterrupt):
            output.talk("")
            return
        if text == "/new":
            session.reset()
        elif text == "/think":
            thinking = not thinking
            output.talk("thinking is shown" if thinking else "thinking is folded")
        elif text:
            _answer(session, text, thinking)


def _answer(session: object, text: str, thinking: bool) -> None:
    from localdistill.chatting import ChatSession

    assert isinstance(session, ChatSession)
    thought = 0
    try:
        for piece in session.stream(text):
            if piece.is_thinking and not thinking:
                thought += len(piece.text.split())
                sys.stderr.write(f"\r(thinking, {thought} words)")
                sys.stderr.flush()
                continue
            if thought:
                sys.stderr.write("\n")
                thought = 0
            sys.stdout.write(output.safe(piece.text))
            sys.stdout.flush()
    except KeyboardInterrupt:
        output.talk("\n(stopped)")
    sys.stdout.write("\n")
