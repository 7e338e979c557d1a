"""Verdicts by the rules that made them: how many, what each rule says, and which verdicts a new version of a grader
turned round."""

from __future__ import annotations

from collections.abc import Mapping

from localdistill.graders.rules import RuleName
from localdistill.store.columns import quoted
from localdistill.store.pages import readers
from localdistill.store.verdict_counts import VerdictCount, verdict_counts
from localdistill.workspace.folder import Workspace
from localdistill.workspace.recovery import open_store


def verdicts_by_rule(workspace: Workspace) -> list[VerdictCount]:
    """Every grader's verdicts on stored traces, by rule; StoreLocked and StoreError as for every reading."""
    store = open_store(workspace)
    return verdict_counts(readers(store.path)) if store.path.exists() else []


def grading_rules() -> Mapping[str, str]:
    """The rule book: the name of each rule, as reasons of verdicts give it, and what it says."""
    return {rule.value: rule.says for rule in RuleName}


def rules_in(reason: str) -> Mapping[str, str]:
    """The rules of the book that a reason opens with, and what they say; empty where it names none."""
    known = grading_rules()
    names = reason.partition(":")[0].split(", ")
    return {name: known[name] for name in names} if set(names) <= set(known) else {}


def with_rules(rules: str) -> str:
    """The condition on a trace (as `browse` takes it) that its verdict was made by these rules."""
    return f"starts_with(grade_reason, {quoted(f'{rules}:')})"
