"""The replies of one contestant to the items of a task: gathered until an item has all of them, then scored by the
task, which may ask its grader. A grader that asks an engine is given the replies of all items together, so that it
batches; until then they are kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import fmean

from localdistill.core.errors import BudgetReached, EngineUnavailable, LocalDistillError, PartialResult
from localdistill.core.means import Means
from localdistill.core.options import Member
from localdistill.core.records import Fact, Prompt, Reply, Request, Trace, item_request_id, trace_of
from localdistill.engines.base import Engine
from localdistill.graders import GRADERS
from localdistill.recipe.sections import SamplingSection
from localdistill.scorecard import ItemResult, SampleResult
from localdistill.stages.context import StageContext
from localdistill.stages.fact_makers import Saying, sayings_of
from localdistill.stages.questions import Questions, with_way_on
from localdistill.store.replies import reply_of
from localdistill.tasks.base import Judge, Scored, Task


@dataclass(frozen=True)
class Answerer:
    """Who answers, as traces name it."""

    engine: str
    model: str

    @classmethod
    def of(cls, engine: Engine) -> Answerer:
        """That engine."""
        return cls(engine.name, engine.identity())


class OpenItem:
    """One item while it is answered."""

    def __init__(self, place: int, prompt: Prompt, requests: Sequence[Request],
                 drawn: SamplingSection | None = None) -> None:
        self.prompt = prompt
        self.samples = [[_drawn(request, drawn, place, prompt, number, sample) for number, request in
                         enumerate(requests)] for sample in range(_samples(requests, drawn))]
        """The requests of each sample: what the task asks, once for every reply that is wanted."""
        self.requests = {request.id: request for sample in self.samples for request in sample}
        self.replies: dict[str, Reply] = {}
        self.facts: dict[str, Fact] = {}
        """What the grader says of each reply."""
        self.result: ItemResult | None = None

    @property
    def is_answered(self) -> bool:
        """Every request has its reply."""
        return len(self.replies) == len(self.requests)

    def trace(self, reply: Reply, who: Answerer) -> Trace:
        """A reply as graders see it."""
        return trace_of(reply, self.requests[reply.request_id], self.prompt, who.engine, who.model)


def _samples(requests: Sequence[Request], drawn: SamplingSection | None) -> int:
    """How often a task's requests are asked; likelihoods come out the same each time."""
    return drawn.samples if drawn and any(request.kind == "generate" for request in requests) else 1


def _drawn(request: Request, drawn: SamplingSection | None, place: int, prompt: Prompt, number: int,
           sample: int) -> Request:
    """A request of one sample under the id that it is asked by."""
    named = replace(request, id=item_request_id(place, prompt.id, number, sample))
    if drawn is None or request.kind != "generate":
        return named
    sampling = replace(request.sampling, temperature=drawn.temperature, top_p=drawn.top_p, top_k=drawn.top_k,
                       seed=drawn.seed)
    return replace(named, sampling=sampling, sample_index=sample)


class TaskScorer:
    """Scores items by the rule of a task. `saying` is its grader, where it has one."""

    def __init__(self, context: StageContext, task: Task, saying: Saying | None, questions: Questions,
                 means: Means) -> None:
        self._context, self._task, self._saying = context, task, saying
        self._questions, self._means = questions, means

    @property
    def asks(self) -> bool:
        """The grader asks engines: it is then given all replies together."""
        return self._saying is not None and bool(type(self._saying.options).engine_fields())

    @property
    def grader(self) -> str:
        """Whose verdicts they are, with the version and what else could change one."""
        if self._saying is None:
            return ""
        by, version, variant = self._saying.key
        return f"{by}@{version}" + (f"/{variant}" if variant else "")

    def score(self, item: OpenItem, who: Answerer) -> ItemResult:
        """Score one item that is answered, by a grader that asks nobody."""
        item.result = result_of(self._task, item, partial(self._judge, item, who))
        return item.result

    def _judge(self, item: OpenItem, who: Answerer, prompt: Prompt, reply: Reply) -> Fact:
        """See `tasks.base.Judge`."""
        assert self._saying is not None, "a task without a grader has a rule of its own"
        [fact] = self._saying.facts([(prompt, item.trace(reply, who))], self._means)
        return fact

    def score_all(self, items: Sequence[OpenItem], who: Answerer, label: str) -> Iterator[ItemResult]:
        """Score items that are all answered, by a grader that asks, as its verdicts come. Raises BudgetReached when the
        cap is reached, PartialResult when an engine is gone or gave no reply: a resume asks for those alone."""
        context, kept = self._context, f"the replies of {label} are kept, and what was judged"
        of_trace = {request_id: item for item in items for request_id in item.requests}
        try:
            for fact in self._facts(items, who):
                item = of_trace[fact.subject_id]
                item.facts[fact.subject_id] = fact
                if len(item.facts) == len(item.requests):
                    item.result = result_of(self._task, item, partial(_known_fact, item.facts))
                    yield item.result
        except BudgetReached as error:
            raise with_way_on(context, error, kept) from None
        except EngineUnavailable as error:
            raise PartialResult(f"{error.message}; {kept}",
                                f"localdistill resume {context.run.id} goes on. {error.hint}".strip()) from None
        finally:
            if self._questions.asked:
                context.say_spending()
        context.cancel.check()
        self._questions.require_replies(0.0)
        if any(item.result is None for item in items):
            raise PartialResult(f"{label}: not every reply was judged; {kept}",
                                f"localdistill resume {context.run.id} asks for the rest")

    def _facts(self, items: Iterable[OpenItem], who: Answerer) -> Iterator[Fact]:
        """Of every reply; where there is none the grader is not asked."""
        assert self._saying is not None
        by, version, _ = self._saying.key
        asked: list[tuple[Prompt, Trace]] = []
        for item in items:
            for reply in item.replies.values():
                if reply.status == "error":
                    yield Fact(reply.request_id, by, version, value=0.0, passed=False, reason="there is no reply")
                else:
                    asked.append((item.prompt, item.trace(reply, who)))
        yield from self._saying.facts(asked, self._means)


def _known_fact(facts: Mapping[str, Fact], prompt: Prompt, reply: Reply) -> Fact:
    """See `tasks.base.Judge`, of replies that were judged before."""
    return facts[reply.request_id]


@contextmanager
def scorer_of(context: StageContext, task: Task, means: Means) -> Iterator[TaskScorer]:
    """How the replies to the items of `task` are scored; the grader and the engines that it asks are closed at the end.
    means: who is told what."""
    graders = [(GRADERS, Member(use=task.grader, options=dict(task.grader_options)))] if task.grader else []
    with Questions(context) as questions, sayings_of(context, questions, graders) as sayings:
        saying = sayings[0] if sayings else None
        if saying is not None:
            given = questions.means_of(saying.maker.name, saying.options, saying.maker.needs)
            means = replace(given, emit=means.emit, cancel=means.cancel)
        yield TaskScorer(context, task, saying, questions, means)


def result_of(task: Task, item: OpenItem, judge: Judge) -> ItemResult:
    """What an item with all its replies came to."""
    answered = [[item.replies[request.id] for request in sample] for sample in item.samples]
    scored = [task.score(item.prompt, replies, judge) for replies in answered]
    results = list(map(_sample, scored, item.samples, answered))
    replies = [item.replies[request_id] for request_id in item.requests]
    failed = [reply for reply in replies if reply.status == "error"]
    names = dict.fromkeys(name for said in scored for name in said.metrics)
    return ItemResult(
        prompt_id=item.prompt.id,
        score=fmean(one.score for one in results),
        finished=all(one.finished for one in results),
        hit_limit=any(one.hit_limit for one in results),
        answer_tokens=round(fmean(one.answer_tokens for one in results)),
        extracted=results[0].extracted,
        output=results[0].output,
        category=task.category(item.prompt),
        error=(failed[0].error or "no reply") if len(failed) == len(replies) else "",
        metrics={name: fmean(said.metrics[name] for said in scored if name in said.metrics) for name in names},
        undecided=next((said.undecided for said in scored if said.undecided), ""),
        samples=tuple(results) if len(results) > 1 else (),
    )


def _sample(said: Scored, requests: Sequence[Request], replies: Sequence[Reply]) -> SampleResult:
    """What the replies of one sample came to."""
    return SampleResult(
        score=said.score,
        finished=all(reply.continuations or reply.finish_reason == "stop" for reply in replies),
        hit_limit=any(reply.finish_reason == "length" for reply in replies),
        answer_tokens=round(fmean(reply.usage.completion_tokens for reply in replies)),
        extracted=said.extracted,
        output="\n".join(map(_told, requests, replies)),
    )


def _told(request: Request, reply: Reply) -> str:
    """What came, as text: of continuations what each is worth, in nats."""
    return "\n".join(f"{scores.total:.4f} {one.text}".rstrip() for one, scores in zip(
        request.continuations, reply.continuations)) or reply.raw


def replies_to_text(items: Iterable[OpenItem], who: Answerer) -> str:
    """The replies to all items and who gave them, as lines of JSON."""
    rows = [asdict(who), *(asdict(reply) for item in items for reply in item.replies.values())]
    return "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows)


def take_replies(text: str, items: Iterable[OpenItem], where: str) -> Answerer:
    """Give the items the replies that `replies_to_text` wrote. LocalDistillError when it holds something else."""
    of_request = {request_id: item for item in items for request_id in item.requests}
    try:
        first, *rows = [json.loads(line) for line in text.splitlines()]
        for reply in map(reply_of, rows):
            of_request[reply.request_id].replies[reply.request_id] = reply
        return Answerer(**first)
    except (ValueError, TypeError, KeyError) as error:
        raise LocalDistillError(f"{where} is damaged: {error}", "") from error
