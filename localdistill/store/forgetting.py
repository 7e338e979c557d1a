"""What is not to be in the store any more, and what never came into a journal: two kinds of marks, and what they do.
Marks hold names only, none of the text that was forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from localdistill.store.rows import moment, restored, storable
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


def uncopied_line(file: str, ids: Sequence[str]) -> Line:
    """That prompts or traces were imported without a copy: only the store holds them."""
    return {"kind": "uncopied", "file": file, "ids": list(ids)}


def put_uncopied(con: DuckDBPyConnection, line: Line) -> None:
    """Remember what was imported without a copy."""
    with incoming_ids(con, line["ids"]):
        con.execute("INSERT INTO uncopied (file, id) SELECT ?, id FROM incoming ANTI JOIN uncopied USING (id)",
                    [storable(line["file"])])


def lost_uncopied(con: DuckDBPyConnection) -> dict[str, int]:
    """Of what was imported without a copy: how much is gone, by file."""
    rows = con.execute("SELECT file, count(*) FROM uncopied ANTI JOIN traces USING (id) ANTI JOIN prompts USING (id) "
                       "ANTI JOIN forgotten USING (id) GROUP BY file ORDER BY file").fetchall()
    return {restored(file): count for file, count in rows}
