"""Adds every one of these members to a copy of the tree, each as a commit of one file and one line, for whoever wants
to run something there: `python -m tests.widening.adding FOLDER`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import REPO

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Addition:
    """A member, and the one line that lists it."""

    what: str
    family: str
    """The folder."""
    name: str
    cls: str


ADDITIONS = (
    Addition("a format that makes pairs", "formats", "briefest", "BriefestFormat"),
    Addition("a grader with a judge", "graders", "second_opinion", "SecondOpinionGrader"),
    Addition("a label with a scorer", "labels", "likelihood", "LikelihoodLabel"),
    Addition("an engine with a host and terms of its own", "engines", "far_model", "FarModelEngine"),
    Addition("an objective on pairs", "objectives", "simpo", "SimpoObjective"),
    Addition("a task with several samples of an item", "tasks", "drawn", "DrawnTask"),
    Addition("a task by likelihood", "tasks", "likelier", "LikelierTask"),
    Addition("a filter over a fact", "filters", "brief", "BriefFilter"),
    Addition("a trainer with a backend of its own", "trainers", "bag_of_tokens", "BagOfTokensTrainer"),
)


def add(addition: Addition, root: Path) -> None:
    """The file, and its line at its place in the family's table."""
    family = root / "localdistill" / addition.family
    shutil.copyfile(HERE / f"{addition.name}.py", family / f"{addition.name}.py")
    table = family / "__init__.py"
    before, start, rest = re.split(r"(, __name__, \{\n)", table.read_text(encoding="utf-8"), maxsplit=1)
    rows, end, after = re.split(r"(^\}\))", rest, maxsplit=1, flags=re.MULTILINE)
    lines = sorted([*rows.splitlines(keepends=True), f'    "{addition.name}": "{addition.cls}",\n'])
    table.write_text(before + start + "".join(lines) + end + after, encoding="utf-8")


def add_column(root: Path) -> None:
    """A field of a trace: a line in the record, and the migration that adds its column."""
    record = root / "localdistill/core/records.py"
    text = record.read_text(encoding="utf-8")
    end = "\n    @property\n    def is_rewritten"
    assert text.count(end) == 1
    field = '    mood: str = ""\n    """What the weather was like."""\n'
    record.write_text(text.replace(end, field + end), encoding="utf-8")
    schema = root / "localdistill/store/schema.py"
    text = schema.read_text(encoding="utf-8")
    end = "\n)\n\n\ndef _with_view"
    assert text.count(end) == 1
    step = """\n    Migration("the weather", ("ALTER TABLE traces ADD COLUMN mood VARCHAR DEFAULT ''",)),"""
    schema.write_text(text.replace(end, step + end), encoding="utf-8")


def copy_tree(root: Path) -> None:
    """What git keeps of this tree, as it is now, in `root`, as the first commit of a repository there."""
    files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=REPO,
                           capture_output=True, check=True).stdout
    for name in filter(None, files.decode().split("\0")):
        if (REPO / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPO / name, root / name)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    commit(root, "The tree as it is")


def commit(root: Path, message: str) -> str:
    """Everything that is new; what changed, file by file, apart from README's tree, which a script writes."""
    subprocess.run([sys.executable, "-m", "tests.readme_tree"], cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
                   check=True, capture_output=True)
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    name = ["-c", "user.name=a test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", *name, "commit", "-q", "-m", message], cwd=root, check=True)
    return subprocess.run(["git", "show", "--stat=100", "--format=%s", "HEAD", "--", ".", ":!README.md"], cwd=root,
                          capture_output=True, check=True, text=True).stdout


def widened(root: Path) -> list[str]:
    """A copy of the tree in `root`, with everything added; what each commit changed."""
    root.mkdir(parents=True)
    copy_tree(root)
    told = []
    for addition in ADDITIONS:
        add(addition, root)
        told.append(commit(root, addition.what))
    add_column(root)
    return [*told, commit(root, "a column of traces")]


if __name__ == "__main__":
    print("\n".join(widened(Path(sys.argv[1]))))
