"""Making more prompts from little: what there is, who writes, and which recipe does it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from localdistill import augmentation_names, recipe_from_little, writing_engine
from tui.text import line
from tui.ui import Ui
from tui.widgets.text_dialog import Field, TextDialog, Then


def more_prompts(ui: Ui) -> None:
    """Ask what there is, write the recipe, and start it up to its prompts."""
    root = ui.workspace.root

    def place(text: str) -> Path:
        path = Path(text).expanduser()
        return path if path.is_absolute() else root / path

    def typed(values: Mapping[str, str]) -> Then:
        name = values["name"] if values["name"].endswith(".toml") else f"{values['name']}.toml"
        engine = writing_engine(values["engine"].strip(), values["model"].strip())
        made = recipe_from_little(
            place(name), engine, [place(one) for one in values["files"].split()],
            place(values["documents"]) if values["documents"].strip() else None, values["by"].split(),
            int(values["count"]) if values["count"].isdecimal() else 1)
        return lambda: ui.start_recipe(str(made), until="augment", then="collect")

    ui.push_screen(TextDialog("More prompts from little", [
        Field("files", "files of questions", "", "in this workspace; spaces between several; may be empty"),
        Field("documents", "folder of texts", "", ".txt, .md or .rst; may be empty"),
        Field("engine", "who writes", "", "a GGUF file, or a provider", is_needed=True),
        Field("model", "its model", "", "of a provider"),
        Field("by", "ways", "", f"empty: the usual ones; or {line(', '.join(augmentation_names()))}"),
        Field("count", "questions for each", "1", "prompt or piece of a text"),
        Field("name", "recipe", _free(root), "the file that is written here", is_needed=True)], typed,
        "Each new question is solved and judged; what is not new, or an item of a benchmark, stays out."))


def _free(root: Path) -> str:
    names = ("more-prompts.toml", *(f"more-prompts-{number}.toml" for number in range(2, 100)))
    return next((name for name in names if not (root / name).exists()), "")
