"""How data can go out: every layout that writes, what it cannot hold, and which tools of others read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from localdistill.api.traces.arm_rows import TOKEN_COLUMNS
from localdistill.core.errors import UsageError, nearest
from localdistill.interchange import LAYOUTS
from localdistill.interchange.base import Reasoning, Writing

USUAL = "messages"
TOKENS = "tokens"
"""Rows of a dataset as the student's tokens: no layout of the family, for nothing can be read of them."""
_TOKENS = Writing(TOKEN_COLUMNS, (), read_by={
    "axolotl": "a dataset without a type: input_ids, attention_mask, labels",
    "trl": "SFTTrainer with dataset_kwargs={\"skip_prepare_dataset\": True}"})


@dataclass(frozen=True)
class DataLayout:
    """One way."""

    name: str
    writing: Writing

    @property
    def read_by(self) -> Mapping[str, str]:
        """Tools of others -> how they are told to."""
        return self.writing.read_by

    def way(self, reasoning: str) -> Reasoning:
        """Where reasoning goes when that is wanted; the usual place when nothing is. UsageError where it cannot."""
        ways = self.writing.reasoning
        found = next((way for way in ways if way == reasoning), None)
        if reasoning and found is None:
            raise UsageError(f"{self.name} cannot have reasoning as '{reasoning}'{nearest(reasoning, ways)}",
                             f"it can as: {', '.join(ways)}" if ways else "it has none")
        return found or (ways[0] if ways else "kept")


def data_layouts() -> list[DataLayout]:
    """All of them; the usual one first."""
    found = [DataLayout(name, writing) for name in LAYOUTS.members
             if (writing := LAYOUTS.load(name).writing) is not None]
    return [*sorted(found, key=lambda one: one.name != USUAL), DataLayout(TOKENS, _TOKENS)]


def data_tools() -> list[str]:
    """The tools of others that some layout is read by."""
    return sorted({tool for one in data_layouts() for tool in one.read_by})


def data_layout(name: str = "", tool: str = "") -> DataLayout:
    """The layout `name`, else the first that `tool` reads, else the usual one. UsageError for a name that there is not,
    and for a layout that the tool does not read."""
    known = {one.name: one for one in data_layouts()}
    if name and name not in known:
        only = f"'{name}' is only read" if name in LAYOUTS.members else f"there is no layout '{name}'"
        raise UsageError(f"{only}{'' if name in LAYOUTS.members else nearest(name, known)}",
                         f"written are: {', '.join(known)}")
    if tool and tool not in data_tools():
        raise UsageError(f"nothing is known of what '{tool}' reads{nearest(tool, data_tools())}",
                         f"known: {', '.join(data_tools())}")
    if not name:
        return next(one for one in known.values() if not tool or tool in one.read_by)
    if tool and tool not in known[name].read_by:
        fitting = [one.name for one in known.values() if tool in one.read_by]
        raise UsageError(f"{tool} is not known to read {name}", f"it reads: {', '.join(fitting)}")
    return known[name]
