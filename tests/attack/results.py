"""What a run comes to, without what time and order of arrival decide: two runs that end alike have equal results,
whatever happened to one of them on the way."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from localdistill import RunFolder, Workspace, list_runs, open_store, saved_selections
from localdistill.safety.journal import read

RUN = "whole-1"
_OF_THE_WAY = {"created_at", "elapsed_s", "peak_memory_bytes", "peak_bytes", "spent_usd", "cost_usd", "saved_at", "raw",
               "checksum"}
"""Fields that time decides, or how often something had to be asked."""
_FILES_OF_THE_WAY = ("manifest.json", "result.json", "training.json", "README.md", "served.json")
"""Files that hold such."""


def stored_in(workspace: Workspace) -> dict[str, Any]:
    """Everything that the store of a workspace holds, its order aside. Errors are raised."""
    store = open_store(workspace)
    traces = list(store.traces())
    facts = store.facts([*(trace.id for trace in traces), *(prompt.id for prompt in store.prompts())])
    return {
        "prompts": sorted(prompt.id for prompt in store.prompts()),
        "traces": {trace.id: _plain(trace) for trace in traces},
        "facts": {subject: sorted(map(_plain, said), key=str) for subject, said in facts.items()},
        "selections": sorted((one.name, one.kept, dict(one.removed)) for one in saved_selections(workspace)),
    }


def results_of(workspace: Workspace, run_id: str = RUN) -> dict[str, Any]:
    """Everything that later work or a person would take from a run. Errors are raised."""
    run = RunFolder.open(workspace.runs, run_id)
    return {
        **stored_in(workspace),
        "lists": {path.stem: run.ids(path.stem) for path in sorted((run.path / "stages").glob("*.ids"))},
        "outputs": {path.stem: _without(json.loads(path.read_bytes()))
                    for path in sorted((run.path / "stages").glob("*.json"))},
        "artifacts": dict(_artifacts(workspace)),
    }


def differences(sound: dict[str, Any], found: dict[str, Any]) -> str:
    """The first thing that is not as it should be; empty when all is."""
    for name, expected in sound.items():
        if found[name] == expected:
            continue
        if not isinstance(expected, dict):
            return f"{name}: {_short(expected)} became {_short(found[name])}"
        for key in sorted({*expected, *found[name]}):
            if expected.get(key) != found[name].get(key):
                return f"{name} {key}: {_short(expected.get(key))} became {_short(found[name].get(key))}"
    return ""


def acknowledged(workspace: Workspace) -> int:
    """How many paid replies are in the journals of all runs."""
    return sum(map(acknowledged_of, list_runs(workspace.runs)))


def acknowledged_of(run: RunFolder) -> int:
    """How many are in the journal of one run."""
    return sum("reply" in record or ("trace" in record and not record["trace"].get("parent_id"))
               for record, _ in read(run.journal))


def _artifacts(workspace: Workspace) -> Iterator[tuple[str, dict[str, str]]]:
    for artifact in workspace.list_artifacts():
        files = artifact.manifest["files"]
        yield f"{artifact.kind}/{artifact.digest}", {
            name: entry["sha256"] for name, entry in files.items() if Path(name).name not in _FILES_OF_THE_WAY}


def _plain(value: Any) -> Any:
    return _without(json.loads(json.dumps(dataclasses.asdict(value), default=str)))


def _without(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without(value) for key, value in data.items() if key not in _OF_THE_WAY}
    return [_without(value) for value in data] if isinstance(data, list) else data


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) < 200 else f"{text[:120]}... ({len(text)} characters)"
