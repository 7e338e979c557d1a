"""Bringing in a file: the path, three of its rows as they would be read, which column holds what where that is a guess,
and which rows cannot be used and why. Nothing is stored before enter."""

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
        self._seen: tuple[Path, Preview] | None = None
        """What was shown last: enter takes it."""

    def looked_at(self, path: Path) -> None:
        """Render its first rows."""
        if self._busy:
            return
        if not str(path).endswith(ENDINGS):
            self.tell(shown(""))
            return
        self.ui.jobs.do(lambda: preview_file(path), partial(self._show, path), group="preview", failed=self._failed)

    def _show(self, path: Path, preview: Preview) -> None:
        if self._busy:
            return
        self._seen = path, preview
        maybe = "a guess, enter takes it: " if preview.is_guess else ""
        columns = f" ({maybe}{line(preview.columns)})" if preview.columns else ""
        self.tell(joined(shown(f"{line(path.name)}: ", "bold"), shown(f"layout {line(preview.layout)}{columns}", MUTED),
                         *(shown(f"\nleft out: {text}", MUTED, longest=LONGEST_ROW) for text in preview.left_out),
                         *(shown(f"\n{row}", longest=LONGEST_ROW) for row in preview.rows)))

    def take(self, path: Path) -> None:
        """Read the whole file and store what can be used; the window stays open when nothing can."""
        if self._busy:
            return
        self._busy = True
        self.tell(shown(f"reading {line(path.name)} ...", MUTED))
        layout = self._seen[1].layout if self._seen and self._seen[0] == path else "auto"
        self.ui.jobs.do(lambda: import_file(self.ui.workspace, path, layout), self._stored, failed=self._failed)

    def _stored(self, report: ImportReport) -> None:
        if self.is_mounted:
            self.dismiss(None)
        self._imported(report)

    def _failed(self, error: LocalDistillError) -> None:
        self._busy = False
        self.said(error)
