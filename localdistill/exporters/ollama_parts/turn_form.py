"""What a chat template writes between what is said, found by trying: all there is to a template that only lays out
turns. A form knows no tools, and counts for nothing before it rendered conversations as the template does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from typing import cast

from localdistill.core.errors import TemplateRefused
from localdistill.core.messages import Message, Role

BEGIN, SYSTEM, USER, THOUGHT, ASSISTANT, END = "begin", "system", "user", "thought", "assistant", "end"
"""What a conversation consists of. A thought belongs to the assistant's turn behind it."""
Render = Callable[[Sequence[Message]], str]
"""A conversation as the prompt of the assistant's next turn. Raises TemplateRefused."""
Talk = tuple[tuple[str, str], ...]
"""Pieces of a conversation with their texts."""

BLANKS = " \t\n\v\f\r"
_STRIPPED = (BLANKS, "\n", "")
"""What templates take from the edges of a text."""
_EDGE = "\n \n"
_ORDERS = (
    (USER, ASSISTANT, USER), (SYSTEM, USER, ASSISTANT, USER), (USER, THOUGHT, ASSISTANT, USER), (SYSTEM, USER),
    (ASSISTANT, USER), (SYSTEM, ASSISTANT, USER), (USER, ASSISTANT, SYSTEM, USER), (USER, SYSTEM, USER),
    (THOUGHT, ASSISTANT, USER), (SYSTEM, THOUGHT, ASSISTANT, USER))
"""Conversations in which every two pieces follow each other that can, the usual ones first. One that a template
refuses, or lays out unlike those before, has no gaps."""
_NEEDED = ((BEGIN, USER), (USER, ASSISTANT), (ASSISTANT, USER), (USER, END))
_QUESTION = 'Is "3 < 4" true?\n\nSay {{ why }}, \\n and `x` – für alle.'
PROOFS: tuple[Talk, ...] = (
    ((USER, _QUESTION),),
    ((USER, "Hi"), (ASSISTANT, "Yes."), (USER, _QUESTION)),
    ((USER, "a"), (ASSISTANT, "b"), (USER, "c"), (ASSISTANT, "d\n\ne"), (USER, "f")),
    ((SYSTEM, "Be brief."), (USER, _QUESTION)),
    ((SYSTEM, _QUESTION), (USER, "a"), (ASSISTANT, "b"), (USER, "c")),
    ((SYSTEM, "\n A rule. \n"), (USER, "  a \n\n"), (ASSISTANT, " \n b\n"), (USER, "c \t")),
    ((USER, "a"), (THOUGHT, "Six,\nor 7."), (ASSISTANT, "b"), (USER, "c"), (THOUGHT, "\n 8 \n"), (ASSISTANT, "\nd"),
     (USER, "e")),
    ((SYSTEM, "Be brief."), (USER, "a"), (THOUGHT, "Hm."), (ASSISTANT, "b"), (USER, "c")),
)
"""What a form is proved on: one turn, two, three, a system message, blanks at edges, thoughts, characters that
languages of templates know."""


@dataclass(frozen=True)
class TurnForm:
    """A template as what stands between the pieces of a conversation."""

    gaps: Mapping[tuple[str, str], str]
    """(Piece, next piece) -> the text between. A piece that never follows the one before it is left out; a system
    message is refused then."""
    strips: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Piece -> characters that go from its beginning and from its end, where any do."""
    is_late: bool = False
    """Whether system messages stand right before the last turn of the user."""

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt. Raises TemplateRefused for a system message where none can be."""
        text, before = "", BEGIN
        for piece, said in self._pieces(messages):
            gap = self.gaps.get((before, piece))
            if gap is not None:
                left, right = self.strips.get(piece, ("", ""))
                text, before = f"{text}{gap}{said.lstrip(left).rstrip(right)}", piece
            elif piece == SYSTEM:
                raise TemplateRefused("a system message cannot stand there")
        return text + self.gaps.get((before, END), "")

    def _pieces(self, messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
        rules = [message.content for message in messages if message.role == SYSTEM]
        for number, message in enumerate(messages, start=1):
            if message.role == SYSTEM and self.is_late:
                continue
            if self.is_late and rules and message.role == USER and number == len(messages):
                yield SYSTEM, "\n\n".join(rules)
            if message.reasoning:
                yield THOUGHT, message.reasoning
            yield message.role, message.content


def find_form(render: Render) -> TurnForm | None:
    """The form of a template; None where it has none, or writes other prompts than its form on `PROOFS`."""
    gaps: dict[tuple[str, str], str] = {}
    strips: dict[str, tuple[str, str]] = {}
    is_late = False
    for order in _ORDERS:
        talk = tuple((piece, f"qLDv{piece}{place}qLDv") for place, piece in enumerate(order))
        text = rendered(render, talk)
        if text is None:
            continue
        found = sorted((text.find(word), piece, word) for piece, word in talk if word in text)
        is_late |= order[0] == SYSTEM and [piece for _, piece, _ in found[:1]] == [USER]
        between = dict(_between(text, found))
        if any(gaps.get(pair, gap) != gap for pair, gap in between.items()):
            continue
        gaps |= between
        for number, (piece, word) in enumerate(talk):
            if piece in strips or word not in text:
                continue
            edged = (*talk[:number], (piece, _EDGE + word + _EDGE), *talk[number + 1:])
            if (edges := _edges(text, word, rendered(render, edged))) is None:
                return None
            strips[piece] = edges
    form = TurnForm(gaps, {piece: edges for piece, edges in strips.items() if any(edges)}, is_late)
    is_whole = all(pair in gaps for pair in _NEEDED)
    return form if is_whole and all(rendered(render, talk) == rendered(form.render, talk) for talk in PROOFS) else None


def _between(text: str, found: Sequence[tuple[int, str, str]]) -> Iterator[tuple[tuple[str, str], str]]:
    """The text between every two of the pieces that were `found` (place, piece, word), and round all."""
    begin, before = 0, BEGIN
    for place, piece, word in (*found, (len(text), END, "")):
        yield (before, piece), text[begin:place]
        begin, before = place + len(word), piece


def rendered(render: Render, talk: Talk) -> str | None:
    """The prompt of a conversation; None where it is refused."""
    try:
        return render(messages_of(talk))
    except TemplateRefused:
        return None


def messages_of(talk: Talk) -> list[Message]:
    """The conversation as messages."""
    return [Message(cast(Role, piece), text, before[1] if piece == ASSISTANT and before[0] == THOUGHT else "")
            for before, (piece, text) in pairwise(((BEGIN, ""), *talk)) if piece != THOUGHT]


def _edges(text: str, word: str, edged: str | None) -> tuple[str, str] | None:
    """Which characters went from the edges of the `word` of `text`; None where that cannot be told."""
    return next(((left, right) for left, right in product(_STRIPPED, repeat=2)
                 if text.replace(word, (_EDGE + word + _EDGE).lstrip(left).rstrip(right)) == edged), None)
