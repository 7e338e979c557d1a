"""A chat template in the language of Ollama's templates, Go's text/template: of every chat template whose form of turns
was found and proved, so that Ollama renders what was trained; of others none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from localdistill.core.messages import Message
from localdistill.exporters.ollama_parts.turn_form import (
    ASSISTANT,
    BEGIN,
    END,
    SYSTEM,
    THOUGHT,
    USER,
    Render,
    TurnForm,
    find_form,
)
from localdistill.templates import ChatTemplate
from localdistill.templates.marks import hits

READS_JINJA = "0.30"
"""The first version of Ollama that renders the chat template which a GGUF file holds, where no TEMPLATE is given."""
KNOWS_THINKING = "0.9"
"""The first version whose templates hear of thinking."""
_NO_PLACE = "this model was trained without a system message here"


@dataclass(frozen=True)
class GoTemplate:
    """A template and what it renders."""

    text: str
    forms: Mapping[bool, TurnForm]
    """Whether the student is told to think -> its form; one form where it cannot be told."""

    @property
    def names_thinking(self) -> bool:
        """Whether it asks for what only later versions of Ollama tell."""
        return ".Think" in self.text

    def render(self, messages: Sequence[Message], thinks: bool = True) -> str:
        """The prompt that Ollama makes, before it puts a BOS. Raises TemplateRefused where it ends in an error."""
        return self.forms[thinks].render(messages)


def go_template(template: ChatTemplate, thinks: bool | None, lead: str, is_trained: bool = True) -> GoTemplate | None:
    """The template of a student that `thinks` (None: as it is told) for Ollama; None where no form was proved.

    `lead`: what the file lets be put before every prompt (a BOS, or nothing), so that the template must not.
    `is_trained`: it was trained to think where it `thinks`, so that it does even where its template says nothing of
    that."""
    ways = {way: find_form(_renderer(template, way if thinks is None else thinks, lead)) for way in (True, False)}
    forms = {way: form for way, form in ways.items() if form is not None}
    if len(forms) < len(ways) or not _alike(*forms.values()):
        return None
    may_think = thinks is not False and (is_trained or bool(hits(template.source)))
    text = "\n".join(_Writer(forms, _marks(template) if may_think else None).lines())
    return None if '"""' in text else GoTemplate(text, forms)


def _renderer(template: ChatTemplate, thinks: bool, lead: str) -> Render:
    return lambda messages: template.prompt(messages, thinks).removeprefix(lead)


def _alike(one: TurnForm, other: TurnForm) -> bool:
    """Whether both differ in the texts of gaps alone."""
    return (one.gaps.keys(), one.strips, one.is_late) == (other.gaps.keys(), other.strips, other.is_late)


def _marks(template: ChatTemplate) -> tuple[str, str] | None:
    """The marks round what the student thinks; None where they are not known ones."""
    opening, closing = (hits(text) for text in template.thought_marks)
    return (opening[0].text, closing[0].text) if opening and closing else None


class _Writer:
    """Writes forms as a template. Every line begins with a mark that takes the line break before it away, and texts are
    constants, so that nothing depends on blanks in the template."""

    def __init__(self, forms: Mapping[bool, TurnForm], marks: tuple[str, str] | None) -> None:
        self._forms, self._marks = forms, marks
        self._form = forms[True]
        self._names = {edges: f"bare{number}" for number, edges in enumerate(dict.fromkeys(self._form.strips.values()))}

    def lines(self) -> list[str]:
        """The template."""
        is_told = self._forms[True] != self._forms[False]
        return [
            *(line for edges, name in self._names.items() for line in _stripping(name, *edges)),
            *(["{{- $silent := and .IsThinkSet (not .Think) }}"] if is_told else []),
            f"{{{{- $before := {_quoted(BEGIN)} }}}}",
            "{{- range $i, $_ := .Messages }}",
            *self._declaration(),
            f"{{{{- if eq .Role {_quoted(SYSTEM)} }}}}",
            *([] if self._form.is_late else self._piece(SYSTEM, ".Content")),
            f"{{{{- else if eq .Role {_quoted(USER)} }}}}",
            *(self._late_rules() if self._form.is_late else []),
            *self._piece(USER, ".Content"),
            f"{{{{- else if eq .Role {_quoted(ASSISTANT)} }}}}",
            *self._thought(),
            *self._piece(ASSISTANT, ".Content"),
            "{{- end }}",
            "{{- end }}",
            f"{{{{- if eq $before {_quoted(USER)} }}}}{self._gap(USER, END)}{{{{ end }}}}",
        ]

    def _declaration(self) -> list[str]:
        """Ollama takes the texts round a thought for the marks of thinking, whether they are ever written or not."""
        if self._marks is None:
            return []
        opening, closing = self._marks
        return [f"{{{{- if false }}}}{opening}{{{{ .Thinking }}}}{closing}{{{{ end }}}}"]

    def _late_rules(self) -> list[str]:
        return ["{{- if and $.System (eq (len (slice $.Messages $i)) 1) }}", *self._piece(SYSTEM, "$.System"),
                "{{- end }}"]

    def _thought(self) -> list[str]:
        if all(piece != THOUGHT for _, piece in self._form.gaps):
            return []
        return ["{{- if .Thinking }}", *self._piece(THOUGHT, ".Thinking"), "{{- end }}"]

    def _piece(self, piece: str, said: str) -> list[str]:
        """A piece with the gap before it, by what stands before; without one it is left out, or refused."""
        befores: dict[str, list[str]] = {}
        for before, after in self._form.gaps:
            if after == piece:
                befores.setdefault(self._gap(before, piece), []).append(_quoted(before))
        strips = self._names.get(self._form.strips.get(piece, ("", "")))
        shown = f"{{{{ template {_quoted(strips)} {said} }}}}" if strips else f"{{{{ {said} }}}}"
        lines = [f"{{{{- {'else ' if number else ''}if eq $before {' '.join(own)} }}}}{gap}{shown}"
                 f"{{{{ $before = {_quoted(piece)} }}}}" for number, (gap, own) in enumerate(befores.items())]
        if piece != SYSTEM:
            return [*lines, "{{- end }}"]
        refusal = f"{{{{ slice {_quoted(_NO_PLACE)} {len(_NO_PLACE) + 1} }}}}"
        return [*lines, f"{{{{- else }}}}{refusal}", "{{- end }}"] if lines else [f"{{{{-{refusal[2:]}"]

    def _gap(self, before: str, piece: str) -> str:
        thinking, silent = (_constant(self._forms[way].gaps[before, piece]) for way in (True, False))
        return thinking if thinking == silent else f"{{{{ if $silent }}}}{silent}{{{{ else }}}}{thinking}{{{{ end }}}}"


def _stripping(name: str, left: str, right: str) -> list[str]:
    """Templates that show a text without the characters `left` at its beginning and `right` at its end: the language
    has no function for it, and can only call itself again with one byte less."""
    first, last, head = "(slice . 0 1)", "(slice . (len (slice . 1)))", "(slice . 0 (len (slice . 1)))"
    rest = f'{{{{ template "{name}end" . }}}}' if right else "{{ . }}"
    lines = [_shortening(name, first, left, "(slice . 1)", rest)] if left else [
        f'{{{{- define "{name}" }}}}{rest}{{{{ end }}}}']
    return lines + ([_shortening(f"{name}end", last, right, head, "{{ . }}")] if right else [])


def _shortening(name: str, edge: str, characters: str, shorter: str, rest: str) -> str:
    is_edge, again = " ".join(["eq", edge, *map(_quoted, characters)]), f'template "{name}" {shorter}'
    return (f'{{{{- define "{name}" }}}}{{{{ if . }}}}{{{{ if {is_edge} }}}}{{{{ {again} }}}}{{{{ else }}}}{rest}'
            "{{ end }}{{ end }}{{ end }}")


def _constant(text: str) -> str:
    return f"{{{{ {_quoted(text)} }}}}" if text else ""


def _quoted(text: str) -> str:
    """A string of Go: its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)
