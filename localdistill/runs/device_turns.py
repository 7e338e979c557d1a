"""Which device a stage of a run computes on, and how the run waits for its turn there. Reads no model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from localdistill.core.events import Event, Noted, Warned
from localdistill.engines import ENGINES
from localdistill.modelfiles.hardware import Hardware, Place, look_at_hardware
from localdistill.modelfiles.shape import STUDENTS
from localdistill.runs.device_queue import CPU, TRAINING, WHOLE_RUN, Ticket, take_ticket
from localdistill.workspace.terms import engines_in, who_answers

if TYPE_CHECKING:
    from localdistill.recipe import Recipe

APPLE = "the Apple GPU"
_OF_STUDENTS = {"evaluate": "evaluation", "export": "export"}
"""Stages that run the student without training it, and what they are called."""
LOOK_EVERY_S = 0.2


class Says(Protocol):
    """Who keeps what a run says: see `Recorder`."""

    def take(self, event: Event) -> None:
        """Keep one event."""

    def wait_for(self, what: str) -> None:
        """Say what the run waits for; no longer when that is empty."""


class DeviceTurns:
    """The turns of one run at the devices of this machine."""

    def __init__(self, recipe: Recipe, run: str, where: str, look: Callable[[], Hardware] = look_at_hardware) -> None:
        self._recipe, self._run, self._where, self._look = recipe, run, where, look
        self._has_all = False

    @contextmanager
    def whole_run(self, says: Says, asked_to_stop: Callable[[], bool]) -> Iterator[None]:
        """One turn for all stages: the run was put into the queue."""
        device = training_device(self._recipe, self._look())
        with self._ticket(device, WHOLE_RUN, "the run", says, asked_to_stop):
            self._has_all = True
            yield

    @contextmanager
    def stage(self, stage: str, says: Says, asked_to_stop: Callable[[], bool]) -> Iterator[None]:
        """The turn of a stage, once it has come or somebody asked to stop; none where it computes no model here."""
        use = None if self._has_all else use_of(self._recipe, stage, self._look)
        if use is None:
            yield
            return
        with self._ticket(*use, f"'{stage}'", says, asked_to_stop):
            yield

    @contextmanager
    def _ticket(self, device: str, what: str, name: str, says: Says, asked_to_stop: Callable[[], bool]
                ) -> Iterator[None]:
        try:
            ticket = take_ticket(device, what, self._run, self._where)
        except OSError as error:
            says.take(Warned(f"who else computes on {device} is not known, as the folder for it cannot be written "
                             f"({error}): {name} goes on"))
            yield
            return
        try:
            _wait(ticket, name, says, asked_to_stop)
            for text in ticket.slowed_by():
                says.take(Warned(text))
            yield
        finally:
            ticket.leave()


def _wait(ticket: Ticket, name: str, says: Says, asked_to_stop: Callable[[], bool]) -> None:
    told = ""
    while (ahead := ticket.ahead()) is not None and not asked_to_stop():
        if ahead.told != told:
            told = ahead.told
            says.wait_for(told)
        time.sleep(LOOK_EVERY_S)
    if told:
        says.wait_for("")
        says.take(Noted(f"{name} waited for {told}"))


def use_of(recipe: Recipe, stage: str, look: Callable[[], Hardware]) -> tuple[str, str] | None:
    """Device and kind of use of a stage; None where it computes no model here."""
    if stage in ("tune", "train"):
        return training_device(recipe, look()), TRAINING
    if stage in _OF_STUDENTS:
        return any_device(look()), _OF_STUDENTS[stage]
    local = [options for asks, _, use, options in engines_in(recipe) if asks == stage and holds_model(use, options)]
    if not local:
        return None
    told = {str(options.get("gpu_layers", options.get("device", "auto"))) for options in local}
    return (CPU if told <= {"0", "cpu"} else any_device(look())), "answers"


def holds_model(engine: str, options: Mapping[str, Any]) -> bool:
    """Whether this engine computes a model in processes of ours."""
    known = ENGINES.load(engine).Options.model_fields if engine in ENGINES.members else {}
    return "model" in known and not who_answers(engine, options).hosts


def training_device(recipe: Recipe, hardware: Hardware) -> str:
    """Where the trainer of `recipe` computes; where a model does that takes what there is, if it trains nothing."""
    if recipe.train is None:
        return any_device(hardware)
    from localdistill.stages.context import build_trainer

    return _named(build_trainer(recipe, Path()).estimate(STUDENTS[0], 1, hardware).place)


def any_device(hardware: Hardware) -> str:
    """Where a model computes that takes what there is."""
    if hardware.chip is not None:
        return APPLE
    if (named := _named(hardware.place())) != CPU:
        return named
    return hardware.gpus[0].name if hardware.gpus else CPU


def _named(place: Place) -> str:
    """The device of a place. One GPU may be spoken of in several ways."""
    if place.gpu is not None:
        return place.gpu.name
    return APPLE if "GPU" in place.name else CPU
