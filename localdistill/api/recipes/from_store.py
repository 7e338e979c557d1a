"""A recipe of what a workspace holds: its set is what is stored, its evaluation what is set aside of that."""

from __future__ import annotations

from pathlib import Path

from localdistill.core.errors import InputError
from localdistill.recipe.drafts import write_new
from localdistill.store import StoredTraces
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store

STUDENT = "hf://Qwen/Qwen2.5-0.5B-Instruct"
SOURCES_NAMED = 4
_RIGHT = """
[[grade]]
use = "math"

[[filter]]
use = "verified"
"""
_PUBLISHED = """
[[filter]]
use = "verified"         # by the verdicts that the answers came with
"""
_MEASURED = """
[evaluate]
max_tokens = 2048

[[evaluate.task]]
use = "holdout"          # what is set aside above
grader = "math"

[[evaluate.task]]
use = "everyday"         # a guard that ships: what must not get worse
"""


def recipe_from_store(workspace: Workspace, path: Path, where: str = "", student: str = "") -> Path:
    """Write a recipe to `path`, which must not exist yet, whose one set is what `workspace` holds.

    where: SQL condition on the traces, in place of all that no rewrite made. student: a folder, an id of the hub or a
    shipped one. InputError when nothing is stored that could be trained on.
    """
    store = open_store(workspace)
    found = store.stored_traces() if store.path.exists() else StoredTraces()
    if not found.traces:
        raise InputError("no traces are stored here" + (f", only {found.prompts:,} prompts" if found.prompts else ""),
                         "localdistill import FILE brings answers in; localdistill recipe new FILE.toml --from "
                         "api-teacher starts from a recipe that asks a teacher")
    condition = where or ("parent_id IS NULL" if found.rewritten else "true")
    return write_new(path, _text(path.stem, found, condition, student or STUDENT))


def _text(name: str, found: StoredTraces, condition: str, student: str) -> str:
    can_grade = found.with_reference > 0
    named = ", ".join(found.sources[:SOURCES_NAMED]) + (" and others" if len(found.sources) > SOURCES_NAMED else "")
    does = ["takes what is stored", *(["keeps what is right"] if can_grade or found.verdicts else []),
            *(["sets a tenth of the prompts aside to measure on"] if can_grade else []),
            "trains a student in each format"]
    formats = ["answer_only", *(["full_trace"] if found.with_reasoning else []),
               *(["original"] if found.with_original else [])]
    arms = "\n".join(f'[arm.{one}]\nformat = "{one}"\n' for one in formats)
    quoted = condition.replace("\\", "\\\\").replace('"', '\\"')
    return f"""\
# What this workspace holds, as a recipe: {found.traces:,} traces of {found.prompts:,} prompts ({named or "no source"}).
#
# What it does: {", ".join(does[:-1])},
# {does[-1]}.
# What it needs: the student below. To try the chain in minutes: model = "shipped:pantry/student"
# Run it: localdistill run {name}.toml

name = "{name}"
{'''
[prompts]
holdout = { test = 0.1 }
''' if can_grade else ""}
[traces]
stored = {{ stored = "{quoted}" }}    # localdistill traces --where CONDITION tries another one
{_RIGHT if can_grade else _PUBLISHED if found.verdicts else ""}
[[filter]]
use = "duplicates"

[student]
model = "{student}"
max_tokens = 2048

{arms}
[train]
use = "torch_lora"
epochs = 2
{_MEASURED if can_grade else ""}
[export]
arm = "{'best' if can_grade else formats[0]}"

[[export.to]]
use = "gguf"
quants = ["F16", "Q8_0", "Q4_K_M"]

[[export.to]]
use = "ollama"
"""
