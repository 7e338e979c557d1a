"""Counts sentences and cuts English text into words, by rules of our own that follow two published ones: the Punkt
boundary rules (Kiss and Strunk 2006) with a fixed list of abbreviations in place of trained ones, and the Penn Treebank
tokenization for words written in capitals. No trained data, no network; time grows with the length of the text."""

from __future__ import annotations

import re
from collections.abc import Iterator

_RUN = re.compile(r"\S+")
_INSIDE = re.compile(r"[.?!](?=[?!)\";}\]*:@'({\[])")
"""A mark that may end a sentence though no space follows: what follows is no part of a word."""
_CLOSING = re.compile(r"[\"')\]}]+?(?:\s+|(?=--)|$)")
"""Marks that still belong to the sentence before."""
_BORDERS = re.compile(r"[(\"`{\[:;&#*@)}\],?!']")
_NEXT_WORD = re.compile(r"\s*([^\W\d_][\w'’-]*|\S)?")
_NUMBER = re.compile(r"-?[.,]?\d[\d,.\-]*")

_SHORT_FORMS = """
    a.m p.m u.s u.k u.n u.s.a d.c b.c a.d e.g i.e i.d ph.d b.a m.a m.d j.d l.a n.y n.j vs v dr mr mrs ms messrs prof
    rev hon gov sen rep gen col lt sgt capt cmdr maj adm st jr sr inc corp co cos ltd bros dept assn mfg est etc al
    ave blvd rd sq ft jan feb mar apr aug sept oct nov dec mon tues wed thurs fri calif colo conn fla ga ill ind kan
    ky la mass md mich minn miss mo neb nev okla ore pa tenn tex va vt wash wis fig figs vol pp cf approx tel
"""
_ABBREVIATIONS = frozenset(_SHORT_FORMS.split())
_LONGEST_WORD = 60
"""Characters; a longer one is no abbreviation."""
_COMMON_WORDS = """
    a about after all also although an and another any as at because before both but by can each even every few
    first for from he her here his how however i if in instead into it its just last later let many meanwhile more
    most my neither never no nobody nor not now of on once one only or other our perhaps several she since so some
    still such that the their then there these they this those though through thus to today under until we what when
    where whether which while who why will with without yet you your add are ask be being bring call can choose come
    consider could did do does don find follow get give go has have is keep know learn let look make may might must
    need please put remember run say see should show start stay take tell think try turn use want was were would
    write
"""
_STARTERS = frozenset(_COMMON_WORDS.split())
"""Words that are common in lower case: capitalized behind an abbreviation, they begin a sentence."""


def sentences_in(text: str) -> int:
    """How many sentences `text` has; a last one without an end counts, empty text has none."""
    return sum(1 for part in _parts(text) if part)


def _parts(text: str) -> Iterator[str]:
    start, last = 0, len(text.rstrip())
    for run in _RUN.finditer(text):
        end = _end_in(run[0], run.end() < last)
        at = run.start() + end
        if end <= 0 or at <= start or not _ends(run[0][:end], text, at):
            continue
        yield text[start:at].strip()
        closing = _CLOSING.match(text, at)
        start = closing.end() if closing else at
    yield text[start:].strip()


def _end_in(run: str, goes_on: bool) -> int:
    """Where in a run without spaces a sentence may end, the last such place; 0 where there is none."""
    if goes_on and run[-1] in ".?!":
        return len(run)
    return max((found.end() for found in _INSIDE.finditer(run)), default=0)


def _ends(before: str, text: str, at: int) -> bool:
    """Whether the mark at the end of `before`, which stands before `at`, ends a sentence. Only a full stop can be part
    of a word."""
    if before[-1] != ".":
        return True
    word = _BORDERS.split(before[:-1][-_LONGEST_WORD:])[-1]
    after = _NEXT_WORD.match(text, at)
    following = (after[1] or "") if after else ""
    is_capital, is_small = following[:1].isupper(), following[:1].islower()
    starts = is_capital and following.split("'")[0].lower() in _STARTERS
    if word.endswith(".") or _is_abbreviation(word):
        return starts
    if len(word) == 1 and word.isalpha():
        return starts or not (is_capital or is_small)
    return not (is_small and _NUMBER.fullmatch(word))


def _is_abbreviation(word: str) -> bool:
    small = word.lower()
    return small in _ABBREVIATIONS or small.rpartition("-")[2] in _ABBREVIATIONS


_APART = re.compile(r"\.\.\.|--|[;@#$%&?!()\[\]{}<>\"]|[:,](?!\d)|``|''")
_CONTRACTED = re.compile(r"(?<=[^'\s])('(?:[sSmMdD]|ll|LL|re|RE|ve|VE)|n't|N'T)(?=\s|$)")
_CLOSING_STOP = re.compile(r"(?<=[^.\s])\.(?=[\])}>\"']*\s*$)")
_CLOSING_QUOTE = re.compile(r"(?<=[^'\s])'(?=\s|$)")


def treebank_words(text: str) -> list[str]:
    """The words and marks of English text: punctuation stands by itself, contractions are two words (`DO`, `N'T`), and
    the full stop of an abbreviation stays with it unless it ends a sentence."""
    return [word for sentence in _parts(text) for word in _words(sentence)]


def _words(sentence: str) -> list[str]:
    spaced = _APART.sub(r" \g<0> ", sentence)
    spaced = _CLOSING_STOP.sub(" .", spaced.strip())
    spaced = _CLOSING_QUOTE.sub(" '", _CONTRACTED.sub(r" \1", spaced))
    return spaced.split()
