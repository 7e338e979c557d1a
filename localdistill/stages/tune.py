"""tune: a range test and tries of a successive halving on the rows of one arm, in one artifact. What is tried is
trained like any arm and thrown away; what it came to is kept at once, so that a tuning which was killed repeats no
try."""

from __future__ import annotations

import math
import re
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Counted, Emit, Event, Noted, Progressed, stamped
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.shape import shape_of
from localdistill.recipe import Recipe
from localdistill.recipe.sections import ArmSection
from localdistill.safety.files import atomic_write_bytes
from localdistill.stages.context import StageContext, build_trainer
from localdistill.stages.development import Development, development
from localdistill.stages.learning import arm_objective, training_job
from localdistill.stages.outputs import ArmDataset, FormatOutput, TuneOutput, read_output, write_output
from localdistill.stages.tuning import (
    TUNING_FILE,
    Attempt,
    Cost,
    Halving,
    Setting,
    TuningResult,
    grid,
    range_around,
    read_range,
    rule_of,
)
from localdistill.trainers.job import DevItems
from localdistill.trainers.report import TrainingResult
from localdistill.workspace.folder import Artifact

VERSION = 1
RANGE = "range test"
_LAST = 10
"""The mean loss of a try is that of one step of so many, the last ones."""
_MEASURED_IN_RANGE = 3
"""So often the items are asked while the range test goes on: how long that takes is not known before."""


def run(context: StageContext) -> None:
    """Leave what tuning chose, and its table."""
    assert context.recipe.tune is not None
    section = tried_arm(context.recipe)
    arm = read_output(context.run, FormatOutput).arms[section.name]
    dataset = context.artifact("dataset", arm.dataset)
    with development(context) as dev:
        assert dev is not None  # [train.tune] needs [train.dev]
        spec = _spec(context, section, dev)
        held = context.held_base
        made_from = [one.digest for one in (dataset, held) if one]
        digest = context.workspace.artifact_digest(
            "tuning", VERSION, spec, [dataset.digest, ModelFolder.open(context.student).digest(), *made_from[1:]])

        def build(staging: Path) -> None:
            if not (staging / TUNING_FILE).exists():
                result = _Tuning(context, section, arm, dataset, dev, staging).result()
                atomic_write_bytes(staging / TUNING_FILE, result.to_bytes())
            for place in staging.iterdir():
                if place.is_dir():
                    shutil.rmtree(place)
                elif place.name != TUNING_FILE:
                    place.unlink()

        artifact = context.make(("tuning", digest, section.name), {"inputs": made_from, **spec}, build)
    result = TuningResult.from_bytes(artifact.file(TUNING_FILE).read_bytes(), f"{TUNING_FILE} of the tuning {digest}")
    context.note(result.line)
    write_output(context.run, TuneOutput(digest, result))


def tried_arm(recipe: Recipe) -> ArmSection:
    """Whose rows are tried."""
    assert recipe.tune is not None
    return next(arm for arm in recipe.arms if arm.name == (recipe.tune.arm or arm.name) and not arm.start)


def _spec(context: StageContext, section: ArmSection, dev: Development) -> dict[str, Any]:
    """What decides the choice, beside the digests of what it is made from and the speed of the machine."""
    train, tune = context.recipe.train, context.recipe.tune
    assert train is not None and tune is not None
    asked = {key: value for key, value in dev.spec().items() if key not in ("every_steps", "patience", "keep")}
    return {"trainer": train.use, "options": dict(train.options), "seed": context.recipe.seed, "dev": asked,
            "objective": arm_objective(train, section).model_dump(mode="json"), "epochs": section.epochs,
            "tune": tune.model_dump(mode="json", exclude={"arm"})}


class _Tuning:
    """One tuning in its staging folder."""

    def __init__(self, context: StageContext, section: ArmSection, arm: ArmDataset, dataset: Artifact, dev: Development,
                 staging: Path) -> None:
        import pyarrow.parquet as parquet

        assert context.recipe.tune is not None
        self._context, self._section, self._tune, self._staging = context, section, context.recipe.tune, staging
        self._arm, self._rows = arm, parquet.read_table(dataset.file("rows.parquet"))
        self._items = dev.items(section.name, arm.facts.thinks)
        self._options = context.trainer.options
        self._epoch_steps = 1.0

    def result(self) -> TuningResult:
        """Do what was not done before it was broken off, and choose."""
        tune, rule = self._tune, rule_of(shape_of(ModelFolder.open(self._context.student)).hidden_size)
        around = Setting(rule, int(getattr(self._options, "rank", 0)), self._section.epochs or self._stated_epochs())
        tested = self._range_test(around)
        self._epoch_steps = tested.steps / tested.epochs if tested.steps else self._estimated_epoch()
        reading = read_range(tested.rates, tested.losses, rule)
        self._context.note(f"{reading.told}; rates are tried around {reading.centre:.2g}, the rule is {rule:.2g}")
        halving = Halving(self._length, self._try, tune.factor)
        settings = grid(reading.centre, tune.rates, tune.ranks or (around.rank,), tune.epochs or (around.epochs,))
        chosen = halving.choose(settings, Cost.of([tested]), 60 * tune.minutes - tested.seconds)
        for text in halving.told:
            self._context.warn(text)
        spent = tested.seconds + sum(one.seconds for one in halving.tries)
        also = [name for name, listed in (("rank", tune.ranks), ("epochs", tune.epochs)) if listed]
        return TuningResult(self._section.name, chosen, rule, reading.centre, (reading.told, *halving.told),
                            tuple(halving.tries), spent, ("learning_rate", *also))

    def _stated_epochs(self) -> float:
        """Those of [train], whatever tuning may choose."""
        assert self._context.recipe.train is not None
        return float(self._context.recipe.train.options["epochs"])

    def _range_test(self, around: Setting) -> Attempt:
        """A training that is not gone on with where it was broken off: every loss of it is needed."""
        steps = self._tune.range_steps
        shutil.rmtree(self._folder(RANGE), ignore_errors=True)
        epochs = max(1.0, math.ceil(steps / self._estimated_epoch()))
        items = replace(self._items, every_steps=max(1, steps // _MEASURED_IN_RANGE), patience=0, keeps_best=False)
        return self._attempt(RANGE, replace(around, epochs=epochs), steps, items, range_around(around.learning_rate))

    def _estimated_epoch(self) -> float:
        """Steps of an epoch, before one was seen."""
        options, tokens = self._options, self._arm.facts.tokens
        by = tokens / options.batch_tokens if options.batch_tokens else len(self._rows) / options.batch_rows
        return max(1.0, math.floor(by))

    def _length(self, setting: Setting) -> int:
        """Steps of the whole training of a setting."""
        steps = max(1, round(setting.epochs * self._epoch_steps))
        return min(steps, self._options.max_steps or steps)

    def _try(self, rung: int, setting: Setting, steps: int) -> Attempt:
        items = replace(self._items, every_steps=steps, patience=0, keeps_best=False)
        name = f"rung {rung}: {setting.told()}"
        done = self._attempt(name, setting, steps, items)
        score = "no score" if done.score is None else f"development score {100 * done.score:.1f} %"
        self._context.note(f"{name}: {done.astray or score}")
        return done

    def _folder(self, name: str) -> Path:
        return self._staging / re.sub("[^a-z0-9.-]+", "-", name)

    def _attempt(self, name: str, setting: Setting, steps: int, items: DevItems,
                 rates: tuple[float, float] | None = None) -> Attempt:
        """Train once, or read what that came to. rates: of a range test, which keeps all losses."""
        folder = self._folder(name)
        file = folder.with_name(f"{folder.name}.json")
        with suppress(OSError, LocalDistillError):  # what is no record of it is none
            return Attempt.from_bytes(file.read_bytes(), name)
        self._context.cancel.check()
        stated = {"learning_rate": setting.learning_rate, "epochs": setting.epochs, "max_steps": steps}
        if hasattr(self._options, "rank"):
            stated["rank"] = setting.rank
        trainer = build_trainer(self._context.recipe, self._context.base, stated)
        seen, began = _Losses(self._context.emit, name), time.monotonic()
        folder.mkdir(exist_ok=True)
        seen.emit(Progressed(f"{name}: loading", 0, 0))
        job = replace(training_job(self._context, self._section, self._arm, self._rows, folder), arm=name,
                      dev_items=items, rates=rates, goes_back=False)
        result = trainer.train(job, seen.emit, self._context.cancel)
        done = seen.attempt(result, time.monotonic() - began, 1 if rates else _LAST)
        atomic_write_bytes(file, done.to_bytes())
        shutil.rmtree(folder, ignore_errors=True)
        return done


class _Losses:
    """Loss and rate at every step of one training. Tells others its curves and warnings alone: a tuning is many."""

    def __init__(self, emit: Emit, name: str) -> None:
        self._emit = stamped(emit, arm=name)
        self._seen: dict[int, tuple[float, float]] = {}

    def emit(self, event: Event) -> None:
        """Look at one event and pass it on."""
        if isinstance(event, Progressed) and {"loss", "learning_rate"} <= event.counters.keys():
            self._seen[int(event.done)] = event.counters["loss"], event.counters["learning_rate"]
        if not isinstance(event, Noted | Counted):
            self._emit(event)

    def attempt(self, result: TrainingResult, seconds: float, part: int) -> Attempt:
        """What the training came to. part: only so much of the losses counts, from the end."""
        seen = [self._seen[step] for step in sorted(self._seen)]
        seen = seen[-math.ceil(len(seen) / part):]
        dev = result.dev
        scores = dict(dev.points) if dev and not result.stopped_early else {}
        measuring_s = dev.elapsed_s if dev else 0.0
        return Attempt(
            result.steps, tuple(loss for loss, _ in seen), tuple(rate for _, rate in seen), result.epochs,
            scores.get(result.steps), max(seconds, result.elapsed_s), max(0.0, result.elapsed_s - measuring_s),
            len(dev.points) if dev else 0, measuring_s, result.stopped_early)
