"""What is known of a Mac, by way of fakes of the programs that macOS has: its chip, its memory, and what
doctor and plan say of them. No Mac is needed, and none proves it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from localdistill.api.models import doctor
from localdistill.api.models.doctor import chip_findings, gpu_findings, students_that_fit
from localdistill.core.events import Event, Warned
from localdistill.modelfiles.apple import AppleChip, find_chip, is_apple_silicon
from localdistill.modelfiles.devices import Gpu, TorchBuild
from localdistill.modelfiles.hardware import Hardware
from localdistill.modelfiles.mlx_models import mlx_dtype
from localdistill.runs.awake import keep_awake
from localdistill.trainers.mlx.deaths import halvings_after_deaths
from localdistill.trainers.mlx_lora import MlxLoraTrainer

GB = 1 << 30
M2 = AppleChip("Apple M2", 16 * GB, 10 * GB, "15.1")
MAC = Hardware("Darwin", "Apple M2", 8, 16 * GB, 12 * GB, (Gpu("Apple GPU", None, None, "metal", "the processor"),),
               TorchBuild("2.13.0", "metal"), chip=M2)


def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")


def sysctl(said: Mapping[str, str]) -> object:
    def run(command: Sequence[str]) -> str:
        assert command[:2] == ["/usr/sbin/sysctl", "-n"]
        return said.get(command[2], "")

    return run


@pytest.mark.parametrize(("said", "limit", "generation"), [
    ({"machdep.cpu.brand_string": "Apple M3 Pro", "hw.memsize": str(18 * GB), "iogpu.wired_limit_mb": "0"}, 12, 3),
    ({"machdep.cpu.brand_string": "Apple M1", "hw.memsize": str(8 * GB), "iogpu.wired_limit_mb": "6144"}, 6, 1),
    ({"machdep.cpu.brand_string": "Apple M4 Max", "hw.memsize": str(64 * GB)}, 48, 4),
    ({}, 0, 0),
])
def test_the_chip_is_read_from_what_macos_says(monkeypatch: pytest.MonkeyPatch, said: dict[str, str], limit: int,
                                               generation: int) -> None:
    mac(monkeypatch)
    chip = find_chip(sysctl(said))  # type: ignore[arg-type]
    assert chip is not None and chip.gpu_limit_bytes == limit * GB and chip.generation == generation
    assert mlx_dtype("auto", chip) == ("bfloat16" if generation >= 3 else "float32")


def test_there_is_no_chip_elsewhere_and_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command: Sequence[str]) -> str:
        raise AssertionError(command)

    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert find_chip(fails) is None and not is_apple_silicon()


def test_doctor_speaks_of_the_chip_its_memory_and_long_trainings() -> None:
    said = " ".join(f"{one.what} {one.text}" for one in chip_findings(M2))
    assert "Apple M2, macOS 15.1, 17 GB of unified memory, of which the GPU may hold 11 GB" in said
    assert "imitates bfloat16" in said and "AGX_RELAX_CDM_CTXSTORE_TIMEOUT=1" in said and "lid closed" in said
    assert "imitates" not in " ".join(one.text for one in chip_findings(replace(M2, name="Apple M3")))


@pytest.mark.parametrize("is_there", [True, False])
def test_doctor_says_where_a_training_on_a_mac_runs(monkeypatch: pytest.MonkeyPatch, is_there: bool) -> None:
    monkeypatch.setattr(doctor, "has_mlx", lambda: is_there)
    said = next(one for one in gpu_findings(MAC) if one.what == "training")
    if is_there:
        assert said.state == "ok" and "runs in MLX, of unified memory, on the GPU of Apple M2" in said.text
    else:
        assert said.state == "note" and "MLX is not installed" in said.text and "[mlx]" in said.fix


def test_a_plan_counts_with_what_macos_lets_the_gpu_hold() -> None:
    options = MlxLoraTrainer.Options(quantization="4bit")
    assert "up to 3B by QLoRA (4 bits) in MLX, 2,048 tokens, of unified memory, on the GPU of Apple M2" in (
        students_that_fit(MlxLoraTrainer(options), MAC))
    assert MlxLoraTrainer(options).estimate(doctor.STUDENTS[0], 2048, MAC).place.free_bytes == 9 * GB


def test_a_run_keeps_a_mac_awake_until_it_ends_and_asks_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Sequence[str]] = []
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    keep_awake(begun.append)
    assert not begun
    mac(monkeypatch)
    keep_awake(begun.append)
    assert begun == [["/usr/bin/caffeinate", "-i", "-s", "-w", str(os.getpid())]], "not -d"

    def absent(command: Sequence[str]) -> None:
        raise FileNotFoundError(command[0])

    keep_awake(absent)


def test_a_training_that_died_twice_at_one_place_goes_on_with_smaller_pieces(tmp_path: Path) -> None:
    events: list[Event] = []
    open_ones: list[AbstractContextManager[int]] = []

    def dies() -> int:
        """Begun, and never left: what a killed process leaves behind."""
        open_ones.append(halvings_after_deaths(tmp_path, events.append))
        return open_ones[-1].__enter__()

    assert [dies(), dies()] == [0, 0] and not events
    assert dies() == 1 and len([event for event in events if isinstance(event, Warned)]) == 1
    (tmp_path / "checkpoints" / "step-00000004").mkdir(parents=True)
    assert [dies(), dies()] == [1, 2], "it got further once, and died there twice"
    with halvings_after_deaths(tmp_path, events.append):
        pass
    with halvings_after_deaths(tmp_path, events.append) as halvings:
        assert halvings == 0, "a training that ended by itself leaves nothing behind"
