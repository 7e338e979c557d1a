"""Generator of the pantry world: small arithmetic stories, guard prompts and everything written about them.

Why this file exists: the demo needs prompts, a teacher and a student that nobody has to download and whose
licence is beyond doubt, and it needs an evaluation set that is *known* not to repeat the collected prompts.
Everything is made here from word lists by a seeded random generator; nothing is copied from elsewhere.

Three frame sets keep the parts apart:

* ``collect``: the frames, names and objects of the shipped prompts (``prompts.jsonl``),
* ``eval``:    other frames, names and objects (``eval.jsonl``); no sentence frame is shared,
* ``pretrain``: what teacher and student are pretrained on. It knows every name, object and verb phrase of the
  world (a model cannot reason about words it never saw), but sets its sentences into openings, connectors,
  tails and questions that are not those of ``eval``.

Run ``python data/pantry/generate.py`` to rewrite the three shipped files.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT = 99
MAX_STEPS = 5
NGRAM = 13
ORIGINAL_ERROR_RATE = 0.08
SUMMARY_PROMPT = (
    "Summarize the reasoning below as the few steps that lead to its result. Keep every number that is used, "
    "drop checks and repetitions.\n\nQuestion:\n{question}\n\nReasoning:\n{reasoning}"
)

Row = dict[str, Any]


# --------------------------------------------------------------------------------------------- word lists
# A clause has the slots {S} (acting person, subject form), {H} (object form), {P} (possessive), {N} (that
# person's name), {n} (number), {o} (objects), {x} (another person); place clauses have {c} (container),
# {on}/{to}/{off} (its prepositions).


@dataclass(frozen=True)
class Clauses:
    """Verb phrases of one frame set, for stories about a person and about a place."""

    add: tuple[str, ...]
    sub: tuple[str, ...]
    double: tuple[str, ...]
    halve: tuple[str, ...]
    compare_more: tuple[str, ...]
    compare_fewer: tuple[str, ...]
    compare_double: tuple[str, ...]
    compare_half: tuple[str, ...]
    place_add: tuple[str, ...]
    place_sub: tuple[str, ...]
    place_double: tuple[str, ...]
    place_halve: tuple[str, ...]


@dataclass(frozen=True)
class Frames:
    """Everything a story of one frame set is put together from."""

    women: tuple[str, ...]
    men: tuple[str, ...]
    objects: tuple[str, ...]
    containers: tuple[tuple[str, str, str, str], ...]
    openings: tuple[str, ...]
    place_openings: tuple[str, ...]
    connectors: tuple[str, ...]
    tails: tuple[str, ...]
    fillers: tuple[str, ...]
    questions: tuple[str, ...]
    place_questions: tuple[str, ...]
    clauses: Clauses


COLLECT_CLAUSES = Clauses(
    add=(
        "{S} bought {n} more {o}",
        "{S} picked {n} more",
        "{S} found {n} {o} under the stairs",
        "{x} gave {H} {n} {o}",
        "{S} collected another {n} {o}",
        "{S} won {n} {o} in a game",
        "{S} brought home {n} extra {o}",
        "{x} handed {H} {n} more",
    ),
    sub=(
        "{S} gave {n} {o} to {x}",
        "{S} lost {n} of them",
        "{S} sold {n} {o}",
        "{S} broke {n} {o} by accident",
        "{S} used up {n} {o}",
        "{x} took {n} of the {o}",
        "{S} threw away {n} old {o}",
        "{S} lent {n} {o} to {x}",
    ),
    double=("{S} doubled the number of {o}", "{x} gave {H} as many {o} again as {S} had"),
    halve=("{S} gave half of the {o} to {x}", "{S} lost half of them"),
    compare_more=("{x} had {n} more {o} than {N}",),
    compare_fewer=("{x} had {n} fewer {o} than {N}",),
    compare_double=("{x} had twice as many {o} as {N}",),
    compare_half=("{x} had half as many {o} as {N}",),
    place_add=("{x} put {n} more {o} {to} the {c}", "{x} added {n} {o}", "{n} new {o} came {to} the {c}"),
    place_sub=("{x} took {n} {o} {off} the {c}", "{n} {o} fell {off} the {c}", "{x} removed {n} {o}"),
    place_double=("{x} doubled the number of {o} {on} the {c}",),
    place_halve=("{x} took half of the {o} {off} the {c}",),
)

EVAL_CLAUSES = Clauses(
    add=(
        "{S} got {n} {o} from {x}",
        "{S} dug out {n} more {o}",
        "{S} earned {n} {o} for helping out",
        "{x} sent {H} {n} {o} in a parcel",
        "{S} borrowed {n} {o} from {x}",
        "{S} ordered {n} additional {o}",
        "{x} left {n} more {o} for {H}",
        "{S} gathered a further {n}",
    ),
    sub=(
        "{S} handed over {n} {o} to {x}",
        "{S} mailed {n} {o} to {x}",
        "{S} misplaced {n} of the {o}",
        "{S} donated {n} {o} to the school",
        "{S} let {x} have {n} {o}",
        "{n} of the {o} were stolen",
        "{S} got rid of {n} {o}",
        "{S} ruined {n} of {P} {o}",
    ),
    double=("{S} ended up with twice as many {o}", "the pile of {o} grew to double its size"),
    halve=("{S} sent half of the {o} to {x}", "half of the {o} went missing"),
    compare_more=("next to {N} , {x} counted {n} more {o}",),
    compare_fewer=("next to {N} , {x} counted {n} fewer {o}",),
    compare_double=("next to {N} , {x} counted double the {o}",),
    compare_half=("next to {N} , {x} counted only half the {o}",),
    place_add=(
        "{x} placed {n} additional {o} {to} the {c}",
        "{n} further {o} were laid {to} the {c}",
        "{x} filled in {n} {o}",
    ),
    place_sub=(
        "{x} cleared {n} {o} {off} the {c}",
        "{x} grabbed {n} of the {o}",
        "{n} {o} were carried {off} the {c}",
    ),
    place_double=("the number of {o} {on} the {c} grew to double",),
    place_halve=("half of the {o} {on} the {c} were cleared away",),
)

PRETRAIN_CLAUSES = Clauses(
    add=(
        "{S} received {n} {o} as a present",
        "{S} took in {n} more {o}",
        "{x} passed {n} {o} to {H}",
        "{S} made {n} new {o}",
        "{S} got {n} more {o} for free",
        "{x} let {H} keep {n} {o}",
        "{S} carried in {n} further {o}",
        "{S} discovered {n} {o} behind the shed",
        "{S} borrowed {n} more",
        "{S} was given {n} {o} by {x}",
    ),
    sub=(
        "{S} shared out {n} {o} among friends",
        "{S} left {n} {o} behind on the train",
        "{S} dropped {n} {o} into the river",
        "{S} spent {n} of {P} {o}",
        "{x} borrowed {n} {o} from {H}",
        "{S} returned {n} {o} to {x}",
        "{n} {o} were lost",
        "{S} sent {n} {o} away",
        "{S} passed {n} of the {o} on to {x}",
        "{S} had to give back {n}",
    ),
    double=(
        "{S} got as many {o} again",
        "the number of {o} became twice as large",
        "{S} then had twice as many {o} as before",
        "{S} made the pile of {o} double",
    ),
    halve=(
        "{S} sold half of the {o}",
        "{S} used half of {P} {o}",
        "half of the {o} were given to {x}",
        "{S} kept only half of the {o}",
    ),
    compare_more=("{x} owned {n} more {o} than {N}", "{x} counted {n} {o} more than {N}"),
    compare_fewer=("{x} owned {n} fewer {o} than {N}", "{x} counted {n} {o} fewer than {N}"),
    compare_double=("{x} owned double the {o} of {N}", "{x} counted twice as many {o} as {N}"),
    compare_half=("{x} owned half the {o} of {N}", "{x} counted half as many {o} as {N}"),
    place_add=(
        "{x} brought {n} {o} more {to} the {c}",
        "{n} extra {o} were placed {to} the {c}",
        "{x} set another {n} {o} {to} the {c}",
    ),
    place_sub=(
        "{n} of the {o} were taken {off} the {c}",
        "{x} carried {n} {o} away",
        "{x} threw {n} {o} {off} the {c}",
    ),
    place_double=("{x} made it twice as many {o}", "the {o} {on} the {c} became twice as many"),
    place_halve=("half of the {o} were taken {off} the {c}", "{x} carried half of the {o} away"),
)


def merge_clauses(parts: Sequence[Clauses]) -> Clauses:
    """All verb phrases of several frame sets together."""
    names = Clauses.__dataclass_fields__
    return Clauses(**{name: tuple(c for part in parts for c in getattr(part, name)) for name in names})


COLLECT = Frames(
    women=("Mara", "Lena", "Ruth", "Ines", "Clara", "Nora", "Tilda", "Vera", "Hanna", "Paula"),
    men=("Otto", "Ben", "Karl", "Emil", "Hugo", "Leon", "Paul", "Oskar", "Felix", "Anton"),
    objects=(
        "plums",
        "jars",
        "apples",
        "eggs",
        "spoons",
        "candles",
        "onions",
        "cups",
        "nuts",
        "cookies",
        "bottles",
        "lemons",
        "carrots",
        "plates",
        "ribbons",
        "buttons",
    ),
    containers=(
        ("shelf", "on", "onto", "off"),
        ("basket", "in", "into", "out of"),
        ("table", "on", "onto", "off"),
        ("cupboard", "in", "into", "out of"),
        ("sack", "in", "into", "out of"),
    ),
    openings=(
        "{N} has {n} {o}.",
        "{N} had {n} {o} in the pantry.",
        "There were {n} {o} that belonged to {N}.",
    ),
    place_openings=("There are {n} {o} {on} the {c}.", "A {c} held {n} {o}."),
    connectors=("", "Then ", "After that ", "Next ", "On Monday ", "In the afternoon ", "Later "),
    tails=("", "", "", " at the market", " before lunch", " on the way home"),
    fillers=("It was a sunny day.", "The kitchen was warm.", "The cat was asleep."),
    questions=(
        "How many {o} does {N} have now?",
        "How many {o} did {N} have in the end?",
        "How many {o} are left for {N}?",
    ),
    place_questions=("How many {o} are {on} the {c} now?", "How many {o} were {on} the {c} in the end?"),
    clauses=COLLECT_CLAUSES,
)

EVAL = Frames(
    women=("Sofia", "Greta", "Alma", "Yuki", "Dora", "Fatima", "Ilse", "Roza"),
    men=("Jonas", "Marek", "Tariq", "Sven", "Luca", "Ivan", "Nils", "Pedro"),
    objects=(
        "marbles",
        "stamps",
        "shells",
        "tickets",
        "pencils",
        "bricks",
        "feathers",
        "maps",
        "lamps",
        "ropes",
        "coins",
        "masks",
    ),
    containers=(
        ("cart", "in", "into", "out of"),
        ("desk", "on", "onto", "off"),
        ("crate", "in", "into", "out of"),
        ("bench", "on", "onto", "off"),
    ),
    openings=(
        "To begin with, {N} owns {n} {o}.",
        "{N} keeps a pile of {n} {o} at home.",
        "A full count showed {n} {o} for {N}.",
    ),
    place_openings=("To begin with, {n} {o} lay {on} the {c}.", "Somebody counted {n} {o} {on} a {c}."),
    connectors=(
        "A little later, ",
        "By evening, ",
        "Before supper, ",
        "The following week, ",
        "Some time passed and ",
    ),
    tails=("", "", "", " near the harbour", " during a storm", " without any fuss"),
    fillers=("Nobody saw it coming.", "The harbour was quiet.", "A dog barked outside."),
    questions=(
        "What is the number of {o} that {N} has after all this?",
        "Tell me: how many {o} does {N} own at this point?",
        "Counting again, how many {o} would {N} find?",
    ),
    place_questions=(
        "What is the number of {o} {on} the {c} after all this?",
        "Counting again, how many {o} would you find {on} the {c}?",
    ),
    clauses=EVAL_CLAUSES,
)

PRETRAIN = Frames(
    women=COLLECT.women + EVAL.women + ("Maja", "Olga", "Petra", "Julia", "Sara", "Wanda", "Edith", "Zoe"),
    men=COLLECT.men + EVAL.men + ("Tom", "Max", "Jan", "Erik", "Omar", "Rudi", "Viktor", "Samir"),
    objects=COLLECT.objects
    + EVAL.objects
    + (
        "books",
        "toys",
        "stones",
        "hats",
        "keys",
        "cards",
        "flowers",
        "boxes",
        "balls",
        "pears",
        "nails",
        "socks",
    ),
    containers=COLLECT.containers
    + EVAL.containers
    + (("drawer", "in", "into", "out of"), ("boat", "in", "into", "out of"), ("wall", "on", "onto", "off")),
    openings=(
        *COLLECT.openings,
        "{N} owns {n} {o}.",
        "{N} keeps {n} {o}.",
        "At first {N} had {n} {o}.",
        "{N} counted {n} {o} at home.",
        "In the morning {N} began with {n} {o}.",
        "A count showed that {N} had a pile of {n} {o}.",
        "{N} started out with a full box of {n} {o}.",
    ),
    place_openings=(
        *COLLECT.place_openings,
        "At first {n} {o} lay {on} the {c}.",
        "{n} {o} were {on} the {c}.",
        "Somebody left {n} {o} {on} the {c}.",
        "{x} counted {n} {o} {on} a {c}.",
    ),
    connectors=(
        *COLLECT.connectors,
        "A week later ",
        "In the evening ",
        "Soon ",
        "The next day ",
        "Some time later ",
        "Before dinner ",
        "During the week ",
        "Later that day, ",
        "On Friday, ",
        "Shortly after, ",
        "A day passed and ",
    ),
    tails=(*COLLECT.tails, " near the river", " in the rain", " without a word", " after school", " at noon"),
    fillers=(
        *COLLECT.fillers,
        "The sky was grey.",
        "Nobody was at home.",
        "A bird sang outside.",
        "It rained a little.",
        "The dog was quiet.",
    ),
    questions=(
        *COLLECT.questions,
        "What is the number of {o} {N} has now?",
        "How many {o} does {N} own in the end?",
        "After all this, how many {o} does {N} have?",
        "Tell me how many {o} {N} has.",
        "How many {o} would {N} count at this point?",
        "If {N} counts again, how many {o} are there?",
        "When {N} counts once more, how many {o} will there be?",
        "Counting once more, what number of {o} does {N} see?",
        "Looking again, how many {o} would {N} find?",
        "Counting all of them again, {N} has how many {o}?",
    ),
    place_questions=(
        *COLLECT.place_questions,
        "What is the number of {o} {on} the {c} now?",
        "After all this, how many {o} are {on} the {c}?",
        "If you count again, how many {o} are {on} the {c}?",
        "Counting once more, what number of {o} is {on} the {c}?",
        "Looking again, how many {o} would you find {on} the {c}?",
        "Counting all of them again, how many {o} lie {on} the {c}?",
    ),
    clauses=merge_clauses((COLLECT_CLAUSES, EVAL_CLAUSES, PRETRAIN_CLAUSES)),
)
FRAMES = {"collect": COLLECT, "eval": EVAL, "pretrain": PRETRAIN}


# ------------------------------------------------------------------------------------------------ stories


@dataclass(frozen=True)
class Step:
    """One change in a story: ``before`` becomes ``after``."""

    op: str
    n: int
    before: int
    after: int

    @property
    def equation(self) -> str:
        """The change as an equation, e.g. ``12 + 7 = 19``."""
        sign, n = {"add": ("+", self.n), "sub": ("-", self.n), "double": ("*", 2), "halve": ("/", 2)}[self.op]
        return f"{self.before} {sign} {n} = {self.after}"

    @property
    def back(self) -> str:
        """The equation that undoes the change, as a reasoner writes it to check itself."""
        sign, n = {"add": ("-", self.n), "sub": ("+", self.n), "double": ("/", 2), "halve": ("*", 2)}[self.op]
        return f"{self.after} {sign} {n} = {self.before}"


@dataclass
class Story:
    """A story with its structured steps; ``holder`` is who or what the question is about."""

    frames: str
    text: str
    start: int
    steps: list[Step]
    objects: str
    holder: str
    place: bool = False
    preposition: str = ""
    clauses: list[str] = field(default_factory=list)

    @property
    def answer(self) -> int:
        """The number the question asks for."""
        return self.steps[-1].after


@dataclass
class _Teller:
    """State while a story is being told: whom it is about and what was said."""

    rng: random.Random
    frames: Frames
    name: str
    woman: bool
    objects: str
    container: tuple[str, str, str, str] | None

    def slots(self, n: int, other: str) -> dict[str, str]:
        """Values of the template slots for the present holder."""
        container = self.container or ("", "", "", "")
        return {
            "S": self.rng.choice(("she" if self.woman else "he", self.name)),
            "H": "her" if self.woman else "him",
            "P": "her" if self.woman else "his",
            "N": self.name,
            "n": str(n),
            "o": self.objects,
            "x": other,
            "c": container[0],
            "on": container[1],
            "to": container[2],
            "off": container[3],
        }

    def other(self) -> tuple[str, bool]:
        """Another person than the holder, and whether it is a woman."""
        pool = [(w, True) for w in self.frames.women] + [(m, False) for m in self.frames.men]
        return self.rng.choice([entry for entry in pool if entry[0] != self.name])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _operation(rng: random.Random, value: int, last: str) -> tuple[str, int, int]:
    """Choose an operation that keeps the value between 2 and 99: (operation, number, new value)."""
    options = []
    if value <= LIMIT - 2:
        options += ["add"] * 5
    if value >= 5:
        options += ["sub"] * 5
    if value <= LIMIT // 2 and last != "halve":
        options += ["double"] * 2
    if value % 2 == 0 and value >= 4 and last != "double":
        options += ["halve"] * 2
    op = rng.choice(options)
    if op == "add":
        n = rng.randint(2, min(40, LIMIT - value))
        return op, n, value + n
    if op == "sub":
        n = rng.randint(2, min(60, value - 2))
        return op, n, value - n
    return (op, 2, value * 2) if op == "double" else (op, 2, value // 2)


def _tell_step(teller: _Teller, step: Step, compare: bool) -> str:
    """The sentence of one step; a comparison hands the story over to the other person."""
    rng, clauses = teller.rng, teller.frames.clauses
    other, other_is_woman = teller.other()
    if compare:
        kind = {"add": "more", "sub": "fewer", "double": "double", "halve": "half"}[step.op]
        pool: tuple[str, ...] = getattr(clauses, f"compare_{kind}")
    elif teller.container:
        pool = getattr(clauses, f"place_{step.op}")
    else:
        pool = getattr(clauses, step.op)
    clause = rng.choice(pool).format(**teller.slots(step.n, other)).replace(" ,", ",")
    tail = "" if compare else rng.choice(teller.frames.tails)
    sentence = _capital(rng.choice(teller.frames.connectors) + clause) + tail + "."
    if compare:
        teller.name, teller.woman = other, other_is_woman
    return sentence


def make_story(rng: random.Random, steps: int, frames: str = "collect") -> Story:
    """Tell one story of ``steps`` changes out of the named frame set."""
    world = FRAMES[frames]
    place = rng.random() < 0.25
    teller = _Teller(rng, world, "", True, rng.choice(world.objects), None)
    teller.name, teller.woman = teller.other()
    teller.container = rng.choice(world.containers) if place else None
    value = rng.randint(3, 60)
    story = Story(frames, "", value, [], teller.objects, "", place)
    opening = rng.choice(world.place_openings if place else world.openings)
    sentences = [opening.format(**teller.slots(value, teller.other()[0]))]
    last = ""
    for _ in range(steps):
        if rng.random() < 0.06:
            sentences.append(rng.choice(world.fillers))
        last, n, after = _operation(rng, value, last)
        story.steps.append(Step(last, n, value, after))
        compare = not place and rng.random() < 0.1
        sentences.append(_tell_step(teller, story.steps[-1], compare))
        story.clauses.append(sentences[-1])
        value = after
    question = rng.choice(world.place_questions if place else world.questions)
    slots = teller.slots(value, "")
    sentences.append(question.format(**slots))
    story.text, story.holder = " ".join(sentences), slots["c"] if place else slots["N"]
    story.preposition = slots["on"]
    return story


# ---------------------------------------------------------------------------------- what is said about one

Reason = Callable[[Step, str], str]
PLAIN: dict[str, tuple[str, ...]] = {
    "add": ("{n} {o} are added", "{n} more {o} come in", "another {n} {o} are added"),
    "sub": ("{n} {o} go away", "{n} {o} are taken away", "{n} of the {o} go away"),
    "double": ("the {o} double", "it becomes twice as many {o}"),
    "halve": ("the {o} are halved", "only half of the {o} stay"),
}
OPENERS = (
    "Let me go through the story step by step.",
    "I follow the number of {o}.",
    "Okay, one change at a time.",
)
STARTS = ("The start is {v} {o}.", "At the start there are {v} {o}.", "I begin with {v} {o}.")
ORDINALS = ("First", "Then", "Next", "After that", "Finally")
CHECKS = ("Check: {back}, good.", "Let me check that: {back}. Yes.")
WAITS = {
    "add": "Wait, do they go away? No, they are added.",
    "sub": "Wait, are they added? No, they go away.",
    "double": "Wait, is that half? No, it is twice as many.",
    "halve": "Wait, is that double? No, it is half.",
}
CLOSERS = (
    "Nothing else happens, so it ends at {v}.",
    "So in the end there are {v} {o}.",
    "That leaves {v} {o}.",
)


def trace(rng: random.Random, story: Story) -> str:
    """A natural reasoning trace: one short sentence per step, sometimes a check or a second thought."""
    obj = story.objects
    lines = []
    if rng.random() < 0.5:
        lines.append(rng.choice(OPENERS).format(o=obj))
    lines.append(rng.choice(STARTS).format(v=story.start, o=obj))
    for index, step in enumerate(story.steps):
        reason = rng.choice(PLAIN[step.op]).format(n=step.n, o=obj)
        if rng.random() < 0.12:
            lines.append(WAITS[step.op])
        lines.append(f"{ORDINALS[index]} {reason}: {step.equation}.")
        if rng.random() < 0.12:
            lines.append(rng.choice(CHECKS).format(back=step.back))
    lines.append(rng.choice(CLOSERS).format(v=story.answer, o=obj))
    return "\n".join(lines)


def summary(story: Story) -> str:
    """The few equations that lead to the result."""
    return " ".join(f"{step.equation}." for step in story.steps)


def final_answer(story: Story) -> str:
    """The reasoning teacher's concise answer."""
    return f"The answer is {story.answer}."


def plain_answer(rng: random.Random, story: Story, value: int | None = None) -> str:
    """A short sentence without reasoning, in the style of a community data set."""
    number, obj = story.answer if value is None else value, story.objects
    where = f"{story.preposition} the {story.holder}" if story.place else f"for {story.holder}"
    styles = [f"There are {number} {obj} {where}.", f"{number} {obj}.", f"It is {number}."]
    if not story.place:
        styles.append(f"{story.holder} has {number} {obj}.")
    return rng.choice(styles)


def wrong_number(rng: random.Random, story: Story) -> int:
    """A believable wrong number: an intermediate result or a slip."""
    slips = [s.after for s in story.steps[:-1]] + [
        story.start,
        story.answer + 1,
        story.answer + 10,
        story.answer - 1,
    ]
    return rng.choice([n for n in slips if n != story.answer and n > 0])


# --------------------------------------------------------------------------------------------- guard task


@dataclass(frozen=True)
class Guard:
    """A short instruction with its answer, a short think about it, and checkable constraints."""

    prompt: str
    answer: str
    think: str
    note: str
    constraints: tuple[Row, ...]


THINGS = (
    "plum",
    "jar",
    "apple",
    "egg",
    "spoon",
    "candle",
    "onion",
    "cup",
    "nut",
    "lemon",
    "carrot",
    "plate",
    "button",
    "bottle",
    "shell",
    "ticket",
    "pencil",
    "brick",
    "map",
    "lamp",
    "rope",
    "coin",
    "mask",
    "book",
    "toy",
    "stone",
    "hat",
    "key",
    "card",
    "flower",
    "bag",
    "ball",
    "pear",
    "nail",
    "sock",
    "bird",
    "cat",
    "dog",
    "tree",
    "river",
)
COLOURS = ("red", "blue", "green", "black", "white", "grey", "brown", "yellow")
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}


def _guard_repeat(rng: random.Random) -> Guard:
    word, n = rng.choice(THINGS), rng.choice(list(COUNTS))
    ask = rng.choice(
        ("Write the word {w} {k} times.", "Say {w} {k} times.", "Repeat the word {w} {k} times.")
    )
    return Guard(
        ask.format(w=word, k=COUNTS[n]),
        " ".join([word] * n),
        f"The word is {word} and it must come {COUNTS[n]} times.",
        f"{word}, {COUNTS[n]} times.",
        ({"kind": "repeat", "word": word, "n": n},),
    )


def _guard_capital(rng: random.Random) -> Guard:
    word = rng.choice(THINGS)
    ask = rng.choice(
        (
            "Write {w} in capital letters.",
            "Answer with the word {w} in capital letters only.",
            "Put {w} in upper case.",
        )
    )
    return Guard(
        ask.format(w=word),
        word.upper(),
        f"The word {word} must be in capital letters.",
        f"{word} in capitals.",
        ({"kind": "exact", "value": word.upper()}, {"kind": "uppercase"}),
    )


def _guard_yes_no(rng: random.Random) -> Guard:
    a, b = rng.sample(range(2, 60), 2)
    larger = rng.random() < 0.5
    value = "yes" if (a > b) == larger else "no"
    word = "larger" if larger else "smaller"
    fact = f"{a} is {'larger' if a > b else 'smaller'} than {b}"
    return Guard(
        f"Answer only with yes or no: is {a} {word} than {b}?",
        value,
        f"{fact}, so it is {value}.",
        f"{fact}.",
        ({"kind": "exact", "value": value},),
    )


def _guard_reverse(rng: random.Random) -> Guard:
    words = rng.sample(THINGS, rng.choice((2, 3, 3)))
    back = ", ".join(reversed(words))
    ask = rng.choice(("List these in reverse order: {w}", "Turn this list around: {w}"))
    return Guard(
        ask.format(w=", ".join(words)),
        back,
        f"The last one is {words[-1]}, so I start with it.",
        f"Start with {words[-1]}.",
        ({"kind": "exact", "value": back},),
    )


def _guard_pick(rng: random.Random) -> Guard:
    words = rng.sample(COLOURS, 3)
    ask = rng.choice(
        ("Pick one of these and reply with that word only: {w}", "Choose one word out of this list: {w}")
    )
    return Guard(
        ask.format(w=", ".join(words)),
        words[0],
        f"I take {words[0]}.",
        f"{words[0]}.",
        ({"kind": "one_of", "values": words}, {"kind": "count_words", "n": 1}),
    )


def _guard_count_words(rng: random.Random) -> Guard:
    word, colour, n = rng.choice(THINGS), rng.choice(COLOURS), rng.choice((3, 4, 5))
    answer = {3: f"A {colour} {word}.", 4: f"The {word} is {colour}.", 5: f"I see a {colour} {word}."}[n]
    return Guard(
        f"Write exactly {COUNTS[n]} words about {an(word)}.",
        answer,
        f"It needs {COUNTS[n]} words with {word}.",
        f"{COUNTS[n]} words, {word}.",
        ({"kind": "count_words", "n": n}, {"kind": "contains", "value": word}),
    )


def _guard_no_digits(rng: random.Random) -> Guard:
    word, colour, n = rng.choice(THINGS), rng.choice(COLOURS), rng.choice(list(COUNTS))
    return Guard(
        f"Write a sentence about {n} {word}s without any digits.",
        f"There are {COUNTS[n]} {colour} {word}s.",
        f"No digits, so {n} becomes {COUNTS[n]}.",
        f"{n} is {COUNTS[n]}.",
        ({"kind": "no_digits"}, {"kind": "contains", "value": word}),
    )


def _guard_lowercase(rng: random.Random) -> Guard:
    word, colour = rng.choice(THINGS), rng.choice(COLOURS)
    return Guard(
        f"Write a sentence about a {colour} {word} in lower case only.",
        f"the {word} is {colour}.",
        f"Only small letters about a {colour} {word}.",
        f"{word}, {colour}, small letters.",
        ({"kind": "lowercase"}, {"kind": "contains", "value": word}),
    )


def _guard_ends_with(rng: random.Random) -> Guard:
    word, last = rng.sample(THINGS, 2)
    return Guard(
        f"Write a sentence about {an(word)} that ends with the word {last}.",
        f"The {word} is next to the {last}",
        f"The sentence is about {an(word)} and the last word is {last}.",
        f"{word} first, {last} last.",
        ({"kind": "contains", "value": word}, {"kind": "ends_with", "value": last}),
    )


GUARDS: tuple[Callable[[random.Random], Guard], ...] = (
    _guard_repeat,
    _guard_capital,
    _guard_yes_no,
    _guard_reverse,
    _guard_pick,
    _guard_count_words,
    _guard_no_digits,
    _guard_lowercase,
    _guard_ends_with,
)


def an(word: str) -> str:
    """The word with its indefinite article."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def make_guard(rng: random.Random) -> Guard:
    """One guard prompt of a random family."""
    return rng.choice(GUARDS)(rng)


def satisfied(text: str, constraints: Iterable[Row]) -> bool:
    """Whether a reply meets all constraints (the meaning of each kind, as data/README.md states it)."""
    reply = text.strip()
    words = [w.strip(".,!?:;\"'") for w in reply.split()]
    checks: dict[str, Callable[[Row], bool]] = {
        "exact": lambda c: reply == c["value"],
        "one_of": lambda c: reply.rstrip(".") in c["values"],
        "contains": lambda c: str(c["value"]).lower() in reply.lower(),
        "count_words": lambda c: len(words) == c["n"],
        "uppercase": lambda c: reply == reply.upper() and reply != reply.lower(),
        "lowercase": lambda c: reply == reply.lower() and reply != reply.upper(),
        "no_digits": lambda c: bool(reply) and not any(ch.isdigit() for ch in reply),
        "ends_with": lambda c: reply.rstrip(".!?").lower().endswith(str(c["value"]).lower()),
        "repeat": lambda c: [w.lower() for w in words] == [str(c["word"]).lower()] * int(c["n"]),
    }
    return all(checks[c["kind"]](c) for c in constraints)


# ---------------------------------------------------------------------------------------- overlap of texts


def ngrams(text: str, size: int = NGRAM) -> set[tuple[str, ...]]:
    """Word n-grams of a text with every number written as ``#``."""
    words, word = [], ""
    for char in text.lower() + " ":
        if char.isalnum():
            word = "#" if char.isdigit() and word in ("", "#") else word + char
        elif word:
            words.append(word)
            word = ""
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def overlap(train_texts: Iterable[str], eval_texts: Iterable[str], size: int = NGRAM) -> float:
    """Share of evaluation texts that have at least one number-masked n-gram in common with training.

    A text of fewer than ``size`` words has no n-gram and counts as not overlapping.
    """
    seen: set[tuple[str, ...]] = set()
    for text in train_texts:
        seen |= ngrams(text, size)
    grams = [ngrams(text, size) for text in eval_texts]
    return sum(1 for g in grams if g & seen) / len(grams) if grams else 0.0


# ------------------------------------------------------------------------------------------ shipped files


def story_row(story: Story, original: str, split: str) -> Row:
    """One line of prompts.jsonl or eval.jsonl."""
    return {
        "messages": [{"role": "user", "content": story.text}],
        "reference": str(story.answer),
        "original": original,
        "source": "pantry",
        "licence": "Apache-2.0",
        "metadata": {"kind": "story", "steps": len(story.steps), "split": split},
    }


def guard_row(guard: Guard, original: str, split: str) -> Row:
    """One guard line; ``reference`` is one reply that meets the constraints."""
    return {
        "messages": [{"role": "user", "content": guard.prompt}],
        "reference": guard.answer,
        "original": original,
        "source": "pantry",
        "licence": "Apache-2.0",
        "metadata": {"kind": "guard", "split": split, "constraints": [dict(c) for c in guard.constraints]},
    }


def _story_rows(rng: random.Random, per_step: int, frames: str, split: str) -> list[Row]:
    rows: list[Row] = []
    seen: set[str] = set()
    for steps in range(1, MAX_STEPS + 1):
        made = 0
        while made < per_step:
            story = make_story(rng, steps, frames)
            if story.text in seen:
                continue
            seen.add(story.text)
            made += 1
            wrong = split == "collect" and rng.random() < ORIGINAL_ERROR_RATE
            original = plain_answer(rng, story, wrong_number(rng, story) if wrong else None)
            rows.append(story_row(story, original, split))
    return rows


def _guard_original(rng: random.Random, guard: Guard) -> str:
    """A community-style reply to a guard prompt: mostly right, sometimes chatty, sometimes wrong."""
    draw = rng.random()
    if draw < ORIGINAL_ERROR_RATE:
        return rng.choice(("I do not know.", "Sure! " + guard.answer, guard.answer + " and 7 more"))
    return guard.answer


def _guard_rows(rng: random.Random, count: int, split: str, taken: set[str]) -> list[Row]:
    rows: list[Row] = []
    while len(rows) < count:
        guard = GUARDS[len(rows) % len(GUARDS)](rng)
        if guard.prompt in taken:
            continue
        taken.add(guard.prompt)
        rows.append(guard_row(guard, _guard_original(rng, guard), split))
    return rows


def shipped(seed: int = 20) -> dict[str, list[Row]]:
    """The rows of the three shipped files, from one seed."""
    taken: set[str] = set()
    guard = _guard_rows(random.Random(seed + 2), 100, "guard", taken)
    evaluation = _story_rows(random.Random(seed + 1), 60, "eval", "eval")
    prompts = _story_rows(random.Random(seed), 600, "collect", "collect")
    prompts += _guard_rows(random.Random(seed + 3), 300, "collect", taken)
    random.Random(seed + 4).shuffle(prompts)
    return {"prompts": prompts, "eval": evaluation, "guard": guard}


def write_shipped(folder: Path, seed: int = 20) -> dict[str, list[Row]]:
    """Write prompts.jsonl, eval.jsonl and guard.jsonl into ``folder``."""
    return _write(folder, shipped(seed))


def _write(folder: Path, files: dict[str, list[Row]]) -> dict[str, list[Row]]:
    for name, rows in files.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return files


MOST_GUARDS = 500
"""The smallest family of guard prompts has no more words to make new ones of."""


def fresh(count: int, seed: int = 20) -> dict[str, list[Row]]:
    """``count`` new evaluation stories, a fifth for each number of steps, and a third as many new guard prompts, at
    most ``MOST_GUARDS``; nothing of them ships."""
    files = shipped(seed)
    taken = {row["messages"][0]["content"] for rows in files.values() for row in rows}
    guards = _guard_rows(random.Random(seed + 6), min(count // 3, MOST_GUARDS), "guard", set(taken))
    stories: list[Row] = []
    for step in range(1, MAX_STEPS + 1):
        rng = random.Random(seed + 10 * step + 5)
        wanted = count * step // MAX_STEPS
        while len(stories) < wanted:
            story = make_story(rng, step, "eval")
            if story.text not in taken:
                taken.add(story.text)
                stories.append(story_row(story, plain_answer(rng, story, None), "eval"))
    return {"stories": stories, "guards": guards}


def main() -> None:
    """Command line: rewrite the shipped files and print the overlap between prompts and evaluation; or write new items
    beside them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the files")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--fresh", type=int, default=0, metavar="N",
                        help="write only N new stories (stories.jsonl) and N / 3 guard prompts (guards.jsonl)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.fresh:
        print(json.dumps({name: len(rows) for name, rows in _write(args.out, fresh(args.fresh, args.seed)).items()}))
        return
    files = write_shipped(args.out, args.seed)
    texts = {name: [row["messages"][0]["content"] for row in rows] for name, rows in files.items()}
    shared = overlap(texts["prompts"], texts["eval"])
    print(json.dumps({**{name: len(rows) for name, rows in files.items()}, "overlap": shared}))


if __name__ == "__main__":
    main()
