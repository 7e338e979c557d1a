"""The README says what is there: its tree names every module, and every file it names exists."""

from __future__ import annotations

import re

from localdistill import parse_recipe
from tests.helpers import REPO


def tree() -> list[str]:
    text = (REPO / "README.md").read_text()
    block = text.split("<!-- tree -->")[1].split("```")[1]
    names: list[str] = []
    folders: list[str] = []
    for line in block.strip("\n").splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        folders = folders[:depth]
        if name.endswith("/"):
            folders.append(name.rstrip("/"))
        else:
            names.append("/".join([*folders, name]))
    return names


def test_the_tree_names_every_module_and_nothing_else() -> None:
    """`python -m tests.readme_tree` writes it anew."""
    files = [*(REPO / "localdistill").rglob("*.py"), *(REPO / "tui").rglob("*.py")]
    modules = {p.relative_to(REPO).as_posix() for p in files if p.name != "__init__.py"}
    named = {name for name in tree() if name.startswith(("localdistill/", "tui/"))}
    assert named == modules
    assert all((REPO / name).exists() for name in tree())


def test_the_commands_in_the_readme_exist() -> None:
    from localdistill.cli.app import app

    known = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    used = set(re.findall(r"^    localdistill ([a-z]+)", (REPO / "README.md").read_text(), re.MULTILINE))
    assert used and used <= known


def test_the_recipe_in_the_readme_is_read() -> None:
    [text] = re.findall(r"```toml\n(.*?)```", (REPO / "README.md").read_text(), re.DOTALL)
    recipe = parse_recipe(f'name = "readme"\n{text}\n[student]\nmodel = "shipped:pantry/student"\n')
    assert [arm.name for arm in recipe.arms] == ["full", "brief", "mix"] and len(recipe.sets) == 5
