"""The proof of a training on this machine: eight rows are learned by heart, exported through the gate, and asked of the
GGUF. In about a minute that tries masks, stop token, template, merge and quantization, and names the link that breaks.

Runs in this process; `proving_child` keeps it away from others. Whoever calls owns the folder and removes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from localdistill.api.models.doctor import Finding
from localdistill.core.errors import Cancelled, LocalDistillError, MissingExtra
from localdistill.core.events import Cancel, Emit, Event, Measured, Progressed
from localdistill.core.options import Options
from localdistill.core.records import Candidate, Message, Reply, Request, Sampling, Skip
from localdistill.core.samples import answers, asks
from localdistill.engines import ENGINES
from localdistill.engines.base import Engine
from localdistill.exporters import EXPORTERS
from localdistill.exporters.job import ExportJob, ExportPlan
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.hardware import look_at_hardware
from localdistill.modelfiles.trained import TrainedModel, TrainedRow
from localdistill.modelfiles.training_rows import TokenizedRow
from localdistill.objectives import OBJECTIVES
from localdistill.recipe import Member
from localdistill.stages.context import build_member
from localdistill.stages.format import rows_table
from localdistill.stages.tokenizing import TraceTokenizer, format_of
from localdistill.trainers import TRAINERS, usual_trainer
from localdistill.trainers.base import Trainer
from localdistill.trainers.job import TrainingJob

ROWS = (
    ("What hangs on the red door?", "A brass bell."),
    ("Who keeps the north tower?", "Two old sisters."),
    ("Where does the ferry land?", "At the third pier."),
    ("When do the lamps go out?", "Shortly after ten."),
    ("Why is the well closed?", "Its rope is worn."),
    ("How many goats are there?", "Seven, and a kid."),
    ("Which road leads home?", "The one by the mill."),
    ("What did the baker lose?", "His blue apron."),
)
"""Questions and answers that no student knows, so that what it answers it was taught here."""
MOST_TOKENS = 256
STEPS = 80
RATES = ((100e6, 3e-3), (math.inf, 1e-3))
"""Learning rate of students with fewer parameters than that: by heart, not for good."""
BY_HEART = 1.0
"""Share of the trained tokens that must be ranked first. How low the loss gets depends on the student's head as well:
the small one that ships cannot go below 0.6, whatever it knows."""


class Proof:
    """The chain for one student, in one folder."""

    def __init__(self, student: Path, folder: Path, emit: Emit, cancel: Cancel) -> None:
        """folder: an empty one, where all that is made lies."""
        self.student, self.folder, self.emit, self.cancel = student, folder, emit, cancel
        self._rows: list[TokenizedRow] = []
        self._files: list[Path] = []

    def findings(self) -> Iterator[Finding]:
        """One line per link, up to the first that breaks."""
        links: tuple[tuple[str, Callable[[], str]], ...] = (
            ("rows", self._make_rows), ("training", self._train), ("as trained", self._ask_trained),
            ("export", self._export), ("16-bit file", lambda: self._ask_file(0)),
            ("quantized file", lambda: self._ask_file(1)))
        for name, link in links:
            self.cancel.check()
            self.emit(Progressed(name, 0, 0))
            try:
                yield Finding(name, "ok", link())
            except Cancelled:
                raise
            except LocalDistillError as error:
                yield Finding(name, "missing" if isinstance(error, MissingExtra) else "wrong", error.message,
                              error.hint)
                return

    def _make_rows(self) -> str:
        """The rows as every training of answers makes them; what is trained is read back from the tokens."""
        EXPORTERS.load("gguf")(self._export_options()).check(ExportPlan(self.student, False, MOST_TOKENS))
        tokens = TraceTokenizer(self.student, MOST_TOKENS)
        form = format_of(Member(use="answer_only"), self.student)
        for question, answer in ROWS:
            prompt = asks(question)
            for row in tokens.rows(form, prompt, [Candidate(answers(prompt, answer))]):
                if isinstance(row, Skip):
                    raise LocalDistillError(f"no training row can be made: {row.reason}",
                                            "localdistill models STUDENT says what works for it")
                self._rows.append(row)
                own = [token for token, weight in zip(row.input_ids, row.weights, strict=True) if weight > 0]
                told = tokens.tokenizer.decode(own[:-1])
                if not told.strip().startswith(answer) or row.input_ids[-1] not in tokens.tokenizer.stop_token_ids:
                    raise LocalDistillError(f"the mask is wrong: {told!r} is trained where {answer!r} and a stop token "
                                            "should be", "localdistill models STUDENT says what works for it")
        stop = tokens.tokenizer.token(self._rows[0].input_ids[-1])
        trained, total = (sum(counts) for counts in zip(*((row.trained_tokens, len(row.input_ids))
                                                          for row in self._rows), strict=True))
        return f"{len(self._rows)} rows: of {total} tokens the {trained} of the answers are trained, up to {stop}"

    def _train(self) -> str:
        """Learned by heart."""
        size = ModelFolder.open(self.student).parameter_count
        rate = next(rate for most, rate in RATES if size < most)
        name = usual_trainer()
        cls = TRAINERS.load(name)
        self.trainer: Trainer = cls(cls.Options.model_validate({
            "rank": 16, "alpha": 32.0, "learning_rate": rate, "batch_rows": len(ROWS), "epochs": float(STEPS),
            "schedule": "linear", "warmup_share": 0.1, "checkpoint_every_s": 0.0}))
        self.trainer.check(self.student, max(len(row.input_ids) for row in self._rows), look_at_hardware())
        objective = OBJECTIVES.load("sft")
        self.output = self.folder / "training"
        job = TrainingJob("proof", self.student, rows_table(self._rows), self._rows[0].input_ids[-1], (),
                          objective(objective.Options()), self.output)
        result = self.trainer.train(job, self._tell, self.cancel)
        known = result.token_accuracy[-1] if result.token_accuracy else 0.0
        if result.stopped_early or known < BY_HEART:
            raise LocalDistillError(
                f"{name} did not learn eight rows by heart: {100 * known:.0f} % of their tokens are ranked first and "
                f"the loss is {result.final_loss:.3g} after {result.steps} steps"
                f"{f' ({result.stopped_early})' if result.stopped_early else ''}",
                'train with dtype = "float32"; localdistill doctor says where trainings run')
        held = self.trainer.served(self.student, self.output).held or "as it is stored"
        return (f"{name}, base held {held}: all tokens of the answers are ranked first, loss {result.final_loss:.3f} "
                f"after {result.steps} steps, {result.elapsed_s:.0f} s")

    def _tell(self, event: Event) -> None:
        if isinstance(event, Measured) and event.name == "loss":
            self.emit(Progressed(f"training, loss {event.value:.3f}", event.step, STEPS, "steps"))

    def _ask_trained(self) -> str:
        """By the engine that evaluations use."""
        served = self.trainer.served(self.student, self.output)
        self._require_answers(Member(use=served.engine, options={**served.options, **served.places}),
                              "the student as it was trained", "masks, stop token or template of the training and of "
                              "the evaluation differ: report this student")
        return f"all {len(ROWS)} answers by {served.engine}, each ended by itself"

    @staticmethod
    def _export_options() -> Options:
        cls: type[Options] = EXPORTERS.load("gguf").Options
        return cls.model_validate({"quants": ["F16", "Q8_0"], "greedy_tokens": 16, "measure": False})

    def _export(self) -> str:
        """Merged, converted, through the gate, quantized."""
        merged, made = self.folder / "merged", self.folder / "export"
        self.trainer.merge(self.student, self.output, merged, self.emit, self.cancel)
        rows = tuple(TrainedRow(row.input_ids, row.weights) for row in self._rows)
        trained = TrainedModel(rows, partial(self.trainer.logprobs, self.student, self.output),
                               self.trainer.served(self.student, self.output).held)
        job = ExportJob(merged, made, "proof", False, {"num_ctx": MOST_TOKENS}, trained=trained)
        files = EXPORTERS.load("gguf")(self._export_options()).export(job, self.emit, self.cancel)
        self._files = [file for file in files if file.suffix == ".gguf"]
        return f"the gate passed, wrote {' and '.join(file.name.removeprefix('proof-') for file in self._files)}"

    def _ask_file(self, place: int) -> str:
        """Through llama.cpp, as chat does."""
        file = self._files[place]
        why = ("the merge or the template in the file" if place == 0 else
               "quantization: export a larger kind, or F16")
        self._require_answers(Member(use="llama_cpp", options={"model": str(file), "tune": "off"}),
                              file.name.removeprefix("proof-"), f"the broken link is {why}")
        return f"the same {len(ROWS)} answers by llama.cpp, each ended by itself"

    def _require_answers(self, engine: Member, who: str, hint: str) -> None:
        """LocalDistillError where one of the answers is not what was taught, or does not end by itself."""
        came = {reply.request_id: reply for reply in self._asked(engine)}
        wrong = [said for number, (_, answer) in enumerate(ROWS) if (said := _wrong(came[str(number)], answer))]
        if wrong:
            raise LocalDistillError(f"{who} answers {len(wrong)} of {len(ROWS)} questions otherwise than was taught: "
                                    f"{wrong[0]}", hint)

    def _asked(self, member: Member) -> list[Reply]:
        longest = max(row.trained_tokens for row in self._rows)
        requests = [Request(str(number), (Message("user", question),), Sampling(max_tokens=2 * longest), thinks=False)
                    for number, (question, _) in enumerate(ROWS)]
        engine: Engine = build_member(ENGINES, member, self.folder)
        try:
            return list(engine.answer(requests, self.emit, self.cancel))
        finally:
            engine.close()


def _wrong(reply: Reply, answer: str) -> str:
    """What is wrong with a reply; empty where nothing is."""
    if reply.answer.strip() != answer:
        return f"{reply.answer[:60]!r} in place of {answer!r}"
    return "" if reply.status == "complete" else f"{answer!r} does not end at the stop token ({reply.status})"
