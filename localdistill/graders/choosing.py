"""Chooses which expression of a passage is its result, or says that none is.

What the passage denies, bounds, assumes or only asks ("not 5", "more than 5", "if x = 5") is never the result. Of what
is left the rules of the second part of the book (`rules`) choose, in their order.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from localdistill.graders.expressions import Stated, expressions_in
from localdistill.graders.number_words import numbers_in_words
from localdistill.graders.numbers import Number, numbers_in, plain_text
from localdistill.graders.rules import RuleName

_BOLD = re.compile(
    r"\*\*(.{1,200}?)\*\*|__(.{1,200}?)__|\\(?:mathbf|textbf|bold|boldsymbol)\{([^{}]{1,200})\}", re.DOTALL)
_COUNTED = re.compile(r"\bhow\s+many\s+(?:(?:more|fewer|total|whole|of|the|other)\s+)*([a-z]{3,30})", re.IGNORECASE)
_ASKS_PERCENT = re.compile(r"percent|%|per\s+cent|\brates?\b", re.IGNORECASE)
_ASKS_PLACE = re.compile(r"\b(?:which|what|when)\b", re.IGNORECASE)
_ASKS_AMOUNT = re.compile(r"\bhow\s+(?:many|much|long|far|old|tall)\b", re.IGNORECASE)
_ASKS_BOUND = re.compile(
    r"\b(?:least|most|minimum|maximum|min|max|smallest|largest|greatest|fewest|lowest|highest|need(?:s|ed)?|can|could|afford"
    r"|enough|must|require[sd]?)\b", re.IGNORECASE)

_FILL = r"(?:(?:be|equals?|equal|exactly|simply|just|only|to|the|a|an|really|actually|it|is|of|=|≈|\$|\*+)\s*)*"
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|cannot|neither|nor|instead\s+of|rather\s+than|other\s+than|(?:anything|all)\s+but|except(?:\s+for)?|unlike|excluding)"
    r"|n['’]t|\b(?:wrong|incorrect|false|mistaken)\s+(?:answer|result|value|solution)(?:\s+(?:is|was|would\s+be)|:)"
    rf")\s+{_FILL}(?:\w+\s*=\s*)?$", re.IGNORECASE)
_DENIED_AFTER = re.compile(
    r"[\s\w$*]{0,30}?\b(?:is|was|are|were|would\s+be|seems|looks)\s+(?:\w+ly\s+|also\s+)?"
    r"(?:(?:wrong|incorrect|false|impossible|mistaken|invalid)\b|not\s+(?:right|correct|possible|valid|it\b|true"
    r"|(?:the|an?)\s+(?:\w+\s+)?(?:answer|result|solution))|too\s+(?:big|small|high|low|large|much|many|few|little)\b)"
    r"|[\s\w$*]{0,30}?\b(?:isn|wasn|aren|can|couldn)['’]t\s+(?:be\s+)?(?:right|correct|possible|true|the\s+answer)"
    r"|[\s$*]*[(\[]\s*(?:wrong|incorrect|not\s+(?:correct|right))", re.IGNORECASE)
_BOUND_BEFORE = re.compile(
    r"(?:\b(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger|longer|shorter|later|earlier|older|younger"
    r"|taller)\s+than(?:\s+or\s+equal\s+to)?|\b(?:over|under|above|below|beyond|exceeds?|exceeding))\s+"
    r"(?:about\s+|the\s+)?[$*]*$", re.IGNORECASE)
_LIMIT_BEFORE = re.compile(
    r"\b(?:at\s+least|at\s+most|up\s+to|no\s+(?:more|less|fewer)\s+than|a?\s*(?:minimum|maximum)\s+of)\s+[$*]*$",
    re.IGNORECASE)
_SUPPOSED_BEFORE = re.compile(
    r"\b(?:if|suppose|assume|assuming|supposing|unless|whether|guess(?:ed|ing)?|tr(?:y|ied|ying)|let|when|for)\b"
    r"(?P<between>[^,.;:\n]{0,25})$", re.IGNORECASE)
_GUESSED_BEFORE = re.compile(
    r"\b(?:could|might|may|can['’]t|couldn['’]t)\s+(?:also\s+|either\s+|well\s+)*be\s+(?:about\s+|either\s+)?[$*]*$"
    r"|^\s*(?:or|either)\s+(?:it\s+(?:is|could\s+be)\s+)?[$*]*$|\bor\s+not\s+$", re.IGNORECASE)
_UNEQUAL_BEFORE = re.compile(r"(?:[<>≤≥≠]=?|\\(?:le|ge|leq|geq|lt|gt|neq|ne|leqslant|geqslant|ll|gg|in|pm))[\s$*]*$")
_UNEQUAL_AFTER = re.compile(r"[\s$*]*(?:[<>≤≥≠]|\\(?:le|ge|leq|geq|lt|gt|neq|ne|leqslant|geqslant|ll|gg)(?![A-Za-z]))"
                            r"|[\s$]*(?:\w+\s+)?(?:or\s+(?:more|less|fewer|greater|above|below|higher|lower))\b")
_SAID_BEFORE = re.compile(
    r"\b(?:is|are|was|were|equals|be|gives?|leaves)\s+(?:about\s+|approximately\s+|only\s+|exactly\s+|[=≈]\s*)?[$\\(*]*\s*$")
_THIN = re.compile(r"[\s$*~]*(?:(?:about|approximately)\s+)?[$*]*")
_SO = re.compile(r"(?:,\s*|;\s*|\band\s+|\.\s+)(?:so|thus|therefore|hence)\b(?!\s+(?:far|much|many|that)\b)"
                 "|所以|因此|于是|从而|故|したがって|よって|だから|ので", re.IGNORECASE)
_NEW_CLAUSE = re.compile(r"[,;]|\b(?:so|then|thus|therefore|hence|and|but)\b")
_LEFT_ENDS = re.compile(r"[,;:\n]|\\\\|\\(?:text|quad|Rightarrow|implies|therefore)"
                        r"|(?<![A-Za-z\\])[A-Za-z]{2,}(?![A-Za-z(])")
_NAMES_OF_ONE = re.compile(r"(?<![A-Za-z])\\?[A-Za-z]+\s*\([^()]*\)|\\?[_|]\{?\w*\}?"
                           r"|\\(?:angle|triangle|overline|measuredangle)")
"""`f(2)`, `a_5`, `|AB|`, `\\angle ABC`: left sides that name one thing."""
_COMPUTES = re.compile(r"[\^+*/²³√!#]|[A-Za-z)]\s*-|-\s*[A-Za-z]|\d\s*[A-Za-z(]")

_LONGEST = 2_000
"""Characters of the end of an answer that are searched for its last number."""


def choose(text: str, before: str, question: str) -> Stated | None:
    """The expression that passage `text`, which follows `before`, states as its result; its number is None where it
    has no plain value. None when the passage states nothing."""
    plain, bold = _plain_with_bold(text)
    if re.search(r"\?[\s*_\"')\]$]*\Z", plain):
        return None
    found = expressions_in(plain)
    if not found:
        return _in_words(plain)
    stated = [one for one in found if not _is_no_result(one, plain, question)]
    if not stated:
        return None
    chosen, rule = _chosen(stated, plain, bold, before, question)
    return replace(_about_the_asked(chosen, plain, question), rule=rule)


def _chosen(stated: list[Stated], plain: str, bold: list[tuple[int, int]], before: str,
            question: str) -> tuple[Stated, RuleName]:
    """One of what is stated, and the rule that chose it."""
    in_bold = [one for one in stated if any(start <= one.start < end for start, end in bold)]
    stated = in_bold or stated
    stated = [one for one in stated if not one.is_aside] or stated
    stated = [one for one in stated if not one.is_modifier] or stated
    if len(stated) == 1:
        return stated[0], RuleName.BOLD if in_bold else RuleName.ONLY_ONE
    concluded = _after_so(stated, plain)
    if len(concluded) == 1:
        return concluded[0], RuleName.SO
    stated = concluded or stated
    have_value = [one for one in stated if one.number is not None] or stated
    rules: tuple[tuple[RuleName, Callable[[], Stated | None]], ...] = (
        (RuleName.LAST_EQUALS, lambda: _after_equals(stated, plain)),
        (RuleName.PREDICATE, lambda: _predicate(stated, plain)),
        (RuleName.COUNTED, lambda: _counted(plain, have_value, question)),
        (RuleName.COMPUTED_LAST, lambda: _computed_last(before, have_value)),
        (RuleName.NOT_GIVEN, lambda: _not_given(have_value, question)))
    for rule, found in rules:
        chosen = found()
        if chosen is not None:
            return chosen, rule
    return have_value[0], RuleName.FIRST


def last_number(answer: str, question: str) -> Stated | None:
    """The last expression of a whole answer that marks no result; None when the answer denies it, or holds none."""
    plain, _ = _plain_with_bold(answer[-_LONGEST:])
    found = expressions_in(plain)
    return found[-1] if found and not _is_no_result(found[-1], plain, question) else None


def as_asked(number: Number, told: str) -> Number:
    """`number` with the readings that question and reference (`told`) allow: `4 %` is 4 only where they speak of
    percent, `4 million` is 4 only where they do of millions."""
    asked = told.lower()
    scale = re.search(r"(?<=\s)([a-z]+?)s?$", number.text.lower())
    if scale is not None and scale[1] == "percent":
        scale = None
    is_percent = bool(re.search(r"%|percent", number.text))
    if len(number.readings) < 2 or not (scale or is_percent) or (
            scale[1] in asked if scale else _ASKS_PERCENT.search(asked)):
        return number
    if scale:
        return replace(number, readings=number.readings[:1])
    return replace(number, readings=number.readings[1:], step=number.step and number.step / 100)


def states_doubt(text: str) -> bool:
    """True where a passage without a plain number denies what it names, offers a choice, or asks."""
    plain = text.strip()
    return bool(re.search(r"\b(?:not|never|cannot|neither|nor|wrong|incorrect|either)\b|n['’]t\b|\?[\s*_$)]*\Z"
                          r"|[\d})\]$][\s$*\\)]*\bor\b|\\text\s*\{\s*or\s*\}|\b(?:could|might|may)\s+be\b", plain,
                          re.IGNORECASE))


def is_taken_back(after: str, chosen: Stated | None = None) -> bool:
    """True when the text `after` the passage says that the result is wrong."""
    said = re.escape(chosen.number.text.strip("$ ")) if chosen is not None and chosen.number is not None else "(?!)"
    return bool(re.search(
        rf"\b(?:that|this|it|which|(?:my|the|this|that)\s+(?:answer|result)|(?<![\d.]){said}(?![\d.]))"
        r"(?:['’]s|\s+(?:is|was|seems|must\s+be|can(?:no|['’])t\s+be|isn['’]t|wasn['’]t))\s+(?:\w+ly\s+)?"
        r"(?:wrong|incorrect|false|mistaken|right\s+either|(?:not|n['’]t)\s+(?:right|correct))", plain_text(after),
        re.IGNORECASE)) or bool(re.search(r"\b(?:isn|wasn|can)['’]t\s+(?:be\s+)?(?:right|correct)", after))


def _plain_with_bold(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The plain text without marks of emphasis, and where the last bold part with a number lies in it."""
    bold = [match for match in _BOLD.finditer(text)
            if numbers_in(plain_text(_inside(match))) and not _inside(match).rstrip().endswith(":")]
    if not bold:
        return _unmarked(text), []
    left, middle = _unmarked(text[:bold[-1].start()]), _unmarked(_inside(bold[-1]))
    return left + middle + _unmarked(text[bold[-1].end():]), [(len(left), len(left) + len(middle))]


def _inside(match: re.Match[str]) -> str:
    return str(next(filter(None, match.groups())))


def _unmarked(text: str) -> str:
    return plain_text(re.sub(r"\*\*|__+", "", text))


def _is_no_result(one: Stated, plain: str, question: str) -> bool:
    """True for what the passage denies, bounds, assumes or guesses."""
    before = plain[max(0, one.start - 60):one.start]
    before = re.split(r"(?<=[.!?])\s+(?=[A-Z])|\n\s*\n", before)[-1]
    after = plain[one.end:one.end + 60]
    if one.is_ordinal and (not _ASKS_PLACE.search(question) or _ASKS_AMOUNT.search(question)):
        return True
    if _LIMIT_BEFORE.search(before):
        return not _ASKS_BOUND.search(question)
    supposed = _SUPPOSED_BEFORE.search(before)
    is_supposed = supposed is not None and (supposed[0].split()[0].lower() not in ("when", "for", "let")
                                            or "=" in supposed["between"])
    return is_supposed or any(pattern.search(before) for pattern in (
        _DENIED_BEFORE, _BOUND_BEFORE, _GUESSED_BEFORE, _UNEQUAL_BEFORE)) or any(
        pattern.match(after) for pattern in (_DENIED_AFTER, _UNEQUAL_AFTER))


def _after_so(stated: list[Stated], plain: str) -> list[Stated]:
    """Those behind the last word of conclusion inside the passage; none where it opens with it."""
    for mark in reversed(list(_SO.finditer(plain))):
        later = [one for one in stated if one.start >= mark.end()]
        if later:
            return later if plain[:mark.start()].strip(" \n*,") else []
    return []


def _after_equals(stated: list[Stated], plain: str) -> Stated | None:
    """What follows the last equals sign, unless a later clause says what something is; of `7/3 ≈ 2.33` both sides."""
    for index in range(len(stated) - 1, -1, -1):
        one = stated[index]
        place = max(plain.rfind("=", 0, one.start), plain.rfind("≈", 0, one.start))
        if place < 0 or not _THIN.fullmatch(plain[place + 1:one.start]):
            continue
        if plain[place] == "≈" and index and not plain[stated[index - 1].end:place].strip(" $*"):
            one = _approximated(stated[index - 1], one)
        later = stated[index + 1:]
        said = _predicate(later, plain) if later else None
        return said if said is not None and _NEW_CLAUSE.search(plain[one.end:said.start]) else one
    return None


def _approximated(exact: Stated, rounded: Stated) -> Stated:
    """One result in both writings, where the second is near the first; else the first."""
    if exact.number is None or rounded.number is None:
        return rounded
    first, second = exact.number.readings[0], rounded.number.readings[0]
    if abs(first - second) * 20 > abs(first):
        return exact
    both = replace(rounded.number, readings=(*exact.number.readings, *rounded.number.readings))
    return replace(rounded, number=both)


def _predicate(stated: list[Stated], plain: str) -> Stated | None:
    """What the passage says that something "is": the last expression when only a unit of up to three words follows, or
    one that has no plain value."""
    for one in reversed(stated):
        if not _SAID_BEFORE.search(plain[max(0, one.start - 40):one.start]):
            continue
        is_last = one is stated[-1] and re.fullmatch(r"(?:\s+[A-Za-z]+){0,3}[\s.!*$]*(?:<\|.*)?", plain[one.end:])
        if is_last or one.number is None:
            return one
    return None


def _counted(plain: str, stated: list[Stated], question: str) -> Stated | None:
    """The only one that stands right before the noun of the question's last "how many NOUN"."""
    nouns = _COUNTED.findall(question)
    if not nouns:
        return None
    noun = nouns[-1].lower().removesuffix("s")
    found = [one for one in stated if re.search(rf"\s{noun}s?$", one.text.lower())
             or re.match(rf"\s+(?:more\s+|total\s+)?{noun}", plain[one.end:].lower())]
    return found[0] if len(found) == 1 else None


def _computed_last(before: str, stated: list[Stated]) -> Stated | None:
    """The first that equals what follows the last equals sign before the passage."""
    for part in reversed(re.split("[=≈]", plain_text(before[-3_000:]))[1:]):
        computed = numbers_in(part)
        if computed:
            return next((one for one in stated if one.number and one.number.equals(computed[0])), None)
    return None


def _not_given(stated: list[Stated], question: str) -> Stated | None:
    """The first that does not stand in the question."""
    given = numbers_in(plain_text(question))
    return next((one for one in stated if one.number is not None
                 and not any(one.number.equals(other) for other in given)), None)


def _about_the_asked(one: Stated, plain: str, question: str) -> Stated:
    """`one`, without its value where an equation gives it to something else than a name: `x^2 = 4` says nothing of x,
    unless the question asks for that very expression."""
    place = max(plain.rfind("=", 0, one.start), plain.rfind("≈", 0, one.start))
    if place < 0 or not _THIN.fullmatch(plain[place + 1:one.start]):
        return one
    left = re.split("[=≈]", _LEFT_ENDS.split(plain[:place])[-1])[0]
    bare = re.sub(r"\\[A-Za-z]+", "#", _NAMES_OF_ONE.sub("a", left))
    is_compound = re.search(r"[A-Za-z]", bare) and _COMPUTES.search(bare)
    if not is_compound or (_squeezed(left) and _squeezed(left) in _squeezed(question)):
        return one
    return Stated(one.start, one.end, f"{left.strip()} = {one.text}", None, is_other=True)


def _squeezed(text: str) -> str:
    return re.sub(r"\\(?:cdot|times|left|right)|[\s{}$*\\]", "", plain_text(text))


def _in_words(plain: str) -> Stated | None:
    """A number written as a word, where the passage holds exactly one."""
    found = list(numbers_in_words(plain))
    if len(found) != 1:
        return None
    said, before, after = found[0], plain[:found[0].start], plain[found[0].end:]
    is_said = _SAID_BEFORE.search(before) or not before.strip(" $*\"'")
    if not is_said and said.text.lower() in ("one", "zero"):
        return None
    number = Number(said.start, said.end, said.text, (said.value,))
    one = Stated(said.start, said.end, said.text, number, rule=RuleName.IN_WORDS)
    is_part = re.match(r"\s*(?:hundred|thousand|[mb]illion|dozens?|pairs?|percent|point|times|plus|minus|squared|or|and"
                       r"|to|over|halves|thirds?|quarters?|[/^+*])", after, re.IGNORECASE)
    return None if is_part or _is_no_result(one, plain, "") else one
