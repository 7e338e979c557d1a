"""The write-ahead state of batches under way: one file each, written whole or not at all, before and after anything is
handed to a provider. Asks nobody and knows no protocol; keys never come here."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import secrets
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from localdistill.core.errors import LocalDistillError
from localdistill.core.seals import NOT_WRITTEN, sealed, unsealed
from localdistill.safety.files import atomic_write_text

Stage = Literal["new", "sent", "waiting"]
"""`new`: the provider surely has no batch yet. `sent`: it may have one, its answer was not seen. `waiting`: it has one,
and we know its id."""

_VERSION = 1
_KEYS = {"ledger": "book"}
"""How the file says a field, where that is not the field's name."""
_FORGOTTEN_S = 60 * 24 * 3600.0
"""Twice as long as providers keep results."""


@dataclass
class BatchState:
    """One batch, as its file says."""

    token: str
    """Our own name for it, in every item's custom id."""
    kind: str
    base: str
    """Address in front of the endpoints; a batch is only ever looked for there."""
    model: str
    ledger: str
    """Names the spend ledger that pays for it."""
    ticket: int | None
    """The reservation there, of nothing when the price is unknown; None in files of versions that made none then."""
    ids: list[str]
    """Ids of the requests in order; an empty one was answered and taken."""
    worst: list[int]
    """The most that each may cost, in nano-dollars; 0 when the price is unknown."""
    created_at: float = field(default_factory=time.time)
    """Seconds since the epoch."""
    stage: Stage = "new"
    file_id: str = ""
    """What the provider calls the uploaded requests, where they are a file."""
    batch_id: str = ""
    is_certain: bool = True
    """False when `batch_id` was found by its looks and its results have yet to prove that it is ours."""
    rejected: list[str] = field(default_factory=list)
    """Batches that looked like this one and were not."""

    def custom_id(self, index: int) -> str:
        """The name of one item at the provider: letters, digits and a dash, at most 64."""
        return f"{self.token}-{index}"

    def index_of(self, custom_id: object) -> int | None:
        """The place of an item; None when it is none of this batch."""
        token, _, place = custom_id.rpartition("-") if isinstance(custom_id, str) else ("", "", "")
        if token != self.token or not (place.isascii() and place.isdigit()) or len(place) > 9:
            return None
        return int(place) if int(place) < len(self.ids) else None

    @property
    def label(self) -> str:
        """How it is named in messages."""
        return self.batch_id or f"of {amount(len(self.ids))}"


def read_state(path: Path) -> BatchState | None:
    """The batch in a file; None when there is none. LocalDistillError when it is not what was written: going on could
    pay for the same answers twice."""
    keys = {entry.name: _KEYS.get(entry.name, entry.name) for entry in dataclasses.fields(BatchState)}
    try:
        data = unsealed(path.read_bytes())
        if data.pop("version") != _VERSION:
            raise ValueError("another version wrote it")
        state = BatchState(**{name: data[key] for name, key in keys.items() if key in data})
        if len(state.ids) != len(state.worst):
            raise ValueError("ids and costs differ in number")
        return state
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = f"it {NOT_WRITTEN}" if str(error) == NOT_WRITTEN else str(error)
        raise LocalDistillError(f"{path} cannot be read: {why}",
                                "delete it to go on; the answers of that batch are then asked again") from None


def amount(count: int) -> str:
    """`1 request`, `2 requests`."""
    return f"{count} request{'s' * (count != 1)}"


def new_token() -> str:
    """A name that no other batch has."""
    return secrets.token_hex(8)


class BatchFolder:
    """The folder of all batches under way; without one, a temporary folder that `close` removes."""

    def __init__(self, folder: Path | None) -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="localdistill-batches-")
        self.folder = folder or Path(self._temporary.name if self._temporary else "")
        self.is_lasting = folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)

    def _path(self, token: str, kind: str) -> Path:
        return self.folder / f"{token}.{kind}"

    def requests(self, token: str) -> Path:
        """Where the requests are kept until the provider surely has them."""
        return self._path(token, "requests")

    def all(self, base: str) -> list[BatchState]:
        """Every batch at the provider with address `base`. LocalDistillError when a file is damaged: going on could pay
        for the same answers twice."""
        self._clean()
        found = [read_state(path) for path in sorted(self.folder.glob("*.json"))]
        states = [state for state in found if state is not None]
        for state in states:
            if time.time() - state.created_at > _FORGOTTEN_S:
                self.remove(state.token)
        return [state for state in states if state.base == base and self._path(state.token, "json").exists()]

    def _clean(self) -> None:
        """Remove requests that a process left behind before it wrote their batch down: nobody has seen them."""
        for path in self.folder.glob("*.requests"):
            state = self._path(path.stem, "json")
            handle = None if state.exists() else self.lock(path.stem)
            if handle is not None:
                if not state.exists():
                    self.remove(path.stem)
                handle.close()

    def knows(self, token: str) -> bool:
        """Whether the batch is remembered, whatever can be read of it."""
        return os.path.lexists(self._path(token, "json"))

    def read(self, token: str) -> BatchState | None:
        """The batch as its file says now; None when it is done and gone."""
        return read_state(self._path(token, "json"))

    def save(self, state: BatchState) -> None:
        """Write `state`, durably."""
        fields = dataclasses.asdict(state)
        data = {"version": _VERSION, **{_KEYS.get(name, name): value for name, value in fields.items()}}
        atomic_write_text(self._path(state.token, "json"), sealed(data))

    def remove(self, token: str) -> None:
        """Forget a batch. The state goes last, so that nothing is ever left without one."""
        for kind in ("results", "requests", "json", "lock"):  # results: of versions that gave that file a name
            self._path(token, kind).unlink(missing_ok=True)

    def lock(self, token: str) -> IO[bytes] | None:
        """Hold a batch that is being handed in; None when another process does. Close it to let go."""
        handle = open(self._path(token, "lock"), "ab")  # noqa: SIM115 - held by the caller
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            return None
        if not self._path(token, "lock").exists() or os.fstat(handle.fileno()).st_nlink == 0:
            handle.close()
            return None
        return handle

    def unlock(self, token: str, handle: IO[bytes]) -> None:
        """Let go of a batch that the provider has."""
        self._path(token, "lock").unlink(missing_ok=True)
        handle.close()

    def close(self) -> None:
        """Remove what is not meant to last."""
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                self._temporary.cleanup()
