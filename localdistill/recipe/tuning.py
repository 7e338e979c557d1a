"""What a recipe can say of tuning. The docstring under a field is its help, its form label and its schema text."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from localdistill.core.options import Options


class TuneSection(Options):
    """Find the learning rate before anything is trained: a range test around a rule for this student, then tries of
    which the better ones go on longer, judged by the development items. Every arm trains with what is found where
    `train.learning_rate` is `tuned`."""

    minutes: float = Field(20.0, gt=0)
    """Most time of all tries. What does not fit is left out, and said."""
    arm: str = ""
    """Whose rows are tried; the first arm that starts from the base when empty."""
    rates: int = Field(5, ge=1, le=15)
    """Learning rates, each three times the next, around the one that the range test finds."""
    ranks: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = ()
    """Ranks to try with every rate; without any, that of [train]."""
    epochs: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Epochs to try with every rate and rank; without any, those of [train]."""
    factor: int = Field(3, ge=2, le=10)
    """One of so many tries goes on, so many times as long."""
    range_steps: int = Field(100, ge=20, le=1000)
    """Optimizer steps of the range test."""

    @field_validator("ranks", "epochs")
    @classmethod
    def _are_others(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a value twice")
        return value
