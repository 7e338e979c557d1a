"""Short sessions on the store's file: open, work for milliseconds, close. DuckDB lets one process open a file, so a
session waits its turn and nobody keeps the file. Nothing here knows what is stored."""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from localdistill.core.errors import StoreLocked
from localdistill.safety.files import Stamp, stamp_of
from localdistill.store.database_errors import (
    LOCKED,
    explained,
    free_name,
    is_forbidden,
    locked,
    only_readable,
    says,
)
from localdistill.store.schema import (
    BLOCK_BYTES,
    MIGRATIONS,
    ROW_GROUP_ROWS,
    STORAGE_VERSION,
    Migration,
    migrate,
    version_of,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

T = TypeVar("T")

WAIT_S = 30.0

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.004, 0.06
_ENDINGS = ("", ".wal", ".wal.checkpoint", ".wal.recovery", ".tmp")
"""Files of one database."""
_LOCKS: dict[Path, threading.Lock] = {}
_LOCKS_GUARD = threading.Lock()


class Sessions:
    """Runs pieces of work on one file, one after the other, in this process and among processes."""

    def __init__(self, path: Path, wait_s: float = WAIT_S, migrations: tuple[Migration, ...] = MIGRATIONS,
                 read_only: bool = False) -> None:
        self.path = path
        self.wait_s = wait_s
        self.read_only = read_only
        """Opens a file that is there and brought to the newest version, and changes nothing."""
        self.set_aside: list[Path] = []
        """Write-ahead logs that could not be read, where they lie now."""
        self._migrations = migrations

    def run(self, work: Callable[[DuckDBPyConnection], T]) -> T:
        """The result of `work(connection)` in a session of its own. `work` must leave no open transaction or result and
        must be repeatable: after an error that invalidates the database it runs again on a newly opened one.
        StoreLocked when the file stays busy, StoreError (StoreReadOnly among them) when it cannot be read or written,
        OutOfMemory."""
        import duckdb

        deadline = time.monotonic() + self.wait_s
        with self._turn_of_thread():
            try:
                return self._once(work, deadline)
            except duckdb.FatalException:
                return self._translated(work, deadline)
            except duckdb.Error as error:
                raise explained(self.path, error) from error

    def _translated(self, work: Callable[[DuckDBPyConnection], T], deadline: float) -> T:
        import duckdb

        try:
            return self._once(work, deadline)
        except duckdb.Error as error:
            raise explained(self.path, error) from error

    def _once(self, work: Callable[[DuckDBPyConnection], T], deadline: float) -> T:
        con, writable = self._open(deadline)
        try:
            if writable:
                migrate(con, self._migrations)
            elif not self.read_only and version_of(con) != len(self._migrations):
                raise only_readable(self.path, "is older than this localdistill and cannot be brought up to date here")
            result = work(con)
        except BaseException:
            _close(con)
            raise
        _detach(self.path, con)
        return result

    @contextmanager
    def _turn_of_thread(self) -> Iterator[None]:
        with _LOCKS_GUARD:
            lock = _LOCKS.setdefault(self.path.resolve(), threading.Lock())
        if not lock.acquire(timeout=self.wait_s):
            raise StoreLocked(f"{self.path.name} is busy in another thread of this process", "try again")
        try:
            yield
        finally:
            lock.release()

    def _open(self, deadline: float) -> tuple[DuckDBPyConnection, bool]:
        """A connection, and whether it can write: a file that may only be read is opened all the same."""
        import duckdb

        with contextlib.suppress(OSError):  # where it is needed and cannot be made, the database says so
            self.path.parent.mkdir(parents=True, exist_ok=True)
        pause, read_only = _FIRST_PAUSE_S, self.read_only
        while True:
            log = stamp_of(self._log)
            try:
                return _connect(self.path, read_only), not read_only
            except duckdb.Error as error:
                if not read_only and self.path.is_file() and is_forbidden(error):
                    read_only = True
                    continue
                if "replaying WAL" in str(error) and log is not None and not self.read_only:
                    self._set_log_aside(log)
                elif not says(error, LOCKED):
                    raise
                elif time.monotonic() + pause > deadline:
                    raise locked(self.path, error, self.wait_s) from None
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    @property
    def _log(self) -> Path:
        return self.path.with_name(self.path.name + ".wal")

    def _set_log_aside(self, seen: Stamp) -> None:
        """Keep a write-ahead log that cannot be replayed, as evidence, and go on without it: the journals hold its
        replies. One that changed since it was `seen` belongs to a process that got here first."""
        if stamp_of(self._log) == seen:
            aside = free_name(self._log)
            with contextlib.suppress(FileNotFoundError):
                self._log.rename(aside)
                self.set_aside.append(aside)


class _Spare:
    """The database in memory that the last session of this process left, for the next one on the same file: to make
    one takes ten times as long as to attach a file to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: tuple[Path, DuckDBPyConnection] | None = None

    def take(self, path: Path) -> DuckDBPyConnection | None:
        """The one for `path`; one for another file is closed."""
        left = self._swap(None)
        if left is not None and left[0] == path:
            return left[1]
        if left is not None:
            _close(left[1])
        return None

    def keep(self, path: Path, con: DuckDBPyConnection) -> None:
        """`con` has nothing attached any more."""
        if before := self._swap((path, con)):
            _close(before[1])

    def close(self) -> None:
        """The process ends."""
        if left := self._swap(None):
            _close(left[1])

    def _swap(self, new: tuple[Path, DuckDBPyConnection] | None) -> tuple[Path, DuckDBPyConnection] | None:
        with self._lock:
            old, self._left = self._left, new
            return old


_SPARE = _Spare()
atexit.register(_SPARE.close)


def _connect(path: Path, read_only: bool) -> DuckDBPyConnection:
    """A connection that sees the store's file and nothing else. DuckDB's error when that cannot be attached."""
    file = os.path.abspath(path)
    con = _SPARE.take(path) or shut_in([file + ending for ending in _ENDINGS])
    how = "READ_ONLY" if read_only else f"STORAGE_VERSION '{STORAGE_VERSION}', ROW_GROUP_SIZE {ROW_GROUP_ROWS}"
    if not read_only and not os.path.exists(file):
        how += f", BLOCK_SIZE {BLOCK_BYTES}"
    try:
        con.execute(f"ATTACH {_quoted(file)} AS store ({how})")
        con.execute("USE store")
    except BaseException as error:
        if says(error, LOCKED):
            _SPARE.keep(path, con)
        else:
            _close(con)
        raise
    return con


def _detach(path: Path, con: DuckDBPyConnection) -> None:
    """Let go of the file. What was committed is in the WAL by now; a checkpoint that fails meanwhile loses nothing."""
    import duckdb

    try:
        con.execute("USE memory")
        con.execute("DETACH store")
    except duckdb.Error:
        _close(con)
    else:
        _SPARE.keep(path, con)


def _close(con: DuckDBPyConnection) -> None:
    import duckdb

    with contextlib.suppress(duckdb.Error):
        con.close()


def shut_in(files: Sequence[str] = (), **settings: str) -> DuckDBPyConnection:
    """An empty database in memory, with `settings` over ours, that will never see other files than `files` (absolute
    paths) and draws nothing: where a query takes longer than two seconds the library puts a bar on standard output,
    over whatever is there."""
    import duckdb

    con = duckdb.connect(":memory:", config={**_configuration(), **settings})
    try:
        con.execute("SET enable_progress_bar = false")
        con.execute(f"SET allowed_paths = [{', '.join(map(_quoted, files))}]")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
    except BaseException:
        _close(con)
        raise
    return con


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _configuration() -> dict[str, str | bool | int | float | list[str]]:
    """No extensions and no Python variables; at most one merge of small row groups when a session closes."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",
        "max_vacuum_tasks": "1",
        "threads": str(min(4, os.cpu_count() or 1)),
    }
    if sys.platform == "darwin":
        settings["fsync_mode"] = "FULL"
    return settings


def first_row(
    con: DuckDBPyConnection, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()
) -> tuple[Any, ...] | None:
    """The first row or None. It leaves no open result on the connection, as `fetchone` does."""
    rows = con.execute(sql, values).fetchall()
    return rows[0] if rows else None


@contextmanager
def transaction(con: DuckDBPyConnection) -> Iterator[None]:
    """All of the block or nothing of it."""
    import duckdb

    con.execute("BEGIN")
    try:
        yield
    except BaseException:
        with contextlib.suppress(duckdb.Error):
            con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")
