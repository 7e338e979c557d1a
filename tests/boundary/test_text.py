"""What makes text safe for terminals, for JSON and in words: laws, and the lint that no print goes past it."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localdistill import display_safe, json_safe
from tests.boundary import lint
from tests.boundary.corpus import EVIL, PIECES, complaints
from tests.helpers import REPO

SOURCES = sorted([*(REPO / "localdistill").rglob("*.py"), *(REPO / "tui").rglob("*.py")])


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES.keys())
def test_hostile_text_in_json_is_escaped_and_comes_back_as_it_was(piece: str) -> None:
    made = json_safe({piece: [piece, (piece,)]}, 1)
    assert complaints(made.encode("utf-8")) == []
    assert json.loads(made) == {piece: [piece, [piece]]}
    assert json_safe(piece, ascii_only=True).isascii()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                    | st.text(st.characters()),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner), max_leaves=8))
def test_json_keeps_every_value_and_steers_no_terminal(value: object) -> None:
    made = json_safe(value)
    assert json.loads(made) == value
    assert complaints(made.encode("utf-8")) == []


def test_json_has_no_number_that_is_none_and_none_of_thousands_of_digits() -> None:
    made = json_safe({"a": float("nan"), "b": [float("inf")], "c": Path("x\x9b"), "d": 16**6000, "e": {1: 2}})
    assert json.loads(made, parse_constant=pytest.fail) == {
        "a": None, "b": [None], "c": "x\x9b", "d": hex(16**6000), "e": {"1": 2}}


def test_the_corpus_is_hostile() -> None:
    assert all(complaints(piece.encode("utf-8", "surrogatepass")) for name, piece in PIECES.items()
               if name not in ("markup", "formats"))
    assert complaints(display_safe(EVIL).encode()) == []


def test_nothing_is_printed_past_the_one_door() -> None:
    found = []
    for path in SOURCES:
        tree, is_command = ast.parse(path.read_text(encoding="utf-8")), path.parent == REPO / "localdistill/cli"
        if path != REPO / "localdistill/cli/output.py":
            found += [f"{path}:{breach}" for breach in (lint.in_command if is_command else lint.elsewhere)(tree)]
    assert found == []


BREACHES = ["print(trace.answer)", "typer.echo(error)", "sys.stderr.write(error.hint)", "sys.stdout.isatty()",
            "typer.confirm(question)", "name = input('> ')", "from rich import print", "import json",
            "traceback.print_exc()", "os.write(1, data)", "print(a, file=sys.stderr)",
            "sys.__stdout__.write(x)", "from getpass import getpass"]


@pytest.mark.parametrize("source", BREACHES)
def test_the_lint_finds_a_print_in_a_command(source: str) -> None:
    assert list(lint.in_command(ast.parse(source)))


@pytest.mark.parametrize("source", ["print(trace.answer)", "sys.stderr.write(f'{error}')", "traceback.print_exc()",
                                    "sys.stdout.write('a' + b)", "print(display_safe(a), b)"])
def test_the_lint_finds_a_print_elsewhere(source: str) -> None:
    assert list(lint.elsewhere(ast.parse(source)))


def test_the_lint_leaves_alone_what_is_safe() -> None:
    fine = ("sys.stdout.write(json.dumps(rows))", "print('{}', flush=True)", "sys.stderr.write(display_safe(line))",
            "output.write(data)", "handle.write(text)")
    assert [breach for source in fine for breach in lint.elsewhere(ast.parse(source))] == []
    assert list(lint.in_command(ast.parse("output.talk(f'{error.message}')"))) == []
