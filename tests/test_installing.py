"""The commands of hints work for how localdistill was installed, and name extras that exist."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from localdistill.core import installing
from localdistill.core.errors import MissingExtra
from localdistill.core.installing import install_command, pip, repair_command, upgrade_command
from tests.helpers import REPO

EXTRAS = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def installed(monkeypatch: pytest.MonkeyPatch, url: dict[str, Any] | None, requires: list[str] | None = None) -> None:
    """As if pip had noted this source."""
    text = None if url is None else json.dumps(url)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: SimpleNamespace(read_text=lambda file: text))
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: requires)
    monkeypatch.setattr(installing, "pip", lambda *arguments: " ".join(("pip install", *arguments)))


def checkout(folder: Path) -> str:
    (folder / "pyproject.toml").touch()
    return folder.as_uri()


def test_from_a_checkout_the_checkout_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "a folder"
    place.mkdir()
    installed(monkeypatch, {"url": checkout(place), "dir_info": {"editable": True}})
    assert install_command("train") == f"pip install -e {place}[train]"
    assert upgrade_command() == f"git -C '{place}' pull"
    installed(monkeypatch, {"url": checkout(place), "dir_info": {}})
    assert install_command("train") == f"pip install {place}[train]"
    assert upgrade_command().endswith(f"pull && pip install {place}")


def test_from_a_wheel_a_repository_and_an_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    wheel.touch()
    installed(monkeypatch, {"url": wheel.as_uri(), "archive_info": {}}, ["a>=1; extra == 'llama'"])
    assert install_command("llama") == f"pip install localdistill[llama] @ {wheel.as_uri()}"
    installed(monkeypatch, {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    assert install_command("llama") == "pip install localdistill[llama] @ git+https://example.org/x.git@abc"
    installed(monkeypatch, None)
    monkeypatch.setattr(installing, "__file__", str(tmp_path / "site-packages/localdistill/installing.py"))
    assert install_command("llama") == "pip install localdistill[llama]"
    assert upgrade_command() == "pip install --upgrade localdistill"
    assert repair_command() == "pip install --force-reinstall --no-deps localdistill"


def test_where_the_wheel_is_gone_its_needs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed(monkeypatch, {"url": (tmp_path / "gone.whl").as_uri(), "archive_info": {}}, [
        "core>=1", "gguf>=0.17; extra == 'llama'", 'torch>=2; extra == "train"',
        "localdistill[llama,train]; extra == 'all'"])
    assert install_command("llama") == "pip install gguf>=0.17"
    assert install_command("all") == "pip install gguf>=0.17 torch>=2"


def test_run_from_a_checkout_that_was_never_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> Any:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", none)
    monkeypatch.setattr(installing, "pip", lambda *arguments: " ".join(("pip install", *arguments)))
    assert install_command("all") == f"pip install -e {REPO}[all]"


def test_pip_is_that_of_the_running_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    beside, other = tmp_path / "venv/bin", tmp_path / "other"
    for folder in (beside, other):
        folder.mkdir(parents=True)
        (folder / "pip").write_text("#!/bin/sh\n")
        (folder / "pip").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    monkeypatch.setenv("PATH", str(beside))
    assert pip("a b") == "pip install 'a b'"
    monkeypatch.setenv("PATH", str(other))
    assert pip("x").startswith(f"{beside / 'python'} -m pip install") or "--python" in pip("x")


def test_every_extra_that_is_named_exists() -> None:
    """In hints of the code, in README, in the heads of recipes and in pyproject itself."""
    named: set[str] = set()
    files = [*(REPO / "localdistill").rglob("*.py"), *(REPO / "tui").rglob("*.py"), *(REPO / "recipes").glob("*.toml"),
             REPO / "README.md", REPO / "pyproject.toml", REPO / "Makefile"]
    for file in files:
        text = file.read_text()
        for listed in re.findall(r"(?:localdistill|\.)\[([a-z,]+)\]", text):
            named |= set(listed.split(","))
        named |= set(re.findall(r"""(?:install_command|MissingExtra\.of)\(\s*["'](\w+)""", text))
    from localdistill.api.models.doctor import EXTRAS as EXAMINED

    named |= EXAMINED.keys()
    assert {"llama", "train", "all"} <= named
    assert named <= EXTRAS.keys()


def test_no_hint_names_an_index_by_hand() -> None:
    """`pip install localdistill` works only where an index has it; `installing` knows what works here."""
    by_hand = [file.name for file in [*(REPO / "localdistill").rglob("*.py"), *(REPO / "tui").rglob("*.py")]
               if re.search(r"pip install[^\n]*localdistill", file.read_text())]
    assert by_hand == []
    assert MissingExtra.of("train", "torch").hint == install_command("train")


def test_all_brings_what_looks_at_nvidia_cards() -> None:
    assert "nvidia" in EXTRAS["all"][0] and EXTRAS["nvidia"][0].startswith("nvidia-ml-py")


def test_the_module_runs_as_the_command_does(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "localdistill", *arguments], capture_output=True, text=True,
                              cwd=tmp_path, stdin=subprocess.DEVNULL, env={"PYTHONPATH": str(REPO)})

    assert run("--version").stdout.strip() == importlib.import_module("localdistill").__version__
    bare = run()
    assert bare.returncode == 2 and "Usage: localdistill" in bare.stdout
    wrong = run("plan", "nothing-of-this-name")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: there is no recipe")
