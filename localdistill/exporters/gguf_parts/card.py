"""The model card and the checksums that lie beside exported files. Facts come from the job; what would name a place on
this machine is cut out of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from localdistill.exporters.job import ExportJob
from localdistill.hub.names import HubName, in_hub
from localdistill.modelfiles.gguf_files import whole_name
from localdistill.safety.scrubbing import scrub
from localdistill.scorecard import ScoreCard
from localdistill.templates.marks import OURS

_OWN_ROWS = ("base_model", "licences", "licenses", "licence", "license", "scorecard")


def licences_of(card: Mapping[str, Any]) -> list[str]:
    """The licences that the card states, scrubbed, without doubles."""
    found: list[str] = []
    for key in ("licences", "licenses", "licence", "license"):
        value = card.get(key)
        values: Iterable[Any] = value if isinstance(value, list | tuple | set) else (
            value.keys() if isinstance(value, Mapping) else [value])
        found += [scrub(str(entry)) for entry in values if entry]
    return list(dict.fromkeys(found))


def model_card(job: ExportJob, files: Sequence[Path], parity: Mapping[str, Any],
               measured: Sequence[ScoreCard] = (), library: str = "gguf") -> str:
    """The text of README.md: front matter, facts, scores, what the files themselves scored, files, how to run them with
    the `library` that reads them."""
    lines = ["---", *_front_matter(job, library), "---", "", f"# {job.name}", ""]
    thinking = {True: f"It thinks inside `{OURS.opening}` tags before it answers.", False: "It answers directly.",
                None: "It thinks or answers directly as its chat template is told."}[job.thinks]
    lines += ["A student distilled from the reasoning of a larger model with localdistill. " + thinking, ""]
    rows = [(key, value) for key, value in _flat(job.card) if value not in ("", None)]
    if rows:
        lines += ["| fact | value |", "| --- | --- |"]
        lines += [*(f"| {_cell(key)} | {_cell(value)} |" for key, value in rows), ""]
    lines += _scores(job.card.get("scorecard"))
    lines += _measured(measured)
    choice = job.measure.choice if job.measure and measured else None
    lines += [*(f"- {_cell(text)}" for text in (choice.sentence, *choice.worse, *choice.unclear)), ""] if choice else []
    if parity.get("items"):
        lines += ["## Checked", "", "The 16-bit file was compared with the merged model before anything was written; "
                  "quantized files are smaller and may answer differently.", ""]
        lines += [*(f"- {item['name']}: {_cell(item['detail'])}" for item in parity["items"]), ""]
    lines += ["## Files and commands", ""]
    weighed = {figures["name"]: figures["weighed"] for figures in parity.get("files", ())}
    lines += [f"- `{file.name}` ({file.stat().st_size / 1e6:.1f} MB{_rounded(weighed.get(file.name, ''))})"
              for file in files]
    lines += ["", "```", *(_commands(job, files) if library == "gguf" else _loading(job)), "```", ""]
    return "\n".join(lines)


def _rounded(weighed: str) -> str:
    return f"; rounded by an importance matrix from {weighed}" if weighed else ""


def checksums(files: Sequence[Path]) -> str:
    """SHA256SUMS as `sha256sum -c` reads it."""
    lines = []
    for file in sorted(files):
        with file.open("rb") as stream:
            lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {file.name}\n")
    return "".join(lines)


def _front_matter(job: ExportJob, library: str) -> list[str]:
    licences = licences_of(job.card)
    base = str(job.card.get("base_model", ""))
    lines = [f"library_name: {library}", "pipeline_tag: text-generation", "tags:", f"- {library}", "- localdistill",
             "- distillation"]
    if in_hub(base):
        lines.insert(0, f"base_model: {_yaml(scrub(HubName.of(base).repository))}")
    elif base:
        lines.insert(0, f"base_model: {_yaml(scrub(base))}")
    if len(licences) == 1:
        lines.append(f"license: {_yaml(licences[0])}")
    elif licences:
        lines += ["license: other", f"license_name: {_yaml(', '.join(licences))}"]
    return lines


def _yaml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", " ", escaped) + '"'


def _cell(value: Any) -> str:
    return re.sub(r"\s+", " ", scrub(str(value))).replace("|", "\\|").replace("<", "&lt;")


def _flat(card: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in card.items():
        if prefix == "" and key in _OWN_ROWS and key != "base_model":
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{str(key).replace('_', ' ')}: ")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            yield f"{prefix}{str(key).replace('_', ' ')}", shown
    if prefix == "" and licences_of(card):
        yield "licences of the data", ", ".join(licences_of(card))


def _scores(cards: Any) -> list[str]:
    """One line per model and task of the score cards in the job, in their JSON form."""
    lines: list[str] = []
    for card in cards if isinstance(cards, list) else []:
        for row in card.get("rows", []):
            low, high = row.get("interval", (0.0, 0.0))
            lines.append(f"| {_cell(card.get('task', ''))} | {_cell(row.get('name', ''))} | {row.get('seeds', 1)} | "
                         f"{row.get('score', 0.0):.1%} | {low:.1%} to {high:.1%} |")
    if not lines:
        return []
    head = ["## Scores", "", "| task | model | seeds | score | 95 % interval |", "| --- | --- | --- | --- | --- |"]
    return [*head, *lines, ""]


def _measured(cards: Sequence[ScoreCard]) -> list[str]:
    """One line per file and task: its own score, and the items that it won and lost against the trained model."""
    lines: list[str] = []
    for card in cards:
        against = {entry.first: entry for entry in card.comparisons}
        for row in card.rows:
            entry = against.get(row.name)
            said = "| | | |" if entry is None else (
                f"| {entry.won} / {entry.lost} | {entry.same_text} of {card.items} | {entry.verdict} "
                f"({entry.difference * 100:+.1f} points, p {entry.p_adjusted:.4f}) |")
            lines.append(f"| {_cell(card.task)} | {_cell(row.name)} | {row.score:.1%} | {row.interval[0]:.1%} to "
                         f"{row.interval[1]:.1%} {said}")
    if not lines:
        return []
    return ["## The files themselves", "",
            "Every file answered the benchmarks' items under the same limits as the model that was trained (base and "
            "adapter); differences are to that model, on the same items, with an exact paired test.", "",
            "| task | form | score | 95 % interval | won / lost | same text | verdict |",
            "| --- | --- | --- | --- | --- | --- | --- |", *lines, ""]


def _loading(job: ExportJob) -> list[str]:
    return ["sha256sum -c SHA256SUMS", f"localdistill chat {job.name}-hf   # in the folder above", "vllm serve ."]


def _commands(job: ExportJob, files: Sequence[Path]) -> list[str]:
    sizes: Counter[str] = Counter()
    for file in files:
        sizes[whole_name(file.name)] += file.stat().st_size
    small = min(sizes, key=sizes.__getitem__)
    smallest = next(file.name for file in files if whole_name(file.name) == small)
    return [
        "sha256sum -c SHA256SUMS",
        f"localdistill chat {smallest}",
        f"llama-cli -m {smallest} --jinja -cnv",
        f"llama-server -m {smallest} --jinja",
        f"ollama create {job.name.lower()} -f Modelfile   # when the export holds a Modelfile",
        *([f"lms import --copy {smallest}"] if small == smallest else []),
    ]
