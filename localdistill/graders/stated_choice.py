"""Finds which options an answer states, or says that none is. The reference is never looked at.

What stands marked last counts: a box, an announcement ("the answer is (B)", "答案是B", "so I choose C"), a last line of
nothing but a label. Where nothing is marked, the answer may open with a label or be one option's text; else its last
sentence must name exactly one option that it does not deny. A label and an option's text are one and the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from localdistill.graders.extraction import last_boxed
from localdistill.graders.numbers import only_number
from localdistill.graders.rules import RuleName

_LETTER = r"(?<![A-Za-z0-9\\+=^/|])(?<![+=^/|-] )[A-Z](?![A-Za-z0-9]|['’][a-z]|\s*[=_^+|]|\()"
_NUMBER = r"(?:answer|option|choice|solution|ending)\s*\d{1,2}(?!\d)|(?<=[(])\d{1,2}(?=[)])"
_LABEL = re.compile(
    rf"(?:\b(?:option|choice|answer|letter)\s+)?[(\[]?\s*(?P<label>{_LETTER}|(?i:{_NUMBER}))\s*[)\]]?")
_FILL = re.compile(
    r"(?:\s|[*_$:\"'“”‘’`{(\[]|\\(?:text\w*|mathrm|mathbf|boxed|quad|[(\[,])|\b(?:the|option|choice"
    r"|letter|number|definitely|clearly|indeed|simply|therefore|probably|most\s+likely|only|correct|right|best|one|is|be|that\s+of|answer)\b"
    r"|选项|選択肢|[选項为是])*", re.IGNORECASE)
_JOINED = re.compile(r"\s*[*_$})\]]*\s*(?:,|、|&|/|;|\band\b|和|与|及|と)+\s*(?:and\s+)?(?:options?\s+)?[*_$({\[]*\s*",
                     re.IGNORECASE)
_HEDGED = re.compile(r"\s*[*_$})\]]*\s*(?:,\s*)?(?:or|或者?|还是|か)(?![A-Za-z])\s*", re.IGNORECASE)
_DENIED = re.compile(r"(?:\b(?:not|never|neither|nor|isn['’]t|cannot\s+be|can['’]t\s+be|rather\s+than|except|unlike"
                     r"|(?:wrong|incorrect|false)\s+(?:answer|option|choice|one)\s+is)|不是|不选|非)"
                     r"\s*[\s(*_\"']*(?:option\s+|choice\s+)?[(]?\s*$", re.IGNORECASE)
_DENIED_AFTER = re.compile(
    r"[)\]*_\s}]*(?:[^.。!?,;\n]{0,40}?\b(?:is|are|was|seems|does|can)\s*(?:n['’]t|\s+not\b|(?:\s+\w+)?"
    r"\s+(?:wrong|incorrect|false|out|impossible|eliminated))|[^。,;\n]{0,10}(?:错误|不正确|不对|排除|は誤り|は不正解))",
    re.IGNORECASE)
_ANNOUNCED = re.compile(
    r"\b(?:answers?|options?|choices?|letters?)\b(?:\s+(?:to|for|that)\b[^.:\n]{0,80}?)?\s*(?:\*\*|__)?\s*"
    r"(?:[:]|=|\b(?:is|are|would\s+be|should\s+be|must\s+be|will\s+be|has\s+to\s+be)\b\s*[:]?)"
    r"|\bA(?:ns)?\s*[:](?=\s*[(]?[A-Z])"
    r"|\b(?:choose|pick|select|chose|picked|go(?:ing)?\s+with|went\s+with)\b"
    r"|(?:答案|正解|答え|解答)\s*(?:应该|应|就)?\s*(?:是|为|選|选|は|[:])"
    r"|(?:故|应|因此|所以|则|本题|即)\s*(?:应)?\s*[选選]择?|(?<![挑])[选選]择?(?=\s*[($\\]*[A-Z])",
    re.IGNORECASE)
_NO_ANNOUNCEMENT = re.compile(
    r"\b(?:wrong|incorrect|false|if|whether|suppose|assume|no)\s+(?:the\s+)?(?:correct\s+|right\s+)?$", re.IGNORECASE)
_SAID_OF_IT = re.compile(
    r"[)\]*_\s}$.]*\s*(?:is|must\s+be|would\s+be|seems|looks)\s+(?:\w+ly\s+)?(?:the\s+)?"
    r"(?:(?:most|best|only|right|correct|true|valid)\s*)+(?:answer|option|choice|one)?"
    r"|[)\]*_\s}$.]*\s*(?:项)?(?:正确|が正解|が正しい)", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])[\"'”’)\]*_]{0,6}\s+(?=[A-Z\"'“(\[*\\$])|(?<=[。！？])|\n+")
_TAKEN_BACK = re.compile(r"\b(?:that|this|it|which)(?:['’]s|\s+(?:is|was|seems|must\s+be))\s+(?:\w+ly\s+)?"
                         r"(?:wrong|incorrect|false|mistaken|not\s+(?:right|correct))", re.IGNORECASE)
_SO = re.compile(r"\b(?:so|thus|therefore|hence|which\s+leaves|leaving)\b|所以|因此|故", re.IGNORECASE)
_LONGEST = 2_000
"""Characters behind an announcement that are read."""


@dataclass(frozen=True)
class StatedChoice:
    """What an answer states, and the rule that found it."""

    labels: tuple[str, ...]
    """Empty where it states no single choice."""
    rule: RuleName
    text: str
    """The passage."""


def stated_choice(answer: str, options: Mapping[str, str], several: bool = False) -> StatedChoice | None:
    """The options that `answer` states; None where it names none. several: more than one may be right."""
    answer = answer.strip()
    found = max(_marked(answer, options, several), key=lambda one: one[0], default=None)
    if found is not None:
        end, stated = found
        if _TAKEN_BACK.search(answer[end:]):
            return StatedChoice((), RuleName.TAKEN_BACK, stated.text)
        return stated
    return _whole(answer, options, several) or _concluded(answer, options, several)


def _marked(answer: str, options: Mapping[str, str], several: bool) -> Iterator[tuple[int, StatedChoice]]:
    """What is marked as the choice, each with the place where it ends."""
    box = last_boxed(answer)
    if box is not None:
        labels = _read(box[1], options, several, is_alone=True)
        if labels is not None:
            yield box[0] + len(box[1]) + 7, StatedChoice(labels, RuleName.BOXED, box[1])
    for match in reversed(list(_ANNOUNCED.finditer(answer))):
        if _NO_ANNOUNCEMENT.search(answer[max(0, match.start() - 40):match.start()]):
            continue
        rest = answer[match.end():match.end() + _LONGEST]
        statement = _SENTENCE.split(rest.lstrip(" \t*_:\n"), maxsplit=1)[0].strip()
        by_text = _by_text(rest, options)
        labels = (by_text,) if by_text else _read(statement, options, several)
        if labels is not None:
            place = match.end() + rest.index(statement)
            yield place + len(statement), StatedChoice(labels, RuleName.ANNOUNCED, statement)
            break
    for sentence, _, end in _sentences(answer):
        said = _said_right(sentence)
        if said:
            yield end, StatedChoice(said, RuleName.SAID_RIGHT, sentence)
            break
    last = answer.rstrip().rpartition("\n")[2].strip()
    labels = _only_labels(last, options, several) or _only_labels(re.split(r"[:]", last)[-1], options, several)
    if labels:
        yield len(answer), StatedChoice(labels, RuleName.LAST_LINE, last)


def _read(text: str, options: Mapping[str, str], several: bool, is_alone: bool = False) -> tuple[str, ...] | None:
    """The labels, or the option's text, that a statement opens with; () where it offers a choice or denies one, None
    where it opens with neither."""
    by_text = _by_text(text, options)
    if by_text:
        return (by_text,)
    if alone := _only_labels(text, options, several):
        return alone
    begin = _FILL.match(text).end()  # type: ignore[union-attr]  # it may be empty, and always matches
    if re.match(r"(?:not|neither|either|between)\b|不是", text[begin:].lstrip(), re.IGNORECASE):
        return ()
    labels, at = _labels_from(text, begin, options)
    if not labels:
        by_words = _by_text(text[begin:], options) or _by_number(text, options) or _by_number(text[begin:], options)
        return (by_words,) if by_words else None
    if labels[0] in "AI" and not is_alone and _is_article(text, begin, labels[0], options):
        return None
    hedged = _HEDGED.match(text, at)
    if hedged and _LABEL.match(text, hedged.end()):
        return ()
    if len(labels) > 1 and not several:
        return ()
    return labels


def _labels_from(text: str, begin: int, options: Mapping[str, str]) -> tuple[tuple[str, ...], int]:
    """The labels that follow each other from `begin` on, and where they end."""
    glued = re.match(r"[A-Z]{2,10}(?![A-Za-z])", text[begin:])
    if glued and list(glued[0]) == sorted(set(glued[0])) and set(glued[0]) <= set(options):
        return tuple(glued[0]), begin + glued.end()
    found: list[str] = []
    at = begin
    while (match := _LABEL.match(text, at)) and (label := _label(match["label"])) and (
            not options or label in options) and label not in found and not (
            found and _is_article(text, match.start("label"), label, options)):
        found.append(label)
        own = _normal(options.get(label, ""))
        if own and _normal(re.sub(r"^\W+", "", text[match.end():])).startswith(own):
            return tuple(found), match.end()
        at = match.end()
        joined = _JOINED.match(text, at)
        if joined is None or not _LABEL.match(text, joined.end()):
            break
        at = joined.end()
    return tuple(found), at


def _label(text: str) -> str:
    return re.sub(r"\D", "", text) if re.search(r"\d", text) else text


def _is_article(text: str, begin: int, label: str, options: Mapping[str, str]) -> bool:
    """`A` or `I` before a word is an article or a person, unless what follows is the text of that option."""
    if label not in ("A", "I") or not re.match(r"[AI]\s+[a-z]", text[begin:]):
        return False
    rest = _normal(text[begin + 1:])
    own = _normal(options.get(label, ""))
    return not (own and rest.startswith(own)) and not re.match(r"(?:because|since|as|is|and|or|for|with)\b", rest)


def _only_labels(line: str, options: Mapping[str, str], several: bool) -> tuple[str, ...]:
    plain = re.sub(r"\\(?:text\w*|mathrm|mathbf)\s*\{([^{}]*)\}|[*_$`]", r"\1", line).strip().rstrip(".。")
    if re.fullmatch(r"[(]?[a-z][)]?", plain) and plain.strip("()").upper() in options:
        plain = plain.upper()
    labels, at = _labels_from(plain, 0, options)
    return labels if labels and at == len(plain) and (several or len(labels) == 1) else ()


def _by_text(text: str, options: Mapping[str, str]) -> str:
    """The label of the only option whose text `text` is."""
    plain = _normal(text)
    same = [label for label, own in options.items() if own and _normal(own) == plain]
    if len(same) == 1:
        return same[0]
    return ""


def _by_number(text: str, options: Mapping[str, str]) -> str:
    """The label of the only option that is the number which `text` is."""
    number = only_number(text)
    equal = [label for label, own in options.items() if number and (of := only_number(own)) and of.equals(number)]
    return equal[0] if len(equal) == 1 else ""


def _normal(text: str) -> str:
    plain = re.sub(r"\\(?:text\w*|mathrm|mathbf)\s*\{([^{}]*)\}|[$*_`\"“”]|\\[()\[\],;! ]", r"\1", text)
    return re.sub(r"\s+", " ", plain).strip().rstrip(".。!,;").strip().casefold()


def _whole(answer: str, options: Mapping[str, str], several: bool) -> StatedChoice | None:
    """An answer that opens with a label, or that is an option's text."""
    by_text = _by_text(answer, options) or _by_number(answer, options)
    if by_text:
        return StatedChoice((by_text,), RuleName.OPTION_TEXT, answer[:200])
    begin = len(answer) - len(answer.lstrip("*_$ ("))
    labels, at = _labels_from(answer, max(0, begin - 1) if answer[begin - 1:begin] == "(" else begin, options)
    after = answer[at - 1:] if answer[at - 1:at] in ")" else answer[at:]
    if len(labels) == 1 and (re.match(r"\s*(?:[).:、,*_](?!\s*(?:and|or)\b)|$|\n)", after) or re.match(
            r"\s+(?:because|since|as)\b|[,]?\s*因为", after)) and (
            not _DENIED_AFTER.match(after) or _by_text(after.lstrip(").:、, "), options) == labels[0]):
        return StatedChoice(labels, RuleName.OPENS_WITH, answer[:200])
    return None


def _said_right(sentence: str) -> tuple[str, ...]:
    """`(B) is the right one`: the label of which that is said, where there is one."""
    found = [_label(match["label"]) for match in _LABEL.finditer(sentence)
             if _SAID_OF_IT.match(sentence, match.end("label")) and not _is_denied(sentence, match)]
    return (found[0],) if len(set(found)) == 1 else ()


def _so(sentence: str) -> str:
    """What follows the last "so" of a sentence, where that names something."""
    return next((part for part in reversed(_SO.split(sentence)[1:]) if _LABEL.search(part)), sentence)


def _concluded(answer: str, options: Mapping[str, str], several: bool) -> StatedChoice | None:
    """The last sentence that names a label in brackets or as an option, or the text of options."""
    for whole, _, _ in _sentences(answer):
        sentence = _so(whole)
        stated = [match for match in _LABEL.finditer(sentence) if (not options or _label(match["label"]) in options)
                  and not _is_denied(sentence, match)]
        named = dict.fromkeys(_label(match["label"]) for match in stated if _is_marked(sentence, match)) or \
            dict.fromkeys(match["label"] for match in stated if _stands_bare(sentence, match, options))
        if named and sentence.rstrip("*_$)} ").endswith("?"):
            return StatedChoice((), RuleName.SEVERAL_OPTIONS, sentence)
        if not named:
            named = dict.fromkeys(label for label, text in options.items() if len(_normal(text)) > 2 and re.search(
                rf"(?<!\w){re.escape(_normal(text))}(?!\w)", _normal(sentence)))
            named = {} if re.search(r"\b(?:not|never|neither|wrong)\b|n['’]t\b|\?\s*$", sentence) else named
            if len(named) == 1:
                return StatedChoice((*named,), RuleName.OPTION_TEXT, sentence)
        if len(named) == 1 or (named and several and not re.search(r"\bor\b|或|还是", sentence)):
            return StatedChoice((*named,), RuleName.NAMED_LAST, sentence)
        if named:
            return StatedChoice((), RuleName.SEVERAL_OPTIONS, sentence)
    return None


def _stands_bare(sentence: str, match: re.Match[str], options: Mapping[str, str]) -> bool:
    """A letter without a mark: where the question lists it, and it is no article."""
    return match["label"] in options and match["label"].isalpha() and not _is_article(
        sentence, match.start("label"), match["label"], options)


def _is_denied(sentence: str, match: re.Match[str]) -> bool:
    begin = match.start("label")
    return bool(_DENIED.search(sentence[max(0, begin - 60):begin]) or _DENIED_AFTER.match(sentence, match.end("label")))


def _is_marked(sentence: str, match: re.Match[str]) -> bool:
    around = sentence[max(0, match.start("label") - 10):match.end("label") + 2]
    return bool(re.search(r"[(\[]\s*\w{1,2}\s*[)\]]|\*\*\w{1,2}\b|(?:option|choice|选项|answer)\s*\w{1,2}\b", around,
                          re.IGNORECASE))


def _sentences(answer: str) -> Iterator[tuple[str, int, int]]:
    """From the end, each with its place."""
    ends = [0, *(match.end() for match in _SENTENCE.finditer(answer)), len(answer)]
    for start, end in reversed(list(pairwise(ends))):
        if answer[start:end].strip():
            yield answer[start:end].strip(), start, end
