"""Finds the program in an answer: in fenced blocks, several of them, between prose, cut off, or written as the rest of
what the question began. Reads text only; runs nothing."""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MOST_CHARS = 200_000
"""Of an answer; a longer one has its program at the end, as far as that is looked at."""
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([^\n`]*)$", re.MULTILINE)
_PYTHON = frozenset(("", "py", "python", "python3", "py3", "pycon", "python 3", "{python}", "{.python}", "ipython"))
_BEGINS = re.compile(r"^(?:import |from \w|def |async def |class |@\w)", re.MULTILINE)
_KEPT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
_MOST_CUTS = 40
_FILE = "<answer>"
warnings.filterwarnings("ignore", module=re.escape(_FILE))  # a model's escapes and comparisons are not ours to mend


@dataclass(frozen=True)
class Program:
    """A program, and where it was found."""

    text: str
    how: str
    """The rule that found it, in a few words."""


@dataclass(frozen=True)
class _FencedBlock:
    text: str
    number: int
    is_closed: bool


def program_in(answer: str, question: str = "", names: Sequence[str] = ()) -> Program | None:
    """The program of `answer`; None where there is none that could be read. names: what it must define; empty for a
    script. What the question gives (imports, helpers, the head of the function) stands before it."""
    answer = answer[-MOST_CHARS:]
    given = given_in(question)
    blocks = list(_blocks(answer))
    found = _of_blocks(blocks, given, names) if blocks else _of_text(answer, given, names)
    if found is None and blocks:
        found = _of_text(answer[:answer.find("```")], given, names) if names else None
    return found


def given_in(question: str) -> str:
    """Python that a question gives to go on from: all of it, or its one fenced block; empty where it gives none."""
    for text in (question, *(block.text for block in _blocks(question))):
        tree = _parsed(text)
        if tree is not None and any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body):
            return text
    return ""


def defined_in(text: str) -> list[str]:
    """Functions and classes that a program defines at its top, in order; empty for what is no Python."""
    tree = _parsed(text)
    nodes = tree.body if tree is not None else []
    return [node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]


def called_in(text: str) -> list[str]:
    """Names that a piece of Python calls and that neither it nor the language brings, in order."""
    tree = _parsed(text)
    nodes = list(ast.walk(tree)) if tree is not None else []
    brought = set(dir(builtins)) | {node.id for node in nodes if isinstance(node, ast.Name)
                                    and not isinstance(node.ctx, ast.Load)} | set(defined_in(text))
    calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    calls.sort(key=lambda node: (node.lineno, node.col_offset))
    return [node.func.id for node in calls if isinstance(node.func, ast.Name) and node.func.id not in brought]


def _of_blocks(blocks: list[_FencedBlock], given: str, names: Sequence[str]) -> Program | None:
    """The last block that defines what is asked for, behind what the blocks before it define; of a script the last one
    that can be read."""
    readable = [(block, text) for block in blocks if (text := _readable(block.text, block.is_closed)) is not None]
    chosen = None
    for place, (_, text) in enumerate(readable):
        if not names or set(names) & _assigned(text):
            chosen = place
    if chosen is None:
        return next((found for block in reversed(blocks) if (found := _continued(block.text, given, names,
                                                                                 f"block {block.number}"))), None)
    block, text = readable[chosen]
    how = f"block {block.number} of {len(blocks)}" if len(blocks) > 1 else "the block"
    before = [_definitions(text) for _, text in readable[:chosen]] if names else []
    return Program("\n\n".join(filter(None, [given if names else "", *before, text])),
                   how + ("" if block.is_closed else ", not closed"))


def _of_text(answer: str, given: str, names: Sequence[str]) -> Program | None:
    """An answer without fences: all of it, the rest of what the question began, or the lines between prose that are
    Python."""
    whole = _parsed(answer)
    if whole is not None and _does_something(whole) and (not names or set(names) & _assigned(answer)):
        return Program("\n\n".join(filter(None, [given if names else "", answer])), "the whole answer")
    if (found := _continued(answer, given, names, "the answer")) is not None:
        return found
    for begin in _BEGINS.finditer(answer):
        text = _longest(answer[begin.start():])
        if text and (not names or set(names) & _assigned(text)):
            return Program("\n\n".join(filter(None, [given if names else "", text])), "between prose")
    return None


def _continued(text: str, given: str, names: Sequence[str], what: str) -> Program | None:
    """The body of the function that the question began."""
    if not given or not names or not text.strip():
        return None
    for body in _bodies(text, _indent_in(given)):
        whole = _longest(f"{given.rstrip()}\n{body}", len(given.rstrip().splitlines()) + 1)
        if whole and _does_more(whole, given):
            return Program(whole, f"{what} goes on from the question")
    return None


def _bodies(text: str, indent: str) -> Iterator[str]:
    """A body as it stands; with the blanks before its first line that went with those around the answer, where
    the lines behind it still have theirs; and written from the margin on."""
    yield text
    first, _, rest = text.lstrip("\n").partition("\n")
    if first.strip() and not first[0].isspace() and rest.lstrip("\n")[:1].isspace():
        yield f"{indent}{first}\n{rest}"
    yield textwrap.indent(textwrap.dedent(text), indent)


def _indent_in(given: str) -> str:
    """How far the body of the last function of the question stands from the margin."""
    last = _last_function(given)
    return " " * last.body[0].col_offset if last and last.body[0].lineno > last.lineno else "    "


def _last_function(text: str) -> ast.FunctionDef | None:
    tree = _parsed(text)
    return next((node for node in reversed(tree.body) if isinstance(node, ast.FunctionDef)), None) if tree else None


def _does_more(whole: str, given: str) -> bool:
    """Whether the last function of the question has got a body."""
    after, last = _parsed(whole), _last_function(given)
    if after is None or last is None:
        return False
    grown = next((node for node in after.body if isinstance(node, ast.FunctionDef) and node.name == last.name), None)
    strays = any(isinstance(node, ast.Return) for node in after.body)  # lines that belong to it stand outside
    return grown is not None and len(grown.body) > len(last.body) and not strays


def _readable(text: str, is_closed: bool) -> str | None:
    """A block that is Python, without prompts of a console; of one that was cut off as much as is whole."""
    if re.match(r"\s*>>> ", text):
        lines = [line[4:] for line in text.splitlines() if line.startswith((">>> ", "... "))]
        text = "\n".join(lines)
    text = textwrap.dedent(text)
    if _parsed(text) is not None:
        return text
    return None if is_closed else _longest(text) or None


def _longest(text: str, least_lines: int = 1) -> str:
    """As many lines from the beginning as are Python together; empty when fewer than `least_lines` are."""
    lines = text.splitlines()
    for _ in range(_MOST_CUTS):
        try:
            _parse("\n".join(lines))
            return "\n".join(lines) if len(lines) >= least_lines else ""
        except SyntaxError as error:
            end = min(error.lineno or len(lines), len(lines)) - 1
            lines = lines[:end] if end > 0 else []
        except (ValueError, RecursionError, MemoryError):
            return ""
        if len(lines) < least_lines:
            return ""
    return ""


def _assigned(text: str) -> set[str]:
    """Names that a program gives a meaning at its top."""
    tree, found = _parsed(text), set[str]()
    for node in tree.body if tree is not None else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def _definitions(text: str) -> str:
    """What a block defines and imports, without what it does."""
    tree = _parsed(text)
    assert tree is not None
    return "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, _KEPT))


def _does_something(tree: ast.Module) -> bool:
    """Not only a word or a number: prose can be Python by accident."""
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in tree.body)


def _blocks(text: str) -> Iterator[_FencedBlock]:
    """The fenced blocks that may be Python; one that is never closed goes to the end."""
    fences, number, place = list(_FENCE.finditer(text)), 0, 0
    while place < len(fences):
        opening = fences[place]
        closing = next((at for at in range(place + 1, len(fences)) if not fences[at][2].strip()
                        and fences[at][1].startswith(opening[1])), None)
        number += 1
        if opening[2].strip().lower() in _PYTHON:
            end = fences[closing].start() if closing is not None else len(text)
            yield _FencedBlock(text[opening.end() + 1:end], number, closing is not None)
        if closing is None:
            return
        place = closing + 1


def _parsed(text: str) -> ast.Module | None:
    try:
        return _parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _parse(text: str) -> ast.Module:
    return ast.parse(text, _FILE)
