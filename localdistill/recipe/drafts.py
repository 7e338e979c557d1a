"""A recipe file while somebody edits it: values by key, every problem at its key, and a save that keeps comments, order
and whatever somebody else wrote meanwhile. The text is the truth; nothing here runs a recipe."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from localdistill.core.errors import InputError, LocalDistillError, RecipeError, UsageError
from localdistill.modelfiles.shipped import recipe_file
from localdistill.recipe import advice_on, parse_recipe
from localdistill.recipe.dotted_keys import key_part, parts_of
from localdistill.recipe.problems import Problem
from localdistill.recipe.settings import BY_NAME
from localdistill.recipe.upgrading import upgraded
from localdistill.recipe.upgrading_text import UpgradedText, upgraded_text
from localdistill.safety.files import atomic_write_bytes, atomic_write_text

_WHERE = "recipe"
_KEY = re.compile(r'((?:[A-Za-z0-9_.\[\]-]|"(?:[^"\\]|\\.)*")+): (.*)', re.DOTALL)
_INDEX = re.compile(r"\[(\d+)\]")
MOST_BYTES = 4 * 1024 * 1024
"""Larger files are no recipes."""


class ChangedElsewhere(UsageError):
    """The file is not what was read: somebody else wrote it meanwhile. Nothing was written."""


def problems_in(text: str) -> list[Problem]:
    """Everything that is wrong with the recipe `text`. It can run when there is no error among it; warnings are looked
    for once there is none."""
    try:
        recipe = parse_recipe(text, _WHERE)
    except RecipeError as error:
        return [_located(row.removeprefix(f"{_WHERE}: ")) for row in error.message.splitlines()]
    older = [Problem("", told, "warning")] if (told := older_shape(text)) else []
    return [*older, *(Problem(key, text, "warning") for key, text in advice_on(recipe))]


def older_shape(text: str, name: str = "FILE") -> str:
    """What is to be said of a recipe of an older shape, in the file `name`; empty for one of today's."""
    try:
        older = upgraded(tomllib.loads(text)).older
    except tomllib.TOMLDecodeError:
        return ""
    read = f"it is read as before; localdistill recipe upgrade {name} rewrites it"
    return f"an older shape ({', '.join(older)}): {read}" if older else ""


def upgrade_recipe(path: Path) -> tuple[UpgradedText, Path | None]:
    """Rewrite the file in today's shape, where it has an older one; returns what was done and the file beside it that
    holds the old text. RecipeError for what is no TOML."""
    draft = RecipeDraft.open(path)
    try:
        made = upgraded_text(draft.text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}", "correct that first") from None
    if not made.older:
        return made, None
    aside = _free_name(path, "old")
    _write(aside, draft.text)
    draft.text = made.text
    draft.save()
    return made, aside


def _located(row: str) -> Problem:
    found = _KEY.fullmatch(row)
    if found is None:
        return Problem("", row)
    return Problem(_INDEX.sub(r".\1", found.group(1)), found.group(2))


def new_recipe(path: Path, of: str = "pantry") -> Path:
    """Copy the recipe `of` (a file, or the name of a shipped one) to `path`, which must not exist yet."""
    return write_new(path, _read(recipe_file(of)))


def write_new(path: Path, text: str) -> Path:
    """Write a recipe to `path`, which must end in .toml and not exist yet."""
    if path.suffix != ".toml":
        raise InputError(f"{path.name} does not end in .toml", f"for example {path.name or 'mine'}.toml")
    if path.exists():
        raise InputError(f"{path} exists already", "choose another name")
    try:
        atomic_write_bytes(path, text.encode())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", "choose another folder") from None
    return path


class RecipeDraft:
    """A recipe file that is being edited. `text` is what would be saved."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self._saved = text
        self._seen = _digest(text.encode("utf-8"))
        self._owns_kept = False

    @classmethod
    def open(cls, path: Path) -> RecipeDraft:
        """The draft of the file `path`. RecipeError when it is no text. Text that is no TOML opens,
        with that problem."""
        return cls(path, _read(path))

    @property
    def is_changed(self) -> bool:
        """True when `text` is not what was read or saved last."""
        return self.text != self._saved

    @property
    def data(self) -> dict[str, Any]:
        """The values; empty while the text is no TOML."""
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError:
            return {}

    def value(self, key: str) -> Any:
        """What stands at the dotted `key`, or None."""
        found: Any = self.data
        for part in parts_of(key):
            found = _step(found, part)
        return found

    def set(self, key: str, value: Any) -> None:
        """Write `value` at the dotted `key`; tables on the way are made. LocalDistillError when that cannot be done."""
        self._edit(lambda document: _put(document, key, value), key)

    def remove(self, key: str) -> None:
        """Take the dotted `key` out: a value, a whole section, or one item of a list. Harmless when it is not there."""
        if self.value(key) is not None:
            self._edit(lambda document: _drop(document, key), key)

    def add(self, key: str, values: Mapping[str, Any], name: str = "") -> None:
        """Append a table with `values` to the list of tables at `key`, for example `grade`; or put it under `name`,
        where `key` holds tables by name. UsageError when there is one of that name."""
        if not name:
            self._edit(lambda document: _append(document, key, values), key)
            return
        if self.value(f"{key}.{key_part(name)}") is not None:
            raise UsageError(f"there is a {BY_NAME.get(key, key)} '{name}' already", "choose another name")
        for own, value in values.items():
            self.set(f"{key}.{key_part(name)}.{key_part(own)}", value)

    def free_name(self, key: str, wish: str) -> str:
        """`wish`, or with a number where the tables at `key` have one of that name."""
        number, name = 1, wish
        while self.value(f"{key}.{key_part(name)}") is not None:
            number += 1
            name = f"{wish}-{number}"
        return name

    def upgrade(self) -> None:
        """Bring the text into today's shape; nothing is saved."""
        self.text = upgraded_text(self.text).text

    def _edit(self, work: Callable[[Any], None], key: str) -> None:
        """Do `work` on the parsed text. Only a text that reads back as what was meant is taken."""
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        try:
            document = tomlkit.parse(self.text)
            work(document)
            text = tomlkit.dumps(document)
            if tomllib.loads(text) != document.unwrap():
                raise ValueError("it would not read back")
        except (TOMLKitError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise LocalDistillError(f"{key} cannot be changed here: {error}", "change the text itself") from None
        self.text = text

    def problems(self) -> list[Problem]:
        """Everything that is wrong with it now, warnings included."""
        return problems_in(self.text)

    def is_changed_elsewhere(self) -> bool:
        """True when the file is gone or not what was read or saved last."""
        try:
            return _digest(self.path.read_bytes()) != self._seen
        except OSError:
            return True

    def save(self) -> None:
        """Write the file, whole or not at all. ChangedElsewhere when somebody else wrote it meanwhile;
        LocalDistillError when it cannot be written."""
        if self.path.exists() and self.is_changed_elsewhere():
            raise ChangedElsewhere(f"{self.path.name} was changed elsewhere since it was opened here",
                                   "keep one of the two under another name")
        self._write()

    def save_over(self) -> Path:
        """Write the file; what somebody else wrote is kept beside it, in the file that is returned."""
        try:
            aside = _free_name(self.path, "theirs")
            shutil.copyfile(self.path, aside)
        except OSError as error:
            raise LocalDistillError(f"{self.path} cannot be kept aside: {error.strerror}",
                                    "nothing was written") from None
        self._write()
        return aside

    def take_theirs(self) -> Path:
        """Take what the file holds now; what was edited here is kept beside it, in the file that is returned."""
        theirs = _read(self.path)
        aside = _free_name(self.path, "mine")
        _write(aside, self.text)
        self.text = self._saved = theirs
        self._seen = _digest(theirs.encode("utf-8"))
        self.keep()
        return aside

    def _write(self) -> None:
        text = self.text
        _write(self.path, text)
        self._saved = text
        self._seen = _digest(text.encode("utf-8"))
        self.keep()

    @property
    def _unsaved(self) -> Path:
        return self.path.with_name(f".{self.path.name}.unsaved")

    def keep(self) -> None:
        """Keep edits that are not saved in a file beside the recipe, so that a lost connection loses none; the file
        goes when nothing is unsaved. Edits that an earlier session left are first set aside. Where nothing can be
        written, nothing is kept."""
        with contextlib.suppress(OSError, LocalDistillError):
            if self.is_changed:
                if not self._owns_kept and self._unsaved.exists():
                    self.set_aside_left_over()
                atomic_write_text(self._unsaved, self.text)
                self._owns_kept = True
            elif self._owns_kept:
                self._unsaved.unlink(missing_ok=True)

    def left_over(self) -> str | None:
        """Edits that an earlier session kept and never saved; None when there are none."""
        try:
            kept = _read(self._unsaved)
        except RecipeError:
            return None
        return kept if kept != self.text else None

    def take_up(self, text: str) -> None:
        """Go on with edits that an earlier session kept."""
        self.text = text
        self._owns_kept = True

    def set_aside_left_over(self) -> Path:
        """Give the kept edits a name of their own beside the recipe."""
        aside = _free_name(self.path, "mine")
        try:
            self._unsaved.rename(aside)
        except OSError as error:
            raise LocalDistillError(f"{self._unsaved} cannot be renamed: {error.strerror}",
                                    "nothing was lost") from None
        return aside


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RecipeError(f"{path} holds more than {MOST_BYTES:,} bytes", "a recipe is a short TOML file")
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}", "choose another file") from None
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: is not UTF-8 text", "a recipe is a TOML file") from None


def _write(path: Path, text: str) -> None:
    try:
        atomic_write_text(path, text)
    except OSError as error:
        raise LocalDistillError(f"{path} cannot be written: {error.strerror}",
                                "correct the rights of its folder, then save again; the edits are still here") from None


def _free_name(path: Path, word: str) -> Path:
    """`my.toml.mine-1`: beside the recipe, and no recipe itself for those who list `*.toml`."""
    number = 1
    while (free := path.with_name(f"{path.name}.{word}-{number}")).exists():
        number += 1
    return free


def _step(found: Any, part: str) -> Any:
    """One step down. A single table stands for the first item of a list of tables: `teacher.0` is `[teacher]` too."""
    if isinstance(found, list):
        return found[int(part)] if part.isdigit() and int(part) < len(found) else None
    if isinstance(found, dict):
        return found if part == "0" and "0" not in found else found.get(part)
    return None


def _down(document: Any, parts: list[str]) -> Any:
    """The table at `parts`, made where it is missing."""
    import tomlkit

    found: Any = document
    for part in parts:
        below = _step(found, part)
        if below is None:
            found[part] = tomlkit.table()
            below = found[part]
        found = below
    return found


def _put(document: Any, key: str, value: Any) -> None:
    *parts, last = parts_of(key)
    table = _down(document, parts)
    old = _step(table, last)
    if old is not None and old == value and type(old) is type(value):
        return
    table[int(last) if isinstance(table, list) else last] = value


def _drop(document: Any, key: str) -> None:
    *parts, last = parts_of(key)
    table = _down(document, parts)
    if isinstance(table, list):
        del table[int(last)]
        if not table and parts:
            _down(document, parts[:-1]).remove(parts[-1])
    elif last == "0" and "0" not in table:
        _down(document, parts[:-1]).remove(parts[-1])
    else:
        table.remove(last)


def _append(document: Any, key: str, values: Mapping[str, Any]) -> None:
    import tomlkit

    *parts, last = parts_of(key)
    parent = _down(document, parts)
    table = tomlkit.table()
    for name, value in values.items():
        table[name] = value
    before = parent.get(last)
    if isinstance(before, list):
        before.append(table)
        return
    tables = tomlkit.aot()
    if before is not None:
        parent.remove(last)
        tables.append(before)
    tables.append(table)
    parent[last] = tables
