"""Apple silicon: which chip this is, and how much of the memory that it shares with its GPU that one may hold. All of
this asks small programs of macOS; elsewhere it is None. Must not import mlx: where there is no Metal, that has aborted
the process."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from localdistill.safety.children import output_of

Run = Callable[[Sequence[str]], str]
"""Runs a small program and gives what it prints; empty when it cannot."""
BFLOAT16_SINCE = 3
"""The first generation of chips that computes bfloat16; earlier ones imitate it."""
SMALL_BYTES = 36 << 30
"""Up to so much memory macOS leaves its GPU two thirds of it, beyond three quarters."""
_ASK_S = 20.0


@dataclass(frozen=True)
class AppleChip:
    """The chip of this Mac."""

    name: str
    """For example `Apple M3 Pro`."""
    memory_bytes: int
    gpu_limit_bytes: int
    """What of it macOS lets the GPU hold."""
    macos: str
    """Its version."""

    @property
    def generation(self) -> int:
        """3 for an M3; 0 where the name does not say."""
        found = re.search(r"\bM(\d+)\b", self.name)
        return int(found[1]) if found else 0

    @property
    def computes_bfloat16(self) -> bool:
        """Whether it does, rather than imitate it."""
        return self.generation >= BFLOAT16_SINCE


def said_by(command: Sequence[str], timeout_s: float = _ASK_S) -> str:
    """What a small program of the system prints; empty where it is not there or takes longer."""
    return (output_of(list(command), timeout_s) or b"").decode("utf-8", "replace").strip()


def is_apple_silicon() -> bool:
    """Whether this is a Mac with a chip of Apple's own, where Metal is to be had."""
    return platform.system() == "Darwin" and platform.machine() == "arm64"


def find_chip(run: Run = said_by) -> AppleChip | None:
    """The chip, on Apple silicon; None elsewhere."""
    if not is_apple_silicon():
        return None
    said = {key: run(["/usr/sbin/sysctl", "-n", key])
            for key in ("machdep.cpu.brand_string", "hw.memsize", "iogpu.wired_limit_mb")}
    memory = int(said["hw.memsize"]) if said["hw.memsize"].isdecimal() else 0
    stated = said["iogpu.wired_limit_mb"]
    limit = int(stated) << 20 if stated.isdecimal() and int(stated) else _usual_limit(memory)
    return AppleChip(said["machdep.cpu.brand_string"] or "Apple silicon", memory,
                     min(limit, memory) if memory else limit, platform.mac_ver()[0])


@lru_cache(maxsize=1)
def mlx_answers(run: Run = said_by) -> bool:
    """Whether mlx can be imported on this Mac: without Metal that has ended the process, so another one tries it."""
    return run([sys.executable, "-c", "import mlx.core; print(mlx.core.default_device())"]) != ""


def _usual_limit(memory: int) -> int:
    return memory * 2 // 3 if memory <= SMALL_BYTES else memory * 3 // 4
