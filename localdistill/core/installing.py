"""The commands that install what is missing, as they work for this installation: from a checkout, a wheel, a
repository or an index. Installs nothing itself."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

NAME = "localdistill"


def install_command(extra: str) -> str:
    """The command that adds what `extra` brings to this installation."""
    return pip(*_wanted(extra))


def upgrade_command() -> str:
    """The command that brings a newer localdistill to where this one came from."""
    folder = _folder()
    if folder is None:
        return pip("--upgrade", *_wanted(""))
    pull = f"git -C {shlex.quote(str(folder))} pull"
    return pull if _is_editable() else f"{pull} && {pip(*_wanted(''))}"


def repair_command() -> str:
    """The command that installs localdistill again as it is."""
    return pip("--force-reinstall", "--no-deps", *_wanted(""))


def pip(*arguments: str) -> str:
    """`pip install ARGUMENTS` for the Python that runs this."""
    said = " ".join(shlex.quote(argument) for argument in arguments)
    beside = Path(sys.executable).parent
    found = shutil.which("pip")
    if found and Path(found).parent == beside:
        return f"pip install {said}"
    if importlib.util.find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {shlex.quote(sys.executable)} {said}"
    return f"{shlex.quote(sys.executable)} -m pip install {said}"


def _wanted(extra: str) -> list[str]:
    """What pip has to be told to find this localdistill again, with `extra`."""
    brackets = f"[{extra}]" if extra else ""
    folder, source = _folder(), _source()
    if folder is not None:
        return [*(["-e"] if _is_editable() else []), f"{folder}{brackets}"]
    if source is None:
        return [f"{NAME}{brackets}"]
    url = str(source["url"])
    if "vcs_info" in source:
        kind, commit = source["vcs_info"].get("vcs", "git"), source["vcs_info"].get("commit_id", "")
        return [f"{NAME}{brackets} @ {kind}+{url}{'@' if commit else ''}{commit}"]
    if url.startswith("file:") and not _path(url).exists():
        # Where it came from is gone; what it needs can still be had by name.
        return list(dict.fromkeys(_requirements(extra))) or [f"{NAME}{brackets}"]
    return [f"{NAME}{brackets} @ {url}"]


def _source() -> dict[str, Any] | None:
    """Where pip took this localdistill from; None: from an index, or it was never installed."""
    try:
        text = importlib.metadata.distribution(NAME).read_text("direct_url.json")
        said = json.loads(text) if text else None
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    return said if isinstance(said, dict) and isinstance(said.get("url"), str) else None


def _folder() -> Path | None:
    """The folder of sources that this localdistill was installed from, or runs from without being installed."""
    source = _source()
    if source is not None:
        folder = _path(source["url"]) if source["url"].startswith("file:") else None
        return folder if folder is not None and (folder / "pyproject.toml").is_file() else None
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "pyproject.toml").is_file() else None


def _is_editable() -> bool:
    source = _source()
    return source is None or bool(source.get("dir_info", {}).get("editable"))


def _path(url: str) -> Path:
    parts = urlsplit(url)
    if os.name == "nt":
        from urllib.request import url2pathname  # every stage would load all of TLS with it

        return Path(url2pathname(parts.path))
    return Path(unquote(parts.path))


def _requirements(extra: str) -> Iterator[str]:
    """The packages that `extra` names, those of the extras that it names included."""
    for line in importlib.metadata.requires(NAME) or ():
        requirement, _, marker = line.partition(";")
        if not re.search(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""", marker):
            continue
        if inner := re.fullmatch(rf"{NAME}\[(.+)\]", requirement.strip()):
            for name in inner[1].split(","):
                yield from _requirements(name.strip())
        else:
            yield requirement.strip()
