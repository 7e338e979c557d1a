"""The workspace that is attacked: small, finished by the real commands, with a file of every kind that a workspace
holds. It is made once and kept beside the sources that made it, so that one case can be repeated on the very same
bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from localdistill import (
    Recipe,
    RunFolder,
    Workspace,
    import_file,
    judge,
    list_runs,
    list_traces,
    open_store,
    parse_recipe,
    resume,
    start,
    wait,
)
from localdistill.engines.wire.batch.states import BatchFolder, BatchState
from localdistill.engines.wire.probe_report import Probe
from localdistill.spending.ledger import SpendLedger
from localdistill.stages.rechecking import keep_probe
from tests.attack.results import acknowledged_of
from tests.attack.teacher import KEY_VARIABLE, USD_PER_MILLION, Teacher, teaching
from tests.helpers import REPO, kill_everything, wait_for
from tests.tiny_models import tiny_model

QUESTIONS = 16
HELD = range(500, 508)
"""Questions of the run that is killed: the second half is not answered."""
BROKEN = 103
"""The question whose reply is bytes that nobody can read."""
STAGES = ("collect", "grade", "select", "rewrite", "format", "train", "evaluate", "export")
CAP_USD = 3.0
KEPT = 3
"""Victims of earlier sources."""
PAID = f"""use = "openai_compatible"
base_url = "http://127.0.0.1:PORT/v1"
model = "counter"
api_key_env = "{KEY_VARIABLE}"
usd_per_million_input = {USD_PER_MILLION[0]}
usd_per_million_output = {USD_PER_MILLION[1]}
concurrency = 4
retries = 2
backoff_s = 0.01
patience_s = 2.0
"""
WHOLE = f"""name = "whole"
max_usd = {CAP_USD}
[prompts]
files = ["questions.jsonl"]
[collect]
max_tokens = 64
[teacher]
{PAID}
[traces.brief]
from = "teacher"
rewrite = "summarize"
summarizer = "teacher"
max_tokens = 64
[[grade]]
use = "exact"
[[label]]
use = "tokens"
[[filter]]
use = "verified"
[[filter]]
use = "duplicates"
[student]
model = "student"
max_tokens = 400
[arm.brief]
traces = "brief"
format = "reasoning_then_answer"
[arm.full]
format = "full_trace"
[train]
use = "torch_lora"
rank = 4
max_steps = 3
batch_rows = 4
[evaluate]
max_tokens = 12
[[evaluate.task]]
use = "jsonl"
path = "held_out.jsonl"
grader = "exact"
[export]
arm = "full"
[[export.to]]
use = "gguf"
quants = ["F16", "Q8_0"]
[[export.to]]
use = "ollama"
"""
PARTIAL = f"""name = "partial"
max_usd = {CAP_USD}
[prompts]
files = ["more.jsonl"]
[collect]
max_tokens = 64
[teacher]
{PAID}
[[grade]]
use = "exact"
[[filter]]
use = "verified"
"""
KILLED = PARTIAL.replace("partial", "killed").replace("more", "held")
UNCLOSED = """import os, sys
from pathlib import Path
from localdistill import Workspace, import_file
from localdistill.store import session
held = []
session._detach = lambda path, con: held.append(con)
connect = session._connect
session._connect = lambda path, read_only: held.pop() if held else connect(path, read_only)
import_file(Workspace(Path(sys.argv[1])), Path(sys.argv[2]))
os._exit(0)
"""


@dataclass(frozen=True)
class Victim:
    """One finished workspace, and what it was made of."""

    folder: Path
    """Holds `workspace`, which is attacked as a copy, and `home`: the files that recipes name, which are the user's."""
    port: int
    """Of its teacher."""

    @property
    def workspace(self) -> Path:
        """The finished one. Never changed once it is made."""
        return self.state("workspace")

    def state(self, name: str) -> Path:
        """The workspace at another time: `before-STAGE`, or `unclosed` with a store that was not closed."""
        return self.folder / name

    @property
    def home(self) -> Path:
        """Where recipes start from."""
        return self.folder / "home"


def sources_digest() -> str:
    """What decides the victim's files: the sources."""
    digest = hashlib.sha256()
    for top in ("localdistill", "tests/attack", "tests/tiny_models.py"):
        place = REPO / top
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.relative_to(REPO).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def usual_folder() -> Path:
    """Where the victim of these sources is kept."""
    return Path(tempfile.gettempdir()) / f"localdistill-attack-{os.getuid()}" / sources_digest()


@contextmanager
def victim_at(folder: Path) -> Iterator[Victim]:
    """The victim kept in `folder`, made there when there is none, with its teacher running."""
    about = folder / "victim.json"
    port = json.loads(about.read_text())["port"] if about.is_file() else 0
    with teaching(port) as teacher:
        found = Victim(folder, teacher.port)
        if not about.is_file():
            _forget_old(folder)
            make(found, teacher)
            about.write_text(json.dumps({"port": found.port}))
        yield found


def _forget_old(folder: Path) -> None:
    """What is half made, and victims of sources that are no more."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder == usual_folder() and folder.parent.is_dir():
        others = [path for path in folder.parent.iterdir() if path.is_dir()]
        for old in sorted(others, key=lambda path: path.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def make(victim: Victim, teacher: Teacher) -> None:
    """Fill the folder: a run that stopped, an import, a judgement, and a run that went through all stages; and what lay
    there before each of them."""
    home = victim.home
    home.mkdir(parents=True)
    tiny_model(home / "student", "llama", hidden=32, layers=2)
    for name, numbers in (("questions", range(QUESTIONS)), ("more", range(100, 106)), ("held_out", range(200, 206)),
                          ("held", HELD)):
        _write_rows(home / f"{name}.jsonl", [_question(number) for number in numbers])
    for name, numbers in (("foreign", range(300, 304)), ("late", range(400, 410))):
        _write_rows(home / f"{name}.jsonl", [_answered(number) for number in numbers])
    os.environ[KEY_VARIABLE] = "maker"
    workspace = Workspace(victim.workspace)
    teacher.broken = {BROKEN}
    partial = start(workspace, *_recipe(PARTIAL, victim), home)
    _ended(partial, "partial")
    _leave_notes(workspace, partial)
    teacher.broken, teacher.held = set(), set(HELD[len(HELD) // 2:])
    import_file(workspace, home / "foreign.jsonl")
    judge(workspace, list_traces(workspace, limit=1)[0]["trace_id"], False, "looked at it")
    recipe, text = _recipe(WHOLE, victim)
    run = RunFolder.create(workspace.runs, recipe, text, {"stages": recipe.stages(), "base": str(home)})
    for stage in recipe.stages():
        run.amend_request(stages=[stage])
        _copy(workspace.root, victim.state(f"before-{stage}"))
        _ended(resume(workspace, run.id), "finished")
    run.amend_request(stages=recipe.stages())
    _kill_one(start(workspace, *_recipe(KILLED, victim), home), teacher)
    open_store(workspace)
    _leave_unclosed(victim)


def _kill_one(run: RunFolder, teacher: Teacher) -> None:
    """A run that was killed while it asked: its journal is open, with the answers that came. Other runs are newer."""
    wait_for(lambda: acknowledged_of(run) == len(HELD) // 2 and _is_said(run))
    kill_everything(run)
    teacher.held = set()
    early = list_runs(run.path.parent)[0].started_at() - 60
    os.utime(run.path / "request.json", (early, early))


def _is_said(run: RunFolder) -> bool:
    """The status speaks of all that the run did."""
    said = run.status().data
    return said.get("done") == len(HELD) // 2 and run.held(has_ended=False).items() <= said.items()


def _leave_notes(workspace: Workspace, run: RunFolder) -> None:
    """What is known of a teacher, and of a batch that a run has under way at a provider."""
    keep_probe(workspace, Probe("api.example.com/counter", "api.example.com", "counter", "2026-11-21T08:00:00+00:00",
                                provider="deepseek", reasoning="raw"))
    token = "0123456789abcdef"
    with closing(SpendLedger(run.calls)) as ledger:
        ticket = ledger.reserve(10, "api.example.com/counter", 2, token)
    BatchFolder(workspace.batches).save(BatchState(token, "openai_compatible", "https://api.example.com/v1", "counter",
                                                   f"{run.id}/{run.calls.name}", ticket, ["a", "b"], [5, 5]))


def _leave_unclosed(victim: Victim) -> None:
    """A store whose newest rows are in its log alone, as a process leaves it that dies."""
    _copy(victim.workspace, victim.state("unclosed"))
    subprocess.run([sys.executable, "-c", UNCLOSED, str(victim.state("unclosed")), str(victim.home / "late.jsonl")],
                   check=True, cwd=REPO)
    assert (victim.state("unclosed") / "localdistill.duckdb.wal").stat().st_size


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)


def _recipe(recipe: str, victim: Victim) -> tuple[Recipe, str]:
    text = recipe.replace("PORT", str(victim.port))
    return parse_recipe(text), text


def _ended(run: RunFolder, state: str) -> None:
    status = wait(run)
    assert status.state == state, (status.data, run.log.read_text()[-3000:])


def _question(number: int) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": f"Double {number}"}], "reference": str(2 * number)}


def _answered(number: int) -> dict[str, object]:
    said = {"role": "assistant", "content": f"<think>\ntwice {number}\n</think>\n\nIt is {2 * number}."}
    return {"messages": [{"role": "user", "content": f"Double {number}"}, said], "model": "elsewhere", "licence": "MIT"}


def _write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
