"""Who is asked what, in which order, until when: the questions of a collect stage as lazy streams, one per set and
engine, and the merging of several engines' replies. Sends nothing itself."""

from __future__ import annotations

import gc
import queue
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar

from localdistill.core.borders import BORDERS
from localdistill.core.prompt_kinds import kind_of
from localdistill.core.records import Message, Prompt, Request, request_namer
from localdistill.engines.base import Engine
from localdistill.recipe.trace_sets import AskedSet

T = TypeVar("T")

RARELY = 50_000
"""Objects made between two searches for garbage while replies come in."""


@dataclass(slots=True)
class PendingPrompt:
    """A pending prompt of one teacher: the requests that may be sent for it, in order."""

    prompt: Prompt
    requests: tuple[Request, ...]
    tries: int = 0
    """How many of the requests have an answer."""
    accepted: bool = False
    waits: bool = False
    """An answer is there that nobody could judge yet: another one may not be needed, and is not paid for."""

    def is_open(self, until_verified: bool) -> bool:
        """Something is still to be asked, or to be judged."""
        return not (until_verified and self.accepted) and (self.waits or self.tries < len(self.requests))


class Asker:
    """How a set asks one engine: the messages and the requests of a prompt, and their ids."""

    def __init__(self, section: AskedSet, engine: Engine, seed: int = 0) -> None:
        """seed: the base of all seeds of the recipe."""
        self._options = options = section
        self._sampling = section.sampling(seed)
        self._name = request_namer(engine.name, engine.identity(), self._sampling, options.thinks)

    def ids(self, prompt: Prompt) -> list[str]:
        """The ids of the requests that may be sent for `prompt`, in order, without making them."""
        messages, name = self._messages(prompt), self._name
        return [name(messages, index) for index in range(self._options.samples)]

    def question(self, prompt: Prompt) -> PendingPrompt:
        """The requests that may be sent for `prompt`."""
        options, messages = self._options, self._messages(prompt)
        return PendingPrompt(prompt, tuple(
            Request(self._name(messages, index), messages, self._sampling, index, options.thinks, options.top_logprobs)
            for index in range(options.samples)))

    def _messages(self, prompt: Prompt) -> tuple[Message, ...]:
        """With the system prompt when the prompt has none, and the suffix on its last user turn."""
        system, suffix = self._options.system, self._options.suffix
        if isinstance(suffix, dict):
            suffix = suffix.get(kind_of(prompt), suffix.get("other", ""))
        if not (suffix or system):
            return prompt.messages
        messages = list(prompt.messages)
        if suffix:
            last = max(i for i, m in enumerate(messages) if m.role == "user")
            messages[last] = replace(messages[last], content=f"{messages[last].content}\n{suffix}")
        if system and messages[0].role != "system":
            messages.insert(0, Message("system", system))
        return tuple(messages)


@dataclass
class Teacher:
    """One engine and what it is to be asked for one set."""

    name: str
    engine: Engine
    asker: Asker
    model: str
    """The engine's identity."""
    terms: str
    trace_set: str = ""
    until_verified: bool = False
    reasoning_within: int = 0
    """So many first replies without reasoning end the asking; 0 where none is expected."""
    ids: list[str] = field(default_factory=list)
    """Of every request that may be sent, in the order of the prompts; also of those whose answer is stored."""
    unasked: set[str] = field(default_factory=set)
    """The ids among them without an answer that were not queued yet."""
    questions: list[PendingPrompt] = field(default_factory=list)
    """The first ones with something to ask; all there are when answers are verified."""
    later: deque[str] = field(default_factory=deque)
    """Ids of the other prompts with something to ask: the store holds them until their turn comes."""
    left_to_others: set[str] = field(default_factory=set)
    """Requests that another set or engine name sends to the same model in the same words: the answers serve both."""

    def may_send(self) -> set[str]:
        """The requests that may be sent now."""
        if not self.until_verified:
            return set(self.unasked)
        is_open = [question for question in self.questions if question.is_open(True) and not question.waits]
        return {request.id for question in is_open for request in question.requests[question.tries:]}


class RequestQueue:
    """A request queue: the requests of one teacher for one set that are to be sent now. With `until_verified` one at a
    time per prompt: the next is queued when its answer was rejected, so the queue can grow while it is served."""

    def __init__(self, teacher: Teacher, fetch: Callable[[list[str]], Iterable[Prompt]]) -> None:
        """fetch: the stored prompts of some ids, asked for when their turn comes."""
        self._until_verified, self._others = teacher.until_verified, teacher.left_to_others
        self._again: deque[tuple[PendingPrompt, Request]] = deque()
        self._asked: dict[str, PendingPrompt] = {}
        self._lock = threading.Lock()
        self._fresh: Iterator[tuple[PendingPrompt, Request]]
        if teacher.until_verified:
            is_open = [question for question in teacher.questions if self._is_next_ours(question)]
            self._fresh = ((question, question.requests[question.tries]) for question in is_open)
            self._left = len(is_open)
        else:
            self._fresh, self._left = _unasked(teacher, fetch), len(teacher.unasked)

    def __len__(self) -> int:
        return self._left

    def take(self, count: int) -> list[Request]:
        """Up to `count` requests: second tries first, so that the last prompts do not wait for several rounds."""
        with self._lock:
            second = [self._again.popleft() for _ in range(min(count, len(self._again)))]
            taken = [*second, *islice(self._fresh, count - len(second))]
            self._left -= len(taken)
            self._asked.update((request.id, question) for question, request in taken)
            return [request for _, request in taken]

    def question(self, request_id: str) -> PendingPrompt:
        """What a request that was taken asks."""
        return self._asked[request_id]

    def gave_up(self, request_id: str) -> None:
        """This request, which was taken, gets no answer in this round."""
        with self._lock:
            self._asked.pop(request_id)

    def answered(self, request_id: str, accepted: bool) -> None:
        """An answer came; a rejected one queues the prompt's next try."""
        with self._lock:
            question = self._asked.pop(request_id)
            question.tries += 1
            question.accepted |= accepted
            if self._until_verified and self._is_next_ours(question):
                self._again.append((question, question.requests[question.tries]))
                self._left += 1


    def _is_next_ours(self, question: PendingPrompt) -> bool:
        """There is a next try, and no other set makes it."""
        may_go_on = question.is_open(True) and not question.waits
        return may_go_on and question.requests[question.tries].id not in self._others


def _unasked(
    teacher: Teacher, fetch: Callable[[list[str]], Iterable[Prompt]]
) -> Iterator[tuple[PendingPrompt, Request]]:
    """Every request without an answer, once, with its question."""
    questions, teacher.questions = deque(teacher.questions), []
    while True:
        while questions:
            question = questions.popleft()
            for request in question.requests:
                if request.id in teacher.unasked:
                    teacher.unasked.remove(request.id)
                    yield question, request
        if not teacher.later:
            return
        ids = [teacher.later.popleft() for _ in range(min(BORDERS.fetched_prompts, len(teacher.later)))]
        questions.extend(map(teacher.asker.question, fetch(ids)))


def side_by_side(streams: Sequence[Callable[[Callable[[], bool]], Iterator[T]]]) -> Iterator[T]:
    """The items of several streams as they come, each stream in a thread of its own.

    Each is called with a question that says whether to stop. The first error stops the others and is raised once they
    have ended and what they still had was handed over.
    """
    closed = threading.Event()
    if len(streams) == 1:
        yield from streams[0](closed.is_set)
        return
    items: queue.Queue[T | _End] = queue.Queue(maxsize=BORDERS.waiting_replies)

    def work(stream: Callable[[Callable[[], bool]], Iterator[T]]) -> None:
        problem: BaseException | None = None
        try:
            for item in stream(closed.is_set):
                items.put(item)
        except BaseException as error:
            problem = error
            closed.set()
        items.put(_End(problem))

    threads = [threading.Thread(target=work, args=(stream,), daemon=True) for stream in streams]
    for thread in threads:
        thread.start()
    running, first = len(threads), None
    try:
        while running:
            item = items.get()
            if isinstance(item, _End):
                running -= 1
                first = first or item.problem
            else:
                yield item
    finally:
        closed.set()
        while running:
            running -= isinstance(items.get(), _End)
        for thread in threads:
            thread.join()
    if first is not None:
        raise first


@dataclass
class _End:
    problem: BaseException | None


def evenly(items: Sequence[T], count: int) -> list[T]:
    """`count` of `items`, evenly spaced; all when there are fewer."""
    if count >= len(items):
        return list(items)
    return [items[place * len(items) // count] for place in range(count)]


@contextmanager
def making_many() -> Iterator[None]:
    """For blocks that make a great number of objects which all stay: looking for garbage among them again and again
    would take a quarter of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def making_few() -> Iterator[None]:
    """For long work over what is there already: that stays and is not looked through again, and as hardly anything
    that comes and goes needs a search to go, searches are few. They would take a fifteenth of the time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(RARELY, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def unique(prompts: Iterable[Prompt]) -> Iterator[Prompt]:
    """Each question once, in order: what asks the same as one before it has the same answer, whatever its reference."""
    seen: set[tuple[Message, ...]] = set()
    for prompt in prompts:
        if prompt.messages not in seen:
            seen.add(prompt.messages)
            yield prompt


def leave_shared_to_the_first(teachers: Sequence[Teacher]) -> bool:
    """Sets may ask the same of one model, under whatever name: what the first of them may send now, the others leave to
    it. True where there was any such request."""
    of_others: set[str] = set()
    for teacher in teachers:
        own = teacher.may_send()
        teacher.left_to_others = own & of_others
        teacher.unasked -= of_others
        of_others |= own
    return any(teacher.left_to_others for teacher in teachers)


def find_open(teachers: Sequence[Teacher], prompts: Iterable[Prompt], stored: Callable[[list[str]], set[str]],
              keep: Callable[[list[Prompt]], None], orphans: Collection[str] = (),
              give_prompts: Callable[[dict[str, str]], None] = lambda prompts: None) -> int:
    """Give every teacher its ids and its first questions, and `keep` the prompts of all that are open; returns how many
    answers are there. `stored` says which of some ids have one. What is answered is not held unless it is verified, nor
    more than `BORDERS.held_questions`: of the others only ids are, about 250 bytes a request. `orphans` are answers
    whose prompt is not stored: it is kept too, and given to them."""
    count = 0
    with making_many():
        for block in _blocks(_named_once(teachers, prompts), BORDERS.block_prompts):
            found = stored([key for _, named in block for ids in named for key in ids])
            count += len(found)
            is_open: dict[str, Prompt] = {}
            for place, teacher in enumerate(teachers):
                own = [key for _, named in block for key in named[place]]
                teacher.ids += own
                if found.issuperset(own) and not teacher.until_verified:
                    continue
                teacher.unasked.update(own)
                teacher.unasked -= found
                for prompt, named in block:
                    has_all = found.issuperset(named[place])
                    if not has_all:
                        is_open[prompt.id] = prompt
                    if teacher.until_verified or (not has_all and len(teacher.questions) < BORDERS.held_questions):
                        teacher.questions.append(teacher.asker.question(prompt))
                    elif not has_all:
                        teacher.later.append(prompt.id)
            lost = {key: prompt for prompt, named in block for ids in named for key in ids
                    if key in orphans} if orphans else {}
            if is_open or lost:
                keep(list({**is_open, **{prompt.id: prompt for prompt in lost.values()}}.values()))
            if lost:
                give_prompts({key: prompt.id for key, prompt in lost.items()})
    return count


def _named_once(teachers: Sequence[Teacher], prompts: Iterable[Prompt]) -> Iterator[tuple[Prompt, list[list[str]]]]:
    """Each prompt with the ids of its requests to every teacher, and each question once, as `unique` has it."""
    seen: set[str] = set()
    for prompt in prompts:
        named = [teacher.asker.ids(prompt) for teacher in teachers]
        if (first := named[0][0]) not in seen:
            seen.add(first)
            yield prompt, named


def _blocks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block
