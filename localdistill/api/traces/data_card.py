"""The card of a file of data: what the rows are, where they come from, whose terms and licences count, how they were
chosen. It names no place on this machine."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from localdistill.api.traces.data_layouts import DataLayout
from localdistill.core.version import __version__
from localdistill.interchange.imported import Imported
from localdistill.interchange.rows import ENGINE
from localdistill.safety.scrubbing import scrub
from localdistill.stages.export import strictest_terms

README = "README.md"
MOST_NAMED = 50
"""Sources, licences and teachers that are counted by name; what comes later is counted together."""
UNKNOWN, OTHERS = "unknown", "others"


@dataclass
class DataFacts:
    """What is counted while rows are written."""

    sources: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    teachers: Counter[str] = field(default_factory=Counter)
    rewrites: Counter[str] = field(default_factory=Counter)
    terms: set[str] = field(default_factory=set)
    """What traces say of terms of use."""
    unsaid: int = 0
    """Answers that came from files which do not say whose they are."""

    def see(self, item: Imported) -> None:
        """Count the prompt and the answers of a row."""
        _count(self.sources, item.prompt.source)
        _count(self.licences, item.prompt.licence)
        for answer in item.answers:
            _count(self.teachers, answer.trace.model)
            if answer.trace.rewrite:
                _count(self.rewrites, answer.trace.rewrite)
            if answer.trace.terms:
                self.terms.add(answer.trace.terms)
            self.unsaid += not answer.trace.terms and answer.trace.engine == ENGINE


def _count(counter: Counter[str], name: str) -> None:
    name = name or UNKNOWN
    counter[name if name in counter or len(counter) < MOST_NAMED else OTHERS] += 1


def card_path(file: Path) -> Path:
    """Where the card of `file` goes: README.md, or, where one lies there that is of something else, a name of the
    file's own."""
    beside = file.with_name(README)
    try:
        is_own = _title(file) in beside.read_text("utf-8", "replace")
    except FileNotFoundError:
        is_own = True
    except OSError:
        is_own = False
    return beside if is_own else file.with_name(f"{file.name}.{README}")


def _title(file: Path) -> str:
    return f"\n# {_cell(file.name)}\n"


def card_text(file: Path, sha256: str, counted: Mapping[str, Mapping[str, int]], said: Mapping[str, str],
              facts: DataFacts, form: DataLayout) -> str:
    """The card as Markdown. counted: tables of counts by their title. said: how the traces were chosen."""
    terms = strictest_terms(facts.terms)
    licences = sorted(name for name in facts.licences if name != UNKNOWN)
    front = [f"license: {_yaml(licences[0])}" if len(facts.licences) == len(licences) == 1 else "license: other",
             "tags:", "- localdistill", "configs:", "- config_name: default", f"  data_files: {_yaml(file.name)}"]
    unsaid = f"{facts.unsaid:,} answers came from files that do not say whose terms count" if facts.unsaid else ""
    rows = {"layout": form.name, "SHA-256": sha256.removeprefix("sha256:"), "written by": f"localdistill {__version__}",
            "terms of use, strictest": terms.strictest or ("unknown" if unsaid else "none count"),
            "terms of use, not known": unsaid,
            "providers": ", ".join(terms.providers), **said}
    lines = ["---", *front, "---", _title(file), *_table("fact", "value", ((k, v) for k, v in rows.items() if v))]
    tables = {"sources": facts.sources, "licences of the prompts": facts.licences, "teachers": facts.teachers,
              "rewrites": facts.rewrites, **counted}
    for title, counts in tables.items():
        if counts:
            lines += [f"## {title[0].upper()}{title[1:]}", "",
                      *_table("what", "count", ((name, f"{count:,}") for name, count in counts.items()))]
    if form.read_by:
        lines += ["## Read by", "", *(f"- {tool}: {how}" for tool, how in form.read_by.items()), ""]
    return "\n".join(lines)


def _table(left: str, right: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"| {left} | {right} |", "| --- | --- |", *(f"| {_cell(a)} | {_cell(b)} |" for a, b in rows), ""]


def _cell(text: str) -> str:
    clean = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\s]+", " ", scrub(text))
    return clean.replace("|", "\\|").replace("<", "&lt;")


def _yaml(text: str) -> str:
    return '"' + _cell(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
