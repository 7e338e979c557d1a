"""Notices that a teacher is no longer what it was: reports of probes kept in the workspace, a watch on rejected
replies, and the second look that it asks for. Decides nothing: the stage says what was found and goes on."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from localdistill.core.errors import Cancelled, LocalDistillError
from localdistill.core.events import Cancel, Warned
from localdistill.core.records import Reply, Status, content_id
from localdistill.core.seals import sealed, unsealed, why_unread
from localdistill.engines.base import Engine
from localdistill.engines.wire.probe_report import Probe, compare, shown, text_fields
from localdistill.safety.files import atomic_write_text
from localdistill.spending.ledger import SpendLedger
from localdistill.workspace.folder import Workspace

FOLDER = "teachers"


def keep_probe(workspace: Workspace, probe: Probe) -> None:
    """Write `probe` down as the last one of its teacher."""
    path = workspace.root / FOLDER / _file_name(probe.identity)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, sealed(probe.to_json(), indent=1, ensure_ascii=False) + "\n")


def last_probe(workspace: Workspace, identity: str) -> Probe | None:
    """The last probe of the engine with this identity (host, model, thinking switch); None when there is none that can
    be read: then the workspace is told why."""
    probe = _read(workspace, _file_name(identity))
    return probe if probe is not None and probe.identity == identity else None


def probes(workspace: Workspace) -> Iterator[Probe]:
    """Every probe that is kept, the newest first; the workspace is told which cannot be read."""
    found = [probe for path in probe_files(workspace) if (probe := _read(workspace, path.name)) is not None]
    yield from sorted(found, key=lambda probe: probe.probed_at, reverse=True)


def _file_name(identity: str) -> str:
    """Readable, and one for each identity."""
    readable = re.sub(r"[^a-z0-9.-]+", "_", identity.lower()).strip("._")[:80]
    return f"{readable}-{content_id('teacher', identity).removeprefix('b2:')[:8]}.json"


def probe_files(workspace: Workspace) -> list[Path]:
    """The files of all probes."""
    return sorted((workspace.root / FOLDER).glob("*.json"))


def read_probe(path: Path) -> Probe | None:
    """The probe in a file; None when there is none: who removed it asked to forget it. LocalDistillError when it is
    not what was written, or a link to a file that is gone."""
    try:
        if (probe := Probe.from_json(unsealed(path.read_bytes()))) is not None:
            return probe
        why = "holds no report of this version"
    except FileNotFoundError:
        if not path.is_symlink():
            return None
        why = "is a link to nothing"
    except (OSError, ValueError, RecursionError) as error:
        why = why_unread(error)
    raise LocalDistillError(f"the report of a probe in {FOLDER}/{path.name} is damaged: it {why}",
                            "localdistill teacher probe asks the teacher again")


def _read(workspace: Workspace, name: str) -> Probe | None:
    try:
        return read_probe(workspace.root / FOLDER / name)
    except LocalDistillError as error:
        workspace.emit(Warned(error.message, error.hint))
        return None


class RejectionWatch:
    """Fires once when the share of bad replies among the last ones has risen for good."""

    WINDOW = 50
    SHARE = 0.3
    TIMES = 2.0

    def __init__(self, before: float | None = None) -> None:
        """before: the share of bad replies that is usual for this teacher; None takes that of the first window."""
        self.before = before
        self.fired = False
        self._last: deque[bool] = deque(maxlen=self.WINDOW)
        self._counted = 0

    @property
    def share(self) -> float:
        """The share of bad replies in the window."""
        return sum(self._last) / len(self._last) if self._last else 0.0

    def saw(self, status: Status) -> bool:
        """Take one reply in. True once: when of the last WINDOW replies more than SHARE are not complete, and at least
        TIMES as many as usual."""
        self._last.append(status != "complete")
        self._counted += 1
        if self._counted < self.WINDOW or self.fired:
            return False
        if self.before is None:
            self.before = self.share
            return False
        self.fired = self.share > self.SHARE and self.share >= self.TIMES * self.before
        return self.fired


class SilenceWatch:
    """Fires when none of a teacher's first replies that say something shows reasoning."""

    def __init__(self, within: int) -> None:
        """within: how many; 0 never fires."""
        self._within, self._hidden = within, 0
        self._carriers: dict[str, None] = {}
        self.count = 0
        self.fired = False

    @property
    def seen(self) -> str:
        """What was seen instead, for an error."""
        carriers = ", ".join(self._carriers) or "nothing"
        hidden = f", though {self._hidden:,} tokens of it are counted" if self._hidden else ""
        return f"none of its first {self.count} replies shows reasoning{hidden} (text came in: {carriers})"

    def saw(self, reply: Reply) -> None:
        """Take one reply in. Those that failed or were refused tell nothing."""
        if self.fired or not self._within or reply.status not in ("complete", "length", "reasoning_only"):
            return
        if reply.reasoning:
            self._within = 0
            return
        self.count += 1
        self._hidden += 0 if reply.usage.estimated else reply.usage.reasoning_tokens
        self._carriers.update(dict.fromkeys(text_fields(reply.raw)))
        self.fired = self.count >= self._within


def recheck(engine: Engine, old: Probe | None, ledger: SpendLedger, cancel: Cancel,
            keep: Callable[[Probe], None] | None = None) -> list[str]:
    """Probe `engine` again and say what changed since `old`, one sentence each; what it costs goes into `ledger`.

    Without `old` the sentences say what it is now. A probe that fails says why and raises nothing but Cancelled: a run
    must not end of it. Engines that ask no server cannot change and give an empty list. `keep` gets the new probe.
    """
    from localdistill.engines.wire.engine import WireEngine
    from localdistill.engines.wire.probe import probe

    if not isinstance(engine, WireEngine):
        return []
    try:
        new = probe(engine, ledger, cancel, finds_limits=False)
    except Cancelled:
        raise
    except LocalDistillError as problem:
        return [f"it could not be probed again: {shown(problem.message)}"]
    if keep is not None:
        keep(new)
    if old is None:
        return [f"its reasoning is {new.reasoning}: {new.evidence}", *new.notes]
    return compare(old, new) or ["a probe finds it as it was"]
