"""Who is asked what, in which order, until when: the questions of a collect stage as lazy streams, one per teacher, and
the merging of several teachers' replies. Sends nothing itself."""

from __future__ import annotations

import gc
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from localdistill.engines.base import Engine
from localdistill.graders.base import Grader
from localdistill.records import Grade, Prompt, Request, Trace

T = TypeVar("T")


@dataclass
class Question:
    """One prompt for one teacher: the requests that may be sent for it, in order."""

    prompt: Prompt
    requests: tuple[Request, ...]
    tries: int = 0
    """How many of the requests have an answer."""
    accepted: bool = False

    def is_open(self, until_verified: bool) -> bool:
        """Something is still to be asked."""
        return self.tries < len(self.requests) and not (until_verified and self.accepted)


@dataclass
class Teacher:
    """One engine and what it is to be asked."""

    name: str
    engine: Engine
    model: str
    """The engine's identity."""
    terms: str
    questions: list[Question] = field(default_factory=list)

    def requests(self) -> Iterator[Request]:
        """Every request that may be sent."""
        return (request for question in self.questions for request in question.requests)


class Line:
    """The requests of one teacher that are to be sent now. With `until_verified` one at a time per prompt: the next is
    put in line when its answer was rejected, so the line can grow while it is served."""

    def __init__(self, teacher: Teacher, known: set[str], until_verified: bool) -> None:
        self._until_verified = until_verified
        self._fresh: deque[Request] = deque()
        self._again: deque[Request] = deque()
        self.by_request: dict[str, Question] = {}
        self._lock = threading.Lock()
        for question in teacher.questions:
            if until_verified:
                if question.is_open(True):
                    self._put(self._fresh, question, question.requests[question.tries])
            else:
                for request in question.requests:
                    if request.id not in known:
                        self._put(self._fresh, question, request)

    def _put(self, line: deque[Request], question: Question, request: Request) -> None:
        self.by_request[request.id] = question
        line.append(request)

    def __len__(self) -> int:
        return len(self._fresh) + len(self._again)

    def take(self, count: int) -> list[Request]:
        """Up to `count` requests: second tries first, so that the last prompts do not wait for several rounds."""
        with self._lock:
            taken: list[Request] = []
            while len(taken) < count and (self._again or self._fresh):
                taken.append((self._again or self._fresh).popleft())
            return taken

    def answered(self, request_id: str, accepted: bool) -> None:
        """An answer came; a rejected one puts the prompt's next try in line."""
        question = self.by_request[request_id]
        with self._lock:
            question.tries += 1
            question.accepted |= accepted
            if self._until_verified and question.is_open(True):
                self._put(self._again, question, question.requests[question.tries])


class Verifier:
    """The recipe's graders as one question: is this answer accepted?"""

    def __init__(self, graders: Sequence[Grader]) -> None:
        self._graders = graders

    def grades(self, prompt: Prompt, trace: Trace) -> list[Grade]:
        """A verdict of every grader that applies; none for a trace that is not complete."""
        if trace.status != "complete":
            return []
        return [grader.grade(prompt, trace) for grader in self._graders if grader.applies(prompt)]

    def accepts(self, prompt: Prompt, trace: Trace, grades: Sequence[Grade]) -> bool:
        """A complete answer that no grader rejects. Where no grader can judge, completeness is all there is."""
        return trace.status == "complete" and all(grade.score >= 1 for grade in grades)

    def close(self) -> None:
        """End the graders."""
        for grader in self._graders:
            grader.close()


def side_by_side(streams: Sequence[Callable[[Callable[[], bool]], Iterator[T]]]) -> Iterator[T]:
    """The items of several streams as they come, each stream in a thread of its own.

    Each is called with a question that says whether to stop. The first error stops the others and is raised once they
    have ended and what they still had was handed over.
    """
    closed = threading.Event()
    if len(streams) == 1:
        yield from streams[0](closed.is_set)
        return
    items: queue.Queue[T | _End] = queue.Queue(maxsize=256)

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


def unique(prompts: Iterable[Prompt]) -> list[Prompt]:
    """Each prompt once, in order."""
    return list({prompt.id: prompt for prompt in prompts}.values())
