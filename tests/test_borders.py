"""Where work is cut into parts: every border is in one place, and no result depends on one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from localdistill.core.borders import BORDERS, Borders
from localdistill.core.events import Counted
from localdistill.stages import STAGE_MODULES
from localdistill.stages.outputs import FormatOutput, read_output
from tests.borders import small_borders
from tests.helpers import REPO, CountingServer, counting_server
from tests.stages.test_collecting import Chain, at, recipe_of

CUTTERS = {"islice": 1, "chunked": 1, "_blocks": 1, "Queue": 0, "iter_batches": 0, "fetchmany": 0}
"""Calls that cut something into parts, and which argument is the size."""
NO_PARTS = {
    ("interchange/files.py", "_SAMPLE_ROWS"), ("scorecard/text.py", "_CATEGORIES_PER_TABLE"),
    ("interchange/raw_rows.py", "HEAD_BYTES"), ("interchange/files.py", "MOST_REASONS"),
    ("workspace/imports.py", "65536"), ("scorecard/text.py", "_METRICS_PER_TABLE"), ("recipe/drafts.py", "MOST_BYTES"),
    ("engines/wire/http.py", "_SHORTEST_KEY"), ("api/traces/importing.py", "PREVIEW_ROWS"),
    ("api/recipes/quoting.py", "LEAST_REPLIES"), ("modelfiles/mlx_checking.py", "TOKENS"),
    ("safety/frames.py", "_HEADER_BYTES"), ("safety/frames.py", "_WINDOW"), ("safety/frames.py", "_UNPACKED"),
    ("safety/secrets.py", "SHORTEST"), ("trainers/_watchdog.py", "LEAST"), ("workspace/forgetting.py", "_LEAST_CHARS"),
    ("stages/first_rows.py", "MOST_LOOKED"), ("scorecard/result_text.py", "_OTHERS_PER_TABLE"),
    ("jail/lines.py", "_CHUNK"), ("texts/ngrams.py", "_MOST_PIECES"), ("texts/near.py", "_PERMUTATIONS_PER_BAND"),
    ("gguf_parts/splitting.py", "_OPENING_BYTES"),  # as the format has it
    ("store/places.py", "TAIL_BYTES"),  # what a checksum is kept of
}
"""Sizes that are what a person is shown, or what is looked at at all."""
SIZES = ("batch_size", "maxsize", "row_group_size")
LEAST = 32
"""A smaller number that stands by itself is no border."""


def sizes(tree: ast.AST) -> Iterator[str]:
    """Every size of a part that stands in the source by itself, and not in `BORDERS`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and ast.unparse(node.left).startswith("len("):
            if isinstance(node.ops[0], ast.Eq | ast.GtE):
                yield from _own_names(node.comparators[0])
            continue
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "lru_cache":
            continue
        given = [keyword.value for keyword in node.keywords if keyword.arg in SIZES]
        if name == "range" and len(node.args) == 3:
            given.append(node.args[2])
        elif name in ("read", "recv") or (name in CUTTERS and len(node.args) > CUTTERS[name]):
            given += node.args[CUTTERS.get(name, len(node.args) - 1):] if node.args else []
        for part in given:
            if isinstance(part, ast.Constant) and isinstance(part.value, int) and part.value >= LEAST:
                yield str(part.value)
            elif isinstance(part, ast.BinOp) and isinstance(part.left, ast.Constant):
                yield ast.unparse(part)
            yield from _own_names(part)


def _own_names(part: ast.AST) -> Iterator[str]:
    names = (word.id for word in ast.walk(part) if isinstance(word, ast.Name))
    return (name for name in names if name.lstrip("_").isupper() and name != "BORDERS")


@pytest.mark.parametrize("line", [
    "for start in range(0, len(ids), 50_000): pass", "part = list(islice(rows, CHUNK))", "handle.read(1 << 20)",
    "file.iter_batches(batch_size=256)", "chunked(rows, _MOST * 2)", "full = len(batch) >= ROWS",
    "queue.Queue(maxsize=256)",
])
def test_a_size_that_stands_by_itself_is_found(line: str) -> None:
    assert list(sizes(ast.parse(line)))


def test_every_border_is_in_one_place() -> None:
    found = {(path.relative_to(REPO / "localdistill").as_posix(), size)
             for path in (REPO / "localdistill").rglob("*.py") for size in sizes(ast.parse(path.read_text()))}
    stray = {(path, size) for path, size in found
             if not any(path.endswith(allowed) and size == name for allowed, name in NO_PARTS)}
    assert stray == set(), "a field of core/borders.py, read where it is used, can be set to 2 by tests"


def test_no_constant_is_called_a_part() -> None:
    """Sizes that go through arithmetic first are found by their names."""
    named = re.compile(r"^_?[A-Z_]*(CHUNK|BATCH|PIECE|PAGE)[A-Z_]* = [\d(]", re.MULTILINE)
    found = {(path.name, match[0]) for path in (REPO / "localdistill").rglob("*.py")
             for match in named.finditer(path.read_text())}
    assert found == {
        ("_batches.py", "WINDOW_BATCHES = 1"),  # the order of training is part of what it comes to
        ("paging.py", "PAGES_KEPT = 6"),  # how much is remembered, not how it is cut
        ("parquet_pages.py", "MOST_PAGE_BYTES = 1"),  # a page that claims more is refused
        ("lines.py", "_CHUNK = 1"),  # what runs in the jail imports nothing that it need not
        ("context.py", "UBATCH_TOKENS = 5"),  # how llama.cpp cuts a call by itself
    }


def test_every_border_is_used() -> None:
    source = "\n".join(path.read_text() for path in (REPO / "localdistill").rglob("*.py"))
    assert [field.name for field in fields(Borders) if f"BORDERS.{field.name}" not in source] == []


REST = """[[label]]
use = "tokens"
[[filter]]
use = "duplicates"
[traces.short]
from = "teacher"
rewrite = "extract"
[student]
model = "shipped:pantry/student"
max_tokens = 64
[[arm]]
name = "long"
format = "full_trace"
"""


def leaves(root: Path, server: CountingServer) -> tuple[object, ...]:
    """What a run from questions to datasets leaves, its order of replies aside."""
    chain = Chain(root, recipe_of(root, 9, at(server), collecting="samples = 2") + REST)
    counts = []
    for stage in ("collect", "grade", "select", "rewrite", "format"):
        context = chain.context()
        STAGE_MODULES.load(stage)(context)
        counts += [(event.what, dict(event.counts)) for event in chain.events if isinstance(event, Counted)]
    assert chain.run is not None
    dataset = read_output(chain.run, FormatOutput).arms["long"].dataset
    pairs = context.store.pairs(context.run.ids("select"))
    told = [(prompt.question, trace.answer, trace.rewrite) for prompt, trace in pairs]
    rows = context.store.lineage(dataset)
    listed = [(row["trace_id"], row["score"], row["question"]) for row in context.store.listing(limit=100)]
    return sorted(told), counts, len(rows), sorted(listed), context.store.cost_of(context.run.ids("collect"))


@pytest.mark.whole
def test_a_run_that_is_cut_into_parts_of_two_leaves_what_a_whole_one_leaves(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with counting_server() as server:
        (tmp_path / "whole").mkdir()
        (tmp_path / "parts").mkdir()
        whole = leaves(tmp_path / "whole", server)
        for name, size in small_borders().items():
            monkeypatch.setattr(BORDERS, name, size)
        assert leaves(tmp_path / "parts", server) == whole
