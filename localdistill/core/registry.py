"""Lazy name tables. A family lists its members by name; listing imports none of them, loading imports one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from localdistill.core.errors import UsageError, nearest


@dataclass(frozen=True)
class Family:
    """The members of one family: file name (= name in recipes) to class name."""

    noun: str
    package: str
    members: Mapping[str, str]

    def names(self) -> list[str]:
        """All member names, sorted."""
        return sorted(self.members)

    def load(self, name: str) -> Any:
        """The member class called `name`; UsageError with the nearest name when there is none."""
        if name not in self.members:
            raise UsageError(
                f"there is no {self.noun} named '{name}'{nearest(name, self.members)}",
                f"known: {', '.join(self.names())}",
            )
        return getattr(import_module(f"{self.package}.{name}"), self.members[name])
