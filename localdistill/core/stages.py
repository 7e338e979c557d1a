"""The stages of the chain, said once: commands, recipes, overviews and processes follow from this list. What a stage
leaves is typed in `stages.outputs`, and its work is the module of its name in `stages`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One step of the chain."""

    name: str
    does: str
    """In sentences, for people."""
    sections: tuple[str, ...]
    """What of a recipe (fields and properties of it) switches it on, each alone; every recipe has a stage with none."""
    inputs: tuple[str, ...]
    """Earlier stages whose output it reads, where the recipe has them."""
    uses_student: bool = False
    """It opens the files of the student."""


STAGES = (
    Stage("augment", "Make more prompts from a recipe's own or from documents, and check them; what is stored is not "
          "asked again.", ("augmentations",), ()),
    Stage("collect", "Ask for a recipe's traces, or import them; what is stored is not asked again.",
          ("sets",), ("augment",)),
    Stage("grade", "Grade what a recipe collected, and measure its labels.", ("graders", "labels"), ("collect",)),
    Stage("select", "Apply a recipe's filters and save what each set keeps.", (), ("collect",)),
    Stage("rewrite", "Make a recipe's rewritten sets (summaries).", ("rewrites",), ("select",)),
    Stage("format", "Write one tokenized dataset per arm.", ("arms",), ("select", "rewrite"), True),
    Stage("tune", "Find a learning rate, and where the recipe lists them rank and epochs, by a range test and tries on "
          "development items.", ("tune",), ("format",), True),
    Stage("train", "Train one adapter per arm and seed.", ("train",), ("format", "tune"), True),
    Stage("evaluate", "Measure the base and every arm, and print the score card.", ("evaluate",),
          ("collect", "select", "format", "train"), True),
    Stage("export", "Merge the chosen arm and write its files.", ("export",),
          ("select", "format", "train", "evaluate"), True),
)

RACE = ("train", "evaluate")
"""Stages that take turns where every arm is trained more than once: after each seed all that is there is measured, so
that early answers come early. What one leg has done the next finds done."""


@dataclass(frozen=True)
class Leg:
    """One process of a run."""

    stage: str
    seeds: int
    """Trainings per arm that it goes up to."""


def is_race(stages: Sequence[str], seeds: int) -> bool:
    """Whether a run of these stages, with so many trainings per arm, measures after each seed."""
    return seeds > 1 and all(stage in stages for stage in RACE)


def legs(stages: Sequence[str], seeds: int) -> Iterator[Leg]:
    """The processes of a run of these stages, in their order; `seeds` trainings per arm are planned."""
    takes_turns = is_race(stages, seeds)
    for stage in stages:
        if stage == RACE[0] and takes_turns:
            yield from (Leg(one, count) for count in range(1, seeds + 1) for one in RACE)
        elif stage != RACE[1] or not takes_turns:
            yield Leg(stage, seeds)
