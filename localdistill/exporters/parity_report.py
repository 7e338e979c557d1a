"""What the parity gate found, and how it is kept beside an export. Values only: `parity` does the
comparing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localdistill.core.errors import LocalDistillError
from localdistill.core.stored import Stored

PARITY_FILE = "parity.json"


@dataclass(frozen=True)
class ParityItem:
    """One check."""

    name: str
    passed: bool
    figure: float
    threshold: float
    detail: str = ""


@dataclass(frozen=True)
class FileFigures:
    """What was measured of one written file, beside the 16-bit one that it was made from."""

    name: str
    bits_per_weight: float
    kl: float | None = None
    """Mean KL divergence in nats from the 16-bit file; None for that one, and where it could not be computed."""
    top1: float | None = None
    """Share of positions with the same first token."""
    weighed: str = ""
    """What the importance matrix that it was rounded by rests on; empty without one."""

    @property
    def sentence(self) -> str:
        """How it was rounded, and the divergence, in words; empty where there is neither."""
        rounded = f"rounded by an importance matrix from {self.weighed}" if self.weighed else ""
        return "; ".join(filter(None, (rounded, "" if self.kl is None or self.top1 is None else (
            f"mean KL {self.kl:.2g} nats from the 16-bit file, {self.top1:.1%} of first tokens the same"))))


@dataclass(frozen=True)
class ParityReport(Stored):
    """All checks that ran, in order. Checks on logits do not run when the vocabulary differs."""

    items: tuple[ParityItem, ...]
    compute: str
    """Precision of the transformers side."""
    files: tuple[FileFigures, ...] = ()
    """What came of the export; empty before, and in reports of older versions."""

    @property
    def passed(self) -> bool:
        """True when every check passed."""
        return all(item.passed for item in self.items)

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict."""
        return {"passed": self.passed, **super().to_json()}

    def write(self, file: Path) -> None:
        """Store the report as JSON."""
        file.write_bytes(self.to_bytes())

    def require(self) -> None:
        """Raise LocalDistillError that names the failed checks; return when there are none."""
        failed = [item for item in self.items if not item.passed]
        if failed:
            said = "; ".join(f"{item.name} ({item.detail})" for item in failed)
            raise LocalDistillError(f"the GGUF does not behave like the trained model: {said}",
                                    f"{PARITY_FILE} holds every figure; nothing was exported")
