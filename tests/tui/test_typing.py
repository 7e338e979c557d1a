"""What is typed in a real terminal, at once or with gaps, arrives in the field that has the focus by then: in a form,
in a window that the first key opens, and never as commands in what lies beneath."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from localdistill import list_keys
from tests.tui.terminal import KEYS, Terminal

GAPS_S = (0.0, 0.005, 0.02, 0.05, 0.1)
FORM_GAPS_S = (0.0, 0.02, 0.1)
TAB, BACK, ENTER, DOWN, SAVE = KEYS["tab"], KEYS["shift+tab"], KEYS["enter"], KEYS["down"], "\x13"
RECIPE = """name = "mine"
[prompts]
files = ["q.jsonl"]
[teacher]
use = "openai_compatible"
model = "m"
"""
SECRET = "sk-" + "plum4711" * 3


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("LOCALDISTILL_CONFIG", str(tmp_path / "no-config"))
    for number in range(len(FORM_GAPS_S)):
        (tmp_path / f"r{number}.toml").write_text(RECIPE)
    with Terminal(tmp_path, size=(110, 36),
                  environment={"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}) as opened:
        opened.until("Three keys")
        yield opened


def stored(folder: Path) -> str:
    """All that the user's own files hold."""
    return "\n".join(path.read_text() for path in sorted((folder / "no-config").rglob("*")) if path.is_file())


def test_text_after_tab_and_enter_lands_in_the_next_field_of_a_form(terminal: Terminal, tmp_path: Path) -> None:
    terminal.go("e", "Recipe")
    for number, gap_s in enumerate(FORM_GAPS_S):
        file = tmp_path / f"r{number}.toml"
        terminal.until_shown(f"r{len(FORM_GAPS_S) - 1}.toml")
        terminal.press("home", *[DOWN] * number, ENTER)
        terminal.until_shown("A whole chain")
        terminal.settle(0.2)
        url, model = f"http://h{number}", f"x{number}"
        terminal.type(DOWN * 3 + ENTER + TAB + f"w{number}" + TAB * 2 + url + TAB * 2 + model + BACK * 2 + "/v1" + SAVE,
                      gap_s)
        terminal.wait_until(lambda file=file: file.read_text() != RECIPE, f"a saved file with gaps of {gap_s} s")
        made = tomllib.loads(file.read_text())["teacher"]
        teacher = made[0] if isinstance(made, list) else made
        assert {key: teacher.get(key) for key in ("use", "name", "base_url", "model")} == {
            "use": "openai_compatible", "name": f"w{number}", "base_url": f"{url}/v1", "model": f"m{model}"}, gap_s
        terminal.press("escape")
        terminal.until_gone("A whole chain")
        terminal.settle(0.2)


def test_text_after_the_key_that_opens_a_window_lands_in_its_fields(terminal: Terminal, tmp_path: Path) -> None:
    terminal.go("2", "Teachers")
    terminal.until("deepseek")
    for number, gap_s in enumerate(GAPS_S):
        variable, host = f"ACE_KEY_{number}", f"x{number}.example.org"
        terminal.type("a" + variable + TAB + host + ENTER, gap_s)
        terminal.wait_until(lambda host=host: host in stored(tmp_path), f"an approval with gaps of {gap_s} s")
        terminal.until_gone("Allow a variable to a host")
        terminal.settle(0.2)
    assert sorted((key.name, key.host) for key in list_keys() if key.source == "approved") == [
        (f"ACE_KEY_{number}", f"x{number}.example.org") for number in range(len(GAPS_S))]


def test_a_key_is_never_on_the_screen_however_it_comes(terminal: Terminal, tmp_path: Path) -> None:
    terminal.go("2", "Teachers")
    terminal.until("deepseek")
    terminal.type("k" + SECRET)
    terminal.until_shown("Keep an API key", "•" * len(SECRET))
    terminal.press("escape")
    for way in ("pasted", "typed"):
        terminal.until_gone("Keep an API key")
        terminal.settle(0.3)
        terminal.type("k" + BACK * 2)
        terminal.until_shown("Keep an API key")
        terminal.settle(0.3)
        if way == "pasted":
            terminal.paste(SECRET + "\n")
        else:
            terminal.type(SECRET)
        terminal.until_shown("taken as the key", "•" * len(SECRET))
        terminal.press("escape")
    assert SECRET not in terminal.text() and "plum4711plum" not in terminal.text()
    assert SECRET not in stored(tmp_path)


def test_what_follows_the_end_of_a_window_is_no_command_beneath_it(terminal: Terminal, tmp_path: Path) -> None:
    terminal.go("2", "Teachers")
    terminal.until("deepseek")
    since = len(terminal.output)
    terminal.type("a" + "ACE_KEY" + TAB + "x.example.org" + ENTER + "9" * 3)
    terminal.until("were left out", since)
    assert b"\x07" in terminal.raw[since:], "it is heard"
    assert "x.example.org" in stored(tmp_path)
    assert "Nothing is exported yet" not in terminal.text(since)
