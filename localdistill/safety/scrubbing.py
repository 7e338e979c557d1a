"""What goes out names no place on this machine and holds no key: one function cuts absolute paths, private addresses,
the host's name and keys out of a text."""

from __future__ import annotations

import re
import socket

from localdistill.safety.secrets import without_secrets

_PATH = re.compile(r"(?<![\w:/.~])~?(?:/[\w.+@ -]+){2,}/?|\b[A-Za-z]:\\[^\s\"']+")
_PRIVATE_URL = re.compile(
    r"\bhttps?://(?:[^\s/@\"']*@)?(?:localhost|127\.|10\.|192\.168\.|172\.(?:1[6-9]|2\d|3[01])\.|169\.254\.|\[|"
    r"[\w-]+(?::\d+)?(?:[/\s]|$)|[\w.-]+\.(?:local|lan|internal|home|corp))[^\s\"')]*")


def scrub(text: str) -> str:
    """`text` without keys, absolute paths (their last part stays), private addresses and this machine's name."""
    text = _PRIVATE_URL.sub("(private address)", without_secrets(text))
    text = _PATH.sub(lambda match: re.split(r"[/\\]", match.group().rstrip("/\\"))[-1], text)
    host = socket.gethostname()
    return re.sub(rf"(?<!\w){re.escape(host)}(?!\w)", "(host)", text) if host else text
