"""The contract of a kind of attack, and what one attack may end as. A kind is one file in `kinds/` and one line in its
table; everything else (the victim, the workers, the count, the report) is there already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tests.attack.ground import Ground

How = Literal["same", "healed", "named", "bad"]
HOW: tuple[How, ...] = ("same", "healed", "named", "bad")


@dataclass(frozen=True)
class Ending:
    """What one attack ended as."""

    how: How
    """same: the result is what it would have been. healed: so it is, or less is there, and that was said. named: an
    error of ours with a next step. bad: everything else."""
    what: str
    """What was done to what."""
    said: str = ""
    """What was told of it; of a bad one, what is wrong."""


@dataclass(frozen=True)
class Kind:
    """One kind of attack."""

    name: str
    about: str
    """What is attacked, in one line."""
    faults: int
    """How many make a whole attack."""
    attack: Callable[[Ground, Random, int], Ending]
    """Does one: the chance decides everything that is not decided by its number, so that it can be done again."""
    is_of_processes: bool = False
    """Starts whole processes, and takes seconds."""
    needs_workspace: bool = True
    """Works on the victim, which takes a while to make."""
    needs_failing_files: bool = False
    """Needs the library that lets file operations fail."""
