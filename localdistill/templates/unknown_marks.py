"""Finds what looks like a mark of reasoning and is none that we know, so that it is never trained on in silence.

What may well be an answer is left alone: HTML, XML that is a document of its own, links, placeholders, code.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from localdistill.templates.marks import MARKS, TURN_ENDS, WRAPPERS, bare, opens_wrapper
from localdistill.templates.thinking import code_ranges

_SPECIAL = (r"<\|[^\n<>|]{1,40}\|?>|<[^\W\d][^\n<>|]{0,39}\|>|<｜[^\n<>]{1,40}｜>|<unused\d+>|\[unused\d+\]"
            r"|◁/?[^\n◁▷]{1,40}▷")
_TAG = r"</?[^\W\d][\w:.-]{0,39}(?:\s[^\n<>]{0,200})?>"
_CAPITALS = r"\[/?[A-Z][A-Z0-9_]{2,39}(?: [A-Z_]{2,20}){0,3}\](?!\s*[(:=])"
_CANDIDATE = re.compile(f"(?P<special>{_SPECIAL})|(?P<tag>{_TAG})|(?P<capitals>{_CAPITALS})")
_FIRST = ("<", "[", "◁")
_DEEPEST_INDENT = 40

_THINKS = re.compile(
    r"think|thought|reason(?!able)|reflect|ponder|scratch_?pad|cogit|ruminat|deliberat|monolog|brainstorm|rationale"
    r"|introspect|contemplat|(?<![a-z])(?:cot|analysis|chain.of)(?![a-z])|思考|思维|推理|考え|gedanken|raisonnement",
    re.IGNORECASE)
_HTML = frozenset(re.findall(r"\w+", """
    a abbr acronym address area article aside audio b base bdi bdo big blockquote body br button canvas caption
    center cite code col colgroup data datalist dd del details dfn dialog div dl dt em embed fieldset figcaption
    figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html i iframe img input ins kbd
    label legend li link main map mark marquee math menu meta meter nav noscript object ol optgroup option output p
    param picture pre progress q rp rt ruby s samp script search section select slot small source span strike strong
    style sub summary sup svg table tbody td template textarea tfoot th thead time title tr track tt u ul var video
    wbr
"""))
_CAPITAL_WORDS = frozenset(re.findall(r"\w+", """
    ADDRESS AGE AMOUNT BRIDGE CHORUS CITY COMPANY COUNTRY DATE DEBUG EMAIL ERROR FATAL INFO INTRO LOCATION NAME NOTE
    NUMBER OUTRO PHONE SCENE TIME TITLE TODO TRACE VERSE WARN WARNING YEAR
"""))
_KNOWN = frozenset(
    text.casefold() for text in (*(t for m in MARKS for t in (m.opening, m.closing)),
                                 *(t for w in WRAPPERS for t in (w.opening, w.closing)), *TURN_ENDS))

MARK_HINT = ("formats leave them out. Where it is text, name it in the arm's option text_marks; where it is a mark, "
             "put <think> and </think> in its place and import the file")


def unknown_mark(text: str, known_text: Collection[str] = ()) -> str:
    """What in `text`, a reply without its reasoning, looks like a mark of reasoning that nobody knows; empty when
    nothing does.

    At the very beginning that is a special token, a tag or a word in brackets and capitals that no document explains;
    at the beginning of a later line, outside of code, a special token or a tag that speaks of thinking; anywhere a tag
    that closes such a thing. `known_text`: what somebody said is text.
    """
    if not any([char in text for char in _FIRST]):
        return ""
    body = bare(text)
    allowed = {item.casefold() for item in known_text}
    is_document = _is_document(body)
    code: list[tuple[int, int]] | None = None
    for found in _CANDIDATE.finditer(body):
        name = found[0]
        if name.casefold() in _KNOWN or name.casefold() in allowed:
            continue
        if found.start() == 0:
            if not is_document and _looks_like_mark(body, found):
                return name
            continue
        if is_document or not _may_stand_later(body, found):
            continue
        code = code_ranges(body) if code is None else code
        if not any(start <= found.start() < end for start, end in code):
            return name
    return ""


def _name_of(tag: str) -> str:
    return re.split(r"[\s>]", tag.strip("</"), maxsplit=1)[0].casefold()


def _is_document(body: str) -> bool:
    """True when one element, which does not speak of thinking, holds all of `body`."""
    opening = re.match(_TAG, body)
    if opening is None or opening[0].startswith("</") or _THINKS.search(opening[0]):
        return False
    return body.endswith(">") and body[body.rfind("<"):].casefold() == f"</{_name_of(opening[0])}>"


def _looks_like_mark(body: str, found: re.Match[str]) -> bool:
    """Whether what `body` begins with is a mark rather than text."""
    text = found[0]
    if found["special"]:
        return True
    if _THINKS.search(text):
        return True
    if found["capitals"]:
        return " " not in text and text.strip("[/]") not in _CAPITAL_WORDS
    name = _name_of(text)
    if name in _HTML or len(name) < 3 or text.endswith("/>") or " " in text:
        return False
    closing = re.compile(rf"</{re.escape(name)}\s*>", re.IGNORECASE).search(body, found.end())
    if closing is None:
        return True
    rest = body[closing.end():].lstrip()
    return bool(rest) and (not rest.startswith("<") or opens_wrapper(rest, 0))


def _may_stand_later(body: str, found: re.Match[str]) -> bool:
    """Whether something further on, if it is not code, is a mark."""
    text = found[0]
    speaks = _THINKS.search(text) is not None
    if speaks and (text.startswith(("</", "[/")) or found["special"]):
        return True
    before = body[max(0, found.start() - _DEEPEST_INDENT):found.start()]
    return (speaks or bool(found["special"])) and "\n" in before and not before.rpartition("\n")[2].strip()
