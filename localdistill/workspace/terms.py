"""Terms of use: which of a recipe's engines belong to somebody whose terms a person must have decided about.

The decision is asked for once per workspace and provider, and kept in the workspace beside the document that it was
about. Hosts decide whose terms count; the provider that a recipe names can add terms and never take some away. This
is a reminder with a memory, not legal advice, and it never decides for the user.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.errors import LocalDistillError, UsageError, nearest
from localdistill.engines import ENGINES
from localdistill.providers import (
    Terms,
    TermsClass,
    Who,
    is_loopback,
    provider,
    provider_names,
    provider_of_url,
    unsaid,
    who_of,
)
from localdistill.recipe.engine_uses import engine_uses
from localdistill.recipe.sections import Recipe
from localdistill.safety.files import atomic_write_text
from localdistill.workspace.folder import Workspace

_FILE = "consents.json"
_ASKED: tuple[TermsClass, ...] = ("prohibited", "unknown")
_STRICTEST_FIRST: tuple[TermsClass, ...] = ("prohibited", "unknown", "conditional", "allowed", "model")


@dataclass(frozen=True)
class TermsQuestion:
    """Whose terms count for one engine of a recipe, and what they are known to say."""

    name: str
    """The provider's name, or the host when nobody known answers there, or the engine's name when it names neither."""
    host: str
    terms_class: TermsClass
    roles: tuple[str, ...]
    """What the engine does in the recipe: `teacher`, `grader NAME`, `rewrite NAME`."""
    note: str = ""
    url: str = ""
    """The document; empty when none is known."""
    date: str = ""
    """The document's day, ISO 8601."""

    @property
    def text(self) -> str:
        """The question, or the note, in one sentence for a person."""
        said = {
            "prohibited": "bar training a model on its answers, as far as is known",
            "unknown": "are not known to allow training a model on its answers",
            "conditional": "allow training a model on its answers under conditions",
            "allowed": "allow training a model on its answers",
            "model": "say nothing; the licence of the model counts",
        }[self.terms_class]
        document = f" ({self.url}, {self.date})" if self.url else ""
        note = f" {self.note}" if self.note else ""
        return f"{' and '.join(self.roles)}: the terms of {self.name} {said}.{note}{document}"


def terms_in(recipe: Recipe) -> list[TermsQuestion]:
    """Whose terms count for the recipe's teacher and rewriters, one entry per provider or host; engines on this
    machine bring none."""
    found: dict[str, TermsQuestion] = {}
    for _, role, engine, options in engines_in(recipe):
        for terms in _terms(engine, options):
            known = found.setdefault(terms.name, terms)
            found[terms.name] = dataclasses.replace(known, roles=tuple(dict.fromkeys((*known.roles, role))))
    return list(found.values())


def open_terms(recipe: Recipe, workspace: Workspace) -> list[TermsQuestion]:
    """What must be decided before the recipe may run in `workspace`: prohibited or unknown terms without consent."""
    given = {(row["name"], row["class"]) for row in consents(workspace)}
    return [q for q in terms_in(recipe) if q.terms_class in _ASKED and (q.name, q.terms_class) not in given]


def terms_notes(recipe: Recipe) -> list[TermsQuestion]:
    """What is worth showing without asking: conditional terms."""
    return [terms for terms in terms_in(recipe) if terms.terms_class == "conditional"]


def give_consent(workspace: Workspace, question: TermsQuestion) -> None:
    """Record that the user goes on knowing these terms: what they are, the document, the day and our version."""
    from localdistill.core.version import __version__

    row = {
        "name": question.name,
        "host": question.host,
        "class": question.terms_class,
        "document": question.url,
        "document_date": question.date,
        "given": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "version": __version__,
    }
    rows = [old for old in consents(workspace) if (old["name"], old["class"]) != (row["name"], row["class"])]
    workspace.root.mkdir(parents=True, exist_ok=True)
    atomic_write_text(_path(workspace), json.dumps([*rows, row], indent=1, ensure_ascii=False) + "\n")


def accept_terms(recipe: Recipe, workspace: Workspace, names: Iterable[str]) -> list[TermsQuestion]:
    """Give consent to the terms of `names` (providers or hosts of the recipe); returns what was newly given.
    UsageError when a name is none of the recipe's."""
    mine = [terms.name for terms in terms_in(recipe)]
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in mine:
            known = f"it uses {', '.join(mine)}" if mine else "it asks nobody whose terms count"
            raise UsageError(f"--accept-terms {name}: the recipe does not use it{nearest(name, mine)}", known)
    open_questions = [question for question in open_terms(recipe, workspace) if question.name in wanted]
    for question in open_questions:
        give_consent(workspace, question)
    return open_questions


def require(recipe: Recipe, workspace: Workspace) -> None:
    """UsageError (exit code 2) with every open question, its document and the option that answers it."""
    still_open = open_terms(recipe, workspace)
    if still_open:
        options = " ".join(f"--accept-terms {question.name}" for question in still_open)
        raise UsageError(
            "\n".join(question.text for question in still_open),
            f"read the terms; if you decide to go on: localdistill run ... {options}",
        )


def terms_of(engine: str, options: Mapping[str, Any]) -> str:
    """What goes into `Trace.terms` for replies of this engine: `class:name`, the strictest of its servers; empty for
    engines on this machine."""
    return strictest(f"{terms.terms_class}:{terms.name}" for terms in _terms(engine, options))


def strictest(terms: Iterable[str]) -> str:
    """The strictest of several texts as `terms_of` gives them; empty when all are. An unheard-of class counts as
    unknown."""

    def rank(text: str) -> int:
        name = text.partition(":")[0]
        known = name if name in _STRICTEST_FIRST else "unknown"
        return [*map(str, _STRICTEST_FIRST)].index(known)

    return min((text for text in terms if text), key=rank, default="")


def consents(workspace: Workspace) -> list[dict[str, str]]:
    """What was consented to in `workspace`. LocalDistillError when the file is damaged: nothing is taken as given."""
    path = _path(workspace)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [{"name": row["name"], "class": row["class"], **row} for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError):
        raise LocalDistillError(f"{path} is damaged", "move it away and accept the terms again") from None


def _path(workspace: Workspace) -> Path:
    return workspace.root / _FILE


def who_answers(engine: str, options: Mapping[str, Any]) -> Who:
    """Who answers behind the engine called `engine`; a stranger where there is none of that name."""
    return who_of(ENGINES.load(engine), options) if engine in ENGINES.members else unsaid(options)


def engines_in(recipe: Recipe) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Stage, role, engine and options of everybody whom the recipe asks."""
    for use in engine_uses(recipe):
        yield use.stage, use.role, use.engine.use, use.engine.options


def _terms(engine: str, options: Mapping[str, Any]) -> Iterator[TermsQuestion]:
    """The terms of every server that the engine may ask, and of the provider that the recipe says is behind it."""
    who = who_answers(engine, options)
    declared = provider(who.provider) if who.provider in provider_names() else None
    for host in dict.fromkeys(host for host in who.hosts if not is_loopback(host)):
        known = provider_of_url(f"https://{host}") if host else None
        if known is not None:
            yield from _said(known.name, known.terms, host)
            continue
        if host and who.terms is not None:
            yield from _said(host, who.terms, host)
        else:
            yield TermsQuestion(host or engine, host, "unknown", (), "Nothing is known about who answers there.")
        if declared is not None:
            yield from _said(declared.name, declared.terms, host)


def _said(name: str, terms: Terms, host: str) -> Iterator[TermsQuestion]:
    """What the terms of `name` say; nothing where only the licence of the model counts."""
    if terms.class_ != "model":
        day = terms.date.isoformat() if terms.date else ""
        yield TermsQuestion(name, host, terms.class_, (), terms.note, terms.url, day)
