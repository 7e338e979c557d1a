"""What is known of a Mac, by way of fakes of the programs that macOS has: its chip, its memory, and what
doctor and plan say of them. No Mac is needed, and none proves it."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from localdistill.api.models import doctor
from localdistill.api.models.doctor import chip_findings, gpu_findings, students_that_fit
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.modelfiles import apple, mlx_models
from localdistill.modelfiles.apple import AppleChip, find_chip, is_apple_silicon
from localdistill.modelfiles.devices import Gpu, TorchBuild
from localdistill.modelfiles.hardware import Hardware
from localdistill.modelfiles.mlx_models import mlx_dtype
from localdistill.runs.awake import keep_awake
from localdistill.runs.deaths import ended_for_memory
from localdistill.runs.power import LOOK_EVERY_S, Power, on_battery
from localdistill.trainers._deaths import Running, lower_after_deaths
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


def test_a_stage_keeps_a_mac_awake_until_it_ends_and_asks_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Sequence[str]] = []
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    keep_awake(41, begun.append)
    assert not begun
    mac(monkeypatch)
    keep_awake(41, begun.append)
    assert begun == [["/usr/bin/caffeinate", "-i", "-s", "-w", "41"]], "not -d"

    def absent(command: Sequence[str]) -> None:
        raise FileNotFoundError(command[0])

    keep_awake(41, absent)


@pytest.mark.parametrize(("said", "is_low"), [
    ("Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t84%; discharging; 5:12 remaining\n", True),
    ("Now drawing from 'AC Power'\n -InternalBattery-0 (id=1)\t100%; charged\n", False),
    ("Now drawing from 'UPS Power'\n", True), ("", None), ("Error\n", None),
])
def test_what_powers_a_mac_is_what_pmset_says(monkeypatch: pytest.MonkeyPatch, said: str, is_low: bool | None) -> None:
    mac(monkeypatch)
    asked: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> str:
        asked.append(command)
        return said

    assert on_battery(run) is is_low and asked == [["/usr/bin/pmset", "-g", "batt"]]


@pytest.mark.parametrize(("plugged", "is_low"), [(True, False), (False, True), (None, None)])
def test_what_powers_other_machines_is_what_their_system_says(monkeypatch: pytest.MonkeyPatch, plugged: bool | None,
                                                              is_low: bool | None) -> None:
    import psutil

    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(psutil, "sensors_battery", lambda: SimpleNamespace(power_plugged=plugged), raising=False)
    assert on_battery() is is_low
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None)
    assert on_battery() is None, "a machine without a battery"


def test_power_is_looked_at_now_and_then_and_only_when_a_pause_was_asked_for() -> None:
    now, looks = [0.0], []

    def look() -> bool:
        looks.append(now[0])
        return len(looks) == 2

    power = Power("pause", look, lambda: now[0], lambda: now[0])
    assert power.is_unknown and not power.must_wait() and not power.is_unknown
    now[0] = LOOK_EVERY_S - 1
    assert not power.must_wait() and looks == [0.0]
    now[0] = LOOK_EVERY_S
    assert power.must_wait() and looks == [0.0, LOOK_EVERY_S]
    assert not Power("go", look).must_wait() and len(looks) == 2


def test_sleep_shows_in_a_wall_clock_that_ran_on() -> None:
    work, wall = [0.0], [1000.0]
    power = Power("go", lambda: None, lambda: work[0], lambda: wall[0])
    work[0], wall[0] = 500.0, 1501.0
    assert power.slept_s() == 0
    work[0], wall[0] = 501.0, 3301.0
    assert power.slept_s() == 1799 and power.slept_s() == 0


@pytest.mark.parametrize(("said", "works"), [("Device(gpu, 0)", True), ("", False)])
def test_mlx_that_ends_its_process_without_metal_is_found_out_by_another_one(
        monkeypatch: pytest.MonkeyPatch, said: str, works: bool) -> None:
    mac(monkeypatch)
    asked: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> str:
        asked.append(command)
        return said

    apple.mlx_answers.cache_clear()
    assert apple.mlx_answers(run) is works and "import mlx.core" in asked[0][-1]
    monkeypatch.setattr(mlx_models, "mlx_answers", lambda: works)
    monkeypatch.setattr(mlx_models.importlib.util, "find_spec", lambda name: object())
    if works:
        mlx_models.require_mlx()
    else:
        with pytest.raises(UsageError, match="finds no Metal here"):
            mlx_models.require_mlx()
    apple.mlx_answers.cache_clear()


# ---- trainings that die


class Dying:
    """Trainings in one folder that are begun and never left: what killed processes leave behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: list[AbstractContextManager[Running]] = []

    def rungs(self, for_memory: bool = False, is_loaded: bool = True) -> int:
        """How much lower the next one begins, which dies too."""
        self._open.append(lower_after_deaths(self.folder, for_memory))
        running = self._open[-1].__enter__()
        if is_loaded:
            running.loaded()
        return running.rungs


def test_a_training_that_died_twice_at_one_place_goes_on_one_rung_lower(tmp_path: Path) -> None:
    dying = Dying(tmp_path)
    assert [dying.rungs(), dying.rungs(), dying.rungs()] == [0, 0, 1]
    (tmp_path / "checkpoints" / "step-00000004").mkdir(parents=True)
    assert [dying.rungs(), dying.rungs()] == [1, 2], "it got further once, and died there twice"
    with lower_after_deaths(tmp_path, False):
        pass
    with lower_after_deaths(tmp_path, True) as running:
        assert running.rungs == 0, "a training that ended by itself leaves nothing behind"


def test_a_training_that_memory_killed_goes_on_one_rung_lower_at_once(tmp_path: Path) -> None:
    dying = Dying(tmp_path)
    assert [dying.rungs(for_memory=True), dying.rungs(for_memory=True), dying.rungs(for_memory=True)] == [0, 1, 2]
    (tmp_path / "running.json").write_text("{half")
    assert dying.rungs(for_memory=True) == 1


def test_a_student_that_does_not_fit_is_not_loaded_again_and_again(tmp_path: Path) -> None:
    dying = Dying(tmp_path)
    dying.rungs(is_loaded=False)
    with pytest.raises(LocalDistillError, match="the student does not fit into memory"):
        dying.rungs(for_memory=True)
    assert dying.rungs(for_memory=True) == 0, "who resumes later may have more of it"


@pytest.mark.parametrize(("code", "log", "for_memory"), [
    (-9, b"", True), (-6, b"... Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)", True),
    (-6, b"terminate called after throwing an instance of 'std::bad_alloc'", True), (-6, b"assertion failed", False),
    (127, b"cannot allocate memory for thread-local data: ABORT", True), (127, b"not found", False),
    (-11, b"out of memory", False), (1, b"out of memory", False),
])
def test_deaths_of_memory_are_told_from_others(code: int, log: bytes, for_memory: bool) -> None:
    assert ended_for_memory(code, log) is for_memory
