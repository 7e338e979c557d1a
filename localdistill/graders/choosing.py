"""Chooses which expression of a passage is its result, or says that none is.

What the passage denies, bounds, assumes or only asks ("not 5", "more than 5", "if x = 5") is never the result. Then a
bold expression, what follows the last equals sign, what ends the passage after "is", the number before the noun that
the question counts, the value computed last before the passage, and a number that the question did not give are
preferred in this order; else the first is taken. The reference is never looked at, so offering several wins nothing.
"""

from __future__ import annotations

import re
from fractions import Fraction

from localdistill.graders.expressions import Stated, expressions_in
from localdistill.graders.numbers import Number, numbers_in, plain_text

_BOLD = re.compile(
    r"\*\*(.{1,200}?)\*\*|__(.{1,200}?)__|\\(?:mathbf|textbf|bold|boldsymbol)\{([^{}]{1,200})\}", re.DOTALL)
_COUNTED = re.compile(r"\bhow\s+many\s+(?:(?:more|fewer|total|whole|of|the|other)\s+)*([a-z]{3,30})", re.IGNORECASE)
_ASKS_PERCENT = re.compile(r"percent|%|per\s+cent|\brates?\b", re.IGNORECASE)
_ASKS_PLACE = re.compile(r"\b(?:which|what|when)\b", re.IGNORECASE)
_ASKS_AMOUNT = re.compile(r"\bhow\s+(?:many|much|long|far|old|tall)\b", re.IGNORECASE)
_ASKS_BOUND = re.compile(
    r"\b(?:least|most|minimum|maximum|min|max|smallest|largest|greatest|fewest|lowest|highest|need(?:s|ed)?|can|could|afford"
    r"|enough|must|require[sd]?)\b", re.IGNORECASE)

_FILL = r"(?:(?:be|equals?|equal|exactly|simply|just|only|to|the|a|an|really|actually|it|is|of|=|\$|\*+)\s*)*"
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
    r"\b(?:is|are|was|were|equals|be|gives?|leaves)\s+(?:about\s+|approximately\s+|only\s+|exactly\s+|=\s*)?[$\\(*]*\s*$")
_THIN = re.compile(r"[\s$*~]*(?:(?:about|approximately)\s+)?[$*]*")
_NEW_CLAUSE = re.compile(r"[,;]|\b(?:so|then|thus|therefore|hence|and|but)\b")
_LEFT_ENDS = re.compile(r"[,;:\n]|\\\\|\\(?:text|quad|Rightarrow|implies|therefore)"
                        r"|(?<![A-Za-z\\])[A-Za-z]{2,}(?![A-Za-z(])")
_NAMES_OF_ONE = re.compile(r"(?<![A-Za-z])\\?[A-Za-z]+\s*\([^()]*\)|\\?[_|]\{?\w*\}?"
                           r"|\\(?:angle|triangle|overline|measuredangle)")
"""`f(2)`, `a_5`, `|AB|`, `\\angle ABC`: left sides that name one thing."""
_COMPUTES = re.compile(r"[\^+*/²³√!#]|[A-Za-z)]\s*-|-\s*[A-Za-z]|\d\s*[A-Za-z(]")
_WORDS: list[str] = re.findall(r"\w+", """zero one two three four five six seven eight nine ten eleven twelve thirteen
    fourteen fifteen sixteen seventeen eighteen nineteen""")
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_IN_WORDS = re.compile(
    rf"(?<![A-Za-z-])(?:(?P<tens>{'|'.join(_TENS)})(?:[-\s](?P<ones>{'|'.join(_WORDS[1:10])}))?"
    rf"|(?P<word>{'|'.join(_WORDS)}))(?![A-Za-z-])", re.IGNORECASE)


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
    stated = [one for one in stated if any(start <= one.start < end for start, end in bold)] or stated
    stated = [one for one in stated if not one.is_aside] or stated
    stated = [one for one in stated if not one.is_modifier] or stated
    if len(stated) < 2:
        return _about_the_asked(stated[0], plain, question) if stated else None
    chosen = _after_equals(stated, plain) or _predicate(stated, plain)
    if chosen is not None:
        return _about_the_asked(chosen, plain, question)
    stated = [one for one in stated if one.number is not None] or stated
    return _about_the_asked(
        _counted(plain, stated, question) or _computed_last(before, stated) or _not_given(stated, question)
        or stated[0], plain, question)


def last_number(answer: str, question: str) -> Stated | None:
    """The last expression of a whole answer that marks no result; None when the answer denies it, or holds none."""
    plain, _ = _plain_with_bold(answer)
    found = expressions_in(plain)
    return found[-1] if found and not _is_no_result(found[-1], plain, question) else None


def as_asked(number: Number, question: str, reference: str) -> Number:
    """`number` with the readings that the question allows: `4 %` is 4 only where percent are asked for, `4 million` is
    4 only where millions are."""
    asked = f"{question} {reference}".lower()
    scale = re.search(r"(?<=\s)([a-z]+?)s?$", number.text.lower())
    if scale is not None and scale[1] == "percent":
        scale = None
    is_percent = bool(re.search(r"%|percent", number.text))
    if len(number.readings) < 2 or not (scale or is_percent) or (
            scale[1] in asked if scale else _ASKS_PERCENT.search(asked)):
        return number
    readings = number.readings[:1] if scale else number.readings[1:]
    return Number(number.start, number.end, number.text, readings, number.is_modifier)


def states_doubt(text: str) -> bool:
    """True where a passage without a plain number denies what it names, offers a choice, or asks."""
    plain = text.strip()
    return bool(re.search(r"\b(?:not|never|cannot|neither|nor|wrong|incorrect|either)\b|n['’]t\b|\?[\s*_$)]*\Z"
                          r"|[\d})\]$][\s$*\\)]*\bor\b|\\text\s*\{\s*or\s*\}|\b(?:could|might|may)\s+be\b", plain,
                          re.IGNORECASE))


def is_taken_back(after: str, chosen: Stated) -> bool:
    """True when the text `after` the passage says that the result is wrong."""
    said = re.escape(chosen.number.text.strip("$ ")) if chosen.number is not None else "(?!)"
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


def _after_equals(stated: list[Stated], plain: str) -> Stated | None:
    """What follows the last equals sign, unless a later clause says what something is."""
    for index in range(len(stated) - 1, -1, -1):
        one = stated[index]
        place = plain.rfind("=", 0, one.start)
        if place < 0 or not _THIN.fullmatch(plain[place + 1:one.start]):
            continue
        later = stated[index + 1:]
        said = _predicate(later, plain) if later else None
        return said if said is not None and _NEW_CLAUSE.search(plain[one.end:said.start]) else one
    return None


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
    for part in reversed(plain_text(before[-3_000:]).split("=")[1:]):
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
    place = plain.rfind("=", 0, one.start)
    if place < 0 or not _THIN.fullmatch(plain[place + 1:one.start]):
        return one
    left = _LEFT_ENDS.split(plain[:place])[-1].split("=")[0]
    bare = re.sub(r"\\[A-Za-z]+", "#", _NAMES_OF_ONE.sub("a", left))
    is_compound = re.search(r"[A-Za-z]", bare) and _COMPUTES.search(bare)
    if not is_compound or (_squeezed(left) and _squeezed(left) in _squeezed(question)):
        return one
    return Stated(one.start, one.end, f"{left.strip()} = {one.text}", None, is_other=True)


def _squeezed(text: str) -> str:
    return re.sub(r"\\(?:cdot|times|left|right)|[\s{}$*\\]", "", plain_text(text))


def _in_words(plain: str) -> Stated | None:
    """A number written as a word, where the passage holds exactly one."""
    found = list(_IN_WORDS.finditer(plain))
    if len(found) != 1:
        return None
    match = found[0]
    said = _SAID_BEFORE.search(plain[:match.start()]) or not plain[:match.start()].strip(" $*\"'")
    if not said and match[0].lower() in ("one", "zero"):
        return None
    if match["tens"]:
        value = 20 + 10 * _TENS.index(match["tens"].lower())
        value += _WORDS.index(match["ones"].lower()) if match["ones"] else 0
    else:
        value = _WORDS.index(match["word"].lower())
    number = Number(match.start(), match.end(), match[0], (Fraction(value),))
    one = Stated(match.start(), match.end(), match[0], number)
    is_part = re.match(r"\s*(?:hundred|thousand|[mb]illion|dozens?|pairs?|percent|point|times|plus|minus|squared|or|and"
                       r"|to|over|halves|thirds?|quarters?|[/^+*])", plain[match.end():], re.IGNORECASE)
    return None if is_part or _is_no_result(one, plain, "") else one
