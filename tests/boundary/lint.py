"""The lint for what is printed: in the command line nothing but `output.py` writes to a stream or asks a person, and
elsewhere what is written is a constant, JSON in ASCII, or made safe."""

from __future__ import annotations

import ast
from collections.abc import Iterator

BARE = {"print", "input", "getpass", "pprint", "echo", "secho", "print_exc"}
"""Functions that write to a stream, or ask, past the one door."""
SPEAKING = {"typer": {"echo", "secho", "prompt", "confirm", "progressbar"}, "getpass": {"getpass"},
            "traceback": {"print_exc", "print_exception", "print_stack"}, "pprint": {"pprint"}, "os": {"write"}}
"""The same, as functions of modules."""
STREAMS = {"stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__"}
LOUD = {"rich", "click", "getpass", "logging", "pprint", "readline", "curses", "json"}
"""What has no business in a command: it prints, or makes text to be printed."""
SAFE = {"dumps", "display_safe", "json_safe"}


def in_command(tree: ast.AST) -> Iterator[str]:
    """Breaches in a file of the command line that is not `output.py`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _speaks(node.func):
            yield f"{node.lineno}: {ast.unparse(node)[:80]}"
        elif isinstance(node, ast.Attribute) and node.attr in STREAMS | {"excepthook"} and _name(node.value) == "sys":
            yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            for name in [module, *(alias.name for alias in node.names if isinstance(node, ast.Import))]:
                if name.split(".")[0] in LOUD:
                    yield f"{node.lineno}: imports {name}"


def elsewhere(tree: ast.AST) -> Iterator[str]:
    """Breaches in a file outside of the command line: what is written to a standard stream is made here, JSON, or made
    safe."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        written = _name(node.func) == "write" and isinstance(node.func, ast.Attribute) and (
            _name(node.func.value) in STREAMS)
        if written or (isinstance(node.func, ast.Name) and node.func.id == "print"):
            for argument in node.args:
                if not isinstance(argument, ast.Constant) and not (
                        isinstance(argument, ast.Call) and _name(argument.func) in SAFE):
                    yield f"{node.lineno}: {ast.unparse(node)[:80]}"
        elif _speaks(node.func) and _name(node.func) != "write":  # children write to their pipes
            yield f"{node.lineno}: {ast.unparse(node)[:80]}"


def _speaks(called: ast.expr) -> bool:
    if isinstance(called, ast.Attribute):
        return called.attr in SPEAKING.get(_name(called.value), ())
    return _name(called) in BARE


def _name(node: ast.expr) -> str:
    """The last part of a name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
