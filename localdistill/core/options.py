"""The base of every options model. A docstring under each field is the CLI help, the form label and the schema
text at once; unknown keys are refused; values are frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from localdistill.core.capabilities import Capability


@dataclass(frozen=True)
class NamesFile:
    """Marks a field that names a file or folder: a recipe's relative path starts from the recipe's folder."""


@dataclass(frozen=True)
class NamesEngine:
    """Marks a field that names an engine of the recipe's `[engine]`: plan, quote, consent and keys find it by this."""

    must: Capability = "generate"
    """What it is asked to do."""


@dataclass(frozen=True)
class NamesMember:
    """Marks a field that names a member of some family, or several, each alone or in a table with its options."""

    family: str
    """The family's noun."""


FileName = Annotated[str, NamesFile()]
EngineName = Annotated[str, NamesEngine()]
"""An engine of the recipe that writes. Empty is the stage's default engine, where the stage has one."""
ScorerName = Annotated[str, NamesEngine("score")]
"""An engine of the recipe that gives log-probabilities of continuations."""
DeviceName = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$")]
"""Where torch computes."""


class Options(BaseModel):
    """Strict, frozen options of one family member or stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True,
                              allow_inf_nan=False)

    @classmethod
    def file_fields(cls) -> list[str]:
        """The fields that name files."""
        fields = cls.model_fields.items()
        return [name for name, field in fields if any(isinstance(mark, NamesFile) for mark in field.metadata)]

    @classmethod
    def engine_fields(cls) -> dict[str, Capability]:
        """The fields that name engines, and what each is asked to do."""
        marks = {name: [mark for mark in field.metadata if isinstance(mark, NamesEngine)]
                 for name, field in cls.model_fields.items()}
        return {name: found[0].must for name, found in marks.items() if found}

    @classmethod
    def member_fields(cls) -> dict[str, str]:
        """The fields that name members, and the noun of the family of each."""
        marks = {name: [mark for mark in field.metadata if isinstance(mark, NamesMember)]
                 for name, field in cls.model_fields.items()}
        return {name: found[0].family for name, found in marks.items() if found}


class Member(Options):
    """A family member and its options: `use` picks it, the rest of the table is checked against its options."""

    use: str
    """Name of the family member."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The member's options, checked."""


GraderChoice = Annotated[str | Member, NamesMember("grader")]
"""Name of a grader; or, in a table with `use`, also its options, for example the engine that a judge asks."""
GraderChoices = Annotated[tuple[str | Member, ...], NamesMember("grader")]
"""Several of them."""
