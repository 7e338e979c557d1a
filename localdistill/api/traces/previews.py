"""One trace as every training format would teach it: by the arms of a run, and by the formats that no arm uses. Nothing
is stored; what the format stage would skip says why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from localdistill.core.records import Candidate, Prompt, Skip, Trace
from localdistill.formats import FORMATS
from localdistill.modelfiles.folder import resolve_model
from localdistill.modelfiles.training_rows import TokenizedRow
from localdistill.recipe import Member, Recipe
from localdistill.recipe.sections import PartSection
from localdistill.recipe.trace_sets import RewrittenSet
from localdistill.rewrites.naming import RewriteName
from localdistill.stages.learning import candidates
from localdistill.stages.outputs import scope_of_run
from localdistill.stages.sets import part_traces, rewritten
from localdistill.stages.tokenizing import TraceTokenizer, format_of
from localdistill.store import Store
from localdistill.store.pages import answers_to, made_of, readers
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import RunFolder

DEFAULT_STUDENT = "shipped:pantry/student"
NOT_THERE = "this trace is not in the arm's set"


@dataclass(frozen=True)
class TrainedSpan:
    """Neighbouring tokens of one weight, as text."""

    text: str
    weight: float
    """How much each token counts in the loss; 0 is not trained."""
    tokens: int


@dataclass(frozen=True)
class LaidOut:
    """One trace as one training row, or why there is none."""

    name: str
    """The arm's name, with its place where the arm has several parts; or the format's where no arm uses it."""
    is_arm: bool
    format: str
    thinks: bool
    """Whether a student trained on this row is to think."""
    spans: tuple[TrainedSpan, ...] = ()
    tokens: int = 0
    trained_tokens: int = 0
    skipped: str = ""
    """Why the row cannot be made; empty when it can."""
    sign: int = 1
    """-1 where the row shows what not to do."""
    beside: tuple[str, ...] = ()
    """The traces of the rows that training sees together with this one."""


class Layouter:
    """Lays traces out for one student; its tokenizer and template are read once.

    student: a folder, `shipped:NAME` or `hf://org/name`; a relative folder starts from `base`. ModelFileError when it
    cannot be read, MissingExtra without the tokenizer library.
    """

    def __init__(self, student: str = DEFAULT_STUDENT, base: Path | None = None, max_tokens: int = 1 << 30) -> None:
        folder = resolve_model(student, base)
        self.student, self._base = student, base or Path.cwd()
        self._tokens = TraceTokenizer(folder, max_tokens)

    def lay_out(self, prompt: Prompt, trace: Trace, name: str, member: Member, is_arm: bool = True,
                siblings: Callable[[], Sequence[Candidate]] = tuple) -> LaidOut:
        """The trace as the format `member` lays it out, told under `name`. `siblings`: all traces of the prompt in the
        same set, for a format that looks at them together."""
        form = format_of(member, self._base)
        is_alone = form.grouping == "none" and form.signs == {1}
        rows = self._tokens.rows(form, prompt, [Candidate(trace)] if is_alone else siblings())
        said = LaidOut(name, is_arm, member.use, form.thinks)
        row = next((row for row in rows if isinstance(row, TokenizedRow) and row.trace_id == trace.id), None)
        if row is None:
            why = next((row.reason for row in rows if isinstance(row, Skip) and row.trace_id == trace.id), NOT_THERE)
            return replace(said, skipped=why)
        beside = (other.trace_id for other in rows if isinstance(other, TokenizedRow) and other.group == row.group)
        return replace(said, spans=self._spans(row.input_ids, row.weights), tokens=len(row.input_ids),
                       trained_tokens=row.trained_tokens, sign=row.sign,
                       beside=tuple(one for one in beside if one != trace.id) if row.group else ())

    def nothing(self, name: str, member: Member, why: str) -> LaidOut:
        """That an arm has no such trace."""
        return LaidOut(name, True, member.use, format_of(member, self._base).thinks, skipped=why)

    def _spans(self, ids: Sequence[int], weights: Sequence[float]) -> tuple[TrainedSpan, ...]:
        pieces: list[tuple[float, list[int]]] = []
        for token, weight in zip(ids, weights, strict=True):
            if not pieces or pieces[-1][0] != weight:
                pieces.append((weight, []))
            pieces[-1][1].append(token)
        decode = self._tokens.tokenizer.decode
        return tuple(TrainedSpan(decode(own), round(weight, 4), len(own)) for weight, own in pieces)


def layouter_of(run: RunFolder | None) -> Layouter:
    """A layouter for the run's student, or for the shipped one."""
    student = run.recipe().student if run is not None else None
    if run is None or student is None:
        return Layouter()
    return Layouter(student.model, Path(run.request()["base"]), student.max_tokens)


def lay_out_everywhere(workspace: Workspace, trace_id: str, run: RunFolder | None, layouter: Layouter) -> list[LaidOut]:
    """The trace in every part of every arm of `run`, then in every format that no arm uses. An arm on a rewritten set
    shows the trace that the rewrite made of this one. UsageError when there is no such trace."""
    store = open_store(workspace)
    trace = store.require_trace(trace_id)
    prompt = next(iter(store.prompts([trace.prompt_id])))
    recipe = run.recipe() if run is not None else None
    found, used = [], set[str]()
    for arm in recipe.arms if recipe else ():
        for place, part in enumerate(arm.parts, start=1):
            name = arm.name if len(arm.parts) == 1 else f"{arm.name} {place}"
            source = _source(store, run, recipe, part, trace) if run and recipe else trace
            given = partial(part_traces, run, recipe, arm, part) if run and recipe else tuple
            used.add(part.format)
            found.append(layouter.lay_out(prompt, source, name, part.member,
                                          siblings=partial(siblings_of, store, source, run, given))
                         if isinstance(source, Trace) else layouter.nothing(name, part.member, source))
    siblings = partial(siblings_of, store, trace)
    return found + [layouter.lay_out(prompt, trace, name, Member(use=name), False, siblings)
                    for name in FORMATS.names() if name not in used]


def siblings_of(store: Store, trace: Trace, run: RunFolder | None = None,
                given: Callable[[], Collection[str]] = tuple) -> Sequence[Candidate]:
    """The traces of the same prompt that were made in the same way, this one among them: those among `given`, which is
    what an arm of `run` has, or all that there are where that is nothing yet."""
    ids, among = answers_to(readers(store.path), trace.prompt_id), set(given())
    scope = scope_of_run(run) if run is not None else None
    found = candidates(store, [one for one in ids if one in among] if among else ids, scope)
    return [one for _, own in found for one in own if one.trace.rewrite == trace.rewrite]


def _source(store: Store, run: RunFolder, recipe: Recipe, part: PartSection, trace: Trace) -> Trace | str:
    """The trace that a part of an arm lays out in place of this one, or why there is none. A run that has not come to
    its rewrites shows what an earlier one made."""
    sets = [recipe.trace_set(name) for name in part.traces]
    rewrites = [one for one in sets if isinstance(one, RewrittenSet)]
    kept = {key for one in rewrites for key in run.ids(rewritten(one.name))}
    if len(rewrites) < len(sets) or trace.id in kept:
        return trace
    uses = {one.rewrite for one in rewrites}
    made = _made_of(store, trace.parent_id or trace.id)
    child = next((child for child, by in made if (child in kept if kept else RewriteName.parse(by).use in uses)), None)
    if child is None:
        names = " and ".join(f"'{one.name}'" for one in rewrites)
        return f"the rewrite {names} " + ("kept nothing of it" if kept else "has not been made yet")
    return next(iter(store.traces([child])))


def _made_of(store: Store, trace_id: str) -> list[tuple[str, str]]:
    """What was rewritten from a trace, and from that in turn: id and by whom."""
    found = made_of(readers(store.path), trace_id)
    for child, _ in found:
        found += made_of(readers(store.path), child)
    return found
