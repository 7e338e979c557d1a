"""How the samples of a member are run: one function a family, through the door that the stages use. It fails for a
member that raises or returns anything else than what its sample says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pytest

from localdistill.core.errors import LocalDistillError, MissingExtra
from localdistill.core.events import Cancel, silent
from localdistill.core.means import Means
from localdistill.core.options import Member
from localdistill.core.records import Example, Fact, Prompt, Reply, Request, Skip, TokenScores, Trace
from localdistill.core.registry import Family
from localdistill.core.samples import (
    AugmentationSample,
    EngineSample,
    ExporterSample,
    FilterSample,
    FormatSample,
    GraderSample,
    LabelSample,
    LayoutSample,
    ObjectiveSample,
    RewriteSample,
    Said,
    Sample,
    TaskSample,
    TrainerSample,
    answers,
)
from localdistill.exporters.job import ExportJob, ExportPlan
from localdistill.graders import GRADERS
from localdistill.interchange.files import read_file, read_prompts
from localdistill.interchange.raw_rows import rows_of
from localdistill.objectives import OBJECTIVES
from localdistill.stages.context import build_member
from localdistill.tasks.base import Given
from localdistill.tasks.items import ItemSource
from localdistill.trainers._rows import check_groups
from localdistill.trainers.job import TrainingJob
from tests.faults import Rule, Script, Step, fault_server
from tests.tiny_models import edit_json, tiny_adapter, tiny_model

ROW: dict[str, Any] = {
    "trace_id": "t1", "prompt_id": "p1", "question": "What is 1 + 1?", "reference": "2", "reasoning": "Easy.",
    "answer": "The answer is 2.", "status": "complete", "completion_tokens": 12, "score": 1.0,
    "model": "api.example.com/deep-thinker",
}
"""A right and complete trace, as filters see it."""


def run_samples(family: Family, name: str, place: Path) -> None:
    """Run every sample of the member; AssertionError (or what the member raises) when one is not as it says."""
    member = family.load(name)
    assert "samples" in vars(member), f"{name} has no samples of its own"
    samples = member.samples()
    assert samples, f"{name} has no samples"
    assert any(not sample.refused for sample in samples) or family.noun == "engine", f"{name} shows no result"
    for number, sample in enumerate(samples):
        folder = place / str(number)
        folder.mkdir(parents=True)
        run_sample(family, name, sample, folder)


def run_sample(family: Family, name: str, sample: Sample, place: Path) -> None:
    """One sample: a result that is as it says, or the refusal that it names."""
    try:
        reason = DOORS[family.noun](family, name, sample, place)
    except (LocalDistillError, ValueError) as error:
        if not sample.refused:
            raise
        reason = str(error)
    assert sample.refused in reason if sample.refused else reason == "", f"{name}: {reason!r}"


def built(family: Family, name: str, sample: Sample, place: Path, **passed: Any) -> Any:
    """The member with the options of `sample`, as the stages build it; file names start from `place`."""
    return build_member(family, Member(use=name, options=dict(sample.options)), place, **passed)


def asked_at(engine: Any, url: str) -> dict[str, object]:
    """Options that let `engine` ask a server of ours once, and nobody else: those of them that it has."""
    told = {"base_url": url, "provider": "", "retries": 0}
    return {key: value for key, value in told.items() if key in engine.Options.model_fields}


def try_augmentation(family: Family, name: str, sample: AugmentationSample, place: Path) -> str:
    """One draft, which says what it was made from, and what the checks say of it; every reply was needed."""
    for file, text in sample.files.items():
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text(text)
    maker = built(family, name, sample, place)
    left = iter([Reply("", "complete", answer=text) for text in sample.replies])
    means = means_of(maker, left)
    [draft] = maker.drafts(sample.prompts, means)
    assert maker.most(sample.prompts) == 1 and draft.place == 0
    assert draft.made_from and maker.reads == ("prompts" if sample.prompts else "documents")
    assert not sample.prompts or draft.made_from[0] == sample.prompts[0].id
    if draft.refused:
        assert draft.prompt is None
        return str(draft.refused)
    [draft] = maker.check([draft], means)
    if draft.refused:
        return str(draft.refused)
    assert next(left, None) is None
    assert (draft.prompt.question, draft.prompt.reference) == (sample.question, sample.reference)
    assert len(draft.checked) == len(maker.options.gates) + bool(maker.options.tries and sample.reference)
    return ""


def try_engine(family: Family, name: str, sample: EngineSample, place: Path) -> str:
    """One request: what was sent, what came back, and who answers."""
    for file, text in sample.files.items():
        (place / file).parent.mkdir(exist_ok=True)
        (place / file).write_text(text)
    who = family.load(name).who(sample.options)
    assert (who.costs, bool(who.hosts)) == (sample.costs, sample.costs)
    with fault_server(Script(rules=(Rule(Step(body=sample.served)),))) as server:
        here = asked_at(family.load(name), server.url) if sample.served else {}
        member = Member(use=name, options={**sample.options, **here})
        engine = build_member(family, member, place)
        try:
            asked = Request("r1", sample.messages, continuations=sample.continuations, top_logprobs=sample.top_logprobs)
            [reply] = engine.answer([asked], silent, Cancel())
        finally:
            engine.close()
        assert len(server.requests) == bool(sample.served)
        for request in server.requests:
            assert request.body.items() >= dict(sample.sent).items()
    assert isinstance(reply, Reply) and reply.request_id == "r1"
    if reply.status == "error" or sample.reply is None:
        return reply.error or "a reply without a word about what is wrong"
    said, wanted = ((r.status, r.reasoning, r.answer, r.trace_kind, r.usage, r.continuations)
                    for r in (reply, sample.reply))
    assert said == wanted
    return ""


def try_exporter(family: Family, name: str, sample: ExporterSample, place: Path) -> str:
    """A check of the student, then the export of it, which is alone in its folder with what was given."""
    for module in ("torch", "tokenizers", "gguf", "llama_cpp"):
        pytest.importorskip(module)
    student, output = tiny_model(place / "student"), place / "output"
    edit_json(student / "config.json", **sample.config)
    output.mkdir()
    for file in sample.given:
        (output / file).write_bytes(b"")
    exporter = built(family, name, sample, place)
    exporter.check(ExportPlan(student, False, 64))
    made = exporter.export(ExportJob(student, output, "NAME", False, adapter=tiny_adapter(student, place / "adapter")),
                           silent, Cancel())
    assert {path.relative_to(output).as_posix() for path in made} >= set(sample.made)
    assert all(path.is_file() for path in made)
    for file, text in sample.made.items():
        assert text.encode() in (output / file).read_bytes()
    assert not list(output.glob("*.partial"))
    return ""


def try_filter(family: Family, name: str, sample: FilterSample, place: Path) -> str:
    """The rows one by one, in order, so that a filter that remembers is seen to. One that looks ahead looks first."""
    rows = [{**ROW, "trace_id": f"t{number}", **row} for number, row in enumerate(sample.rows)]
    rule = built(family, name, sample, place)
    rule.begin(Means(items=sample.items, golds=sample.golds))
    for row in rows if rule.looks_ahead else ():
        rule.prepare(row_batch(rule, row))
    assert kept(rule, rows) == list(sample.kept)
    return ""


def good_row(rule: Any) -> dict[str, Any]:
    """A right and complete trace, of which graders and labels have said what the filter's own samples say of one that
    stays."""
    stays = next(row for sample in rule.samples() for row, stays in zip(sample.rows, sample.kept) if stays)
    return {**dict.fromkeys(rule.columns), **stays, **ROW}


def row_batch(rule: Any, row: dict[str, Any]) -> pa.RecordBatch:
    """One row with the columns that the filter says it needs; what is not known of it is null."""
    return pa.RecordBatch.from_pylist([{**dict.fromkeys(rule.columns), **row}]).select(list(rule.columns))


def kept(rule: Any, rows: Iterable[dict[str, Any]]) -> list[bool]:
    """The verdict of a filter on rows, through SQL where it is SQL, else in batches of one row."""
    rows = [{**dict.fromkeys(rule.columns), **row} for row in rows]
    if (sql := rule.sql()) is None:
        return [verdict for row in rows for verdict in rule.keep(row_batch(rule, row))]
    with duckdb.connect() as connection:
        connection.register("trace_view", pa.Table.from_pylist(rows))
        return [bool(value) for (value,) in connection.execute(f"SELECT ({sql}) FROM trace_view").fetchall()]


def try_format(family: Family, name: str, sample: FormatSample, place: Path) -> str:
    """The spans of each turn to learn, its sign and its group; everything before it counts for nothing. Every trace is
    in an example or in one reason."""
    form = built(family, name, sample, place)
    made = form.lay_out(sample.prompt, sample.candidates, lambda text: len(text.split()))
    assert all(isinstance(one, Example | Skip) and one.prompt_id == sample.prompt.id for one in made)
    examples = [one for one in made if isinstance(one, Example)]
    skips = [one for one in made if isinstance(one, Skip)]
    shown = {one.trace_id for one in examples}
    assert sorted([*shown, *(one.trace_id for one in skips)]) == sorted(c.trace.id for c in sample.candidates)
    if not examples:
        assert skips and all(one.reason for one in skips)
        return "; ".join(one.reason for one in skips)
    for example, wanted in zip(examples, sample.examples, strict=True):
        *context, last = example.turns
        assert [turn.text for turn in context] == [message.content for message in sample.prompt.messages]
        assert not any(span.weight for turn in context for span in turn.spans)
        assert [span.text for span in last.spans] == list(wanted.texts)
        trained = wanted.texts if wanted.trained is None else wanted.trained
        assert [span.text for span in last.spans if span.weight > 0] == list(trained)
        assert example.sign == wanted.sign and example.sign in form.signs and example.thinks is form.thinks
        assert bool(example.group) is bool(wanted.group)
    named = dict(zip((one.group for one in sample.examples), (one.group for one in examples), strict=True))
    assert len(set(named.values())) == len(named)
    assert [named[one.group] for one in sample.examples] == [one.group for one in examples]
    assert not [reason for reason, one in zip(sample.skipped, skips, strict=True) if reason not in one.reason]
    return ""


def means_of(member: Any, replies: Iterable[Reply], passed: Mapping[str, bool | None] | None = None) -> Means:
    """What a member of a sample may use: engines that answer in this order whoever is asked, characters as tokens."""
    left = iter(replies)

    def ask(requests: Iterable[Request]) -> Iterator[Reply]:
        for request in requests:
            reply = replace(next(left), request_id=request.id)
            if reply.status != "error":
                yield reply

    asks = dict.fromkeys(member.Options.engine_fields(), ask)
    needs = member.needs
    return Means(asks, len if "tokens" in needs else None, passed=(passed or {}).get)


def said_of(maker: Any, pairs: Sequence[tuple[Prompt, Trace]], means: Means) -> Fact:
    """The one fact of these traces, by the member, with the metrics that it says it has."""
    [fact] = maker.facts(pairs, means)
    assert isinstance(fact, Fact) and (fact.by, fact.version, fact.kind) == (maker.name, maker.version, maker.kind)
    assert fact.subject_id == (pairs[0][1].id if maker.about == "trace" else pairs[0][0].id)
    assert set(fact.metrics) <= set(maker.metrics) and all(maker.metrics.values())
    assert fact.value is None or isinstance(fact.value, str) is (maker.says == "text")
    return fact


def try_grader(family: Family, name: str, sample: GraderSample, place: Path) -> str:
    """The score, with whose it is and why; or that the prompt is another grader's; or why it cannot be decided."""
    grader = built(family, name, sample, place)
    try:
        assert grader.applies(sample.prompt) is (sample.score is not None or bool(sample.refused))
        if sample.score is None and not sample.refused:
            return ""
        fact = said_of(grader, [(sample.prompt, sample.trace)], means_of(grader, sample.replies))
        assert (fact.value, dict(fact.metrics)) == (sample.score, dict(sample.metrics)) and fact.reason
        assert (fact.passed is None) is (fact.value is None)
        return fact.reason if fact.passed is None else ""
    finally:
        grader.close()


def try_label(family: Family, name: str, sample: LabelSample, place: Path) -> str:
    """The value and the metrics; none of a prompt that the label leaves alone."""
    label = built(family, name, sample, place)
    try:
        if not label.applies(sample.prompt):
            assert sample.value is None
            return ""
        traces = [replace(trace, id=f"sample{n}", sample_index=n)
                  for n, trace in enumerate((sample.trace, *sample.more))]
        means = means_of(label, sample.replies, {t.id: passed for t, passed in zip(traces, sample.passed)})
        fact = said_of(label, [(sample.prompt, trace) for trace in traces], means)
        assert (fact.value, dict(fact.metrics), fact.passed) == (sample.value, dict(sample.metrics), None)
    finally:
        label.close()
    return ""


def try_layout(family: Family, name: str, sample: LayoutSample, place: Path) -> str:
    """A file of the one row: recognised, read, and read again from what was written."""
    file = place / "rows.jsonl"
    file.write_text(json.dumps(sample.row) + "\n")
    assert family.load(name)().recognises(sample.row)
    [(_, row)] = read_file(file, name)
    prompt, wanted = row.prompt, sample.prompt
    assert (prompt.messages, prompt.reference, prompt.original) == (wanted.messages, wanted.reference, wanted.original)
    assert prompt.metadata == wanted.metadata
    assert (row.trace is None) is (sample.answer is None)
    if row.trace is not None:
        assert (row.trace.answer, row.trace.reasoning) == (sample.answer, sample.reasoning)
    layout = family.load(name)()
    if layout.writing is not None:
        file.write_text(json.dumps(layout.write(row)) + "\n")
        assert list(read_file(file, name)) == [(1, row)]
    return ""


def try_objective(family: Family, name: str, sample: ObjectiveSample, place: Path) -> str:
    """The loss, its slope against finite differences, and the rows that it does not take."""
    from tests.objectives.differences import assert_slope_is_right, batch_of

    objective = built(family, name, sample, place)
    groups = sample.groups or range(len(sample.signs))
    check_groups([f"row{n}" for n in range(len(sample.signs))], sample.signs, groups, objective)
    batch = batch_of(sample)
    assert set(batch.stored) == set(objective.stored)
    assert {what for what in ("tail", "mean") if getattr(batch, what) is not None} == objective.pseudo
    assert objective.loss(batch).total == pytest.approx(sample.loss, rel=1e-9, abs=1e-12)
    assert_slope_is_right(objective, batch)
    return ""


def try_rewrite(family: Family, name: str, sample: RewriteSample, place: Path) -> str:
    """The new trace of the one pair, with its parent and this rewrite's verdict."""
    rewrite = built(family, name, sample, place)
    replies = () if sample.reply is None else (Reply("", "complete", answer=sample.reply),)
    assert bool(rewrite.Options.engine_fields()) is (sample.reply is not None)
    [(trace, fact)] = rewrite.rewrite([(sample.prompt, sample.trace)], means_of(rewrite, replies))
    assert (trace.parent_id, trace.prompt_id, trace.answer) == (sample.trace.id, sample.prompt.id, sample.trace.answer)
    assert (trace.rewrite, fact.subject_id) == (f"{name}@{rewrite.version}", trace.id)
    assert (fact.by, fact.version, fact.kind) == (name, rewrite.version, "rewrite")
    if not fact.passed:
        return fact.reason
    assert trace.id != sample.trace.id and trace.reasoning == sample.reasoning
    return ""


def try_task(family: Family, name: str, sample: TaskSample, place: Path) -> str:
    """The items of a file of the rows, and an answer to the first by its grader's rules."""
    file = place / "items.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in sample.rows))
    for name_of, text in sample.files.items():
        (place / name_of).write_text(text)
    takes_a_file = "path" in family.load(name).Options.model_fields
    options = {**({"path": str(file)} if takes_a_file else {}), **sample.options}
    source = ItemSource(read_prompts, rows_of, lambda side: list(read_prompts(file, None)))
    task = build_member(family, Member(use=name, options=options), place, source=source)
    prompts = task.prompts()
    assert [prompt.question for prompt in prompts] == list(sample.questions)
    requests = task.requests(prompts[0], Given(64, None))
    assert requests and len({request.id for request in requests}) == len(requests)
    grader = build_member(GRADERS, Member(use=task.grader, options=dict(task.grader_options)), place
                          ) if task.grader else None
    means = means_of(grader, sample.replies) if grader else Means()

    def judge(prompt: Prompt, reply: Reply) -> Fact:
        return said_of(grader, [(prompt, answers(prompt, reply.answer))], means)

    try:
        assert grader is None or all(grader.applies(prompt) for prompt in prompts)
        said = [task.score(prompts[0], list(map(replied, requests, each(said, len(requests)))), judge)
                for said in (sample.right, sample.wrong)]
        assert [scored.score for scored in said] == [1.0, 0.0]
        explained = {**(grader.metrics if grader else {}), **task.metrics}
        assert all(explained.get(name) for scored in said for name in scored.metrics), "a metric says what it means"
    finally:
        if grader is not None:
            grader.close()
    return ""


def each(said: Said | Sequence[Said], count: int) -> Sequence[Said]:
    """What is said to each of so many requests."""
    if isinstance(said, str) or all(isinstance(one, float) for one in said):
        return [cast(Said, said)] * count
    assert len(said) == count, "the sample answers each request, or all alike"
    return cast(Sequence[Said], said)


def replied(request: Request, said: Said) -> Reply:
    """A reply that says so, or gives the continuations these log-probabilities."""
    assert isinstance(said, str) == (request.kind == "generate"), "the sample answers what is not asked"
    if isinstance(said, str):
        return Reply(request.id, "complete", answer=said, raw=said, finish_reason="stop")
    scores = [TokenScores((0,), (value,), ((),), ((),)) for value in said]
    assert len(scores) == len(request.continuations)
    return Reply(request.id, "complete", continuations=tuple(scores))


def try_trainer(family: Family, name: str, sample: TrainerSample, place: Path) -> str:
    """A training of a tiny student: its report, and an adapter beside it."""
    for module in ("torch", "transformers", "tokenizers"):
        pytest.importorskip(module)
    from tokenizers import Tokenizer

    from tests.trainers.rows import table

    student, output = tiny_model(place / "student"), place / "trained"
    stop = Tokenizer.from_file(str(student / "tokenizer.json")).token_to_id("<|im_end|>")
    rows = [{"row_id": f"row{n}", "input_ids": [stop if i == -1 else i for i in ids], "weights": weights, "sign": 1,
             "group": ""}
            for n, (ids, weights) in enumerate(zip(sample.ids, sample.weights, strict=True))]
    output.mkdir()
    objective = OBJECTIVES.load("sft")()
    job = TrainingJob("arm", student, table(rows), stop, (), objective, output)
    try:
        result = built(family, name, sample, place).train(job, silent, Cancel())
    except MissingExtra as absent:
        pytest.skip(absent.message)
    assert result.steps == sample.steps and 0 < result.final_loss < 100 and not result.stopped_early
    assert result.trained_tokens == sum(weight > 0 for weights in sample.weights for weight in weights)
    assert (output / "training.json").is_file() and list((output / "adapter").iterdir())
    return ""


DOORS: dict[str, Callable[..., str]] = {
    "augmentation": try_augmentation,
    "engine": try_engine, "exporter": try_exporter, "filter": try_filter, "format": try_format, "grader": try_grader,
    "label": try_label, "layout": try_layout, "objective": try_objective, "rewrite": try_rewrite,
    "task": try_task, "trainer": try_trainer,
}
"""Noun of a family to how one of its samples is run: returns the reason of a refusal, empty for a result."""
