"""The replies of one contestant to the items of a task: gathered until an item has all of them, then scored by the
task, which may ask its grader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from statistics import fmean

from localdistill.core.events import Emit
from localdistill.core.means import Means
from localdistill.core.records import Fact, Prompt, Reply, Request, content_id, trace_of
from localdistill.engines.base import Engine
from localdistill.graders import GRADERS
from localdistill.graders.base import Grader
from localdistill.recipe import Member
from localdistill.scorecard import ItemResult
from localdistill.stages.context import StageContext
from localdistill.tasks.base import Task


class OpenItem:
    """One item while it is answered."""

    def __init__(self, place: int, prompt: Prompt, requests: Sequence[Request]) -> None:
        self.prompt = prompt
        named = (replace(request, id=content_id("item", place, prompt.id, *([number] if number else [])))
                 for number, request in enumerate(requests))
        self.requests = {request.id: request for request in named}
        self.replies: dict[str, Reply] = {}
        self.result: ItemResult | None = None

    @property
    def is_answered(self) -> bool:
        """Every request has its reply."""
        return len(self.replies) == len(self.requests)


class TaskJudge:
    """The grader of a task, asked about replies of one engine."""

    def __init__(self, grader: Grader | None, means: Means, engine: Engine) -> None:
        self._grader, self._means = grader, means
        self._engine, self._model = engine.name, engine.identity()

    def of(self, item: OpenItem, prompt: Prompt, reply: Reply) -> Fact:
        """See `tasks.base.Judge`, for the replies to `item`."""
        assert self._grader is not None, "a task without a grader has a rule of its own"
        trace = trace_of(reply, item.requests[reply.request_id], prompt, self._engine, self._model)
        [fact] = self._grader.facts([(prompt, trace)], self._means)
        return fact


@contextmanager
def judge_of(context: StageContext, task: Task, engine: Engine, emit: Emit) -> Iterator[TaskJudge]:
    """The grader of `task`, closed at the end."""
    grader: Grader | None = context.member(GRADERS, Member(use=task.grader)) if task.grader else None
    try:
        yield TaskJudge(grader, Means(emit=emit, cancel=context.cancel), engine)
    finally:
        if grader is not None:
            grader.close()


def result_of(task: Task, item: OpenItem, judge: TaskJudge) -> ItemResult:
    """What an item with all its replies came to."""
    replies = [item.replies[request_id] for request_id in item.requests]
    scored = task.score(item.prompt, replies, partial(judge.of, item))
    failed = [reply for reply in replies if reply.status == "error"]
    return ItemResult(
        prompt_id=item.prompt.id,
        score=scored.score,
        finished=all(reply.continuations or reply.finish_reason == "stop" for reply in replies),
        hit_limit=any(reply.finish_reason == "length" for reply in replies),
        answer_tokens=round(fmean(reply.usage.completion_tokens for reply in replies)),
        extracted=scored.extracted,
        output="\n".join(map(_told, replies)),
        category=task.category(item.prompt),
        error=(failed[0].error or "no reply") if len(failed) == len(replies) else "",
        metrics=scored.metrics,
    )


def _told(reply: Reply) -> str:
    """What came, as text."""
    return "\n".join(f"{scores.total:.4f}" for scores in reply.continuations) or reply.raw
