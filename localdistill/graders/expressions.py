"""Splits a passage into the expressions that it states, each as a whole.

A number that stands inside an expression (`4\\sqrt{2}`, `10^6`, `x4`, `(4, 5)`) is not what the passage states: the
expression is. So the text is cut into tokens, tokens that belong together form one `Stated`, and only an expression
that is a number alone, or plain arithmetic, has a value here. Units after a number belong to it. Pure text work that
never decides which expression is the result (`choosing` does).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from localdistill.graders.arithmetic import value_of
from localdistill.graders.numbers import Number, numbers_in
from localdistill.graders.rules import RuleName

_LETTER = "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0370-\u03ff"
_TOKEN = re.compile(
    rf"(?P<space>[ \t\r\f\v\n$&]+)|(?P<newline>\\\\)|(?P<command>\\[A-Za-z]+)|(?P<word>[{_LETTER}]+(?:&[{_LETTER}]+)*)"
    r"|(?P<relation>[=≈<>≤≥≠]+|:=)|(?P<operator>[+*/^_×÷·∙±∓√∛∜∞⁄²³⁴⁵⁶⁷⁸⁹¹⁰|‰′-])|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<comma>[,;])"
    r"|(?P<other>.)", re.DOTALL)
_BREAKING = re.compile(
    r"\\(?:Rightarrow|Longrightarrow|rightarrow|implies|iff|to|therefore|because|text\w*|mbox|begin|end|hline|item"
    r"|newline|dots|ldots|cdots|boxed|fbox|in|Leftrightarrow|mapsto|hspace|vspace|par|quad|qquad|square|blacksquare"
    r"|label|tag|checkmark|color|large|Large|small|displaystyle|underline)$")
_RELATING = re.compile(r"\\(?:le|ge|leq|geq|lt|gt|neq|ne|sim|equiv|cong|leqslant|geqslant|ll|gg)$")
_OPERATING = re.compile(r"\\(?:times|cdot|div|ast|pm|mp)$")
_NAMED = re.compile(
    r"(?:pi|sqrt|root|log|ln|sin|cos|tan|cot|sec|csc|exp|mod|modulo|squared|cubed|factorial|choose|infinity|plus|minus"
    r"|alpha|beta|theta|base)$", re.IGNORECASE)
"""Words that make an expression of the number beside them."""
_MULTIPLES = {
    "dozen": Fraction(12), "pair": Fraction(2), "couple": Fraction(2), "gross": Fraction(144), "half": Fraction(1, 2),
    "halve": Fraction(1, 2), "third": Fraction(1, 3), "quarter": Fraction(1, 4), "fourth": Fraction(1, 4),
    "fifth": Fraction(1, 5), "sixth": Fraction(1, 6), "eighth": Fraction(1, 8), "tenth": Fraction(1, 10),
    "hundredth": Fraction(1, 100), "ten": Fraction(10), "hundred": Fraction(100), "thousand": Fraction(1_000),
    "million": Fraction(10**6), "billion": Fraction(10**9),
}
_MULTIPLE = re.compile(
    r"[ \t]+(?P<name>dozen|pair|couple|gross|(?:dozen|pair|couple|halve|third|quarter|fourth|fifth|sixth|eighth|tenth"
    rf"|hundredth|ten|hundred|thousand|million|billion)(?=s))s?(?![{_LETTER}-])", re.IGNORECASE)
"""Counting words after a number: it is bare only where the question counts in them (`choosing` sees to that)."""
_ARITHMETIC_WORDS = re.compile(
    r"\s+(?:cub(?:ic|e)|square)\s+roots?\b|\s+and\s+(?:a|one)\s+(?:half|third|quarter)\b|\s+(?:times|multiplied\s+by|divided\s+by|over|out\s+of|to\s+the\s+power|raised\s+to|choose|mod)\s+"
    r"(?:of\s+)?(?:the\s+)?[$\\(]*[\d√]|\s+to\s+the\s+(?:\d+(?:st|nd|rd|th)|\w+)\s+power", re.IGNORECASE)
_PARTED = re.compile(r"(?<!\\)\b(?:times|multiplied\s+by|divided\s+by|out\s+of|power\s+of|root\s+of"
                     r"|logarithm\s+of|square\s+of|cube\s+of|factorial\s+of|reciprocal\s+of|inverse\s+of|opposite\s+of|half\s+of|twice"
                     r"|double|triple|minus|negative)\s+[$\\(]*$", re.IGNORECASE)
_SHORT_UNITS = (
    r"(?:mm|cm|dm|km|nm|µm|μm|m|in|ft|yd|mi|mg|kg|µg|g|lbs?|oz|ml|mL|cl|dl|l|L|ms|s|sec|secs|min|mins|h|hr|hrs|km/h|kph|mph"
    r"|rpm|Hz|kHz|MHz|GHz|W|kW|MW|kWh|Wh|J|kJ|MJ|kcal|cal|N|kN|Pa|kPa|V|mV|kV|mA|A|K|mol|M|rad|sr|erg|eV|keV|MeV|GB|MB"
    r"|KB|TB|am|pm|AM|PM|USD|EUR|GBP|Rs|cents?|Å|Ω|C|F)")
"""Units that may stand attached to a number; with a space any word of two letters may."""
_ONE_LETTER_UNIT = r"[mglhsL]"
_POWER = r"(?:\s*\^\s*(?:-?\d\b|\{\s*-?\d\s*\})|[²³])"
_MORE_UNITS = rf"(?:\s*(?:/|·|\\cdot|\s)\s*(?:[{_LETTER}]{{1,3}}){_POWER}|\s*/\s*[{_LETTER}]+{_POWER}?)*"
_UNIT = re.compile(
    rf"{_SHORT_UNITS}(?![{_LETTER}\d]){_POWER}?{_MORE_UNITS}"
    rf"|\s+(?:[{_LETTER}]{{2,}}{_POWER}|{_SHORT_UNITS}(?![{_LETTER}]){_POWER}|{_ONE_LETTER_UNIT}(?![{_LETTER}]))"
    rf"{_MORE_UNITS}|\s+(?:[{_LETTER}]{{2,}}|{_SHORT_UNITS})\s*/\s*[{_LETTER}]+{_POWER}?")
_ORDINAL = re.compile(r"(?:\s*\^\s*\{?\s*)?(?:st|nd|rd|th)\b\s*\}?")
_CURRENCY_BEFORE = re.compile(r"(?:(?<![A-Za-z])(?:USD|US|EUR|GBP|AUD|CAD|Rs\.?|R)|[$€£¥#])$")


@dataclass(frozen=True)
class Stated:
    """One expression of a passage."""

    start: int
    end: int
    text: str
    number: Number | None
    """Its value where it is a number or plain arithmetic; None for anything else to compute, and for a list."""
    is_ordinal: bool = False
    """True for `4th`."""
    is_modifier: bool = False
    """True for `7-day`."""
    is_aside: bool = False
    """True for what stands in brackets between words."""
    is_other: bool = False
    """True for what is no single value: several side by side (`12 or 15`), an equation about something else."""
    rule: RuleName = RuleName.ONLY_ONE
    """What chose it among others."""


@dataclass(frozen=True)
class _Token:
    kind: str
    """number, name (a letter or a function), operator, relation, open, close, comma, word or break."""
    start: int
    end: int
    number: Number | None = None
    flag: str = ""


_PARTS = {"number", "name", "operator", "open", "close"}


def expressions_in(plain: str) -> list[Stated]:
    """The expressions with a digit in a text that went through `plain_text`, from left to right, lists joined."""
    tokens = _without_unit_words(_resolve_brackets(list(_tokens(plain)), plain), plain)
    return _lists_joined([_stated(run, plain) for run in _runs(tokens, plain) if _holds_number(run)], plain)


def _tokens(plain: str) -> Iterator[_Token]:
    numbers = numbers_in(plain)
    at = index = 0
    while at < len(plain):
        if index < len(numbers) and at >= numbers[index].start:
            number = numbers[index]
            index += 1
            if number.end <= at:
                continue
            token = _number_token(number, plain)
            yield token
            at = token.end
            continue
        found = _TOKEN.match(plain, at, numbers[index].start if index < len(numbers) else len(plain))
        if found is None:
            at += 1
            continue
        at = found.end()
        token_ = _plain_token(found, plain)
        if token_ is not None:
            yield token_


def _number_token(number: Number, plain: str) -> _Token:
    """The number with its unit; a name instead where letters or points make something else of it."""
    start, end = number.start, number.end
    start += len(plain[start:end]) - len(plain[start:end].lstrip())
    end = start + len(plain[start:end].rstrip())
    before, after = plain[:start], plain[end:end + 80]
    is_glued = bool(re.search(rf"[{_LETTER}_]$", before)) and not _CURRENCY_BEFORE.search(before[-8:]) \
        and not re.search(r"\d[xX]$", before[-2:])
    if is_glued or re.match(r"\.\d", after) or re.search(r"\d[.,]$", before) or _PARTED.search(before[-40:]):
        return _Token("name", start, end, flag="digits")
    if _ARITHMETIC_WORDS.match(after):
        return _Token("name", start, end, flag="digits")
    multiple = _MULTIPLE.match(after)
    if multiple:
        size, end = _MULTIPLES[multiple["name"].lower()], end + multiple.end()
        values = (number.readings[0] * size, *number.readings)
        return _Token("number", start, end, Number(start, end, plain[start:end], values), "unit")
    ordinal = _ORDINAL.match(after)
    if ordinal:
        return _Token("number", start, end + ordinal.end(), number, "ordinal")
    if re.match(rf"\s?-\s?[{_LETTER}]{{2,}}", after) and not after.startswith(" - "):
        return _Token("number", start, end, number, "modifier")
    unit = _UNIT.match(after)
    if unit and not _NAMED.match(unit[0].strip()):
        return _Token("number", start, end + unit.end(), number, "unit")
    glued = re.match(rf"[{_LETTER}][{_LETTER}\d]+", after)
    if glued and not re.match(r"[xX]\d+(?![\w.]*[A-Za-z])", after):
        return _Token("name", start, end + glued.end(), flag="digits")
    return _Token("number", start, end, number)


def _plain_token(found: re.Match[str], plain: str) -> _Token | None:
    kind, start, end = found.lastgroup or "other", found.start(), found.end()
    if kind == "space":
        return _Token("break", start, end) if re.search(r"\n[ \t]*\n", found[0]) else None
    if kind == "newline":
        return _Token("break", start, end)
    if kind == "command":
        if _BREAKING.match(found[0]):
            return _Token("break", start, end)
        if _RELATING.match(found[0]):
            return _Token("relation", start, end)
        return _Token("operator" if _OPERATING.match(found[0]) else "name", start, end)
    if kind == "word":
        return _word_token(found, plain)
    if kind == "operator":
        is_dash = found[0] == "-" and re.match(r"\s*$|\s+[A-Za-z]{2}|[A-Za-z]{2}|-", plain[end:end + 4])
        return _Token("break" if is_dash else "operator", start, end)
    if kind == "other":
        is_factorial = found[0] == "!" and re.search(r"[\dA-Za-z)}]$", plain[:start]) and plain[end:end + 1] != "="
        if is_factorial and not _is_exclamation(plain, start):
            return _Token("operator", start, end, flag="factorial")
        return _Token("operator", start, end, flag="ratio") if found[0] == ":" else _Token("break", start, end)
    return _Token(kind, start, end)


def _is_exclamation(plain: str, place: int) -> bool:
    """Whether the `!` there ends a sentence of words and is no factorial: nothing follows, and no formula is open."""
    return not plain[place + 1:].strip(" *\"'") and plain[:place].count("$") % 2 == 0 and bool(
        re.search(r"(?<!\\)\b[a-z]{2,}", plain[:place]))


def _word_token(found: re.Match[str], plain: str) -> _Token:
    word, start, end = found[0], found.start(), found.end()
    if len(word) > 1:
        is_name = _NAMED.match(word) or re.match(r"[\d_^]", plain[end:end + 1])
        return _Token("name" if is_name else "word", start, end)
    is_article = word in "aAI" and re.match(r"\s+[A-Za-z]{2}", plain[end:end + 4])
    is_times = word in "xX" and re.match(r"\s*[$(]?\d", plain[end:end + 6]) and re.search(r"[\d)]\s*$", plain[:start])
    if is_times:
        return _Token("operator", start, end)
    is_elided = re.match(r"['’]", plain[end:end + 1]) or re.search(r"['’]$", plain[:start])
    return _Token("word" if is_article or is_elided else "name", start, end)


def _resolve_brackets(tokens: list[_Token], plain: str) -> list[_Token]:
    """Brackets that hold prose become breaks around an aside; those that hold an expression stay."""
    stack: list[int] = []
    result = list(tokens)
    for index, token in enumerate(tokens):
        if token.kind == "open":
            stack.append(index)
        elif token.kind == "close" and stack:
            begin = stack.pop()
            inside = tokens[begin + 1:index]
            if _is_aside(inside, tokens[begin - 1] if begin else None, token, plain, tokens[begin]):
                result[begin], result[index] = replace(token, kind="break", start=tokens[begin].start,
                                                       end=tokens[begin].end), replace(token, kind="break")
                for inner in range(begin + 1, index):
                    result[inner] = replace(result[inner], flag=result[inner].flag or "aside") \
                        if result[inner].kind in _PARTS else result[inner]
        elif token.kind == "close":
            result[index] = replace(token, kind="break")
    for index in stack:
        result[index] = replace(tokens[index], kind="break")
    return result


def _is_aside(inside: Sequence[_Token], before: _Token | None, close: _Token, plain: str, opening: _Token) -> bool:
    """True where a bracket holds words, or says again what the number before it says."""
    if any(token.kind in ("word", "relation") or token.flag == "unit" for token in inside):
        return plain[opening.start] in "(["
    if before is None or before.number is None or plain[opening.start] != "(":
        return False
    if plain[opening.start - 1:opening.start].strip():
        return False
    again = value_of(plain[opening.end:close.start])
    return again is not None and again in before.number.readings


def _without_unit_words(tokens: list[_Token], plain: str) -> list[_Token]:
    """`3 boxes * 4 eggs` is arithmetic: up to two words between a number and an operator are its unit."""
    kept = list(tokens)
    for index, token in enumerate(tokens):
        if token.number is None:
            continue
        ahead = index + 1
        while ahead < len(tokens) and tokens[ahead].kind == "word" and ahead - index <= 2:
            ahead += 1
        if not index + 1 < ahead < len(tokens) - 1:
            continue
        operator, right = tokens[ahead], tokens[ahead + 1]
        if operator.kind == "operator" and not operator.flag and right.kind in ("number", "open") \
                and re.match(r"[+*/×÷·-]|\\", plain[operator.start]):
            kept[index + 1:ahead] = [replace(word, kind="space") for word in tokens[index + 1:ahead]]
    return [token for token in kept if token.kind != "space"]


def _runs(tokens: list[_Token], plain: str) -> Iterator[list[_Token]]:
    """Neighbouring tokens that form one expression each."""
    run: list[_Token] = []
    depth = 0
    for token in tokens:
        is_part = token.kind in _PARTS or (depth > 0 and token.kind in ("comma", "relation", "word"))
        if not is_part or (run and depth == 0 and not _belongs(run[-1], token, plain)):
            yield run
            run, depth = [], 0
        if is_part:
            run.append(token)
            depth = max(0, depth + (token.kind == "open") - (token.kind == "close"))
    yield run


def _belongs(left: _Token, right: _Token, plain: str) -> bool:
    """Whether two neighbours outside brackets are one expression."""
    if (left.flag == "aside") != (right.flag == "aside"):
        return False
    gap = plain[left.end:right.start]
    if "$" in gap and left.kind == "number" and plain.count("$") % 2:
        return False  # money behind its amount, no end of a formula
    if right.kind == "number" and left.kind in ("number", "close"):
        return not gap
    if right.kind == "number" and left.kind == "name":
        return not gap or plain[left.start] == "\\" or left.end - left.start > 1
    if right.kind == "open" and gap.strip("$") and left.kind == "number":
        return "\\" in plain[right.end:right.end + 12] or plain[right.start] == "{"
    if left.flag in ("ordinal", "modifier", "unit") and right.kind in ("name", "open"):
        return False
    return "\n" not in gap or right.kind == "operator" or left.kind == "operator"


def _holds_number(run: Sequence[_Token]) -> bool:
    return any(token.number is not None or token.flag == "digits" for token in run)


def _stated(run: list[_Token], plain: str) -> Stated:
    run, is_open = _trimmed(run, plain)
    start, end = run[0].start, run[-1].end
    text = plain[start:end].strip()
    is_aside = any(token.flag == "aside" for token in run)
    core = [token for token in run if token.kind not in ("open", "close")]
    if len(core) == 1 and core[0].number is not None and not is_open and not re.search(r"[{\[]", text):
        token = core[0]
        return Stated(start, end, text, token.number, token.flag == "ordinal", token.flag == "modifier",
                      is_aside or token.flag == "aside")
    number = None
    if not is_open and all(token.number is not None or token.kind in ("operator", "open", "close") for token in run):
        pieces = [token.number.text if token.number else plain[token.start:token.end] for token in run]
        value = value_of(" ".join(pieces))
        number = Number(start, end, text, (value,)) if value is not None else None
    is_other = any(token.flag == "digits" for token in run)
    return Stated(start, end, text, number, is_aside=is_aside, is_other=is_other)


def _trimmed(run: list[_Token], plain: str) -> tuple[list[_Token], bool]:
    """The run without list marks and stars of emphasis at its ends, and whether an operator dangles there."""
    while run[0].kind == "operator" and plain[run[0].start] in "*_-:·" and (
            plain[run[0].start] != "-" or plain[run[0].end:run[1].start].strip(" ") != plain[run[0].end:run[1].start]):
        run = run[1:]
    while run[-1].kind == "operator" and plain[run[-1].start] in "*_:|":
        run = run[:-1]
    while run[0].kind == "operator" and plain[run[0].start] == "|":
        run = run[1:]
    first, last = run[0], run[-1]
    is_open = (first.kind == "operator" and plain[first.start] != "-") or (
        last.kind == "operator" and last.flag != "factorial" and plain[last.start] not in "²³")
    return run, is_open


_BETWEEN = re.compile(r"[\s$*]*(?:,|;)?[\s$*]*(?:(?:and|or|to|through|and/or|&|versus|vs\.?|–)(?![A-Za-z]))?[\s$*]*")
_BETWEEN_WORDS = re.compile(
    rf"[\s$*]*(?:[{_LETTER}$*]+\s+){{0,3}}?[\s,;]*\bor\s+(?:(?:else|even|maybe|perhaps|possibly|about|just|only|is|it|be"
    rf"|could|might|[A-Za-z]|=)\s+)*[\s$*=]*")


def _lists_joined(found: list[Stated], plain: str) -> list[Stated]:
    """Values side by side become one expression without a value, unless all say the same."""
    groups: list[list[Stated]] = []
    for one in found:
        if groups and groups[-1][-1].is_aside == one.is_aside and _is_beside(groups[-1][-1], one, plain):
            groups[-1].append(one)
        else:
            groups.append([one])
    return [joined for group in groups for joined in _joined(group, plain)]


def _is_beside(left: Stated, right: Stated, plain: str) -> bool:
    gap = plain[left.end:right.start]
    if left.is_modifier or left.is_ordinal:
        return False
    if _BETWEEN_WORDS.fullmatch(gap):
        return True
    if not _BETWEEN.fullmatch(gap):
        return False
    if not gap.strip(" \n\t,;$*"):
        # Side by side in prose ("on day 3, 12 apples") is no list; alone in the passage it is.
        return not re.search(r"[A-Za-z]{2}", plain[right.end:right.end + 20]) or not plain[:left.start].strip(" $*")
    return True


def _joined(group: list[Stated], plain: str) -> list[Stated]:
    if len(group) == 1:
        return group
    first = group[0]
    if first.number is not None and all(one.number is not None and one.number.equals(first.number) for one in group):
        return [first]
    start, end = first.start, group[-1].end
    return [Stated(start, end, plain[start:end].strip(), None, is_aside=first.is_aside, is_other=True)]
