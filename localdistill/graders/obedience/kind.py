"""The contract of a kind of instruction: a check of an answer by the parameters that a prompt states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import Parameter, signature
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from localdistill.core.errors import InputError

Relation = Literal["less than", "at least"]
"""How a count is compared."""
Word = Annotated[str, Field(pattern=r"\S")]
"""A text that says something."""


@dataclass(frozen=True)
class Rule:
    """One kind. Its name is the key in the table of kinds."""

    holds: Callable[..., bool]
    """Whether an answer keeps it: the answer as it is, then parameters by name with the types that they must have. The
    docstring is the rule. Its time grows with the length of the answer, never faster."""
    kept: str
    """An answer that keeps it, with `example`."""
    broken: str
    """One that does not."""
    example: Mapping[str, Any] = field(default_factory=dict)
    """Parameters for the two."""

    @cached_property
    def takes(self) -> type[BaseModel]:
        """Its parameters."""
        stated = list(signature(self.holds, eval_str=True).parameters.values())[1:]
        fields: dict[str, Any] = {one.name: (one.annotation, ... if one.default is Parameter.empty else one.default)
                                  for one in stated}
        return create_model("Parameters", __config__=ConfigDict(extra="forbid"), **fields)

    def checked(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters in their types; InputError that names what is missing, unknown or of another type."""
        try:
            return dict(self.takes.model_validate(parameters))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "parameters"
            raise InputError(f"'{where}': {first['msg'].lower()}", "it takes: " + (", ".join(
                self.takes.model_fields) or "nothing")) from None


def compares(count: int, relation: Relation, threshold: int) -> bool:
    """Whether `count` is less than, or at least, the threshold."""
    return count < threshold if relation == "less than" else count >= threshold
