"""What is not to be in the store any more, and what never came into a journal: two kinds of marks, and what they do.
Marks hold names only, none of the text that was forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localdistill.store.rows import moment, storable
from localdistill.store.writing import incoming_ids

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Line = dict[str, Any]


def put_forgotten(con: DuckDBPyConnection, line: Line) -> None:
    """Remove prompts and traces with everything that is said of them, and let them never be stored again."""
    ids = list(dict.fromkeys([*line["prompts"], *line["traces"], *line["asked"]]))
    with incoming_ids(con, ids):
        con.execute("INSERT INTO forgotten (id, said_at) SELECT id, ? FROM incoming ANTI JOIN forgotten USING (id)",
                    [moment(line["at"])])
        con.execute("DELETE FROM facts WHERE subject_id IN (SELECT id FROM incoming)")
        con.execute("DELETE FROM replies WHERE about IN (SELECT id FROM incoming)")
        con.execute("DELETE FROM selection_traces WHERE trace_id IN (SELECT id FROM incoming)")
        con.execute("DELETE FROM examples WHERE trace_id IN (SELECT id FROM incoming)")
        con.execute("DELETE FROM claims WHERE id IN (SELECT id FROM incoming)")
        con.execute("DELETE FROM traces WHERE id IN (SELECT id FROM incoming) "
                    "OR prompt_id IN (SELECT id FROM incoming)")
        con.execute("DELETE FROM prompts WHERE id IN (SELECT id FROM incoming)")


def put_uncopied(con: DuckDBPyConnection, line: Line) -> None:
    """Remember that a file was imported without a copy of it: only the store holds what it brought."""
    con.execute("INSERT INTO uncopied (file, prompts, traces, said_at) VALUES (?, ?, ?, ?)",
                [storable(line["file"]), len(line["prompts"]), len(line["traces"]), moment(line["at"])])
