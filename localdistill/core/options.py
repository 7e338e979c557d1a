"""The base of every options model. A docstring under each field is the CLI help, the form label and the schema
text at once; unknown keys are refused; values are frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True)
class NamesFile:
    """Marks a field that names a file or folder: a recipe's relative path starts from the recipe's folder."""


@dataclass(frozen=True)
class NamesEngine:
    """Marks a field that names an engine of the recipe's `[engine]`: plan, quote, consent and keys find it by this."""


FileName = Annotated[str, NamesFile()]
EngineName = Annotated[str, NamesEngine()]
"""An engine of the recipe. Empty is the stage's default engine, where the stage has one."""
DeviceName = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$")]
"""Where torch computes."""


class Options(BaseModel):
    """Strict, frozen options of one family member or stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True,
                              allow_inf_nan=False)

    @classmethod
    def file_fields(cls) -> list[str]:
        """The fields that name files."""
        return cls._marked(NamesFile)

    @classmethod
    def engine_fields(cls) -> list[str]:
        """The fields that name engines."""
        return cls._marked(NamesEngine)

    @classmethod
    def _marked(cls, mark: type) -> list[str]:
        fields = cls.model_fields.items()
        return [name for name, field in fields if any(isinstance(found, mark) for found in field.metadata)]
