"""localdistill: a teacher's reasoning, distilled into a small model on your own machine.

This is the public API, and all that the command line and the TUI may import. `__init__.pyi` lists its names; they load
on first use, so importing the package is cheap.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

from localdistill.core.version import __version__ as __version__


def _homes() -> dict[str, str]:
    """Public name -> module, as the stub beside this file says it."""
    imports = [node for node in ast.parse(Path(__file__).with_suffix(".pyi").read_bytes()).body
               if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


_HOME = _homes()

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'localdistill' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
