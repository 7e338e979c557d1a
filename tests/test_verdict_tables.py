"""The way from files to a table of verdicts, as a user goes it: traces on mathematics, completions of functions, and
replies to instructions, each by a recipe of a few lines, on the command line, and in the terminal UI alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.widgets import OptionList

from tests.cli.test_cli import run
from tests.jails import need_jail
from tests.tui.driving import piloted, until
from tests.tui.hostile import assert_harmless
from tui.app import LocalDistillApp
from tui.screens.runs import RunsPage
from tui.widgets.dialogs import ChoiceDialog

pytestmark = pytest.mark.slow

SOLVED = [{"question": f"A hen lays {n} eggs a day. How many in 2 days?",
           "answer": f"2 * {n} = <<2*{n}={2 * n}>>{2 * n}\n#### {2 * n}",
           "model_answer": f"Two days, so 2 * {n}.</think>It is \\boxed{{{2 * n if n else 7}}}."} for n in range(3)]
FUNCTION = 'def largest(numbers):\n    """ The largest number, 0 for none. """\n'
CHECK = "def check(candidate):\n    assert candidate([1, 3]) == 3\n    assert candidate([]) == 0\n"
COMPLETED = [{"task_id": f"Own/{number}", "prompt": FUNCTION.replace("largest", f"largest_{number}"), "test": CHECK,
              "canonical_solution": "    return 0\n", "entry_point": f"largest_{number}", "completion": body}
             for number, body in enumerate([
                 "    best = 0\n    for one in numbers:\n        best = max(best, one)\n\n    return best\n",
                 "    for one in numbers:\n        return one\n\n    return 0\n"])]
OBEYED = [{"key": 1, "prompt": "Name two jars, no comma.", "instruction_id_list": ["punctuation:no_comma"],
           "kwargs": [{}], "response": "A red one and a blue one."},
          {"key": 2, "prompt": "Name three jars, no comma.", "instruction_id_list": ["punctuation:no_comma"],
           "kwargs": [{}], "response": "Red, blue, grey."}]
WAYS = {
    # the rows of each file, the grader, and what the table says
    "solved": ({"solved.json": SOLVED}, "math", "2 right, 1 wrong, 0 undecided"),
    "completed": ({"completed.jsonl": COMPLETED}, "code", "1 right, 1 wrong, 0 undecided"),
    "obeyed": ({"prompts.jsonl": [{name: row[name] for name in row if name != "response"} for row in OBEYED],
                "obeyed.jsonl": [{name: row[name] for name in ("prompt", "response")} for row in OBEYED]},
               "instructions", "1 right, 1 wrong, 0 undecided"),
}


@pytest.mark.parametrize("way", WAYS)
def test_files_come_to_a_table_of_verdicts_on_the_command_line_and_on_select(way: str, tmp_path: Path) -> None:
    _, grader, told = WAYS[way]
    write(way, tmp_path)
    done = run("select", "own.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [said] = json.loads(run("verdicts", "--json", cwd=tmp_path).stdout)
    assert f"{said['right']} right, {said['wrong']} wrong, {said['undecided']} undecided" == told
    assert said["trace_set"] == "read" and said["grader"].startswith(f"{grader}@")
    [gone] = json.loads(run("removed", "--json", cwd=tmp_path).stdout)["rows"]
    assert gone["by"] == "verified"
    on_select(tmp_path, told)


@pytest.mark.parametrize("way", WAYS)
def test_files_come_to_a_table_of_verdicts_without_the_command_line(way: str, tmp_path: Path) -> None:
    write(way, tmp_path)
    on_runs(tmp_path)
    on_select(tmp_path, WAYS[way][2])


def write(way: str, root: Path) -> None:
    """The files, and a recipe that reads and grades them."""
    files, grader, _ = WAYS[way]
    if grader == "code":
        need_jail()
    for name, rows in files.items():
        lines = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
        (root / name).write_text(lines)
    prompts = '[prompts]\nfiles = ["prompts.jsonl"]\n' if "prompts.jsonl" in files else ""
    (root / "own.toml").write_text(
        f'name = "own"\n{prompts}[traces.read]\nfiles = ["{list(files)[-1]}"]\n[[grade]]\nuse = "{grader}"\n'
        '[[filter]]\nuse = "verified"\n')


@piloted
async def on_runs(root: Path) -> None:
    """Start the recipe from the terminal UI, and wait for its end there."""
    app = LocalDistillApp(root, start="runs")
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunsPage))
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, ChoiceDialog))
        ways = app.screen.query_one("#ways", OptionList)
        ways.highlighted = next(i for i in range(ways.option_count) if "own" in str(ways.get_option_at_index(i).prompt))
        await pilot.press("enter")
        await until(pilot, lambda: app.state.watched is not None and app.state.watched.state == "finished", 120.0)


@piloted
async def on_select(root: Path, told: str) -> None:
    """The table of verdicts, as Select shows it."""
    app = LocalDistillApp(root, start="select")
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: "kept" in assert_harmless(app))
        await pilot.press("b")
        right, rest = told.split(", ", 1)
        await until(pilot, lambda: right in assert_harmless(app) and rest in assert_harmless(app))
