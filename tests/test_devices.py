"""GPUs are found by whatever tells of them, and plan, doctor and training name the same one."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from localdistill.api.models import doctor
from localdistill.api.models.doctor import gpu_findings, gpu_kinds, students_that_fit
from localdistill.api.recipes.planning import plan_training
from localdistill.core.events import Warned
from localdistill.modelfiles.devices import (
    Gpu,
    TorchBuild,
    find_gpus,
    torch_build,
    visible,
    why_unused,
    with_what_torch_sees,
)
from localdistill.modelfiles.hardware import Hardware, look_at_hardware
from localdistill.modelfiles.shape import STUDENTS
from localdistill.recipe import parse_recipe
from localdistill.trainers.torch.places import RUNGS, emit_idle_gpu
from localdistill.trainers.torch_lora import TorchLoraTrainer

GB = 10**9
LIBRARIES = ("nvml.dll", "libnvidia-ml.so.1")
MIB = 1 << 20
CUDA, CPU = TorchBuild("2.9.0+cu128", "cuda", "12.8"), TorchBuild("2.9.0+cpu", "cpu")
HIP = TorchBuild("2.9.0+rocm6.4", "hip")
TRAINER = TorchLoraTrainer()
SMALL, LARGE = Gpu("Little Card", 4 * GB, 3 * GB), Gpu("Big Card", 24 * GB, 20 * GB)
STUDENT = """
name = "t"
[traces]
files = ["rows.jsonl"]
[student]
model = "shipped:pantry/student"
[[arm]]
name = "a"
format = "answer_only"
[train]
"""


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """No driver of this machine is asked, wherever the tests run."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    real = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda name, *more, **settings: (
        _missing(name) if name in LIBRARIES else real(name, *more, **settings)))
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/nowhere")


def _missing(name: str) -> Any:
    raise OSError(name)


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Puts an `nvidia-smi` on the PATH that says this and ends so."""
    def put(said: str, code: int = 0) -> None:
        tool = tmp_path / "bin" / "nvidia-smi"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!{sys.executable}\nimport sys\nsys.stdout.write({said!r})\nsys.exit({code})\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tool.parent))

    return put


def machine(*gpus: Gpu, torch: TorchBuild = CUDA, **changes: Any) -> Hardware:
    return Hardware("Linux", "a processor", 8, 64 * GB, 50 * GB, gpus, torch, **changes)


def texts(hardware: Hardware) -> str:
    return "\n".join(f"{found.what} {found.state} {found.text} {found.fix}" for found in gpu_findings(hardware))


# ---- who tells of them


def test_nvidia_smi_tells_names_and_memory_without_any_package(smi: Callable[..., None], tmp_path: Path) -> None:
    smi("GPU-11aa, 12288, 11000, 550.54.14, NVIDIA Card A\nGPU-22bb, [N/A], [N/A], 550.54.14, NVIDIA Card, second\n")
    gpus, hidden = find_gpus(tmp_path, {})
    assert [(g.name, g.total_bytes, g.free_bytes, g.uuid, g.driver) for g in gpus] == [
        ("NVIDIA Card A", 12288 * MIB, 11000 * MIB, "GPU-11aa", "550.54.14"),
        ("NVIDIA Card, second", None, None, "GPU-22bb", "550.54.14")]
    assert {g.found_by for g in gpus} == {"nvidia-smi"} and hidden == ""


@pytest.mark.parametrize(("said", "code"), [("NVIDIA-SMI has failed", 9), ("No devices were found\n", 0), ("", 0)])
def test_a_tool_that_fails_is_not_believed(smi: Callable[..., None], tmp_path: Path, said: str, code: int) -> None:
    smi(said, code)
    assert find_gpus(tmp_path, {}) == ((), "")


def test_the_package_goes_first_and_a_card_without_memory_of_its_own_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class NVMLError(Exception):
        pass

    def memory(handle: int) -> Any:
        if handle:
            raise NVMLError("not supported")
        return SimpleNamespace(total=8 * GB, free=7 * GB)

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(
        NVMLError=NVMLError, nvmlInit=lambda: None, nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index, nvmlDeviceGetMemoryInfo=memory,
        nvmlDeviceGetName=lambda handle: [b"Card in bytes", "Card in text"][handle]))
    assert [(g.name, g.total_bytes, g.found_by) for g in find_gpus(tmp_path, {})[0]] == [
        ("Card in bytes", 8 * GB, "nvidia-ml-py"), ("Card in text", None, "nvidia-ml-py")]


class FakeLibrary:
    """The driver's library, with one card."""

    def nvmlInit_v2(self) -> int:
        return 0

    nvmlShutdown = nvmlInit_v2

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 1
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:
        text.value = b"535.104.05"
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:
        return 0

    def nvmlDeviceGetName(self, handle: Any, text: Any, size: int) -> int:
        text.value = b"NVIDIA Card L"
        return 0

    def nvmlDeviceGetUUID(self, handle: Any, text: Any, size: int) -> int:
        text.value = b"GPU-77"
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:
        memory._obj.total, memory._obj.free = 6 * GB, 5 * GB
        return 0


def test_the_drivers_own_library_is_asked_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeLibrary())
    assert find_gpus(tmp_path, {})[0] == (
        Gpu("NVIDIA Card L", 6 * GB, 5 * GB, "cuda", "libnvidia-ml", "GPU-77", "535.104.05"),)


def kernel(root: Path, *cards: tuple[str, int], nodes: Sequence[int] = ()) -> None:
    folder = root / "proc/driver/nvidia"
    for number, (name, minor) in enumerate(cards):
        (folder / f"gpus/0000:0{number}:00.0").mkdir(parents=True)
        (folder / f"gpus/0000:0{number}:00.0/information").write_text(
            f"Model: \t\t {name}\nIRQ:   \t\t 99\nGPU UUID: \t GPU-k{number}\nDevice Minor: \t {minor}\n")
        (folder / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57.02  Tue Jul 13\n")
    (root / "dev").mkdir(exist_ok=True)
    for node in nodes:
        (root / f"dev/nvidia{node}").touch()


def test_the_kernel_driver_tells_names_and_no_memory(tmp_path: Path) -> None:
    kernel(tmp_path, ("Card K", 0), ("Card M", 1))
    assert [(g.name, g.total_bytes, g.driver) for g in find_gpus(tmp_path, {})[0]] == [
        ("Card K", None, "470.57.02"), ("Card M", None, "470.57.02")]
    (tmp_path / "dev/nvidia1").touch()  # a container that was given the second one
    assert [g.name for g in find_gpus(tmp_path, {})[0]] == ["Card M"]


@pytest.mark.parametrize(("files", "names"), [
    (["dev/nvidia0", "dev/nvidiactl"], ["NVIDIA GPU"]),
    (["dev/nvidiactl"], []),
    (["dev/dxg", "usr/lib/wsl/lib/libcuda.so.1"], ["NVIDIA GPU"]),
    (["dev/dxg", "usr/lib/wsl/lib/libd3d12.so"], []),
    (["dev/nvhost-gpu"], ["NVIDIA GPU"]),
    (["dev/kfd"], ["AMD GPU"]),
])
def test_traces_of_drivers(tmp_path: Path, files: list[str], names: list[str]) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    gpus, _ = find_gpus(tmp_path, {})
    assert [gpu.name for gpu in gpus] == names and all(gpu.free_bytes is None for gpu in gpus)


def test_amd_cards_tell_their_memory_and_others_beside_them_are_none(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    for number, told in {0: {"vendor": "0x8086"}, 1: {"vendor": "0x1002", "product_name": "Radeon Nine",
                         "mem_info_vram_total": "17163091968", "mem_info_vram_used": "163091968"}}.items():
        (tmp_path / f"sys/class/drm/card{number}/device").mkdir(parents=True)
        for name, text in told.items():
            (tmp_path / f"sys/class/drm/card{number}/device/{name}").write_text(text + "\n")
    assert find_gpus(tmp_path, {})[0] == (), "without the compute driver nothing can run on it"
    (tmp_path / "dev/kfd").touch()
    assert find_gpus(tmp_path, {})[0] == (Gpu("Radeon Nine", 17163091968, 17 * GB, "hip", "amdgpu"),)


# ---- what the environment hides


@pytest.mark.parametrize(("value", "names"), [
    ("0", ["A"]), ("1,0", ["B", "A"]), ("", []), ("-1", []), ("1,7,0", ["B"]), ("0,0", ["A"]), ("GPU-bb", ["B"]),
    ("GPU-cc", []), ("NoDevFiles", []), (" 1 , 0", ["B", "A"]), ("MIG-9", ["A (MIG-9)"]),
])
def test_visible_devices_are_read_as_the_driver_reads_them(value: str, names: list[str]) -> None:
    gpus = [Gpu("A", 4 * GB, 4 * GB, uuid="GPU-aa1"), Gpu("B", 8 * GB, 8 * GB, uuid="GPU-bb1")]
    assert [gpu.name for gpu in visible(gpus, value)] == names


def test_a_hidden_gpu_is_said_to_be_hidden_not_absent(smi: Callable[..., None], tmp_path: Path) -> None:
    smi("GPU-1, 100, 90, 550.1, Card A\nGPU-2, 100, 90, 550.1, Card B\n")
    gpus, hidden = find_gpus(tmp_path, {"CUDA_VISIBLE_DEVICES": ""})
    assert gpus == () and hidden == "CUDA_VISIBLE_DEVICES= hides 2 of 2"
    said = texts(machine(hidden_gpus=hidden))
    assert hidden in said and "no GPU" not in said
    gpus, hidden = find_gpus(tmp_path, {"CUDA_VISIBLE_DEVICES": "1"})
    assert [gpu.name for gpu in gpus] == ["Card B"] and "hides 1 of 2" in hidden


# ---- what torch was built for


@pytest.mark.parametrize(("lines", "build"), [
    ("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", TorchBuild("9.1", "cuda", "12.8")),
    ("cuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n", TorchBuild("9.1", "hip")),
    ("cuda = None\nhip = None\n", TorchBuild("9.1", "cpu")),
    ("", TorchBuild("9.1", "unknown")),
])
def test_the_build_of_torch_is_read_without_running_any_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, build: TorchBuild
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise SystemExit('torch was imported')\n")
    (tmp_path / "torch/version.py").write_text(
        f"from typing import Optional\n__version__ = '9.1'\n{lines}raise SystemExit('torch was run')\n")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert torch_build() == build


def test_a_torch_that_is_loaded_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(
        __version__="9.2", version=SimpleNamespace(cuda=None, hip="6.2")))
    assert torch_build() == TorchBuild("9.2", "hip")


def test_plan_and_doctor_load_no_torch(tmp_path: Path) -> None:
    """Where the driver tells enough, its answer is all that is asked for."""
    script = ("import sys, localdistill.api.models.doctor as d, localdistill.api.recipes.planning as p\n"
              "from localdistill.modelfiles.hardware import look_at_hardware\n"
              "list(d.gpu_findings(look_at_hardware()))\nprint('torch' in sys.modules)")
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_torch_tells_the_memory_that_no_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(command: list[str], *settings: Any) -> bytes:
        asked.append(command)
        return json.dumps([["Card by torch", 10 * GB, 9 * GB]]).encode()

    from localdistill.modelfiles import devices

    monkeypatch.setattr(devices, "output_of", run)
    devices._seen_by_torch.cache_clear()
    try:
        nameless = Gpu("NVIDIA GPU", None, None, "cuda", "/dev/nvidia0")
        assert with_what_torch_sees([nameless], CPU) == (nameless,) and not asked
        assert with_what_torch_sees([LARGE], CUDA) == (LARGE,) and not asked
        (told,) = with_what_torch_sees([nameless], CUDA)
        assert (told.name, told.total_bytes, told.free_bytes) == ("Card by torch", 10 * GB, 9 * GB) and len(asked) == 1
    finally:
        devices._seen_by_torch.cache_clear()


# ---- where a training runs: one answer


def plan_of(monkeypatch: pytest.MonkeyPatch, hardware: Hardware, train: str = "") -> tuple[str, str]:
    """The plan's line on memory, and its warnings."""
    monkeypatch.setattr("localdistill.api.recipes.planning.look_at_hardware", lambda: hardware)
    plan = plan_training(parse_recipe(STUDENT + train), Path())
    return next(row.text for row in plan.lines if row.label == "memory"), "\n".join(plan.warnings)


def trainers_warning(hardware: Hardware) -> str:
    said: list[Any] = []
    emit_idle_gpu(said.append, hardware)
    return "".join(f"{event.text} {event.hint}" for event in said if isinstance(event, Warned))


def test_of_several_the_one_with_the_most_memory_is_named_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = machine(SMALL, LARGE)
    memory, warnings = plan_of(monkeypatch, hardware)
    assert "20.0 GB on Big Card" in memory and warnings == ""
    assert "training ok runs on Big Card" in texts(hardware)
    assert "on Big Card" in students_that_fit(TRAINER, hardware)
    torch = pytest.importorskip("torch")
    from localdistill.modelfiles.loading import pick_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties",
                        lambda index: SimpleNamespace(total_memory=(SMALL, LARGE)[index].total_bytes))
    assert pick_device("auto") == torch.device("cuda", 1)
    assert "on Little Card" in plan_of(monkeypatch, hardware, 'device = "cuda:0"\n')[0]


@pytest.mark.parametrize(("gpu", "build", "why", "fix"), [
    (LARGE, CPU, "torch 2.9.0+cpu was built for CPUs alone", "torch==2.9.0"),
    (LARGE, HIP, "built for AMD GPUs", "torch==2.9.0"),
    (Gpu("Radeon Nine", GB, GB, "hip"), CUDA, "built for NVIDIA GPUs", "ROCm"),
    (Gpu("Old", GB, GB, driver="470.57.02"), CUDA, "needs driver 525 or newer, and driver 470.57.02", "update"),
])
def test_a_gpu_that_torch_cannot_use_is_never_no_gpu(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu, build: TorchBuild, why: str, fix: str
) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    hardware = machine(gpu, torch=build)
    memory, warnings = plan_of(monkeypatch, hardware)
    assert "50.0 GB of main memory" in memory
    for said in (warnings, texts(hardware), trainers_warning(hardware)):
        assert gpu.name in said and why in said and fix in said and "no GPU" not in said
    assert "wrong" in texts(hardware)


@pytest.mark.parametrize(("gpu", "build"), [
    (LARGE, CUDA), (Gpu("Radeon Nine", GB, GB, "hip"), HIP), (LARGE, TorchBuild("", "none")),
    (Gpu("New", GB, GB, driver="580.82"), TorchBuild("3.0", "cuda", "13.0")),
    (Gpu("Who knows", GB, GB, driver="580.82"), TorchBuild("4.0", "cuda", "99.0")),
])
def test_what_nothing_speaks_against_is_used(gpu: Gpu, build: TorchBuild) -> None:
    assert why_unused(gpu, build) == "" and machine(gpu, torch=build).place().gpu == gpu


def test_a_gpu_that_only_torch_refuses_is_said_by_the_training() -> None:
    assert "torch 2.9.0+cu128 cannot use it" in trainers_warning(machine(LARGE))
    assert trainers_warning(machine()) == ""


def test_unknown_memory_is_said_and_fits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = machine(Gpu("Card K", None, None, found_by="/proc/driver/nvidia"))
    memory, warnings = plan_of(monkeypatch, hardware)
    assert "an unknown amount on Card K" in memory and warnings == ""
    assert "not known" in texts(hardware) and "not known" in students_that_fit(TRAINER, hardware)


def test_an_apple_gpu_is_named_and_trains_only_when_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    gpus, _ = find_gpus(tmp_path, {})
    hardware = machine(*gpus, torch=TorchBuild("2.9.0", "metal"))
    monkeypatch.setattr(doctor, "has_mlx", lambda: False)
    assert gpu_kinds(hardware) == {"metal": "Apple GPU"}
    said = texts(hardware)
    assert "Apple GPU, it shares main memory" in said and "training note runs on the CPU" in said and "mps" in said
    assert "of main memory (" in plan_of(monkeypatch, hardware)[0]
    assert "on the Apple GPU" in plan_of(monkeypatch, hardware, 'device = "mps"\n')[0]


def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from localdistill.core.errors import UsageError
    from localdistill.modelfiles.loading import pick_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "cuda:1", "mps"):
        with pytest.raises(UsageError, match=name):
            pick_device(name)
    assert pick_device("cpu").type == "cpu" and pick_device("auto").type == "cpu"


@pytest.mark.parametrize(("computes", "dtype"), [(True, "bfloat16"), (False, "float16")])
def test_bfloat16_that_a_gpu_only_imitates_is_not_picked(
    monkeypatch: pytest.MonkeyPatch, computes: bool, dtype: str
) -> None:
    torch = pytest.importorskip("torch")
    from localdistill.modelfiles.loading import pick_dtype

    monkeypatch.setattr(torch.cuda, "is_bf16_supported",
                        lambda including_emulation=True: including_emulation or computes)
    assert pick_dtype("auto", torch.device("cuda")) == getattr(torch, dtype)


# ---- how much it needs: one estimate


@pytest.mark.parametrize("free_gb", [1, 4, 6, 8, 12, 16, 24, 48, 80])
def test_what_doctor_calls_fitting_the_plan_does_not_warn_of(free_gb: int) -> None:
    for hardware in (machine(Gpu("Card", 96 * GB, free_gb * GB)),
                     Hardware("Linux", "a processor", 2, 96 * GB, free_gb * GB, (), CPU)):
        said = students_that_fit(TRAINER, hardware)
        plans = {one.name: TRAINER.estimate(one, 2048, hardware) for one in STUDENTS}
        fitting = [name for name, plan in plans.items() if plan.total_bytes <= free_gb * GB and not plan.streams]
        assert (f"up to {fitting[-1]} by" in said) if fitting else ("none of" in said)
        assert ("at every step" in said) == any(plan.fits and plan.streams for plan in plans.values())


@pytest.mark.parametrize(("name", "free_gb", "gives_way"), [
    ("7B", 24, []), ("7B", 14, ["host_embedding"]), ("7B", 10, ["host_embedding", "recompute"]),
    ("7B", 7, ["host_embedding", "recompute", "host_activations"]), ("1.5B", 4, ["recompute"]),
    ("8B", 4, ["host_embedding", "recompute", "host_activations", "host_head", "stream"]),
])
def test_students_fit_by_giving_way_in_the_order_of_what_it_costs(name: str, free_gb: float,
                                                                  gives_way: list[str]) -> None:
    student = next(one for one in STUDENTS if one.name == name)
    card = Hardware("Linux", "a processor", 2, 64 * GB, 32 * GB, (Gpu("Card", 96 * GB, int(free_gb * GB)),), CUDA)
    plan = TRAINER.estimate(student, 2048, card)
    assert plan.fits and [words for words in plan.gives_way if "at once" not in words] == [
        RUNGS[rung] for rung in gives_way]


def test_what_lies_in_main_memory_must_fit_there_too() -> None:
    largest = STUDENTS[-1]
    for free_gb, fits in ((48, True), (8, False)):
        card = Hardware("Linux", "a processor", 2, 64 * GB, free_gb * GB, (Gpu("Card", 8 * GB, 8 * GB),), CUDA)
        plan = TRAINER.estimate(largest, 2048, card)
        assert plan.streams and plan.total_bytes < 8 * GB and plan.fits == fits
        assert 17 * GB < plan.host_bytes < 24 * GB


def test_the_estimate_follows_what_decides_it() -> None:
    student, cpu, gpu = STUDENTS[1], machine(), machine(LARGE)

    def need(hardware: Hardware, **options: Any) -> int:
        trainer = TorchLoraTrainer(TorchLoraTrainer.Options(**options))
        return trainer.estimate(student, 2048, hardware).total_bytes

    assert need(cpu, dtype="float32") - need(cpu, dtype="bfloat16") > 1.9 * student.parameter_count
    assert need(cpu) == need(cpu, dtype="float32"), "a processor without bfloat16 trains in float32"
    assert need(machine(multiplies_bf16=True)) == need(cpu, dtype="bfloat16")
    assert need(cpu, gradient_checkpointing=True) < need(cpu)
    assert need(gpu, quantization="none") > need(gpu) and need(gpu, rank=64) > need(gpu)
    assert need(gpu, device="cpu") == need(cpu), "told to stay on the CPU, the GPU counts for nothing"


def test_looking_at_this_machine_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert look_at_hardware().memory_bytes > 0
