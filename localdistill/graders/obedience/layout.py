"""Instructions about how an answer is laid out: bullets, highlights, sections, a title, JSON, placeholders, several
parts."""

from __future__ import annotations

import json
import re

from localdistill.graders.obedience.kind import Rule

_FENCES = ("```json", "```Json", "```JSON", "```")
_PLAIN_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def number_bullet_lists(answer: str, num_bullets: int) -> bool:
    """Exactly so many lines begin with `-`, or with one `*` that more follows. A `*` alone on its line makes one bullet
    with the line behind it."""
    lines, bullets, at = answer.split("\n"), 0, 0
    while at < len(lines):
        line = lines[at].lstrip()
        if line == "*" and at + 1 < len(lines):
            bullets, at = bullets + 1, at + 1
        elif line.startswith("*") and line[1:2] not in ("", "*"):
            bullets += 1
        at += 1
    return bullets + sum(1 for line in lines if line.lstrip().startswith("-")) == num_bullets


def number_highlighted_sections(answer: str, num_highlights: int) -> bool:
    """At least so many texts stand between asterisks on one line; one between double ones counts for itself, too."""
    single = [text for text in re.findall(r"\*[^\n*]*\*", answer) if text.strip("*").strip()]
    double = [text for text in re.findall(r"\*\*[^\n*]*\*\*", answer) if text.strip("*").strip()]
    return len(single) + len(double) >= num_highlights


def multiple_sections(answer: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many headings: the word with a number behind it."""
    return len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", answer)) >= num_sections


def title(answer: str) -> bool:
    """A line holds something in double angle brackets."""
    for line in answer.split("\n"):
        start, end = line.find("<<"), line.rfind(">>")
        if 0 <= start < end - 2 and line[start:end].lstrip("<").rstrip(">").strip():
            return True
    return False


def json_format(answer: str) -> bool:
    """The whole answer is JSON, in a code fence or not."""
    text = answer.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def constrained_response(answer: str) -> bool:
    """It holds one of three stated sentences."""
    return any(said in answer for said in _PLAIN_ANSWERS)


def number_placeholders(answer: str, num_placeholders: int) -> bool:
    """At least so many pairs of square brackets on one line."""
    found = 0
    for line in answer.split("\n"):
        at = line.find("[")
        while at >= 0 and (end := line.find("]", at)) >= 0:
            found, at = found + 1, line.find("[", end)
    return found >= num_placeholders


def postscript(answer: str, postscript_marker: str) -> bool:
    """The marker occurs, in any case; one between its letters may be a space."""
    marker = postscript_marker.strip()
    spaced = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}.get(marker, re.escape(marker.lower()))
    return re.search(spaced, answer.lower()) is not None


def two_responses(answer: str) -> bool:
    """Two different answers with six asterisks between."""
    parts = [part.strip() for part in answer.split("******")]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


LAYOUT = {
    "detectable_format:number_bullet_lists": Rule(number_bullet_lists, "* A jar\n - A lid", "* A jar\n** A lid",
                                                  {"num_bullets": 2}),
    "detectable_format:number_highlighted_sections": Rule(number_highlighted_sections, "A *jar* and *eggs*.",
                                                          "A *jar* and **.", {"num_highlights": 2}),
    "detectable_format:multiple_sections": Rule(multiple_sections, "Part 1 a jar Part 2 a lid", "Part 1 a jar Part two",
                                                {"section_spliter": "Part", "num_sections": 2}),
    "detectable_format:title": Rule(title, "<<Plums>>\nA jar.", "<<>>\nA jar."),
    "detectable_format:json_format": Rule(json_format, '```json\n{"jar": 2}\n```', "{jar: 2}"),
    "detectable_format:constrained_response": Rule(constrained_response, "My answer is no.", "My answer is jar."),
    "detectable_content:number_placeholders": Rule(number_placeholders, "[name] lives in [town].", "[name lives in\n]",
                                                   {"num_placeholders": 2}),
    "detectable_content:postscript": Rule(postscript, "A jar.\nP. S. A lid.", "A jar.\nPS: A lid.",
                                          {"postscript_marker": "P.S."}),
    "combination:two_responses": Rule(two_responses, "A jar.\n******\nA lid.", "A jar.\n******\nA jar."),
}
