"""The chat command: answers stream into the terminal, thinking folded away."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from localdistill import EngineError
from localdistill.cli import output
from localdistill.cli.arguments import JsonOption, WorkspaceOption, workspace_of

if TYPE_CHECKING:
    from localdistill import ChatSession

HINTS = {"error": "ask something shorter; --context-tokens N holds more",
         "length": "--max-tokens N lets it write more, --context-tokens N gives it more room",
         "reasoning_only": "--thinking shows what it thought; --max-tokens N lets it write more"}
ANY_HINT = "ask in other words"


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
    context_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens that question and answer have together. 0: what the model was trained "
                                      "for, at most 4096.")
    ] = 0,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Chat with a GGUF file."""
    from localdistill import model_to_chat, open_chat

    path = model_to_chat(workspace_of(workspace), model)
    with open_chat(path, max_tokens=max_tokens, temperature=temperature, context_tokens=context_tokens) as session:
        if question or not output.somebody_is_here():
            _ask_once(session, question or output.piped_in().strip(), thinking, as_json)
        else:
            _converse(session, thinking)


def _ask_once(session: ChatSession, text: str, thinking: bool, as_json: bool) -> None:
    """One question, its answer as data, and on stderr what is wrong with it. Without an answer the exit code is 1."""
    reply = session.ask(text)
    ending = session.ending
    if as_json:
        output.data_json({"reasoning": reply.reasoning, "answer": reply.answer, "status": reply.status,
                          "error": ending})
    else:
        if thinking and reply.reasoning:
            output.talk(reply.reasoning)
        if reply.answer:
            output.data(reply.answer)
    if ending:
        has_answer = bool(reply.answer) and reply.status != "error"
        output.talk(f"{'note' if has_answer else 'error'}: {ending}")
        output.talk(f"  try: {HINTS.get(reply.status, ANY_HINT)}")
        if not has_answer:
            sys.exit(1)


def _converse(session: ChatSession, thinking: bool) -> None:
    """Questions from the terminal until Ctrl-D. One that cannot be answered ends nothing."""
    output.talk(f"{session.title}  (/think, /new, Ctrl-D)")
    while True:
        try:
            text = output.ask("> ").strip()
        except (EOFError, KeyboardInterrupt):
            output.talk()
            return
        if text == "/new":
            session.reset()
        elif text == "/think":
            thinking = not thinking
            output.talk("thinking is shown" if thinking else "thinking is folded")
        elif text:
            _answer(session, text, thinking)


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
