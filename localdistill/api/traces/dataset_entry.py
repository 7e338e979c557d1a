"""The entry of a file in `dataset_info.json`, where LLaMA-Factory looks for the data sets of a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.api.traces.data_layouts import DataLayout
from localdistill.core.errors import UsageError
from localdistill.interchange.row_files import ending_of
from localdistill.safety.files import atomic_write_text

LLAMA_FACTORY = "llama-factory"
INFO = "dataset_info.json"
_HOW: Mapping[str, Mapping[str, Any]] = {
    "conversations": {"formatting": "sharegpt", "columns": {"messages": "conversations"}, "tags": {
        "role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
        "system_tag": "system"}},
    "instruction": {"formatting": "alpaca", "columns": {
        "prompt": "instruction", "query": "input", "response": "output", "system": "system", "history": "history"}},
}
"""By the column that tells the layout."""


@dataclass(frozen=True)
class DatasetEntry:
    """What is to be written."""

    path: Path
    entries: Mapping[str, Any]

    def write(self) -> None:
        """Write the file, whole."""
        atomic_write_text(self.path, json.dumps(dict(self.entries), indent=2, ensure_ascii=False) + "\n")


def entry_of(file: Path, form: DataLayout, force: bool) -> DatasetEntry:
    """The entries of the folder with that of `file`, named by its stem. UsageError where one of that name is there that
    says something else, unless `force`d, or the folder's file is not what it must be."""
    path, name = file.with_name(INFO), file.name.removesuffix(ending_of(file))
    try:
        known = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        known = {}
    except (OSError, ValueError, RecursionError):
        known = None
    if not isinstance(known, dict):
        raise UsageError(f"{INFO} beside the file cannot be read", "correct it, or write to another folder")
    how = next(how for column, how in _HOW.items() if column in form.writing.columns)
    entry = {"file_name": file.name, **how}
    if known.get(name, entry) != entry and not force:
        raise UsageError(f"{INFO} has another entry '{name}' already", "--force writes over it; or give another name")
    return DatasetEntry(path, {**known, name: entry})
