"""One trace as every training format would teach it: by the arms of a run, and by the formats that no arm uses. Nothing
is stored; what the format stage would skip says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from localdistill.core.errors import UsageError
from localdistill.core.records import Candidate, Prompt, Skip, Trace
from localdistill.formats import FORMATS
from localdistill.modelfiles.folder import resolve_model
from localdistill.modelfiles.shipped import resolve_path
from localdistill.modelfiles.training_rows import TokenizedRow
from localdistill.recipe import Member
from localdistill.recipe.sections import ArmSection
from localdistill.rewrites.naming import RewriteName
from localdistill.stages.learning import candidates
from localdistill.stages.sets import arm_format, arm_traces
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
    """The arm's name, or the format's where no arm uses it."""
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
        place = student if student.startswith("hf://") else str(resolve_path(student, base or Path.cwd()))
        folder = resolve_model(place)
        self.student, self._base = student, base or Path.cwd()
        self._tokens = TraceTokenizer(folder, max_tokens)

    def lay_out(self, prompt: Prompt, trace: Trace, name: str, member: Member, is_arm: bool = True,
                siblings: Callable[[], Sequence[Candidate]] = tuple) -> LaidOut:
        """The trace as the format `member` lays it out, told under `name`. `siblings`: all traces of the prompt in the
        arm's set, for a format that looks at them together."""
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
        """That the arm `name` has no such trace."""
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
    """The trace in every arm of `run`, then in every format that no arm uses. An arm with a rewrite shows the trace
    that the rewrite made of this one. UsageError when there is no such trace."""
    store = open_store(workspace)
    trace = store.find_trace(trace_id) if workspace.store_path.exists() else None
    if trace is None:
        raise UsageError(f"there is no trace '{trace_id}' here", "`localdistill traces` lists them")
    prompt = next(iter(store.prompts([trace.prompt_id])))
    arms = run.recipe().arms if run is not None else ()
    made = made_of(readers(store.path), trace.parent_id or trace.id)
    found = []
    for arm in arms:
        source = _source(store, run, arm, trace, made)
        member = arm_format(arm)
        among = partial(arm_traces, store, run, arm) if run is not None else tuple
        found.append(layouter.nothing(arm.name, member, source) if isinstance(source, str) else layouter.lay_out(
            prompt, source, arm.name, member, siblings=partial(siblings_of, store, source, among)))
    unused = [name for name in FORMATS.names() if name not in {arm.format for arm in arms}]
    siblings = partial(siblings_of, store, trace)
    return found + [layouter.lay_out(prompt, trace, name, Member(use=name), False, siblings)
                    for name in unused]


def siblings_of(store: Store, trace: Trace, among: Callable[[], Sequence[str]] = tuple) -> Sequence[Candidate]:
    """The traces of the same prompt that were made in the same way, this one among them; of the set `among` where that
    is known."""
    ids = answers_to(readers(store.path), trace.prompt_id)
    given = set(among())
    found = candidates(store, [one for one in ids if one in given] if given else ids)
    return [one for _, own in found for one in own if one.trace.rewrite == trace.rewrite]


def _source(
    store: Store, run: RunFolder | None, arm: ArmSection, trace: Trace, made: Sequence[tuple[str, str]]
) -> Trace | str:
    """The trace that the arm trains on in place of this one, or why there is none. A run that has not come to its
    rewrites shows what an earlier one made."""
    if not arm.rewrite or run is None:
        return trace
    kept = set(arm_traces(store, run, arm))
    if trace.id in kept:
        return trace
    use = next(rewrite.use for rewrite in run.recipe().rewrites if rewrite.name == arm.rewrite)
    child = next((child for child, by in made if (child in kept if kept else RewriteName.parse(by).use == use)), None)
    if child is None:
        return f"the rewrite '{arm.rewrite}' " + ("kept nothing of it" if kept else "has not been made yet")
    return next(iter(store.traces([child])))
