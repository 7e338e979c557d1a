"""What a user may set for the UI, in `tui.toml` of the workspace or of the user's config folder: theme, motion, what
runs do on battery, who is told when one ends, keys.

    theme = "textual-dark"        # or "terminal", which keeps the terminal's own colours
    reduced_motion = true
    on_battery = "pause"          # runs that are started or resumed here wait for mains power
    notify = "desktop"            # or a command: what is run when a run that was started here ends
    bell = false                  # no sound when a run ends
    [keys]
    "go.home" = "h"
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Literal

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, ValidationError

from localdistill import UsageError

FILE = "tui.toml"


class Settings(BaseModel):
    """Checked settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    theme: str = ""
    """Name of a theme; empty takes the default."""
    reduced_motion: bool = False
    """No animation."""
    on_battery: Literal["go", "pause"] | None = None
    """What runs that are started or resumed here do on battery; None: they go on, as they were told before."""
    notify: str = ""
    """A command that is run when a run ends which was started here, or `desktop`; empty does neither."""
    bell: bool = True
    """The terminal rings when a run of the workspace ends."""
    keys: dict[str, str] = {}
    """Keys by the id of the action."""


def read_settings(workspace: Path) -> Settings:
    """The settings of the workspace, else of the user, else the defaults. UsageError names the file and the key."""
    config = Path(os.environ["LOCALDISTILL_CONFIG"]) if "LOCALDISTILL_CONFIG" in os.environ else user_config_path(
        "localdistill")
    for path in (workspace / FILE, config / FILE):
        if not path.is_file():
            continue
        try:
            return Settings.model_validate(tomllib.loads(path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{path}: {error}", "correct it or move it away") from None
        except ValidationError as error:
            where = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
            raise UsageError(f"{path}: {where} cannot be used",
                             "known: theme, reduced_motion, on_battery, notify, bell, keys") from None
    return Settings()
