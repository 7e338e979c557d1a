"""What a recipe can say of development items. The docstring under a field is its help, its form label and its schema
text."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from localdistill.core.options import Member, Options


class DevSection(Options):
    """Development items: questions that every student answers while it is trained, greedily, and that no score counts.
    Every arm is stopped and kept by the same rule."""

    task: Member | None = None
    """The benchmark whose items are asked, for example one of the split that is made for training. Unset: what
    `prompts.holdout` sets aside for `dev`, by the first grader. What is scored or trained on is left out of it."""
    every_steps: int = Field(50, ge=1)
    """Optimizer steps between two measurements; the last step is always measured."""
    max_tokens: int = Field(0, ge=0)
    """Most new tokens of a reply; 0 takes `evaluate.max_tokens`."""
    patience: int = Field(0, ge=0)
    """Measurements in a row without a better score after which a training ends; 0 never ends one."""
    keep: Literal["last", "best"] = "last"
    """The weights that come out: those of the last step, or those with the best score, the earliest of several."""
