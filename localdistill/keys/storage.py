"""Where stored keys live: the system's keyring when the optional package `keyring` works, else a file of the user's
that nobody else can read. Knows nothing of who may have a key; `keys` decides that.

A key leaves the file and the keyring as a `Key`, which shows itself only to `reveal`; no variable of a function that
can fail holds the text, because crash reports print variables.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from localdistill.core.disk import FULL, disk_full
from localdistill.core.errors import LocalDistillError
from localdistill.safety.files import publish, writing

CONFIG_ENV = "LOCALDISTILL_CONFIG"
_SERVICE = "localdistill"

Source = Literal["environment", "keyring", "file"]


class Key:
    """A key that shows itself only when asked by `reveal`: not printed, formatted, pickled or written as JSON."""

    __slots__ = ("__text", "host", "name", "source")

    def __init__(self, text: str, name: str, host: str, source: Source) -> None:
        self.__text = text.strip()
        self.name = name
        self.host = host
        self.source = source

    def reveal(self) -> str:
        """The key itself, for the one header that carries it."""
        return self.__text

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to reveal."""
        return not self.__text

    @property
    def is_sendable(self) -> bool:
        """True when it can stand in a header: visible ASCII without spaces, and not empty."""
        return bool(self.__text) and all("!" <= letter <= "~" for letter in self.__text)

    def __repr__(self) -> str:
        return f"<key {self.name} for {self.host}>"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __copy__(self) -> Key:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Key:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a key is never pickled")


@dataclass(frozen=True)
class StoredKey:
    """One line of the user's file: what is kept for a name and a host, and where."""

    name: str
    host: str
    source: Source
    key: Key | None = None
    """None when the keyring has it."""


@dataclass(frozen=True)
class Approval:
    """The user's word that the variable `name` may be sent to `host`."""

    name: str
    host: str


@dataclass(frozen=True)
class KeyFile:
    """What the user's file says."""

    keys: tuple[StoredKey, ...] = ()
    approvals: tuple[Approval, ...] = field(default=())


def keys_path() -> Path:
    """The user's file of keys: in `$LOCALDISTILL_CONFIG`, else in the system's folder for settings."""
    folder = os.environ.get(CONFIG_ENV, "")
    if folder:
        return Path(folder) / "keys.json"
    import platformdirs

    return platformdirs.user_config_path("localdistill") / "keys.json"


def read_keys() -> KeyFile:
    """What is stored. LocalDistillError when others may read the file or it is damaged; no message holds a key."""
    path = keys_path()
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise LocalDistillError(f"{path} may be read by others (mode {mode:03o})", f"chmod 600 {path}")
        found = _parsed(path)
    except FileNotFoundError:
        return KeyFile()
    except OSError:
        raise LocalDistillError(f"{path} cannot be read", "correct its rights, or remove it") from None
    if found is None:
        raise LocalDistillError(f"{path} is damaged", "move it away and set the keys again")
    return found


def write_keys(content: KeyFile) -> None:
    """Replace the file, whole or not at all; nobody else can read it at any moment. Only under `exclusive`. Where it
    cannot be written the old one stays: DiskFull, or LocalDistillError."""
    path = keys_path()
    with writing(path):
        handle, name = tempfile.mkstemp(prefix=".keys-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(_rows(content), file, indent=1, default=Key.reveal)
            publish(Path(name), path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def exclusive() -> Iterator[None]:
    """One writer at a time, so that two commands at once lose nothing."""
    folder = keys_path().parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / "keys.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(folder / "keys.lock", error.errno) from None
        raise LocalDistillError(
            f"{folder} cannot be written: {error.strerror}", f"set {CONFIG_ENV} to a folder of yours"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def keyring_get(name: str, host: str) -> Key | None:
    """The key that the keyring keeps, or None."""
    ring = _keyring()
    with contextlib.suppress(Exception):
        if ring is not None:
            return Key(ring.get_password(_SERVICE, f"{name}@{host}"), name, host, "keyring")
    return None


def keyring_set(key: Key) -> bool:
    """True when the keyring took the key and gives it back."""
    ring = _keyring()
    with contextlib.suppress(Exception):
        if ring is not None:
            ring.set_password(_SERVICE, f"{key.name}@{key.host}", key.reveal())
            return bool(ring.get_password(_SERVICE, f"{key.name}@{key.host}") == key.reveal())
    return False


def keyring_remove(name: str, host: str) -> None:
    """Make the keyring forget a key; harmless when it has none."""
    ring = _keyring()
    with contextlib.suppress(Exception):
        if ring is not None:
            ring.delete_password(_SERVICE, f"{name}@{host}")


def _keyring() -> Any | None:
    """The optional package `keyring` when it is installed and has a place to keep things, else None."""
    try:
        ring: Any = importlib.import_module("keyring")
        return ring if ring.get_keyring().priority > 0 else None
    except Exception:
        return None


def _parsed(path: Path) -> KeyFile | None:
    """The content of the file, or None when it is not what `write_keys` writes."""
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        data = json.loads(path.read_bytes())
        return KeyFile(
            tuple(_stored(row) for row in data["keys"]),
            tuple(Approval(str(row["name"]), str(row["host"])) for row in data["approvals"]),
        )
    return None


def _stored(row: dict[str, str]) -> StoredKey:
    name, host = str(row["name"]), str(row["host"])
    if row["where"] == "keyring":
        return StoredKey(name, host, "keyring")
    return StoredKey(name, host, "file", Key(row["key"], name, host, "file"))


def _rows(content: KeyFile) -> dict[str, Any]:
    """The file's JSON, with `Key` objects still closed."""
    return {
        "version": 1,
        "keys": [
            {"name": kept.name, "host": kept.host, "where": kept.source} | ({"key": kept.key} if kept.key else {})
            for kept in content.keys
        ],
        "approvals": [{"name": given.name, "host": given.host} for given in content.approvals],
    }
