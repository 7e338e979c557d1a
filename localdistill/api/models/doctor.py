"""The examination of a machine: hardware, packages, disk, the store, and one token through llama.cpp."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from localdistill.core.errors import LocalDistillError
from localdistill.core.installing import install_command, pip
from localdistill.engines import ENGINES
from localdistill.modelfiles.apple import AppleChip, is_apple_silicon
from localdistill.modelfiles.hardware import USUAL_TOKENS, Hardware, look_at_hardware
from localdistill.modelfiles.shape import STUDENTS
from localdistill.modelfiles.shipped import shipped_path
from localdistill.safety.files import free_bytes
from localdistill.safety.jail.cells import JailRefused, require_level
from localdistill.safety.jail.running import look_at_jail
from localdistill.trainers import TRAINERS
from localdistill.trainers.base import Trainer
from localdistill.workspace.folder import Workspace

EXTRAS = {
    "llama": ("llama_cpp", "gguf"),
    "train": ("torch", "transformers", "peft", "bitsandbytes", "safetensors", "tokenizers"),
}
ON_APPLE_SILICON = {"mlx": ("mlx", "mlx_lm")}
"""Looked for where it has a GPU to run on."""
DISTRIBUTIONS = {"llama_cpp": "llama-cpp-python", "mlx_lm": "mlx-lm"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "note", "wrong", "missing"]
    """`wrong`: it works, but not as it should; said loudly."""
    text: str
    fix: str = ""
    """The command that mends it."""


def examine(workspace: Workspace) -> list[Finding]:
    """Everything that `localdistill doctor` prints."""
    return [*_machine(workspace), jail_finding(), *_packages(), *_compiler(), _llama_token()]


def _machine(workspace: Workspace) -> Iterator[Finding]:
    hardware = look_at_hardware()
    yield Finding("python", "ok", f"{sys.version.split()[0]} on {hardware.system}")
    yield Finding("processor", "ok", f"{hardware.processor}, {hardware.cores} cores")
    yield Finding(
        "memory", "ok", f"{hardware.free_memory_bytes / 1e9:.1f} of {hardware.memory_bytes / 1e9:.1f} GB free"
    )
    if hardware.chip is not None:
        yield from chip_findings(hardware.chip)
    yield from gpu_findings(hardware)
    for name in TRAINERS.names() if hardware.chip is not None else ("torch_lora",):
        yield Finding("students", "ok", students_that_fit(TRAINERS.load(name)(), hardware))
    free = free_bytes(workspace.root)
    yield Finding("disk", "ok" if free > 2e9 else "note", f"{free / 1e9:.1f} GB free in the workspace")


def gpu_findings(hardware: Hardware) -> Iterator[Finding]:
    """Every GPU, what hides others, and where a training runs, as plan and trainer see it."""
    for gpu in hardware.gpus:
        memory = "how much memory it has is not known"
        if gpu.total_bytes is not None and gpu.free_bytes is not None:
            memory = f"{gpu.free_bytes / 1e9:.1f} of {gpu.total_bytes / 1e9:.1f} GB free"
        elif gpu.kind == "metal":
            memory = "it shares main memory"
        yield Finding("GPU", "ok", f"{gpu.name}, {memory} (found by {gpu.found_by or 'its driver'})")
    if hardware.hidden_gpus:
        yield Finding("GPU", "note", f"hidden from here: {hardware.hidden_gpus}")
    place = hardware.place()
    if place.gpu is not None:
        yield Finding("training", "ok", f"runs {place.name}")
    elif place.idle is None:
        yield Finding("training", "note", "runs on the CPU" + ("" if hardware.hidden_gpus else ": no GPU is seen"))
    elif place.idle.kind == "metal" and has_mlx():
        yield Finding("training", "ok", f"runs in MLX, {hardware.mlx_place().name}; in torch (train.use = "
                      f'"torch_lora") on the CPU: {place.unused}')
    elif place.idle.kind == "metal":
        yield Finding("training", "note", f"runs on the CPU: {place.unused}; MLX is not installed, which takes the GPU "
                      "by itself", install_command("mlx"))
    else:
        yield Finding("training", "wrong", "RUNS ON THE CPU ALTHOUGH THIS MACHINE HAS A GPU "
                      f"({place.idle.name}): {place.unused}", place.fix)


def jail_finding() -> Finding:
    """How programs of models would be shut in, found by shutting one in that does nothing."""
    try:
        confinement = look_at_jail()
        require_level(confinement, 1)
    except JailRefused as error:
        return Finding("jail", "note", f"{error.message}; the grader `code` refuses to work", error.hint)
    return Finding("jail", "ok", f"programs of models run at level {confinement.level} ({confinement.text})")


def has_mlx() -> bool:
    """Whether trainings in MLX are to be had."""
    return all(importlib.util.find_spec(module) is not None for module in ON_APPLE_SILICON["mlx"])


def chip_findings(chip: AppleChip) -> Iterator[Finding]:
    """What a Mac can train, and what macOS is known to do to long trainings."""
    yield Finding("chip", "ok", f"{chip.name}, macOS {chip.macos}, {chip.memory_bytes / 1e9:.0f} GB of unified memory, "
                  f"of which the GPU may hold {chip.gpu_limit_bytes / 1e9:.0f} GB")
    if not chip.computes_bfloat16:
        yield Finding("chip", "note", "it imitates bfloat16: trainings in MLX compute in float32, unless told")
    yield Finding("long trainings", "note", "macOS may end a computation of the GPU that keeps the display waiting: "
                  "let the display sleep, or start with AGX_RELAX_CDM_CTXSTORE_TIMEOUT=1. The laptop is kept awake "
                  "while a run works, but not with its lid closed; a laptop that gets hot computes slower")


def students_that_fit(trainer: Trainer, hardware: Hardware) -> str:
    """The largest usual student that `trainer` can train here with its default options, by the estimate of the plan."""
    plans = {one.name: trainer.estimate(one, USUAL_TOKENS, hardware) for one in STUDENTS}
    first = plans[STUDENTS[0].name]
    place, how = first.place, first.how
    if place.free_bytes is None:
        return f"by {how} {place.name}; how large is not known: nothing tells its memory"
    fits = [name for name, plan in plans.items() if plan.fits and not plan.streams]
    slow = [name for name, plan in plans.items() if plan.fits and plan.streams]
    slower = f"; {slow[-1]} with its layers coming from main memory at every step" if slow else ""
    where = f"{USUAL_TOKENS:,} tokens, {place.name} (estimated){slower}"
    return f"up to {fits[-1]} by {how}, {where}" if fits else f"none of {STUDENTS[0].name} and more by {how}, {where}"


def _packages() -> Iterator[Finding]:
    for extra, modules in (EXTRAS | (ON_APPLE_SILICON if is_apple_silicon() else {})).items():
        for module in modules:
            name = DISTRIBUTIONS.get(module, module)
            if importlib.util.find_spec(module) is None:
                yield Finding(name, "missing", "not installed", install_command(extra))
            else:
                yield Finding(name, "ok", importlib.metadata.version(name))


def _compiler() -> Iterator[Finding]:
    if importlib.util.find_spec("llama_cpp") is None and not (shutil.which("c++") or shutil.which("g++")):
        fix = "xcode-select --install" if sys.platform == "darwin" else "sudo apt install build-essential cmake"
        yield Finding("C++ compiler", "missing", "llama-cpp-python is compiled when it is installed", fix)


def _llama_token() -> Finding:
    """One token of the shipped teacher through llama.cpp, and the device that computed it."""
    if importlib.util.find_spec("llama_cpp") is None:
        return Finding("llama.cpp", "missing", "cannot be tried", install_command("llama"))
    cls = ENGINES.load("llama_cpp")
    try:
        engine = cls(cls.Options(model=str(shipped_path("pantry/teacher.gguf"))))
        try:
            facts = engine.probe()
        finally:
            engine.close()
    except LocalDistillError as error:
        return Finding("llama.cpp", "missing", error.message, error.hint)
    return judge_device(facts, gpu_kinds(look_at_hardware()))


def gpu_kinds(hardware: Hardware) -> dict[str, str]:
    """The GPUs of this machine: the kind of llama.cpp build that uses each, and the name of its first."""
    kinds: dict[str, str] = {}
    for gpu in hardware.gpus:
        kinds.setdefault(gpu.kind, gpu.name)
    return kinds


def judge_device(facts: Mapping[str, Any], gpus: Mapping[str, str]) -> Finding:
    """Whether the token ran where it should. `facts`: what the engine's `probe` returns."""
    speed = f"{facts['tokens_per_s']:,.0f} tokens/s alone"
    devices = ", ".join(f"{d['name']} {d['description']}" for d in facts["devices"])
    if facts["device"] != "cpu":
        layers = f"{facts['gpu_layers']} of {facts['layers']} layers"
        return Finding("llama.cpp", "ok", f"a token ran on {facts['device']} ({devices}), {layers}, {speed}")
    if not gpus and not facts["devices"]:
        hidden = "" if facts["matrix_units"] else "; AMX is announced but crashes, so it is left out"
        return Finding("llama.cpp", "ok", f"a token ran on the CPU, {speed}{hidden}")
    kind, name = next(iter(gpus.items()), ("cuda", devices))
    loud = f"RUNS ON THE CPU ALTHOUGH THIS MACHINE HAS A GPU ({name})"
    if not facts["gpu_build"]:
        return Finding("llama.cpp", "wrong", f"{loud}: it was built without GPU support", rebuild_command(kind))
    if not facts["devices"]:
        return Finding("llama.cpp", "wrong", f"{loud}: it was built for GPUs but sees none; is the driver loaded, and "
                       "is it the right build?", rebuild_command(kind))
    return Finding("llama.cpp", "wrong", f"{loud}: no layer fits into what is free on {devices}",
                   "end other programs that use the GPU, then localdistill doctor")


def rebuild_command(kind: str) -> str:
    """The command that builds llama.cpp for GPUs of a `kind` (cuda, hip, metal)."""
    exact = f"llama-cpp-python=={importlib.metadata.version('llama-cpp-python')}"
    return f"CMAKE_ARGS=-DGGML_{kind.upper()}=on {pip('--force-reinstall', '--no-cache-dir', '--no-deps', exact)}"
