"""Writes the tree of README.md from the first sentence of every module's docstring: `python -m tests.readme_tree`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.helpers import REPO

MARK = "<!-- tree -->"
_NAME_WIDTH = 30
_SENTENCE_WIDTH = 96


def sentence(path: Path) -> str:
    """What the module says of itself first, short."""
    whole = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
    found = re.match(r"(.+?)[.:;](\s|$)", whole)
    text = found[1] if found else whole
    return text if len(text) <= 88 else re.split(r", (?!and )", text)[0][:_SENTENCE_WIDTH]


def lines(folder: Path, depth: int) -> Iterator[str]:
    """The modules of a package, files first, and its data files by kind."""
    for path in sorted(folder.iterdir(), key=lambda p: (p.is_dir(), p.name)):
        indent = "  " * depth
        if path.name in ("__pycache__", "__init__.py"):
            continue
        if path.is_dir():
            yield f"{f'{indent}{path.name}/':<{_NAME_WIDTH}} {sentence(path / '__init__.py')}"
            yield from lines(path, depth + 1)
        elif path.suffix == ".py":
            yield f"{f'{indent}{path.name}':<{_NAME_WIDTH}} {sentence(path)}"


def tree() -> str:
    """The packages; the rest of the tree is written by hand behind them."""
    return "\n".join(["localdistill/", *lines(REPO / "localdistill", 1), "tui/", *lines(REPO / "tui", 1)])


def main() -> None:
    """Replace the packages in README's tree; what is written by hand behind them stays."""
    readme = REPO / "README.md"
    before, block, after = readme.read_text().split(MARK)
    kept, skipping = [], False
    for row in block.split("```")[1].strip("\n").splitlines():
        if not row.startswith(" "):
            skipping = row.split()[0] in ("localdistill/", "tui/")
        if not skipping:
            kept.append(row)
    rows = "\n".join([tree(), *kept])
    readme.write_text(f"{before}{MARK}\n\n```\n{rows}\n```\n\n{MARK}{after}")


if __name__ == "__main__":
    main()
