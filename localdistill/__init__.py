"""localdistill: a teacher's reasoning, distilled into a small model on your own machine.

This is the public API, and all that the TUI may import. Names load on first use, so importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "localdistill.chatting": ("ChatPiece", "ChatSession", "open_chat"),
    "localdistill.doctor": ("Finding", "examine"),
    "localdistill.errors": ("Cancelled", "InputError", "LocalDistillError", "PartialResult", "RecipeError",
                            "StoreLocked", "UsageError"),
    "localdistill.events": ("Event",),
    "localdistill.importing": ("ImportReport", "import_file", "preview_file"),
    "localdistill.planning": ("Plan", "make_plan"),
    "localdistill.recipe": ("STAGES", "Recipe", "load_recipe", "parse_recipe", "recipe_schema"),
    "localdistill.records": ("Grade", "Message", "Prompt", "Span", "Trace"),
    "localdistill.run_folder": ("RunFolder", "RunStatus", "list_runs"),
    "localdistill.runs": ("cancel", "follow", "resume", "start", "wait"),
    "localdistill.modelfiles.shipped": ("shipped_path", "shipped_recipes"),
    "localdistill.safety.text": ("display_safe",),
    "localdistill.showing": ("render_trace",),
    "localdistill.store": ("Store",),
    "localdistill.workspace": ("Workspace",),
}
_HOME = {name: module for module, names in _WHERE.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'localdistill' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
