"""collect: prompts and their traces come into the store, from a teacher that answers or from files that hold answers.
Only what is not stored yet is asked; every reply is in the journal before anything else happens to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from localdistill.engines.base import Engine
from localdistill.errors import EngineUnavailable, InputError, PartialResult
from localdistill.events import Counted, Progressed, Streamed
from localdistill.interchange.base import Imported
from localdistill.interchange.files import read_file
from localdistill.recipe.sections import PromptsSection
from localdistill.records import Message, Prompt, Request, Sampling, request_id, trace_of
from localdistill.stages.context import StageContext

CLAIM_S = 3600.0
CLAIM_ROWS = 64


def run(context: StageContext) -> None:
    """Leave `collect.ids` (traces, in prompt order) and the counts per status."""
    ids: list[str] = []
    if context.recipe.traces:
        ids += _import(context, context.recipe.traces)
    if context.recipe.prompts:
        ids += _ask(context, context.recipe.prompts)
    context.run.write_ids("collect", ids)
    context.run.write_output("collect", {"traces": len(ids)})


def read_section(context: StageContext, section: PromptsSection) -> Iterator[Imported]:
    """The rows of a section's files."""
    for name in section.files:
        path = context.path(name)
        layout = None if section.layout == "auto" else section.layout
        for count, (_, item) in enumerate(read_file(path, layout), start=1):
            yield item
            if count == section.limit:
                break


def _import(context: StageContext, section: PromptsSection) -> list[str]:
    rows = list(read_section(context, section))
    if not any(row.trace for row in rows):
        raise InputError(
            f"{', '.join(section.files)}: no row holds an answer of a model",
            "files that hold only questions belong under [prompts], with a [teacher]",
        )
    new = context.store.add_prompts(row.prompt for row in rows)
    new += context.store.add_traces(row.trace for row in rows if row.trace)
    if new:
        context.worked()
    traces = [row.trace for row in rows if row.trace]
    context.emit(Counted("collect", "imported", dict(Counter(f"{t.model} {t.status}" for t in traces))))
    return list(dict.fromkeys(trace.id for trace in traces))


def ask_messages(prompt: Prompt, system: str, suffix: str) -> tuple[Message, ...]:
    """The messages sent for a prompt: with the system prompt when it has none, and the suffix on its last user turn."""
    messages = list(prompt.messages)
    if suffix:
        last = max(i for i, m in enumerate(messages) if m.role == "user")
        messages[last] = Message("user", f"{messages[last].content}\n{suffix}")
    if system and messages[0].role != "system":
        messages.insert(0, Message("system", system))
    return tuple(messages)


def _ask(context: StageContext, section: PromptsSection) -> list[str]:
    recipe, options = context.recipe, context.recipe.collect
    assert recipe.teacher is not None  # the recipe's own check
    prompts = list({item.prompt.id: item.prompt for item in read_section(context, section)}.values())
    if context.store.add_prompts(prompts):
        context.worked()
    sampling = Sampling(
        options.max_tokens, options.temperature, options.top_p, options.top_k, options.seed + recipe.seed
    )
    with context.engine(recipe.teacher) as engine:
        model = engine.identity()
        requests: dict[str, tuple[Request, str]] = {}
        for prompt in prompts:
            messages = ask_messages(prompt, options.system, options.suffix)
            for index in range(options.samples):
                key = request_id(engine.name, model, messages, sampling, index, options.thinks)
                requests[key] = (Request(key, messages, sampling, index, options.thinks), prompt.id)
        context.take_in_journal()
        known = context.store.known_traces(requests)
        missing = {key: value for key, value in requests.items() if key not in known}
        if missing:
            context.worked()
            _answer(context, engine, model, missing, len(known))
    stored = context.store.known_traces(requests)
    lost = len(requests) - len(stored)
    if lost > options.may_fail * len(requests):
        raise PartialResult(
            f"{lost} of {len(requests)} prompts have no answer yet",
            f"localdistill resume {context.run.id} asks only for those",
        )
    if lost:
        context.warn(
            "collect",
            f"{lost} of {len(requests)} prompts have no answer and are left out",
            f"localdistill resume {context.run.id} asks for those again",
        )
    return [key for key in requests if key in stored]


def _claimed(context: StageContext, missing: Mapping[str, tuple[Request, str]]) -> Iterator[Request]:
    """The requests that no other run is asking, claimed a few at a time just before they are sent."""
    keys, foreign = list(missing), 0
    for start in range(0, len(keys), CLAIM_ROWS):
        chunk = keys[start : start + CLAIM_ROWS]
        granted = context.store.claim(chunk, context.run.id, CLAIM_S)
        foreign += len(chunk) - len(granted)
        yield from (missing[key][0] for key in chunk if key in granted)
    if foreign:
        context.note("collect", f"{foreign} prompts are being asked by another run")


def _answer(
    context: StageContext, engine: Engine, model: str, missing: dict[str, tuple[Request, str]], done_before: int
) -> None:
    """Ask for everything in `missing` and journal what comes."""
    total, done, counts, errors = len(missing) + done_before, done_before, Counter[str](), Counter[str]()
    tokens = 0
    try:
        with context.journal() as journal:
            for reply in engine.answer(_claimed(context, missing), context.emit, context.cancel):
                request, prompt_id = missing[reply.request_id]
                counts[reply.status] += 1
                if reply.status == "error":
                    errors[reply.error] += 1
                    continue
                journal.add(trace_of(reply, request, prompt_id, engine.name, model))
                done += 1
                tokens += reply.usage.completion_tokens
                context.emit(
                    Progressed(
                        "collect",
                        "asking the teacher",
                        done,
                        total,
                        "answers",
                        {"tokens": tokens, "errors": counts["error"]},
                    )
                )
                context.emit(Streamed("collect", reply.raw[-600:]))
    except EngineUnavailable as error:
        raise EngineUnavailable(
            f"{error.message}; {done} of {total} answers are kept",
            f"localdistill resume {context.run.id} continues. {error.hint}".strip(),
        ) from None
    finally:
        context.store.release(context.run.id)
        context.emit(Counted("collect", "replies", dict(counts)))
    context.cancel.check()
    for text, count in errors.most_common(3):
        context.warn("collect", f"{count} replies failed: {text}")
