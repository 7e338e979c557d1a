"""What members ask engines within one stage (judges, scorers, summarizers): every question is metered and capped like a
teacher's, its reply is in the journal before the member sees it, and what is known already is not asked again."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from types import TracebackType

from localdistill.core.borders import BORDERS
from localdistill.core.errors import BudgetReached, EngineUnavailable, PartialResult, SpendingUnknown, UsageError
from localdistill.core.facts import FactMaker
from localdistill.core.means import PART, Ask, Means, Need
from localdistill.core.options import Options
from localdistill.core.records import FactScope, Reply, Request, content_id
from localdistill.engines.base import Engine
from localdistill.recipe import Member
from localdistill.recipe.schema import chosen_by
from localdistill.stages.context import JournalledWriter, StageContext
from localdistill.store.replies import ReplyKey, reply_key

MOST_REASONS = 3


@dataclass(frozen=True)
class Opened:
    """One engine of the recipe, open for this stage."""

    engine: Engine
    model: str
    """Its identity."""
    member: Member


def parts_of(options: Options) -> Iterator[tuple[str, type[FactMaker], Options]]:
    """The graders that a grader's options choose: the option, the member, and its own options."""
    for place, family, chosen in chosen_by(type(options), options.model_dump(mode="json")):
        part: type[FactMaker] = family.load(chosen.use)
        yield place, part, part.Options.model_validate(chosen.options)


class Questions:
    """The engines of one stage by their names in the recipe, opened when the first member needs them."""

    def __init__(self, context: StageContext) -> None:
        self._context = context
        self._stack = ExitStack()
        self._opened: dict[str, Opened] = {}
        self._newest: OrderedDict[ReplyKey, Reply] = OrderedDict()
        self.lock = threading.Lock()
        """An engine may pull questions in a thread of its own while replies are taken."""
        self._journal: JournalledWriter | None = None
        """Where replies go first; what interrupted runs left is taken in before it is opened."""
        self.asked = 0
        """Questions that were sent."""
        self.errors: Counter[str] = Counter()
        """Why there is no reply, of those that were."""

    def __enter__(self) -> Questions:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stack.close()

    def engine(self, name: str, who: str) -> Opened:
        """The engine of this name in the recipe, opened once. UsageError, in the name of `who`, where there is none."""
        if name not in self._opened:
            if not name:
                raise UsageError(f"{who} names no engine", "give it the name of one of the recipe's [engine]")
            self._journal = self._journal or self._stack.enter_context(self._context.journal())
            member = self._context.recipe.engine(name)
            engine = self._stack.enter_context(self._context.engine(member))
            self._opened[name] = Opened(engine, engine.identity(), member)
        return self._opened[name]

    def engines_of(self, name: str, options: Options) -> dict[str, Opened]:
        """The engines that the member called `name` asks with these options, by the option that names each; of members
        that the options choose, behind the place of each: `of.0.judge`."""
        own = {field: self.engine(getattr(options, field), f"{name}.{field}") for field in options.engine_fields()}
        for place, part, inner in parts_of(options):
            own |= {f"{place}.{field}": opened for field, opened in self.engines_of(part.name, inner).items()}
        return own

    def means_of(self, name: str, options: Options, needs: Collection[Need] = (), scope: FactScope = (),
                 ids: Iterable[str] = ()) -> Means:
        """What the member called `name` needs. scope, ids: whose verdicts count on which traces, where it needs
        those."""
        context = self._context
        ask: dict[str, Ask] = {field: partial(self._ask, opened)
                               for field, opened in self.engines_of(name, options).items()}
        ids = list(ids)
        parts = [self.means_of(part.name, own, part.needs, scope, ids) for _, part, own in parts_of(options)]
        means = Means(ask, parts=tuple(parts), emit=context.emit, cancel=context.cancel)
        if "tokens" in needs and context.recipe.student is not None:
            means = replace(means, count=context.tokenizer.count)
        if "items" in needs:
            prompts = [prompt for task in context.tasks() for prompt in task.prompts()]
            means = replace(means, items=[prompt.question for prompt in prompts],
                            golds=[prompt.reference or "" for prompt in prompts])
        if "verdicts" in needs:
            means = replace(means, passed=context.store.verdicts(ids, scope).get)
        return means

    def _ask(self, opened: Opened, requests: Iterable[Request]) -> Iterator[Reply]:
        """See `Ask`. What is known comes first, chunk by chunk, as long as nothing has to be sent."""
        chunks = _Chunks(self, opened, requests)
        while chunks.pull():
            yield from chunks.known()
            if not chunks.is_open:
                continue
            for reply in opened.engine.answer(chunks.unknown(), self._context.emit, self._context.cancel):
                yield from chunks.take(reply)
                yield from chunks.known()
        yield from chunks.known()

    def find(self, keys: list[ReplyKey]) -> dict[ReplyKey, Reply]:
        """Those of the questions whose reply is known."""
        found = {key: self._newest[key] for key in keys if key in self._newest}
        return found | self._context.store.replies([key for key in keys if key not in found])

    def keep(self, opened: Opened, key: ReplyKey, reply: Reply, about: str) -> bool:
        """Journal a reply to what a member calls `about`; an error is counted instead, and false."""
        self.asked += 1
        if reply.status == "error":
            self.errors[reply.error or "no reply"] += 1
            return False
        assert self._journal is not None, "an engine is opened with it"
        self._journal.add_reply(key, opened.engine.name, opened.model, reply, about.partition(PART)[0])
        self._newest[key] = reply
        while len(self._newest) > BORDERS.newest_replies:
            self._newest.popitem(last=False)
        return True

    def require_replies(self, may_fail: float) -> None:
        """PartialResult when more than this share of the questions got no reply; a warning when a few did not."""
        lost = self.errors.total()
        if not lost:
            return
        why = "; ".join(f"{count} x {error}" for error, count in self.errors.most_common(MOST_REASONS))
        said = f"{lost} of {self.asked} questions to engines got no reply: {why}"
        if lost > may_fail * self.asked:
            raise PartialResult(said, f"localdistill resume {self._context.run.id} asks only for those")
        self._context.warn(said, f"localdistill resume {self._context.run.id} asks for those again")


class _Chunks:
    """The questions of one call, looked up a chunk at a time while the engine pulls those that must be sent."""

    def __init__(self, questions: Questions, opened: Opened, requests: Iterable[Request]) -> None:
        self._questions, self._opened, self._source = questions, opened, iter(requests)
        self._open: deque[Request] = deque()
        self._known: deque[Reply] = deque()
        self._waiting: dict[str, tuple[ReplyKey, list[str]]] = {}
        """Sent id -> what it asks, and the member's ids of it."""
        self._sent: dict[ReplyKey, str] = {}

    @property
    def is_open(self) -> bool:
        """Something must be sent."""
        return bool(self._open)

    def pull(self) -> bool:
        """Look the next questions up; false when there are none left."""
        chunk = list(islice(self._source, BORDERS.looked_up_questions))
        keys = [reply_key(request, self._opened.engine.name, self._opened.model) for request in chunk]
        with self._questions.lock:
            found = self._questions.find(keys)
            for request, key in zip(chunk, keys, strict=True):
                if key in found:
                    self._known.append(replace(found[key], request_id=request.id))
                elif key in self._sent:
                    self._waiting[self._sent[key]][1].append(request.id)
                else:
                    sent = self._sent[key] = content_id("sent", *key)
                    self._waiting[sent] = (key, [request.id])
                    self._open.append(replace(request, id=sent))
        return bool(chunk)

    def known(self) -> Iterator[Reply]:
        """The replies that were found, each once."""
        while self._known:
            yield self._known.popleft()

    def unknown(self) -> Iterator[Request]:
        """What must be sent, pulled by the engine."""
        while self._open or self.pull():
            if self._open:
                yield self._open.popleft()

    def take(self, reply: Reply) -> list[Reply]:
        """What came, once it is kept, under the member's ids; nothing of an error."""
        with self._questions.lock:
            key, ids = self._waiting.pop(reply.request_id)
            del self._sent[key]
            kept = self._questions.keep(self._opened, key, reply, ids[0])
        return [replace(reply, request_id=own) for own in ids] if kept else []


def with_way_on(context: StageContext, error: BudgetReached | EngineUnavailable, kept: str) -> Exception:
    """The error, with what is kept and how the run goes on."""
    if isinstance(error, SpendingUnknown):
        hint = error.hint
    elif isinstance(error, BudgetReached):
        hint = f"localdistill resume {context.run.id} --max-usd N goes on under a higher cap"
    else:
        hint = f"localdistill resume {context.run.id} continues. {error.hint}".strip()
    return type(error)(f"{error.message}; {kept}", hint)
