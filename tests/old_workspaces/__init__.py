"""Workspaces as released versions wrote them, small and packed: what one version made opens in every later one.

`python -m tests.old_workspaces.make FILE.tar.xz`, run in a checkout of a release, makes one more."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from localdistill.core.seals import sealed

FOLDER = Path(__file__).parent
PLACE = "@WORKSPACE@"
"""Stands in packed request files for the folder that the workspace lay in."""


def packed() -> list[Path]:
    """Every workspace that is kept, oldest first."""
    return sorted(FOLDER.glob("*.tar.xz"))


def unpack(archive: Path, to: Path) -> Path:
    """The workspace in `archive`, laid into `to` as if it had been made there."""
    with tarfile.open(archive) as files:
        files.extractall(to, filter="data")
    for request in to.glob("runs/*/request.json"):
        request.write_text(moved(request.read_text(), PLACE, str(to)))
    return to


def moved(request: str, before: str, now: str) -> str:
    """A request file with another folder in it, under a checksum where it had one."""
    said = json.loads(request.replace(before, now))
    return sealed(said) if said.pop("checksum", None) else json.dumps(said)
