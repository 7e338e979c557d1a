"""train: arms that start from others, learn something else or longer, and adapters that are found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from localdistill.core.errors import RecipeError
from localdistill.core.events import Event, Measured
from localdistill.modelfiles.folder import ModelFolder
from localdistill.recipe import parse_recipe
from localdistill.stages import train
from localdistill.stages.context import StageContext
from localdistill.stages.outputs import ArmDataset, DatasetFacts, FormatOutput, TrainOutput, read_output, write_output
from tests.stages.test_collecting import listening
from tests.tiny_models import tiny_model
from tests.trainers.rows import STOP, random_pairs, random_rows, table

pytest.importorskip("torch")
RECIPE = """
name = "r"
[traces]
files = ["x"]
[student]
model = "student"
[train]
rank = 4
epochs = 2
batch_rows = 4
learning_rate = 1e-2
dtype = "float32"
device = "cpu"
"""


def context_of(folder: Path, text: str, rows: dict[str, list[dict[str, Any]]], recipe: str = RECIPE) -> StageContext:
    """The stage before which every arm has a dataset of its rows. text: what `recipe` says more."""
    if not (folder / "student").exists():
        tiny_model(folder / "student", "llama", hidden=32)
    context = listening(folder, recipe + text)
    arms = {}
    for name, own in rows.items():
        digest = f"b2:{name}"
        context.workspace.make_artifact("dataset", digest, {}, lambda staging, own=own: parquet.write_table(
            table(own), staging / "rows.parquet"))
        trained = sum(sum(weight > 0 for weight in row["weights"]) for row in own)
        arms[name] = ArmDataset(digest, DatasetFacts(name, "answer_only@1", False, len(own), trained, 9, 9, 9, STOP))
    write_output(context.run, FormatOutput(arms, 3, "sha256:student"))
    return context


def arm(name: str, more: str = "") -> str:
    return f'[[arm]]\nname = "{name}"\nformat = "answer_only"\n{more}\n'


def losses(context: StageContext, name: str, seed: int = 0) -> list[float]:
    heard: list[Event] = context.heard  # type: ignore[attr-defined]
    return [event.value for event in heard if isinstance(event, Measured) and event.name == "loss"
            and (event.arm, event.seed) == (name, seed)]


def test_an_arm_starts_from_the_adapter_of_another_with_the_same_seed(tmp_path: Path) -> None:
    text = arm("later", 'start = "first"\nepochs = 1\nobjective = { use = "dpo", beta = 0.2 }') + arm("first")
    context = context_of(tmp_path, text, {"later": random_pairs(4), "first": random_rows(8)})
    context.recipe = context.recipe.model_copy(update={
        "train": context.recipe.train.model_copy(update={"seeds": 2})})  # type: ignore[union-attr]
    train.run(context)
    made = read_output(context.run, TrainOutput).adapters
    assert list(made) == ["later", "first"] and [one.seed for one in made["later"]] == [0, 1]
    heard: list[Event] = context.heard  # type: ignore[attr-defined]
    order = [(event.arm, event.seed) for event in heard if isinstance(event, Measured) and event.name == "loss"]
    assert list(dict.fromkeys(order)) == [("first", 0), ("later", 0), ("first", 1), ("later", 1)]
    assert losses(context, "later")[0] == pytest.approx(0.6931, abs=1e-3)
    assert made["later"][0].result.epochs == 1 and made["first"][0].result.epochs == 2
    for seed in (0, 1):
        manifest = context.artifact("adapter", made["later"][seed].adapter).manifest
        assert manifest["inputs"] == ["b2:later", made["first"][seed].adapter]
        assert manifest["objective"]["use"] == "dpo" and manifest["options"]["epochs"] == 1


def test_where_an_arm_starts_decides_what_it_is(tmp_path: Path) -> None:
    rows = {"a": random_rows(8), "b": random_rows(8, seed=1)}
    alone = context_of(tmp_path, arm("a") + arm("b"), rows)
    train.run(alone)
    started = context_of(tmp_path, arm("a") + arm("b", 'start = "a"'), rows)
    train.run(started)
    one, other = (read_output(context.run, TrainOutput).adapters for context in (alone, started))
    assert one["a"][0].adapter == other["a"][0].adapter and one["b"][0].adapter != other["b"][0].adapter
    assert losses(started, "b")[0] != losses(alone, "b")[0] and losses(started, "a") == []


def test_the_adapter_of_a_plain_arm_has_the_digest_that_it_always_had(tmp_path: Path) -> None:
    context = context_of(tmp_path, arm("one"), {"one": random_rows(8)})
    train.run(context)
    section = context.recipe.train
    assert section is not None
    spec = {"trainer": "torch_lora", "options": dict(section.options),
            "objective": {"use": "sft", "options": {}}, "seed": 0}
    assert set(section.options) == {
        "adapter", "rank", "alpha", "dropout", "targets", "learning_rate", "epochs", "max_steps", "batch_rows",
        "batch_tokens", "warmup_share", "schedule", "weight_decay", "max_grad_norm", "gradient_checkpointing",
        "checkpoint_every_s", "checkpoint_every_steps", "micro_tokens", "quantization", "dtype", "device", "threads"}
    digest = context.workspace.artifact_digest(
        "adapter", 1, spec, ["b2:one", ModelFolder.open(tmp_path / "student").digest()])
    assert read_output(context.run, TrainOutput).adapters["one"][0].adapter == digest


def test_equal_tokens_leave_an_arm_alone_that_says_how_long_it_learns(tmp_path: Path) -> None:
    long, short = random_rows(8, 20, 30), random_rows(8, 6, 9)
    text = arm("long") + arm("short") + arm("own", "epochs = 3")
    context = context_of(tmp_path, text, {"long": long, "short": short, "own": long})
    context.recipe = context.recipe.model_copy(update={
        "train": context.recipe.train.model_copy(update={"budget": "tokens"})})  # type: ignore[union-attr]
    train.run(context)
    made = {name: found[0].result for name, found in read_output(context.run, TrainOutput).adapters.items()}
    assert made["short"].epochs == 2 and made["own"].epochs == 3 and made["long"].epochs < 1.5


def test_starts_that_lead_nowhere_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"arm\[1\].start: there is no arm named 'aa'; did you mean 'a'"):
        parse_recipe(RECIPE + arm("a") + arm("b", 'start = "aa"'))
    with pytest.raises(RecipeError, match=r"arm\[0\].start: starts from itself"):
        parse_recipe(RECIPE + arm("a", 'start = "a"'))
    with pytest.raises(RecipeError, match=r"arm\[0\].objective.bet: unknown key"):
        parse_recipe(RECIPE + arm("a", 'objective = { use = "dpo", bet = 1 }'))
    with pytest.raises(RecipeError, match=r"arm\[0\].start: goes in a circle: a from b from a"):
        parse_recipe(RECIPE + arm("a", 'start = "b"') + arm("b", 'start = "a"'))
