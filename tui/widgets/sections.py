"""The sections of a recipe as a list: which one is shown, which are there, and how many problems each has."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from localdistill import Problem
from tui.recipe_fields import RecipeSection
from tui.text import joined, line, shown
from tui.widgets.facts import DIM


class Sections(OptionList):
    """One line per section."""

    def show(self, sections: Sequence[RecipeSection], problems: Sequence[Problem], at: str) -> None:
        """Draw them, the one with the key `at` marked; lines that stay as they are are not drawn again."""
        rows = [(section, own_problems(section.key, problems, sections)) for section in sections]
        if self.option_count == len(rows):
            for place, (section, wrong) in enumerate(rows):
                prompt = _section(section, wrong, section.key == at)
                if self.get_option_at_index(place).prompt != prompt:
                    self.replace_option_prompt_at_index(place, prompt)
        else:
            self.clear_options()
            self.add_options([Option(_section(section, wrong, section.key == at)) for section, wrong in rows])
        self.highlighted = [section.key for section in sections].index(at)


def own_problems(key: str, problems: Sequence[Problem], sections: Sequence[RecipeSection]) -> int:
    """How many problems belong to the section `key` itself and to no section below it."""
    below = [s.key for s in sections if s.key != key and s.key.startswith(f"{key}." if key else "") and not s.addable]
    mine = [p.key for p in problems if p.key == key or not key or p.key.startswith(f"{key}.")]
    return sum(not any(m == b or m.startswith(f"{b}.") for b in below) for m in mine)


def _section(section: RecipeSection, problems: int, is_here: bool) -> Content:
    style = DIM if section.addable or not section.is_present else ""
    marks = shown(f" ✗ {problems}", "$error") if problems else Content("")
    return joined(shown("▸ " if is_here else "  ", "bold"),
                  shown("  " * section.depth + line(section.title, 40), style), marks)
