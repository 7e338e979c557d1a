"""Forgetting on purpose: a prompt, or all of one source, leaves the store, every journal and every copy of it in the
workspace. What was trained or measured on it is named, not deleted. A note says what is being forgotten
until all of it is done, in names that tell nothing."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.events import Cancel, Emit, Progressed, silent
from localdistill.core.records import item_request_id
from localdistill.core.seals import sealed, unsealed
from localdistill.safety.closing import edit_lines
from localdistill.safety.files import atomic_write_bytes, atomic_write_text, partial_file
from localdistill.safety.frames import Reading
from localdistill.safety.journal import CLOSED, read_lines, sizes
from localdistill.safety.manifest import write_manifest
from localdistill.store import Store
from localdistill.store.forgetting import Names, datasets_with, names_of, replies_about, texts_of
from localdistill.workspace.ended_files import KEY as ENDED_SUMS
from localdistill.workspace.folder import BUILDING, FORGETTING, Artifact, Workspace
from localdistill.workspace.logprobs import write_table
from localdistill.workspace.rebuilding import rebuild_store
from localdistill.workspace.recovery import open_store
from localdistill.workspace.run_folder import GROW, RunFolder, list_runs

RECORD = "forgotten.json"
"""What was made of what was forgotten."""
_KINDS_WITH_ITEMS = ("answers", "scorecard", "export")
"""Artifacts that hold outputs of models beside the ids of prompts."""
_NAMES = tuple(part.name for part in dataclasses.fields(Names))
_MOST_REQUESTS = 64
_MOST_NEEDLES, _NEEDLE_CHARS, _LEAST_CHARS = 200, 60, 16
_NOT_SEARCHED = (".gguf", ".safetensors", ".duckdb", ".wal")
_MOST_HASHES = 2_000_000


@dataclass(frozen=True)
class Forgetting:
    """What would be forgotten, and what that reaches."""

    what: str
    names: Names
    replies: int = 0
    """Of engines to questions of members about it."""
    datasets: tuple[str, ...] = ()
    """Digests of datasets that were made of it: they go."""
    made: tuple[str, ...] = ()
    """What was trained, exported or measured on those, in words: it stays."""
    digests: tuple[str, ...] = ()
    """Of the same."""
    files: tuple[Path, ...] = ()
    """Older copies of the store: they go."""
    stays: tuple[str, ...] = ()
    """What cannot be removed, in words."""


@dataclass(frozen=True)
class Forgot:
    """What a forgetting did."""

    prompts: int
    traces: int
    lines: int
    """Of journals."""
    datasets: int
    still_in: tuple[str, ...]
    """Files of the workspace that still hold words of it: other prompts may say the same."""
    made: tuple[str, ...]
    stays: tuple[str, ...]


def plan_forgetting(workspace: Workspace, what: str) -> Forgetting:
    """What `forget` would do with a prompt (the beginning of its id, or of the id of an answer to it) or a source.
    UsageError where nothing fits. Changes nothing."""
    if not what.strip():
        raise UsageError("nothing is named that could be forgotten",
                         "localdistill forget PROMPT or SOURCE; `localdistill traces` lists them")
    store = open_store(workspace)
    names = store.sessions.run(lambda con: names_of(con, what)) if store.path.exists() else Names()
    if not (names.prompts or names.traces):
        raise UsageError(f"there is neither a prompt nor a source '{what}' here", 
                         "`localdistill traces` lists what is stored")
    return _planned(workspace, store, what, names)


def unfinished_forgetting(workspace: Workspace) -> Forgetting | None:
    """What was being forgotten when the process that did it was killed."""
    try:
        said = unsealed((workspace.root / FORGETTING).read_bytes())
        names = Names(*(tuple(map(str, said[key])) for key in _NAMES))
        datasets, made, digests = (tuple(map(str, said[key])) for key in ("datasets", "made", "digests"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        raise LocalDistillError(f"{FORGETTING} cannot be read: what was being forgotten is not known",
                                f"name it again; then remove {workspace.root / FORGETTING}") from None
    return Forgetting("what was begun", names, 0, datasets, made, digests, tuple(_older_stores(workspace)),
                      _stays(workspace))


def _planned(workspace: Workspace, store: Store, what: str, names: Names) -> Forgetting:
    names = dataclasses.replace(names, questions=tuple(_questions_about_items(workspace, names)))
    datasets = store.sessions.run(lambda con: datasets_with(con, names))
    made = list(_made_of(workspace, datasets, names))
    return Forgetting(
        what, names, store.sessions.run(lambda con: replies_about(con, names)), tuple(datasets),
        tuple(text for _, text in made), tuple(digest for digest, _ in made), tuple(_older_stores(workspace)),
        _stays(workspace))


def _stays(workspace: Workspace) -> tuple[str, ...]:
    found = ["files of your own that it was imported or asked from, and copies of the workspace elsewhere",
             "amounts that its calls cost, in the ledgers of runs: figures only"]
    if batches := sorted(path.name for path in workspace.batches.glob("*.requests")):
        found.append(f"{len(batches)} batches under way at providers hold their questions until they end "
                     f"(batches/{batches[0]})")
    return tuple(found)


def _older_stores(workspace: Workspace) -> Iterator[Path]:
    """Whatever lies beside the store and was a store."""
    name = workspace.store_path.name
    own = {name, f"{name}.wal", f"{name}.offsets.json"}
    yield from (path for path in sorted(workspace.root.glob(f"{name}.*")) if path.name not in own and path.is_file())


def _made_of(workspace: Workspace, datasets: Sequence[str], names: Names) -> Iterator[tuple[str, str]]:
    """Digest and words of all that was made from the datasets, and of what was measured on the prompts."""
    known, waiting, seen = workspace.list_artifacts(), list(datasets), set(datasets)
    users = {digest: run.id for run in list_runs(workspace.runs) for digest in _words_in(run)}
    while waiting:
        source = waiting.pop(0)
        for one in known:
            if one.digest not in seen and source in one.inputs:
                seen.add(one.digest)
                waiting.append(one.digest)
                yield one.digest, _named(one, users, "was made of it")
    for one in known:
        if one.digest not in seen and one.kind in _KINDS_WITH_ITEMS and any(_items_in(one, names)):
            yield one.digest, _named(one, users, "was measured on it")


def _named(one: Artifact, users: Mapping[str, str], how: str) -> str:
    run = users.get(one.digest)
    label = str(one.manifest.get("label", ""))
    return f"{one.kind} {one.path.name[:8]} {label}".strip() + (f" of run {run}" if run else "") + f" {how}"


def _words_in(run: RunFolder) -> set[str]:
    """Digests that the outputs of a run name."""
    found = set[str]()
    for path in (run.path / "stages").glob("*.json"):
        with suppress(OSError):
            found.update(re.findall(r"b2:[0-9a-f]{16,}", path.read_text(errors="replace")))
    return found


def forget(workspace: Workspace, plan: Forgetting, emit: Emit = silent, cancel: Cancel | None = None) -> Forgot:
    """Do it. UsageError while a run lives. Killed in between, it is said at the next look, and `unfinished_forgetting`
    is the plan that goes on. cancel: before the first change only; after that it is done to its end."""
    (cancel or Cancel()).check()
    names, runs = plan.names, list_runs(workspace.runs)
    if living := [run.id for run in runs if run.is_alive()]:
        raise UsageError(f"run {living[0]} is running", f"let it end, or: localdistill cancel {living[0]}")
    store = open_store(workspace)
    with ExitStack() as locks:
        for run in runs:
            locks.enter_context(run.hold())  # so that nobody resumes one meanwhile
        texts = store.sessions.run(lambda con: texts_of(con, names, _MOST_NEEDLES))
        note = {**{key: getattr(names, key) for key in _NAMES},
                **{key: getattr(plan, key) for key in ("datasets", "made", "digests")}}
        is_begun = (workspace.root / FORGETTING).exists()
        atomic_write_text(workspace.root / FORGETTING, sealed(note))
        if not names.all <= store.barred().all:
            store.forget(names)
        whole = [run for run in runs if is_begun or not any(map(run.lost_since, GROW))]
        lines = _edited_journals(workspace, store, runs, names, emit)
        for run in runs:
            _edit_run(run, names, texts, run in whole)
        for path in (*workspace.runs.glob("*/logprobs/*.parquet"), *workspace.retired.glob("*/logprobs/*.parquet")):
            _edit_logprobs(path, names)
        _remember(workspace, plan)
        for digest in plan.datasets:
            _remove_dataset(workspace, digest)
        for artifact in workspace.list_artifacts():
            _edit_artifact(artifact, names)
        for kind in ("answers", "replies"):  # half a measurement keeps replies until it is whole; it begins anew
            for half in (workspace.artifacts / kind).glob(f"{BUILDING}*"):
                shutil.rmtree(half, ignore_errors=True)
    rebuild_store(workspace, emit, is_kept=False)
    for path in _older_stores(workspace):
        path.unlink(missing_ok=True)
    (workspace.root / FORGETTING).unlink(missing_ok=True)
    return Forgot(len(names.prompts), len(names.traces), lines, len(plan.datasets), tuple(_still_in(workspace, texts)),
                  plan.made, plan.stays)


def _edited_journals(workspace: Workspace, store: Store, runs: Iterable[RunFolder], names: Names, emit: Emit) -> int:
    """Take it out of every journal, in a session: nobody else appends to one meanwhile."""
    kept = [path.with_name(path.name.removesuffix(CLOSED)) for path in workspace.retired.glob("*/quarantine.jsonl*")]
    paths = list(dict.fromkeys([*workspace.journals(), *(run.quarantine for run in runs), *kept]))

    def work(con: object) -> int:
        changed = 0
        for number, path in enumerate(path for path in paths if any(sizes(path))):
            changed += edit_lines(path, names.without)
            emit(Progressed("editing the journals", number + 1, len(paths), "journals"))
        return changed

    return store.sessions.run(work)


def _edit_run(run: RunFolder, names: Names, texts: Sequence[str], was_whole: bool) -> None:
    """Ids that a resume would look for, the tail of what was streamed last, and what is known of the files that were
    edited, unless something of them had been lost before. texts: of it, where they are known."""
    for name in run.lists.names():
        with suppress(LocalDistillError):  # one that is damaged is made again before anybody uses it
            ids = run.ids(name)
            if names.all.intersection(ids):
                run.write_ids(name, [one for one in ids if one not in names.all])
    if status := dict(run.status().data):
        tails = [tail for key in ("tail", "tail_answer") if (tail := str(status.get(key, "")).strip())]
        now = dict(status)
        if tails and (not texts or any(tail in text for tail in tails for text in texts)):
            now |= {"tail": "", "tail_answer": "", "tail_of": ""}
        if was_whole and ENDED_SUMS in now:
            now |= run.held()
        if now != status:
            run.write_status(now)


def _edit_logprobs(path: Path, names: Names) -> None:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, partitioning=None)
    except (pyarrow.ArrowException, OSError):
        path.unlink()  # nobody can read it, and it may be about any trace
        return
    rows = [place for place, one in enumerate(table.column("trace_id").to_pylist()) if one not in names.all]
    if len(rows) < len(table):
        with partial_file(path) as partial:
            kept = table.take(pyarrow.array(rows, pyarrow.int64()))
            write_table(kept, partial)


def _remember(workspace: Workspace, plan: Forgetting) -> None:
    """Keep what was made of what is forgotten: `exports` names it later."""
    if plan.digests:
        before = made_of_forgotten(workspace)
        day = time.strftime("%Y-%m-%d", time.gmtime())
        atomic_write_text(workspace.root / RECORD, sealed({**dict.fromkeys(plan.digests, day), **before}))


def made_of_forgotten(workspace: Workspace) -> Mapping[str, str]:
    """Digests of artifacts that were trained, exported or measured on what was forgotten later, with the day.
    LocalDistillError when that cannot be read."""
    try:
        return {digest: str(day) for digest, day in unsealed((workspace.root / RECORD).read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        raise LocalDistillError(f"{RECORD} cannot be read: what was made of what was forgotten is not known",
                                f"move {workspace.root / RECORD} away") from None


def _remove_dataset(workspace: Workspace, digest: str) -> None:
    found = workspace.find_artifact("dataset", digest)
    copies = workspace.damaged.glob(f"dataset-{digest.removeprefix('b2:')}-*")
    for folder in [*([found.path] if found else []), *copies]:
        shutil.rmtree(folder)


# ---- outputs beside the ids of prompts


def _records(value: Any) -> Iterator[dict[str, Any]]:
    """Every JSON object in `value` that speaks of one prompt."""
    if isinstance(value, dict):
        if isinstance(value.get("prompt_id"), str):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for below in value:
            yield from _records(below)


def _documents(artifact: Artifact) -> Iterator[tuple[Path, list[Any]]]:
    """Its JSON files, as the values that they hold: one, or one a line."""
    for name in artifact.manifest["files"]:
        path = artifact.path / name
        with suppress(OSError, ValueError, RecursionError):
            if path.suffix == ".json":
                yield path, [json.loads(path.read_bytes())]
            elif path.suffix == ".jsonl":
                yield path, [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _items_in(artifact: Artifact, names: Names) -> Iterator[dict[str, Any]]:
    """The records in it that are about forgotten prompts."""
    gone = set(names.prompts)
    for _, values in _documents(artifact):
        yield from (record for record in _records(values) if record["prompt_id"] in gone)


def _edit_artifact(artifact: Artifact, names: Names) -> None:
    """Leave scores and take texts out. Replies that only wait for their judge go as a whole where one is about it."""
    if artifact.kind == "replies" and _holds_reply(artifact, names):
        shutil.rmtree(artifact.path)
    if artifact.kind not in _KINDS_WITH_ITEMS or not any(_items_in(artifact, names)):
        return
    meta = {key: value for key, value in artifact.manifest.items() if key not in ("files", "layout", "checksum")}
    gone = set(names.prompts)
    for path, values in list(_documents(artifact)):
        for record in _records(values):
            if record["prompt_id"] in gone:
                for part in (record, *record.get("samples", ())):
                    part.update({key: "" for key, value in part.items()
                                 if isinstance(value, str) and key not in ("prompt_id", "category", "group", "name")})
        indent = 1 if path.suffix == ".json" else None
        text = "".join(json.dumps(value, indent=indent, ensure_ascii=True) + "\n" for value in values)
        atomic_write_bytes(path, text.encode())
    write_manifest(artifact.path, meta)


def _questions_about_items(workspace: Workspace, names: Names) -> list[str]:
    """Ids of the questions that evaluations asked of the prompts as items: judges are asked about them by these."""
    found, gone = list[str](), set(names.prompts)
    for artifact in workspace.list_artifacts():
        if artifact.kind == "answers":
            for _, values in _documents(artifact):
                found += [one for place, record in enumerate(_records(values)) if record["prompt_id"] in gone
                          for one in _item_ids(place, record["prompt_id"], len(record.get("samples", ())) or 1)]
    return list(dict.fromkeys(found))


def _item_ids(place: int, prompt: str, samples: int) -> list[str]:
    """All that an evaluation may have called its questions about one item."""
    return [item_request_id(place, prompt, number, sample) for number in range(_MOST_REQUESTS)
            for sample in range(samples)]


def _holds_reply(artifact: Artifact, names: Names) -> bool:
    ids = {row.get("request_id") for _, values in _documents(artifact) for row in values if isinstance(row, dict)}
    if len(ids) * len(names.prompts) > _MOST_HASHES:
        return True
    return any(item_request_id(place, prompt) in ids for prompt in names.prompts for place in range(len(ids)))


# ---- looking for what is left


def _still_in(workspace: Workspace, texts: Sequence[str]) -> Iterator[str]:
    """Files of the workspace that hold words of it still."""
    needles = sorted({form for text in texts for form in _needles(text)}, key=len, reverse=True)[:_MOST_NEEDLES]
    if not needles:
        return
    pattern = re.compile(b"|".join(map(re.escape, needles)))
    for path in sorted(path for path in workspace.root.rglob("*") if path.is_file() and not path.is_symlink()):
        if path.suffix in _NOT_SEARCHED:
            continue
        with suppress(OSError):
            if path.name.endswith(f".jsonl{CLOSED}"):
                lines = read_lines(path.with_name(path.name.removesuffix(CLOSED)), 0, Reading())
                holds = any(pattern.search(line) for line, _ in lines)
            else:
                holds = pattern.search(path.read_bytes()) is not None
            if holds:
                yield path.relative_to(workspace.root).as_posix()


def _needles(text: str) -> Iterator[bytes]:
    """A part of it that hardly anything else says, as files hold it: plain and as JSON."""
    line = max(text.splitlines() or [""], key=len).strip()[:_NEEDLE_CHARS]
    if len(line) >= _LEAST_CHARS:
        yield line.encode("utf-8", "surrogatepass")
        yield json.dumps(line)[1:-1].encode()
