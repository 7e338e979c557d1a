"""Values that lie in JSON files: written with the version of their fields, read through their type. What an older
version wrote is brought up to date where that can be; anything else ends in one error that names the file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from localdistill.core.errors import LocalDistillError
from localdistill.core.seals import NOT_WRITTEN, sealed, without_seal

Kept = TypeVar("Kept", bound="Stored")


@dataclass(frozen=True)
class Stored:
    """Base of values that are kept as one JSON file each."""

    version: ClassVar[int] = 1
    """Of the fields. Files without one were written before there were versions, and count as 0."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict, without the version."""
        return dataclasses.asdict(self)

    def to_bytes(self) -> bytes:
        """The file, with a checksum."""
        text = json.dumps({"version": self.version, **self.to_json()}, ensure_ascii=False).encode("utf-8", "replace")
        return sealed(json.loads(text), indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def from_older(cls, data: Any, version: int) -> Any:
        """The fields that `data`, written as `version`, has now. May raise anything where it cannot tell."""
        return data

    @classmethod
    def from_bytes(cls: type[Kept], data: bytes, where: str, hint: str = "") -> Kept:
        """The value in the file `where`. LocalDistillError with `hint` when a newer version wrote it, when it holds
        something else, or when it is not what was written."""
        try:
            fields = json.loads(data)
            if isinstance(fields, dict):
                fields = without_seal(fields)
            if b"\\ud" in data.lower():  # half a character, which no text may hold
                fields = json.loads(json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace"))
            version = fields.pop("version", 0) if isinstance(fields, dict) else 0
            if version > cls.version:
                raise LocalDistillError(
                    f"{where} was written by a newer localdistill (version {version} of this file; this one reads up "
                    f"to {cls.version})", "update localdistill" + (f", or {hint}" if hint else ""))
            from pydantic import TypeAdapter  # to list runs needs none of it

            current = cls.from_older(fields, version) if version < cls.version else fields
            return TypeAdapter(cls).validate_python(current)
        except LocalDistillError:
            raise
        except Exception as error:  # whatever a hand may have written
            why = f"it {NOT_WRITTEN}" if str(error) == NOT_WRITTEN else _first_problem(error)
            raise LocalDistillError(f"{where} is damaged: {why}", hint) from error


def _first_problem(error: Exception) -> str:
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
    if isinstance(error, (UnicodeError, json.JSONDecodeError, RecursionError)):
        return "it cannot be read as JSON"
    return f"{type(error).__name__}: {error}".splitlines()[0]
