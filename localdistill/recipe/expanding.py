"""The short form of a recipe written out: each [teacher] as an engine, all of them as one set, and what [collect] says
as the way in which every set is asked that does not say it itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localdistill.hub.names import in_hub
from localdistill.recipe.dotted_keys import key_of
from localdistill.recipe.upgrading import short_set, teachers_of
from localdistill.tasks import TASKS

Table = dict[str, Any]
GUARD = "everyday"
"""The guard of recipes that name none: it ships, needs no file and no judge."""


def measured(data: Table) -> Table:
    """`data` with the benchmarks that it does not name: what is set aside, and a guard."""
    return _guarded(_on_what_is_set_aside(data))


def _guarded(data: Table) -> Table:
    """`data` with the guard that ships where it names none and wants one; a student of the hub wants one unless it
    says otherwise."""
    evaluate, student = data.get("evaluate"), data.get("student")
    if not isinstance(evaluate, dict):
        return data
    tasks, wanted = evaluate.get("task") or [], evaluate.get("guard")
    tasks = [tasks] if isinstance(tasks, dict) else tasks
    if wanted is None:
        wanted = isinstance(student, dict) and in_hub(str(student.get("model", "")))
    if wanted is not True or not isinstance(tasks, list) or not tasks or any(map(_is_guard, tasks)):
        return data
    return {**data, "evaluate": {**evaluate, "guard": True, "task": [*tasks, {"use": GUARD}]}}


def _is_guard(task: Any) -> bool:
    """Whether the table of a benchmark says a guard; one that says no benchmark of ours may be one."""
    name = task.get("use") if isinstance(task, dict) else None
    if not isinstance(name, str) or name not in TASKS.members:
        return True
    member = TASKS.load(name)
    own = member.Options.model_fields.get("is_guard")
    return bool(task.get("is_guard", own.default) if own else member.is_guard)


def _on_what_is_set_aside(data: Table) -> Table:
    """`data` with what is set aside as its benchmark, and as its development items, where there are to be some and it
    says on what: by the first grader of the recipe."""
    prompts, evaluate, train = data.get("prompts"), data.get("evaluate"), data.get("train")
    holdout = prompts.get("holdout") if isinstance(prompts, dict) else None
    if not isinstance(holdout, dict):
        return data
    if isinstance(evaluate, dict) and not evaluate.get("task") and holdout.get("test"):
        data = {**data, "evaluate": {**evaluate, "task": [_set_aside(data, {})]}}
    dev = train.get("dev") if isinstance(train, dict) else None
    if isinstance(train, dict) and isinstance(dev, dict) and not dev.get("task") and holdout.get("dev"):
        data = {**data, "train": {**train, "dev": {**dev, "task": _set_aside(data, {"split": "dev"})}}}
    return data


def _set_aside(data: Table, options: Table) -> Table:
    """The benchmark of prompts that are set aside, judged by the first grader."""
    graders = data.get("grade")
    first = graders[0] if isinstance(graders, list) and graders and isinstance(graders[0], dict) else None
    return {"use": "holdout", **options, **({"grader": dict(first)} if first else {})}


def expanded(data: Mapping[str, Any]) -> tuple[Table, list[tuple[str, str]]]:
    """`data` without short forms, and what clashes, as key and text."""
    made = {key: value for key, value in data.items() if key not in ("teacher", "collect")}
    teachers, clashes = teachers_of(data), []
    if teachers:
        engines: Table = dict(made.get("engine") or {})
        for label, name, table in teachers:
            if name in engines:
                clashes.append((f"{label}.name", f"two engines are named '{name}'"))
            engines[name] = {key: value for key, value in table.items() if key != "name"}
        made["engine"] = engines
        sets: Table = dict(made.get("traces") or {})
        own = short_set(data)
        if own in sets:
            clashes.append((key_of("traces", own), f"two sets are named '{own}': [teacher] stands for one; give it "
                            "another name"))
        made["traces"] = {own: {"ask": [name for _, name, _ in teachers]}, **sets}
    collect = data.get("collect")
    if isinstance(collect, dict) and isinstance(made.get("traces"), dict):
        made["traces"] = {name: {**collect, **table} if isinstance(table, dict) and "ask" in table else table
                          for name, table in made["traces"].items()}
    return made, clashes
