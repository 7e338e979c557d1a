"""What tests of several folders share."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

from localdistill.core.borders import BORDERS, Borders
from localdistill.core.capabilities import Capability
from localdistill.core.events import Cancel, Emit
from localdistill.core.options import Options
from localdistill.core.records import Reply, Request, Usage
from localdistill.engines import ENGINES
from localdistill.keys.access import CONFIG_ENV
from localdistill.runs.device_queue import STATE_ENV
from tests.borders import SWITCH, make_small_everywhere

make_small_everywhere()
os.environ[STATE_ENV] = tempfile.mkdtemp(prefix="localdistill-tests-")
"""Tests side by side, each in its own process, must not wait for each other's trainings; nor for the user's."""


@pytest.fixture(autouse=True)
def whole_borders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test marked `whole` has the borders that ship, however small they are for the others, and so have the processes
    that it starts."""
    if request.node.get_closest_marker("whole") is not None:
        monkeypatch.delenv(SWITCH, raising=False)
        for name, size in vars(Borders()).items():
            monkeypatch.setattr(BORDERS, name, size)

settings.register_profile("house", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("house")


@pytest.fixture
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config folder of the test's own, no keyring, and no key of the real user."""
    monkeypatch.setenv(CONFIG_ENV, str(tmp_path / "config"))
    monkeypatch.setitem(sys.modules, "keyring", None)
    for name in list(os.environ):
        if name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    return tmp_path / "config"


class UnheardOfEngine:
    """An engine of somebody else's making, which says nothing of who answers."""

    class Options(Options):
        """Options of `unheard_of`."""

        base_url: str = ""
        """Where it asks."""

    name = "unheard_of"

    def __init__(self, options: Options) -> None:
        self.options = options

    def can(self) -> frozenset[Capability]:
        """It writes."""
        return frozenset({"generate"})

    def identity(self) -> str:
        """Always the same."""
        return "unheard-of/1"

    def answer(self, requests: Iterable[Request], emit: Emit, cancel: Cancel) -> Iterator[Reply]:
        """Doubles nothing, but answers."""
        for request in requests:
            yield Reply(request.id, "complete", answer="The answer is 2.", usage=Usage(1, 1))

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def unheard_of(monkeypatch: pytest.MonkeyPatch) -> type[UnheardOfEngine]:
    """That engine, listed among the others."""
    module = ModuleType("localdistill.engines.unheard_of")
    module.UnheardOfEngine = UnheardOfEngine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(ENGINES.members, "unheard_of", "UnheardOfEngine")  # type: ignore[arg-type]
    return UnheardOfEngine
