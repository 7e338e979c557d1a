"""The examination of a machine: hardware, packages, disk, the store, and one token through llama.cpp."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from localdistill.engines import ENGINES
from localdistill.errors import LocalDistillError
from localdistill.hardware import look_at_hardware, students_that_fit
from localdistill.modelfiles.shipped import shipped_path
from localdistill.workspace import Workspace

EXTRAS = {
    "llama": ("llama_cpp", "gguf"),
    "train": ("torch", "transformers", "peft", "bitsandbytes", "safetensors", "tokenizers"),
}
DISTRIBUTIONS = {"llama_cpp": "llama-cpp-python"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "note", "missing"]
    text: str
    fix: str = ""
    """The command that mends it."""


def examine(workspace: Workspace) -> list[Finding]:
    """Everything that `localdistill doctor` prints."""
    return [*_machine(workspace), *_packages(), *_compiler(), _llama_token()]


def _machine(workspace: Workspace) -> Iterator[Finding]:
    hardware = look_at_hardware()
    yield Finding("python", "ok", f"{sys.version.split()[0]} on {hardware.system}")
    yield Finding("processor", "ok", f"{hardware.processor}, {hardware.cores} cores")
    yield Finding(
        "memory", "ok", f"{hardware.free_memory_bytes / 1e9:.1f} of {hardware.memory_bytes / 1e9:.1f} GB free"
    )
    for gpu in hardware.gpus:
        yield Finding("GPU", "ok", f"{gpu.name}, {gpu.free_bytes / 1e9:.1f} of {gpu.total_bytes / 1e9:.1f} GB free")
    if not hardware.gpus:
        yield Finding(
            "GPU",
            "note",
            "no NVIDIA GPU seen: training runs on the CPU",
            "" if importlib.util.find_spec("pynvml") else "pip install 'localdistill[nvidia]'  (to see one)",
        )
    yield Finding("students", "ok", students_that_fit(hardware))
    free = shutil.disk_usage(workspace.root).free
    yield Finding("disk", "ok" if free > 2e9 else "note", f"{free / 1e9:.1f} GB free in the workspace")


def _packages() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        for module in modules:
            name = DISTRIBUTIONS.get(module, module)
            if importlib.util.find_spec(module) is None:
                yield Finding(name, "missing", "not installed", f"pip install 'localdistill[{extra}]'")
            else:
                yield Finding(name, "ok", importlib.metadata.version(name))


def _compiler() -> Iterator[Finding]:
    if importlib.util.find_spec("llama_cpp") is None and not (shutil.which("c++") or shutil.which("g++")):
        fix = "xcode-select --install" if sys.platform == "darwin" else "sudo apt install build-essential cmake"
        yield Finding("C++ compiler", "missing", "llama-cpp-python is compiled when it is installed", fix)


def _llama_token() -> Finding:
    """One token of the shipped teacher through llama.cpp, and the device that computed it."""
    if importlib.util.find_spec("llama_cpp") is None:
        return Finding("llama.cpp", "missing", "cannot be tried", "pip install 'localdistill[llama]'")
    cls = ENGINES.load("llama_cpp")
    try:
        engine = cls(cls.Options(model=str(shipped_path("pantry/teacher.gguf"))))
        try:
            facts = engine.probe()
        finally:
            engine.close()
    except LocalDistillError as error:
        return Finding("llama.cpp", "missing", error.message, error.hint)
    on_cpu = "cpu" in str(facts["device"]).lower()
    gpus = look_at_hardware().gpus
    if on_cpu and gpus:
        return Finding(
            "llama.cpp",
            "note",
            f"a token ran on the CPU although there is a {gpus[0].name}",
            "CMAKE_ARGS=-DGGML_CUDA=on pip install --force-reinstall --no-binary :all: llama-cpp-python",
        )
    return Finding("llama.cpp", "ok", f"a token ran on {facts['device']}")
