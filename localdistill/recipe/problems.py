"""What is wrong with a recipe, or probably not meant, as forms and commands tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """One thing."""

    key: str
    """Dotted, list items by number, for example `grade.0.use`; empty when it belongs to no single key."""
    text: str
    kind: Literal["error", "warning"] = "error"
    """A recipe with warnings alone can run."""
    hint: str = ""
    """What to do next, where the text does not say it."""
