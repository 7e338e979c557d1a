"""In which language an answer is, by langdetect, which the published rules name, with the seed fixed: without one it
says now this, now that. Where it is not installed our own table tells, which differs for texts of a few words."""

from __future__ import annotations

from functools import cache
from typing import Any

from localdistill.texts.languages import language_of

BY_TABLE = "languages told by our own table: langdetect is not installed"


@cache
def _langdetect() -> Any:
    """The module; None where it is not installed."""
    try:
        import langdetect
    except ImportError:
        return None
    langdetect.DetectorFactory.seed = 0
    return langdetect


def is_exact() -> bool:
    """Whether the library that the published rules name is there."""
    return _langdetect() is not None


def is_in(text: str, code: str) -> bool:
    """Whether `text` is in the language of this code. What has nothing to tell it by counts as kept, as published."""
    module = _langdetect()
    if module is None:
        told = language_of(text).code
        return told in ("", code.partition("-")[0])
    try:
        return bool(module.detect(text) == code)
    except module.LangDetectException:
        return True
