"""A recipe of what a workspace holds: its set is the stored traces, or what a teacher answers to stored questions; its
evaluation is what is set aside of that."""

from __future__ import annotations

from pathlib import Path

from localdistill.core.errors import InputError
from localdistill.recipe.drafts import write_new
from localdistill.store import StoredTraces
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store

STUDENT = "hf://Qwen/Qwen2.5-0.5B-Instruct"
SOURCES_NAMED = 4
MOST_USD = "max_usd = 5.0            # the run pauses before a call that could pass it\n"
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


_STORED = """\
[traces]
stored = {{ stored = "{condition}" }}    # localdistill traces --where CONDITION tries another one
"""
_ASKED = """\
[teacher]                # who answers them: `localdistill plan {name}.toml` says what that costs
use = "openai_compatible"
provider = "deepseek"
model = "deepseek-v4-pro"

[collect]
max_tokens = 8192
temperature = 0.6
"""


def recipe_from_store(workspace: Workspace, path: Path, where: str = "", student: str = "") -> Path:
    """Write a recipe to `path`, which must not exist yet, whose one set is the traces that `workspace` holds; where it
    holds questions alone, what a teacher answers to them.

    where: SQL condition on the traces, in place of all that no rewrite made. student: a folder, an id of the hub or a
    shipped one. InputError when nothing is stored that could be trained on.
    """
    store = open_store(workspace)
    found = store.stored_traces() if store.path.exists() else StoredTraces()
    if found.traces:
        condition = where or ("parent_id IS NULL" if found.rewritten else "true")
        return write_new(path, _text(path.stem, found, condition, student or STUDENT))
    asked = store.stored_questions() if found.prompts and not where else StoredTraces()
    if not asked.prompts:
        raise InputError("no traces are stored here" + (f", only {found.prompts:,} prompts" if found.prompts else ""),
                         "localdistill import FILE brings questions or answers in; localdistill recipe new FILE.toml "
                         "--from api-teacher starts from a recipe that asks a teacher")
    return write_new(path, _text(path.stem, asked, "", student or STUDENT))


def _text(name: str, found: StoredTraces, condition: str, student: str) -> str:
    """condition: of the traces that are taken; empty: a teacher is asked what `found` says of the questions."""
    can_grade, asks = found.with_reference > 0, not condition
    named = ", ".join(found.sources[:SOURCES_NAMED]) + (" and others" if len(found.sources) > SOURCES_NAMED else "")
    holds = f"{found.prompts:,} questions" if asks else f"{found.traces:,} traces of {found.prompts:,} prompts"
    does = ["asks a teacher what is stored" if asks else "takes what is stored",
            *(["keeps what is right"] if can_grade or found.verdicts else []),
            *(["sets a tenth of the prompts aside to measure on"] if can_grade else []),
            "trains a student in each format"]
    formats = ["answer_only", *(["full_trace"] if found.with_reasoning else []),
               *(["original"] if found.with_original else [])]
    arms = "\n".join(f'[arm.{one}]\nformat = "{one}"\n' for one in formats)
    quoted = condition.replace("\\", "\\\\").replace('"', '\\"')
    needs = "a key for the teacher's provider (localdistill keys set deepseek), and " if asks else ""
    prompts = [*(['stored = "*"             # or where some are from: stored = ["mine.csv"]'] if asks else []),
               *(["holdout = { test = 0.1 }"] if can_grade else [])]
    section = "\n".join(["", "[prompts]", *prompts, ""]) if prompts else ""
    return f"""\
# What this workspace holds, as a recipe: {holds} ({named or "no source"}).
#
# What it does: {", ".join(does[:-1])},
# {does[-1]}.
# What it needs: {needs}the student below.
# To try the chain in minutes: model = "shipped:pantry/student"
# Run it: localdistill run {name}.toml

name = "{name}"
{MOST_USD if asks else ""}{section}
{_ASKED.format(name=name) if asks else _STORED.format(condition=quoted)}\
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
