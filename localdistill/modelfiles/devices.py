"""The GPUs of this machine: what their drivers say, asked in turn until one answers. torch is looked at without being
imported; only where a driver tells no memory is it asked, in a child process. Must not fail, and must not guess: what
nobody tells is None."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from localdistill.safety.children import output_of

GpuKind = Literal["cuda", "hip", "metal"]
ROOT = Path("/")
_ASK_S, _IMPORT_S = 20.0, 180.0
_SMI_FIELDS = "uuid,memory.total,memory.free,driver_version,name"
_WSL = "usr/lib/wsl/lib"
_OLDEST_DRIVER = MappingProxyType({11: 450, 12: 525, 13: 580})
"""The driver that each major version of CUDA needs at least (docs.nvidia.com/cuda/cuda-toolkit-release-notes)."""
_AMD = "0x1002"


@dataclass(frozen=True)
class Gpu:
    """One GPU that this process may use."""

    name: str
    total_bytes: int | None
    """None: not known."""
    free_bytes: int | None
    """None: not known."""
    kind: GpuKind = "cuda"
    """The interface that reaches it: NVIDIA's, AMD's or Apple's."""
    found_by: str = ""
    """What named it."""
    uuid: str = ""
    driver: str = ""
    """Version of its driver; empty when not known."""


@dataclass(frozen=True)
class TorchBuild:
    """The torch that is installed, without importing it."""

    version: str = ""
    kind: Literal["cuda", "hip", "metal", "cpu", "none", "unknown"] = "unknown"
    """The GPUs it was built for; `none`: there is no torch."""
    cuda: str = ""
    """Version of CUDA it was built with."""


def find_gpus(root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs that this process may use, and what `environment` hides of them (empty when nothing)."""
    kept: list[Gpu] = []
    hidden: list[str] = []
    for found, names in ((_nvidia(root), ("CUDA_VISIBLE_DEVICES",)),
                         (_amd(root), ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"))):
        seen = found
        for name in names:
            value = environment.get(name)
            if found and value is not None:
                seen = visible(found, value)
                if left := len(found) - len(seen):
                    hidden.append(f"{name}={value} hides {left} of {len(found)}")
                break
        kept += seen
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        kept.append(Gpu("Apple GPU", None, None, "metal", "the processor"))
    return tuple(kept), "; ".join(hidden)


def visible(gpus: Sequence[Gpu], value: str) -> list[Gpu]:
    """Those that a list such as `0,2` or `GPU-1234` leaves, in its order. As the drivers read it, the list ends at its
    first entry that names none. A slice of a GPU, or one whose id nobody told, is there with nothing known of it."""
    chosen: list[Gpu] = []
    for entry in map(str.strip, value.split(",")):
        found: Gpu | None = None
        if entry.isdecimal():
            found = gpus[int(entry)] if int(entry) < len(gpus) else None
        elif entry.startswith(("GPU-", "MIG-")) and gpus:
            found = next((gpu for gpu in gpus if gpu.uuid.startswith(entry)), None)
            if found is None and (entry.startswith("MIG-") or not any(gpu.uuid for gpu in gpus)):
                name = f"{gpus[0].name} ({entry})"
                found = replace(gpus[0], name=name, total_bytes=None, free_bytes=None, uuid=entry)
        if found is None or found in chosen:
            break
        chosen.append(found)
    return chosen


def best_of(totals: Sequence[int | None]) -> int:
    """Which of several GPUs a training takes: the first of those with the most memory."""
    return max(range(len(totals)), key=lambda place: (totals[place] or 0, -place))


# ---- NVIDIA


def _nvidia(root: Path) -> list[Gpu]:
    sources: tuple[Callable[[], list[Gpu]], ...] = (
        _by_package, _by_library, lambda: _by_smi(root), lambda: _by_kernel(root))
    return next((found for source in sources if (found := source())), [])


def _by_package() -> list[Gpu]:
    try:
        import pynvml
    except ImportError:
        return []
    found = []
    try:
        pynvml.nvmlInit()
        driver = _said(pynvml, "nvmlSystemGetDriverVersion")
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            total = free = None
            with contextlib.suppress(pynvml.NVMLError):  # cards that share main memory have none of their own
                memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
                total, free = int(memory.total), int(memory.free)
            found.append(Gpu(_said(pynvml, "nvmlDeviceGetName", handle) or "NVIDIA GPU", total, free, "cuda",
                             "nvidia-ml-py", _said(pynvml, "nvmlDeviceGetUUID", handle), driver))
    except pynvml.NVMLError:
        return []
    return found


def _said(package: Any, name: str, *arguments: Any) -> str:
    """The text that one function of the package gives; empty where its version or the driver has none."""
    try:
        return _text(getattr(package, name)(*arguments))
    except (AttributeError, package.NVMLError):
        return ""


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def _by_library() -> list[Gpu]:
    """The driver's own library, for when no package speaks to it."""
    try:
        lib = ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
        if lib.nvmlInit_v2() != 0:
            return []
        try:
            return list(_listed(lib))
        finally:
            lib.nvmlShutdown()
    except (OSError, AttributeError):
        return []


def _listed(lib: Any) -> list[Gpu]:
    count, found = ctypes.c_uint(), []
    if lib.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return []
    driver = ctypes.create_string_buffer(96)
    lib.nvmlSystemGetDriverVersion(driver, 96)
    for index in range(count.value):
        handle, memory = ctypes.c_void_p(), _Memory()
        name, uuid = ctypes.create_string_buffer(96), ctypes.create_string_buffer(96)
        if lib.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
            continue
        lib.nvmlDeviceGetName(handle, name, 96)
        lib.nvmlDeviceGetUUID(handle, uuid, 96)
        is_told = lib.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0
        total, free = (memory.total, memory.free) if is_told else (None, None)
        found.append(Gpu(_text(name.value) or "NVIDIA GPU", total, free, "cuda", "libnvidia-ml", _text(uuid.value),
                         _text(driver.value)))
    return found


def _by_smi(root: Path) -> list[Gpu]:
    tool = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=str(root / _WSL))
    if tool is None:
        return []
    said = output_of([tool, f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader,nounits"], _ASK_S) or b""
    rows = (line.split(",", 4) for line in said.decode("utf-8", "replace").splitlines())
    return [Gpu(name.strip(), _mebibytes(total), _mebibytes(free), "cuda", "nvidia-smi", uuid.strip(), driver.strip())
            for uuid, total, free, driver, name in (row for row in rows if len(row) == 5)]


def _mebibytes(text: str) -> int | None:
    """None for what is no number: `[N/A]` on cards that share main memory."""
    return int(text) << 20 if text.strip().isdecimal() else None


def _by_kernel(root: Path) -> list[Gpu]:
    """What a driver leaves in the file system: names, but no memory."""
    nodes = {path.name.removeprefix("nvidia") for path in (root / "dev").glob("nvidia[0-9]*")}
    driver = re.search(r"\b\d{3}\.[\d.]+", _read(root / "proc/driver/nvidia/version"))
    found = []
    for path in sorted((root / "proc/driver/nvidia/gpus").glob("*")):
        told = dict(re.findall(r"^([\w ]+):\s*(.*?)\s*$", _read(path / "information"), re.MULTILINE))
        minor = told.get("Device Minor", "")
        if not nodes or not minor or minor in nodes:  # a container is given some of the machine's
            found.append(Gpu(told.get("Model") or "NVIDIA GPU", None, None, "cuda", "/proc/driver/nvidia",
                             told.get("GPU UUID", ""), driver[0] if driver else ""))
    if not found:
        found = [Gpu("NVIDIA GPU", None, None, "cuda", f"/dev/nvidia{node}") for node in sorted(nodes)]
    if not found and (root / "dev/dxg").exists() and list((root / _WSL).glob("libcuda.so*")):
        found = [Gpu("NVIDIA GPU", None, None, "cuda", "/dev/dxg")]
    if not found and (root / "dev/nvhost-gpu").exists():
        found = [Gpu("NVIDIA GPU", None, None, "cuda", "/dev/nvhost-gpu")]
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


# ---- AMD


def _amd(root: Path) -> list[Gpu]:
    if not (root / "dev/kfd").exists():
        return []
    found = []
    cards = [path for path in (root / "sys/class/drm").glob("card*") if path.name.removeprefix("card").isdecimal()]
    for card in sorted(cards, key=lambda path: int(path.name.removeprefix("card"))):
        device = card / "device"
        if _read(device / "vendor").strip() != _AMD:
            continue
        total, used = (_read(device / f"mem_info_vram_{what}").strip() for what in ("total", "used"))
        is_told = total.isdecimal() and used.isdecimal()
        found.append(Gpu(_read(device / "product_name").strip() or "AMD GPU", int(total) if is_told else None,
                         int(total) - int(used) if is_told else None, "hip", "amdgpu"))
    return found or [Gpu("AMD GPU", None, None, "hip", "/dev/kfd")]


# ---- torch


def torch_build() -> TorchBuild:
    """What torch was built for, from its own note of it; from the module itself where it is loaded anyway."""
    loaded = sys.modules.get("torch")
    if loaded is not None:
        said = {name: getattr(getattr(loaded, "version", None), name, None) for name in ("cuda", "hip")}
        said["__version__"] = str(getattr(loaded, "__version__", ""))
    else:
        try:
            spec = importlib.util.find_spec("torch")
        except (ImportError, ValueError):
            spec = None
        if spec is None:
            return TorchBuild("", "none")
        said = _assigned(_read(Path(spec.origin).parent / "version.py")) if spec.origin else {}
    version = str(said.get("__version__") or "")
    if said.get("cuda"):
        return TorchBuild(version, "cuda", str(said["cuda"]))
    if said.get("hip"):
        return TorchBuild(version, "hip")
    if not {"cuda", "hip"} <= said.keys():
        return TorchBuild(version, "unknown")
    is_apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return TorchBuild(version, "metal" if is_apple else "cpu")


def _assigned(text: str) -> dict[str, Any]:
    """Names and constants that a file of Python assigns; nothing of it is run."""
    said: dict[str, Any] = {}
    with contextlib.suppress(SyntaxError, ValueError):
        for node in ast.parse(text).body:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(
                node, ast.AnnAssign) else []
            value = getattr(node, "value", None)
            if isinstance(value, ast.Constant):
                said.update({target.id: value.value for target in targets if isinstance(target, ast.Name)})
    return said


def with_what_torch_sees(gpus: Sequence[Gpu], build: TorchBuild) -> tuple[Gpu, ...]:
    """`gpus` with the names and the memory that torch tells, where a driver told no memory and torch can say."""
    mine = [gpu for gpu in gpus if gpu.kind == build.kind]
    if not any(gpu.total_bytes is None for gpu in mine) or build.kind not in ("cuda", "hip"):
        return tuple(gpus)
    told = list(_seen_by_torch())
    if len(told) != len(mine):
        return tuple(gpus)
    seen = iter(told)
    return tuple(_told(gpu, next(seen)) if gpu.kind == build.kind else gpu for gpu in gpus)


def _told(gpu: Gpu, said: tuple[str, int, int]) -> Gpu:
    if gpu.total_bytes is not None:
        return gpu
    return replace(gpu, name=said[0], total_bytes=said[1], free_bytes=said[2], found_by=f"{gpu.found_by} and torch")


@lru_cache(maxsize=1)
def _seen_by_torch() -> tuple[tuple[str, int, int], ...]:
    """Name, total and free bytes of each GPU that torch can use: asked once, in a child."""
    said = output_of([sys.executable, "-m", __name__], _IMPORT_S, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    try:
        return tuple((str(name), int(total), int(free)) for name, total, free in json.loads(said or b"[]"))
    except (ValueError, TypeError):
        return ()


def why_unused(gpu: Gpu, build: TorchBuild) -> str:
    """Why a training in torch cannot run on `gpu`; empty when nothing speaks against it."""
    if build.kind in ("none", "unknown"):
        return ""
    if gpu.kind == "metal":
        return 'trainings in torch take the Apple GPU only when they are told device = "mps"'
    if build.kind != gpu.kind:
        for_whom = {"cuda": "NVIDIA GPUs", "hip": "AMD GPUs", "metal": "Macs", "cpu": "CPUs alone"}[build.kind]
        return f"torch {build.version} was built for {for_whom}"
    least = _OLDEST_DRIVER.get(int(major)) if (major := build.cuda.split(".")[0]).isdecimal() else None
    driver = gpu.driver.split(".")[0]
    if gpu.kind == "cuda" and least and driver.isdecimal() and int(driver) < least:
        return f"torch {build.version} needs driver {least} or newer, and driver {gpu.driver} is loaded"
    return ""


def _main() -> None:
    """Print what torch sees; for `_seen_by_torch`."""
    import torch

    rows = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        rows.append((torch.cuda.get_device_name(index), total, free))
    sys.stdout.write(json.dumps(rows))


if __name__ == "__main__":
    _main()
