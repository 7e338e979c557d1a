"""What given continuations are worth to a model: their log-probabilities after a question or a text, for a person who
wants to look at a model rather than run a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from localdistill.api.models.exports import model_to_chat
from localdistill.core.capabilities import needed_by, require
from localdistill.core.errors import EngineError, LocalDistillError, UsageError
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Continuation, Message, Request, TokenScores
from localdistill.engines import ENGINES
from localdistill.engines.base import Engine
from localdistill.hub.names import in_hub
from localdistill.recipe import Member
from localdistill.stages.context import build_member
from localdistill.workspace.folder import Workspace, check_file


def scorer_of(workspace: Workspace, name: str = "last", adapter: str = "") -> Member:
    """The engine that holds the model which `name` means: a model folder, `shipped:NAME` or `hf://organisation/name`,
    where an `adapter` may be added; else what `model_to_chat` finds. UsageError when there is none."""
    if name.startswith("shipped:") or in_hub(name) or Path(name).is_dir():
        return Member(use="transformers", options={"model": name, "adapter": adapter})
    if adapter:
        raise UsageError("an adapter belongs to a model folder, not to a GGUF file",
                         "name the folder of the student that it was trained for")
    path = model_to_chat(workspace, name)
    check_file(path)
    return Member(use="llama_cpp", options={"model": str(path)})


def score_continuations(scorer: Member, continuations: Sequence[str], question: str = "", system: str = "",
                        text: str | None = None, thinks: bool | None = None, top: int = 0,
                        cancel: Cancel | None = None) -> list[TokenScores]:
    """Log-probabilities of `continuations`, in their order, as what the assistant begins with after `question` (and
    `system`), or behind the raw `text`; with the `top` most likely tokens at every place. See `Continuation` for how
    they are cut into tokens.

    Only engines that cost nothing are asked: UsageError for others, and for what an engine cannot. EngineError when the
    model cannot score them."""
    if not continuations:
        raise UsageError("there is nothing to score", "give at least one continuation")
    if bool(question) == (text is not None):
        raise UsageError("give a question or a text to go on from, one of the two", "--ask QUESTION, or --text TEXT")
    who = ENGINES.load(scorer.use).who(scorer.options)
    if who.costs:
        raise UsageError(f"{', '.join(who.hosts)} may cost money, and is asked by runs only",
                         "score with a model on this machine, or name the engine in a recipe")
    messages = (*([Message("system", system)] if system else []), Message("user", question)) if text is None else ()
    request = Request("score", messages, thinks=thinks, top_logprobs=top, text=text,
                      continuations=tuple(map(Continuation, continuations)))
    engine: Engine = build_member(ENGINES, scorer, Path.cwd())
    cancel = cancel or Cancel()
    try:
        require(engine, needed_by(request))
        replies = list(engine.answer([request], silent, cancel))
    finally:
        engine.close()
    cancel.check()
    if not replies:
        raise LocalDistillError(f"{scorer.use} did not answer", "ask again")
    if replies[0].status == "error":
        raise EngineError(replies[0].error, "change the question or the continuations")
    return list(replies[0].continuations)
