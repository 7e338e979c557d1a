"""What a training is given and what it hands on: values between stages and trainers. Must not know a library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from localdistill.core.records import Reply, Request, content_id
from localdistill.objectives.base import Objective

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class DevItems:
    """Questions that the student answers now and then while it is trained. None of them is ever scored on a card."""

    requests: Sequence[Request]
    score: Callable[[Sequence[Reply]], Mapping[str, float]]
    """Name -> figure, of the replies to all of them in the order of the requests; `score` decides, and more is
    better."""
    every_steps: int
    patience: int = 0
    """After so many measurements in a row without a better score the training ends; 0 never ends it."""
    keeps_best: bool = False
    """The weights with the best score come out, not the last ones."""
    count: int = 0
    """How many items the requests ask."""

    def rule(self) -> dict[str, object]:
        """What it decides by: another rule makes another training."""
        asked = content_id("dev items", [asdict(request) for request in self.requests])
        return {"asked": asked, "every_steps": self.every_steps, "patience": self.patience, "best": self.keeps_best}


@dataclass(frozen=True)
class TrainingJob:
    """Everything one training needs."""

    arm: str
    student: Path
    """Folder of the base model: config.json, safetensors, tokenizer, chat template."""
    rows: pa.Table
    """The dataset, one example per row: `row_id` string, `input_ids` list<int32>, `weights` list<float32> (0 = not
    trained; same length), and where it says so `sign` int8 (+1/-1), `group` string (rows that are trained together;
    empty = none), `epoch` int32 (the only one that sees the row, from 0; null = every), `row_weight` float32 (how much
    the row counts beside others), `listed` list<int32> (K - 1 tokens for each trained one, none of them twice nor the
    trained one: what an objective is told beside it) and `logprobs_NAME` list<float32> (what the trained and then these
    tokens were worth to somebody, K for each)."""
    stop_token_id: int
    tag_token_ids: tuple[int, ...]
    """Tokens of think tags in the targets: rows of the embeddings that are trained too."""
    objective: Objective
    output: Path
    """Folder to fill: `adapter/` (PEFT layout), `training.json`; `checkpoints/` while it runs."""
    seed: int = 0
    start_adapter: Path | None = None
    """Folder of another arm's adapter, whose weights are the first ones; None starts from the base. What comes out is
    one adapter over the base all the same."""
    epochs: float | None = None
    """How often every row is seen; None leaves it to the trainer's option."""
    dev_items: DevItems | None = None
    held: Path | None = None
    """Folder with the base as the trainer holds it (`Trainer.hold_base`); None makes it anew while it is loaded."""
    rates: tuple[float, float] | None = None
    """Of a range test (arXiv 1506.01186): the learning rate rises from the first to the last in equal ratios, whatever
    the schedule says."""
    goes_back: bool = True
    """Where it goes astray it goes back to what was good, once. Else it ends there: what is tried says by that that it
    is nothing."""
    died_for_memory: bool = False
    """The process before this one was ended by the system, most likely for want of memory. Where it was in the middle
    of this training, what holds most memory gives way at once."""


@dataclass(frozen=True)
class Served:
    """How a model is run: the base as a trainer holds it, or what the trainer made of it."""

    engine: str
    options: Mapping[str, object] = field(default_factory=dict)
    """Options of that engine which decide what it answers."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Options of that engine which name files on this machine."""
    held: str = ""
    """How the base's weights are held, where what is merged rests on others than those: `nf4`."""
    of_weights: frozenset[str] = frozenset()
    """Options of that engine which say how weights are held; weights that are final go without."""
