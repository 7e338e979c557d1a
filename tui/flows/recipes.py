"""What is done with a recipe as a whole: copy, check, plan, run, save. Saving never overwrites unseen what somebody
else wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from localdistill import (
    Cancel,
    ChangedElsewhere,
    Event,
    LocalDistillError,
    Noted,
    Plan,
    RecipeDraft,
    load_recipe,
    make_plan,
    new_recipe,
    parse_recipe,
    prefetch,
    problems_in,
    recipe_from_store,
)
from tui.flows.asking import plan_rows
from tui.flows.hub import show_fetching
from tui.text import line, safe
from tui.ui import Ui
from tui.widgets.dialogs import ChoiceDialog, ReportDialog, Way
from tui.widgets.form import PROBLEM_MARKS
from tui.widgets.text_dialog import Field, TextDialog


def copy_recipe(ui: Ui, source: Path, done: Callable[[Path], None]) -> None:
    """Ask for a file name in the workspace, and copy `source` there."""
    root = ui.workspace.root

    def typed(values: Mapping[str, str]) -> None:
        name = values["name"] if values["name"].endswith(".toml") else f"{values['name']}.toml"
        path = Path(name).expanduser()
        done(new_recipe(path if path.is_absolute() else root / path, str(source)))

    ui.push_screen(TextDialog(f"A recipe of your own, from {line(source.stem)}",
                              [Field("name", "file name", _free_name(root, source.stem), "in this workspace")], typed))


def recipe_of_store(ui: Ui) -> None:
    """Ask for a file name in the workspace, write a recipe of what is stored there, and open it."""
    root = ui.workspace.root

    def typed(values: Mapping[str, str]) -> None:
        name = values["name"] if values["name"].endswith(".toml") else f"{values['name']}.toml"
        path, student = root / name, values["student"].strip()
        ui.jobs.do(lambda: recipe_from_store(ui.workspace, path, student=student),
                   lambda made: ui.go("recipe", file=made))

    ui.push_screen(TextDialog("A recipe of what is stored here", [
        Field("name", "file name", _free_name(root, "mine"), "in this workspace"),
        Field("student", "student", "", "empty takes a usual one; shipped:pantry/student tries the chain in minutes"),
    ], typed))


def _free_name(root: Path, stem: str) -> str:
    names = ["mine.toml", f"my-{stem}.toml", *(f"my-{stem}-{number}.toml" for number in range(2, 100))]
    return next((name for name in names if not (root / name).exists()), "")


def check_recipe(ui: Ui, path: Path, text: str | None) -> None:
    """Say every problem of a text, or of the file when there is none."""

    def work() -> list[tuple[str, str]]:
        said = RecipeDraft.open(path).text if text is None else text
        found = problems_in(said)
        rows = [(f"{PROBLEM_MARKS[problem.kind]} {problem.key}", problem.text) for problem in found]
        if any(problem.kind == "error" for problem in found):
            return rows
        return [("✓", f"fine; stages: {' > '.join(parse_recipe(said).stages())}"), *rows]

    def told(rows: list[tuple[str, str]]) -> None:
        ui.push_screen(ReportDialog(f"Check of {line(path.name)}", rows))

    ui.jobs.do(work, told, group="whole-check")


def fetch_models(ui: Ui, path: Path, text: str | None) -> None:
    """Bring every model of the hub that it names onto this machine."""
    report = ReportDialog(f"Models of {line(path.name)}", waiting="fetching what is not here yet ...")
    ui.push_screen(report)
    said: list[tuple[str, str]] = []

    def hear(event: Event) -> None:
        if isinstance(event, Noted):
            said.append(("", event.text))
        show_fetching(ui, report, event)

    def work() -> list[tuple[str, str]]:
        recipe = load_recipe(path) if text is None else parse_recipe(text, path.name)
        found = prefetch(ui.workspace, recipe, emit=hear, cancel=Cancel(ui.jobs.asked_to_stop))
        rows = [(line(one.model.source, 60), one.what) for one in found]
        return [*said, *rows] or [("", "this recipe names no model of the hub: there is nothing to fetch")]

    ui.jobs.do(work, report.fill, group="prefetch", failed=report.fail)


def plan_recipe(ui: Ui, path: Path, text: str | None) -> None:
    """Say what it will ask, cost and need."""
    report = ReportDialog(f"Plan of {line(path.name)}", waiting="reading prompts and models ...")
    ui.push_screen(report)

    def work() -> Plan:
        recipe = load_recipe(path) if text is None else parse_recipe(text, path.name)
        return make_plan(ui.workspace, recipe, path.resolve().parent)

    ui.jobs.do(work, lambda plan: report.fill(plan_rows(plan)), group="plan", failed=report.fail)


def run_recipe(ui: Ui, path: Path) -> None:
    """Ask how far, and run the file."""

    def ask(stages: tuple[str, ...]) -> None:
        whole = Way("all of it", partial(ui.start_recipe, str(path)), " > ".join(stages))
        parts = [Way(f"up to {stage}", partial(ui.start_recipe, str(path), (), stage)) for stage in stages[:-1]]
        ui.push_screen(ChoiceDialog(f"Run {line(path.name)}", "", [whole, *parts]))

    ui.jobs.do(lambda: tuple(load_recipe(path).stages()), ask, group="stages")


def save_draft(ui: Ui, draft: RecipeDraft, changed: Callable[[], None],
               then: Callable[[], None] = lambda: None) -> None:
    """Save; when the file was written elsewhere, ask which version to take. `changed` is told when what is saved or
    edited changed, `then` after a save."""

    def done(_: None) -> None:
        ui.notify(f"saved {line(draft.path.name)}", markup=False)
        changed()
        then()

    def failed(error: LocalDistillError) -> None:
        if isinstance(error, ChangedElsewhere):
            _choose_version(ui, draft, changed)
        else:
            ui.show_error(error)

    ui.jobs.do(draft.save, done, failed=failed, group="save")


def _choose_version(ui: Ui, draft: RecipeDraft, changed: Callable[[], None]) -> None:
    def kept(aside: Path) -> None:
        kept_as(ui, aside)
        changed()

    ui.push_screen(ChoiceDialog(
        f"{line(draft.path.name)} was changed elsewhere",
        "Somebody wrote the file since it was opened here. Both versions are kept, whichever you take.", [
            Way("save mine", lambda: ui.jobs.do(draft.save_over, kept), "theirs is kept beside it"),
            Way("take theirs", lambda: ui.jobs.do(draft.take_theirs, kept), "mine is kept beside it")]))


def offer_left_over(ui: Ui, draft: RecipeDraft, left: str, changed: Callable[[], None]) -> None:
    """Edits that an earlier session never saved: take them up, or keep them under a name of their own. `changed` is
    told when they were taken up."""

    def take_up() -> None:
        draft.take_up(left)
        changed()

    ui.push_screen(ChoiceDialog(
        "Edits of an earlier session were never saved", f"{safe(draft.path.name)} is open as it is on disk.", [
            Way("take the edits up again", take_up, "the file on disk stays until you save"),
            Way("leave them", lambda: ui.jobs.do(draft.set_aside_left_over, partial(kept_as, ui)),
                "they are kept beside it under a name of their own")]))


def offer_upgrade(ui: Ui, draft: RecipeDraft, changed: Callable[[], None]) -> None:
    """A recipe of an older shape runs as before, but the form shows today's. `changed` is told when it was upgraded."""

    def upgrade() -> None:
        draft.upgrade()
        changed()

    ui.push_screen(ChoiceDialog(
        "This recipe has an older shape", f"{safe(draft.path.name)} runs as before; the form shows today's shape.", [
            Way("bring it into today's shape", upgrade, "the file on disk stays until you save"),
            Way("leave it as it is", lambda: None, "to be changed in its text")]))


def kept_as(ui: Ui, path: Path) -> None:
    """Say where the other version is."""
    ui.notify(f"the other version is kept as {line(path.name)}", markup=False)
