"""Our own kinds of instructions, of the pantry's guard: about short answers, apart from space around them."""

from __future__ import annotations

from localdistill.graders.obedience.kind import Rule


def _words(answer: str) -> list[str]:
    return [word.strip(".,!?:;\"'") for word in answer.split()]


def exact(answer: str, value: str) -> bool:
    """It is this text."""
    return answer.strip() == value


def one_of(answer: str, values: list[str]) -> bool:
    """It is one of these texts, apart from full stops behind it."""
    return answer.strip().rstrip(".") in values


def contains(answer: str, value: str | int | float) -> bool:
    """It holds this text, in any case."""
    return str(value).lower() in answer.lower()


def count_words(answer: str, n: int) -> bool:
    """It has exactly so many words."""
    return len(_words(answer)) == n


def uppercase(answer: str) -> bool:
    """It has letters, all of them capital."""
    return answer == answer.upper() and answer != answer.lower()


def lowercase(answer: str) -> bool:
    """It has letters, none of them capital."""
    return answer == answer.lower() and answer != answer.upper()


def no_digits(answer: str) -> bool:
    """It has no digits."""
    return not any(char.isdigit() for char in answer)


def ends_with(answer: str, value: str | int | float) -> bool:
    """It ends with this text, apart from case and marks behind it."""
    return answer.strip().rstrip(".!?").lower().endswith(str(value).lower())


def repeat(answer: str, word: str, n: int) -> bool:
    """It is this word so often, and nothing else."""
    return [one.lower() for one in _words(answer)] == [word.lower()] * n


OWN = {
    "exact": Rule(exact, " PLUM\n", "plum", {"value": "PLUM"}),
    "one_of": Rule(one_of, "red.", "green", {"values": ["red", "blue"]}),
    "contains": Rule(contains, "the plum is red", "the pear", {"value": "Plum"}),
    "count_words": Rule(count_words, "A red jar.", "A jar.", {"n": 3}),
    "uppercase": Rule(uppercase, "PLUM 3", "Plum"),
    "lowercase": Rule(lowercase, "a plum.", "A plum."),
    "no_digits": Rule(no_digits, "three plums", "3 plums"),
    "ends_with": Rule(ends_with, "Next to the jar.", "The jar is red.", {"value": "jar"}),
    "repeat": Rule(repeat, "egg, Egg egg", "egg egg", {"word": "egg", "n": 3}),
}
