"""Where the files that ship with localdistill are: one function for a checkout and for an installed wheel."""

from __future__ import annotations

from pathlib import Path

from localdistill.core.errors import RecipeError, UsageError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]


def shipped_root() -> Path:
    """The folder that holds `data/` and `recipes/`: `localdistill/_shipped` in a wheel, the checkout otherwise."""
    inside = _PACKAGE / "_shipped"
    return inside if (inside / "recipes").is_dir() else _PACKAGE.parent


def shipped_path(name: str) -> Path:
    """The shipped file or folder `name` (relative to `data/`); UsageError when it does not exist."""
    root = (shipped_root() / "data").resolve()
    path = (root / name).resolve()
    if not path.is_relative_to(root) or not path.exists():
        known = sorted(str(p.relative_to(root)) for p in root.glob("*/*") if p.suffix != ".py")
        raise UsageError(f"nothing named '{name}' ships with localdistill", "shipped: " + ", ".join(known))
    return path


def shipped_recipes() -> list[Path]:
    """All shipped recipes, sorted by name."""
    return sorted((shipped_root() / "recipes").glob("*.toml"))


def recipe_file(name: str) -> Path:
    """The file that somebody means by `name`: a path, or a shipped recipe by name. RecipeError names the nearest."""
    path = Path(name).expanduser()
    if path.suffix == ".toml" or path.is_file():
        return path
    known = {p.stem: p for p in shipped_recipes()}
    if name not in known:
        raise RecipeError(f"there is no recipe '{name}'{nearest(name, known)}", f"shipped: {', '.join(known)}")
    return known[name]


def resolve_path(text: str, base: Path) -> Path:
    """The path that a recipe says: `shipped:NAME`, absolute, `~`, or relative to `base`."""
    if text.startswith("shipped:"):
        return shipped_path(text.removeprefix("shipped:"))
    path = Path(text).expanduser()
    return path if path.is_absolute() else base / path
