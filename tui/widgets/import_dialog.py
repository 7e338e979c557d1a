"""Bringing in a file: the path, three of its rows as they would be read, and, when a row cannot be used, which one and
why. Nothing is stored before enter, and a file with a bad row stores nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from localdistill import ImportReport, LocalDistillError, Preview, import_file, preview_file
from tui.text import joined, line, shown
from tui.widgets.dialogs import MUTED
from tui.widgets.text_dialog import PathDialog

ENDINGS = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")
LONGEST_ROW = 2000


class ImportDialog(PathDialog):
    """Choose a file, look at its first rows, store them."""

    def __init__(self, start: Path, done: Callable[[ImportReport], None]) -> None:
        super().__init__("Import questions or traces", lambda path: None, start, ENDINGS,
                         "JSON lines, JSON arrays, gzip and Parquet; the layout is found out.")
        self._imported = done
        self._busy = False

    def looked_at(self, path: Path) -> None:
        """Render its first rows."""
        if self._busy:
            return
        if not str(path).endswith(ENDINGS):
            self.tell(shown(""))
            return
        self.ui.jobs.do(lambda: preview_file(path), partial(self._show, path), group="preview", failed=self._failed)

    def _show(self, path: Path, preview: Preview) -> None:
        if not self._busy:
            self.tell(joined(shown(f"{line(path.name)}: ", "bold"), shown(f"layout {line(preview.layout)}", MUTED),
                             *(shown(f"\n{row}", longest=LONGEST_ROW) for row in preview.rows)))

    def take(self, path: Path) -> None:
        """Read the whole file and store it; the window stays open when a row cannot be used."""
        if self._busy:
            return
        self._busy = True
        self.tell(shown(f"reading {line(path.name)} ...", MUTED))
        self.ui.jobs.do(lambda: import_file(self.ui.workspace, path), self._stored, failed=self._failed)

    def _stored(self, report: ImportReport) -> None:
        if self.is_mounted:
            self.dismiss(None)
        self._imported(report)

    def _failed(self, error: LocalDistillError) -> None:
        self._busy = False
        self.said(error)
