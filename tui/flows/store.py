"""Comparing the store with the journals, and making it again of them: what was found is shown, and nothing takes the
store's place without a yes."""

from __future__ import annotations

from collections.abc import Iterator

from localdistill import Rebuilt, StoreCheck, check_store, rebuild_store
from tui.text import line
from tui.ui import Ui
from tui.widgets.dialogs import ChoiceDialog, ConfirmDialog, ReportDialog, Way


def compare_store(ui: Ui) -> None:
    """Read the store and all journals, show what differs, and offer to make the store again where something does."""

    def seen(found: StoreCheck) -> None:
        rows = list(_found(found))
        if found.is_whole:
            ui.push_screen(ReportDialog("The store holds what the journals hold", rows))
            return
        text = "\n".join(f"{label}: {text}" for label, text in rows)
        ui.push_screen(ChoiceDialog("The store and the journals differ", text, [
            Way("make the store again", lambda: rebuild(ui), "asks once more; the old one is kept beside it"),
            Way("leave everything as it is", lambda: None)]))

    ui.notify("reading the store and every journal", markup=False)
    ui.jobs.do(lambda: check_store(ui.workspace), seen, group="store")


def rebuild(ui: Ui) -> None:
    """Make the store again after a yes."""

    def made(done: Rebuilt) -> None:
        ui.push_screen(ReportDialog("The store was made again", list(_made(done))))

    def go() -> None:
        ui.notify("making the store again of the journals", markup=False)
        ui.jobs.do(lambda: rebuild_store(ui.workspace), made, group="store")

    ui.push_screen(ConfirmDialog("Make the store again of what the journals hold, in a new file that then takes the "
                                 "old one's place? The old one is kept beside it.", go))


def _found(found: StoreCheck) -> Iterator[tuple[str, str]]:
    for one in found.kinds:
        counted = ((one.missing, "missing"), (one.different, "different"), (one.only_stored, "in no journal"))
        differs = [f"{count:,} {what}" for count, what in counted if count]
        yield one.kind, ", ".join([f"{one.stored:,} stored, {one.journalled:,} in journals", *differs])
    for problem in found.problems:
        yield "not read", line(problem)
    if found.damaged_lines:
        yield "damaged", f"{found.damaged_lines:,} lines of the journals"
    for file, count in found.lost.items():
        yield "gone", f"{count:,} prompts and traces of {line(file)}, imported without a copy: import it again"
    if not (found.kinds or found.problems):
        yield "nothing", "there is neither a store nor a journal here"


def _made(done: Rebuilt) -> Iterator[tuple[str, str]]:
    yield "holds", f"{done.prompts:,} prompts, {done.traces:,} traces"
    if done.carried:
        yield "taken over", f"{done.carried:,} of them are in no journal: from the old store"
    if done.caught.damaged:
        yield "damaged", f"{done.caught.damaged:,} lines of the journals; what they held is not in it"
    for problem in done.caught.unread:
        yield "not read", line(problem)
    if done.aside is not None:
        yield "the old one", f"{line(done.aside.name)}: remove it when you do not need it any more"
