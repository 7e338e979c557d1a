"""Makes a workspace to keep, with the version that is checked out: a run that finished with an export, and one that was
cancelled while it trained. `python -m tests.old_workspaces.make tests/old_workspaces/VERSION.tar.xz`."""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
from pathlib import Path

from localdistill import Measured, RunFolder, Workspace, cancel, parse_recipe, start, wait
from tests.helpers import wait_for
from tests.old_workspaces import PLACE, moved
from tests.stages.test_chain import RECIPE, story
from tests.tiny_models import tiny_model

STOPPED = (RECIPE.replace('name = "chain"', 'name = "stopped"').replace('arm = "full"', 'arm = "summary"')
           .replace("max_steps = 3", "checkpoint_every_steps = 2\nepochs = 4"))
_OF_THE_MACHINE = ("log.txt", "lock")


def make(folder: Path) -> None:
    """Fill `folder`: student, questions, a recording of the teacher, and two runs."""
    tiny_model(folder / "student", "llama", hidden=32, layers=2)
    rows = [story(n) for n in range(24)]
    replies = [{"messages": row["messages"], "answer": f"The answer is {n + 5 + (n % 8 == 0)}.",
                "reasoning": f"First {n} + 3 = {n + 3}. Then {n + 3} + 2 = {n + 5}. Wait, yes."}
               for n, row in enumerate(rows)]
    for name, lines in (("questions", rows), ("held_out", [story(n) for n in range(20, 30)]), ("recording", replies)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    workspace = Workspace(folder)
    done = start(workspace, parse_recipe(RECIPE), RECIPE, folder)
    assert wait(done).state == "finished"
    stopped = start(workspace, parse_recipe(STOPPED), STOPPED, folder)
    wait_for(lambda: _has_trained(stopped))
    cancel(workspace, stopped.id)
    assert wait(stopped).state == "cancelled"


def _has_trained(run: RunFolder) -> bool:
    return any(isinstance(event, Measured) and event.stage == "train" for event, _ in run.events())


def pack(folder: Path, archive: Path) -> None:
    """Write `folder` into `archive`, without what tells of this machine."""
    for request in folder.glob("runs/*/request.json"):
        request.write_text(moved(request.read_text(), str(folder), PLACE))

    def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return None if Path(entry.name).name in _OF_THE_MACHINE else entry

    with tarfile.open(archive, "w:xz", preset=9) as files:
        files.add(folder, ".", filter=anonymous)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        make(Path(made))
        pack(Path(made), Path(sys.argv[1]))
