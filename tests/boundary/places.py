"""A workspace and its surroundings in which every text tries something: traces, runs, score cards, exports, recipes,
files to import, model files, keys, consents, reports of probes."""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from localdistill import RunFolder, Workspace, parse_recipe, shipped_path
from localdistill.engines.wire.probe_report import Probe, RateLimit
from localdistill.safety.record_lines import encode
from localdistill.scorecard import ContestantResult, ItemResult, ScoreCards, build_score_card
from localdistill.stages.outputs import (
    ArmAdapter,
    EvaluateOutput,
    ExportOutput,
    TermsOfUse,
    TrainOutput,
    read_output,
    write_output,
)
from localdistill.stages.rechecking import keep_probe
from tests.boundary.corpus import EVIL, FILE_NAME, LONG, WORKSPACE_NAME
from tests.tui import chain, prepared

EVIL_RUN = "SEEN\x1b[2J\x1b]0;PWN\x07[@click=app.bell]x-1"
WHOLE = EVIL.replace("\ud83d", "")
"""Hostile, and what UTF-8 can hold."""


@dataclass(frozen=True)
class Place:
    """Where hostile things are."""

    root: Path
    """The workspace."""
    server: str
    """Address of a hostile server; empty: none runs."""

    run = "garden-1"
    evil_run = EVIL_RUN

    @property
    def recipe(self) -> Path:
        """A recipe that can be read, of a hostile name."""
        return self.root / f"{FILE_NAME}.toml"

    @property
    def asking(self) -> Path:
        """A recipe that asks the hostile server."""
        return self.root / f"asking {FILE_NAME}.toml"

    @property
    def broken(self) -> Path:
        """A recipe that cannot be read."""
        return self.root / f"broken {FILE_NAME}.toml"

    @property
    def wrong(self) -> Path:
        """A recipe with many hostile problems."""
        return self.root / f"wrong {FILE_NAME}.toml"

    @property
    def older(self) -> Path:
        """A recipe of an older shape."""
        return self.root / f"older {FILE_NAME}.toml"

    @property
    def rows(self) -> Path:
        """A file of hostile rows to import."""
        return self.root / f"rows {FILE_NAME}.jsonl"

    @property
    def damaged_rows(self) -> Path:
        """A file that breaks off in the middle of something hostile."""
        return self.root / f"damaged {FILE_NAME}.jsonl"

    @property
    def zipped_rows(self) -> Path:
        """A compressed file that is none."""
        return self.root / f"zipped {FILE_NAME}.jsonl.gz"

    @property
    def model(self) -> Path:
        """A GGUF file that works, of a hostile name."""
        return self.root / f"model {FILE_NAME}.gguf"

    @property
    def broken_model(self) -> Path:
        """A GGUF file that does not."""
        return self.root / f"broken {FILE_NAME}.gguf"

    @property
    def student(self) -> Path:
        """A model folder with a hostile config."""
        return self.root / f"student {FILE_NAME}"

    @property
    def environment(self) -> dict[str, str | None]:
        """What commands are run with: keys of its own."""
        return {"LOCALDISTILL_CONFIG": str(self.root / "config"), "NO_COLOR": None, "TERM": "xterm-256color"}

    def with_server(self, address: str) -> Place:
        """The same, with a server."""
        self.asking.write_text(_ASKING.format(url=address))
        return replace(self, server=address)


_ASKING = """
name = "asking"
description = "x\\u001B]0;PWN\\u0007 [red]\\u202E"
[prompts]
files = ["asked.jsonl"]
[engine."\\u001B[31mPWN\\u202E"]
use = "openai_compatible"
base_url = "{url}"
model = "\\u001B[31mPWN\\u009B31m\\u202E[red]"
[traces."\\u001B[31msetPWN"]
ask = "\\u001B[31mPWN\\u202E"
[[grade]]
use = "exact"
[student]
model = "shipped:pantry/student"
max_tokens = 128
[arm."\\u001B[31marmPWN\\u202E"]
format = "answer_only"
"""
_WRONG = """
name = "x\\u001B]0;PWN\\u0007"
"\\u001B[31mkeyPWN\\u202E" = 3
[prompts]
files = ["\\u001B[31mPWN\\u202E.jsonl"]
layout = "\\u009B31mPWN"
[engine."\\u001B[31mPWN\\u202E"]
use = "\\u001B[31mPWN\\u202E"
[[grade]]
use = "\\u001B]52;c;UFdORUQ=\\u0007"
[arm."\\u001B[31marmPWN"]
format = "\\u202E"
[[filter]]
use = "where"
condition = "\\u001B[31mPWN = 1"
"""
_OLDER = """
name = "old"
[traces]
files = ["\\u001B[31mPWN.jsonl"]
[[arm]]
name = "\\u001B[31mPWN"
format = "full_trace"
"""


def hostile_place(folder: Path) -> Place:
    """Make it in the folder `folder`."""
    root = folder / WORKSPACE_NAME
    shutil.copytree(chain.hostile(), root)
    (root / f"{FILE_NAME}.log").write_text(EVIL, errors="surrogatepass")
    place, workspace = Place(root, ""), Workspace(root)
    _, run = prepared.begun(root)
    _finished(workspace, run)
    evil_run(workspace)
    _recipes(place)
    _rows(place)
    _models(place)
    _state(place, workspace)
    return place


def _finished(workspace: Workspace, run: RunFolder) -> None:
    """A run with adapters, a score card and an export of hostile names."""
    digest = prepared.export(workspace, run, [])
    made = read_output(run, ExportOutput)
    write_output(run, replace(made, arm=EVIL, terms=TermsOfUse(EVIL, (EVIL,)), not_measured=(EVIL, LONG)))
    adapters = {f"{arm} {EVIL}": (ArmAdapter(digest, 0, _result()),) for arm in ("a", "b")}
    write_output(run, TrainOutput(adapters))
    models = [ContestantResult(f"{name} {WHOLE}", 0, WHOLE, False, 3, WHOLE, tuple(_items(right)))
              for name, right in (("base", 3), ("arm", 9))]
    card = build_score_card(models, base=f"base {WHOLE}", task=WHOLE, grader=WHOLE)
    cards = prepared._artifact(workspace, "scorecard", "hostile", {
        "scorecard.json": ScoreCards((card,)).to_bytes(), "scorecard.txt": b"", "scorecard.md": b""})
    write_output(run, EvaluateOutput(cards, EVIL))
    _state_of(run, "finished")


def _result() -> Any:
    from localdistill.trainers.report import TrainingResult

    return TrainingResult(40, 2.0, 900, 0.4, 61.0, 1_200_000_000)


def _items(right: int) -> Iterator[ItemResult]:
    for number in range(12):
        yield ItemResult(f"b2:{number}{WHOLE}", float(number < right), True, False, 5, WHOLE, WHOLE, WHOLE)


def _state_of(run: RunFolder, state: str) -> None:
    (run.path / "lock").touch()
    (run.path / "events.jsonl").write_text("\n".join(json.dumps({"at": 1.0 + n, **fact})
                                                     for n, fact in enumerate(evil_events())) + "\n")
    (run.path / "status.json").write_text(json.dumps(_status(state)))


def evil_events() -> Iterator[dict[str, Any]]:
    """Facts whose every text tries something, and some that make no sense."""
    yield {"kind": "run_started", "run_id": EVIL, "recipe": EVIL, "stages": ["collect", EVIL, "train", "export"]}
    yield {"kind": "stage_started", "stage": "collect"}
    yield {"kind": "stage_started", "stage": EVIL}
    for text in (EVIL, LONG):
        yield {"kind": "noted", "stage": "collect", "text": text}
        yield {"kind": "warned", "stage": "collect", "text": text, "hint": text}
    yield {"kind": "counted", "stage": "collect", "what": EVIL, "counts": {EVIL: 3, "b": 4}, "arm": EVIL}
    yield {"kind": "counted", "stage": "select", "what": "waterfall", "counts": {EVIL: 3, f"- {EVIL}": 4}}
    for step in range(5):
        for name in ("loss", "learning_rate", "tokens_per_s", EVIL):
            yield {"kind": "measured", "stage": "train", "name": name, "value": 1.0 / (step + 1), "step": step,
                   "arm": EVIL}
    yield {"kind": "measured", "stage": "train", "name": "loss", "value": float("nan"), "step": 6, "arm": EVIL}
    yield {"kind": "measured", "stage": [], "name": {}, "value": "x", "step": None, "arm": 3}
    yield {"kind": "artifact_written", "artifact_kind": EVIL, "digest": EVIL, "label": EVIL}
    yield {"kind": "artifact_written", "artifact_kind": "adapter", "digest": EVIL, "label": f"{EVIL}, seed 0"}
    yield {"kind": "stage_finished", "stage": EVIL, "elapsed_s": 3}
    yield {"kind": EVIL, "x": 1}
    yield {"kind": "failed", "stage": "collect", "text": EVIL, "hint": EVIL}


def _status(state: str) -> dict[str, Any]:
    return {"state": state, "recipe": EVIL, "stage": EVIL, "label": EVIL, "done": 3, "total": 9, "unit": EVIL,
            "counters": {EVIL: 3.0, "errors": 2}, "tail": EVIL + LONG, "tail_answer": EVIL, "tail_of": EVIL,
            "tables": {"replies": {EVIL: 3}, "errors": {EVIL: 9}, EVIL: {EVIL: 1}}, "message": EVIL, "hint": EVIL,
            "updated_at": 1.0}


def evil_run(workspace: Workspace) -> None:
    """A run that failed, with hostile facts, status, log, quarantine and parity report, under a hostile name."""
    text = prepared.RECIPE
    run = RunFolder.create(workspace.runs, parse_recipe(text), text, {
        "stages": ["collect", "train", "evaluate", "export"], "base": str(workspace.root)})
    folder = run.path.rename(run.path.with_name(EVIL_RUN))
    _state_of(RunFolder(folder), "failed")
    with open(folder / "events.jsonl", "ab") as events:
        events.write(b"not json\n\x1b]0;PWN\x07\n\xff\xfe\n")
    (folder / "log.txt").write_bytes(EVIL.encode("utf-8", "surrogatepass") + b"\xff\xfe\x1b]0;PWN\x07\n")
    body = base64.b64encode(EVIL.encode("utf-8", "surrogatepass") + b"\xff\x9b").decode()
    (folder / "quarantine.jsonl").write_bytes(encode({
        "request": EVIL, "prompt": EVIL, "teacher": EVIL, "error": EVIL, "body": body, "at": 1.0}))
    (folder / "parity.json").write_text(json.dumps({"passed": False, "compute": EVIL, "items": [
        {"name": EVIL, "passed": False, "figure": 1, "threshold": 0, "detail": EVIL},
        {"name": LONG, "passed": True, "figure": 1, "threshold": 0, "detail": LONG}]}))


def _recipes(place: Place) -> None:
    place.recipe.write_text(prepared.RECIPE.replace(
        "Stories about fruit, twenty-four of them.", "SEEN \\u001B]0;PWNTITLE\\u0007 [@click=app.bell]x[/] \\u202E"))
    place.asking.write_text(_ASKING.format(url="http://127.0.0.1:9/v1"))
    place.broken.write_bytes(b"name = \x1b]0;PWN\x07\xff")
    place.wrong.write_text(_WRONG)
    place.older.write_text(_OLDER)


def _rows(place: Place) -> None:
    rows = [{"messages": [{"role": "user", "content": f"{number} {EVIL}"},
                          {"role": "assistant", "content": f"<think>\n{EVIL}\n</think>\n\n{EVIL}"}],
             "reference": EVIL, "source": EVIL, "model": EVIL, "licence": EVIL} for number in range(4)]
    place.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    place.damaged_rows.write_bytes(json.dumps(rows[0]).encode() + b'\n{"messages": "\x1b]0;PWN\x07\xff\n')
    place.zipped_rows.write_bytes(gzip.compress(b"{}")[:-6] + b"\x1b]0;PWN\x07")
    asked = [{"messages": [{"role": "user", "content": f"{word} {WHOLE}"}], "reference": "2"}
             for word in ("answer", "refuse", "break")]
    (place.root / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))


def _models(place: Place) -> None:
    os.link(shipped_path("pantry/teacher.gguf"), place.model) if _same_disk(place) else shutil.copy(
        shipped_path("pantry/teacher.gguf"), place.model)
    place.broken_model.write_bytes(b"GGUF\x03\x00\x00\x00\xff\xff\xff\xff\x1b]0;PWN\x07" + bytes(64))
    place.student.mkdir()
    (place.student / "config.json").write_text(json.dumps({"model_type": EVIL, "architectures": [EVIL],
                                                           "num_hidden_layers": EVIL, EVIL: EVIL}))
    (place.student / "tokenizer_config.json").write_text(json.dumps({"chat_template": EVIL, "tokenizer_class": EVIL}))


def _same_disk(place: Place) -> bool:
    return shipped_path("pantry/teacher.gguf").stat().st_dev == place.root.stat().st_dev


def _state(place: Place, workspace: Workspace) -> None:
    """What is kept beside runs and store: consents, reports of probes, keys, settings."""
    (place.root / "consents.json").write_text(json.dumps([
        {"name": EVIL, "host": EVIL, "class": EVIL, "document": EVIL, "document_date": EVIL, "given": EVIL,
         "version": EVIL}]))
    keep_probe(workspace, Probe(
        EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, "summary", EVIL, (EVIL,), 5, EVIL, "works", True, 5, 5, EVIL, EVIL,
        (EVIL,), rate_limits=(RateLimit(EVIL, 1.0),), device=EVIL, notes=(EVIL,)))
    config = place.root / "config"
    config.mkdir()
    (config / "keys.json").write_text(json.dumps({
        "version": 1, "keys": [{"name": "EVIL_KEY", "host": EVIL, "source": "file", "key": "sk-x"}],
        "approvals": [{"name": EVIL, "host": EVIL}]}))
    (config / "keys.json").chmod(0o600)
    batches = place.root / "batches"
    batches.mkdir()
    (batches / f"{FILE_NAME}.json").write_text(json.dumps({"id": EVIL, "engine": EVIL}))


def said_of(place: Place) -> str:
    """Its parts, for a message."""
    return json.dumps({key: str(value) for key, value in asdict(place).items()})
