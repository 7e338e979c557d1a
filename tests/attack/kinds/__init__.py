"""Every kind of attack: one file here and one line in the table."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from tests.attack.kind import Kind

KINDS = ("bits", "cuts", "log", "operations", "processes", "imports", "models", "folders", "calls", "prices")
"""The file of each; its `KIND` is the rest."""


@cache
def kind_called(name: str) -> Kind:
    """The kind in the file `name`."""
    kind: Kind = import_module(f"tests.attack.kinds.{name}").KIND
    assert kind.name == name
    return kind
