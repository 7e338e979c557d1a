"""The examination of a machine: where llama.cpp runs, and how loudly a wrong place is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from localdistill.api.models.doctor import Finding, gpu_kinds, judge_device
from localdistill.cli import doctor as doctor_command
from localdistill.modelfiles.devices import find_gpus
from localdistill.modelfiles.hardware import Gpu, Hardware

CPU_ONLY = Hardware("Linux", "a processor", 2, 1, 1, ())


def facts(**changes: Any) -> dict[str, Any]:
    return {"device": "cpu", "devices": [], "gpu_build": False, "gpu_layers": 0, "layers": 7, "tokens_per_s": 900.0,
            "matrix_units": True, **changes}


def device(name: str = "CUDA0") -> dict[str, Any]:
    return {"name": name, "description": "Some GPU", "free_bytes": 1, "total_bytes": 2}


def test_a_cpu_machine_on_its_cpu_is_fine() -> None:
    assert judge_device(facts(), {}).state == "ok"
    assert "AMX" in judge_device(facts(matrix_units=False), {}).text


def test_a_token_on_the_gpu_is_fine_and_names_it() -> None:
    found = facts(device="CUDA0", devices=[device()], gpu_build=True, gpu_layers=7)
    finding = judge_device(found, {"cuda": "Some GPU"})
    assert finding.state == "ok" and "CUDA0" in finding.text and "7 of 7 layers" in finding.text


@pytest.mark.parametrize(("changes", "gpus", "words"), [
    ({}, {"cuda": "NVIDIA GPU"}, ("built without GPU support", "DGGML_CUDA=on")),
    ({}, {"metal": "Apple GPU"}, ("built without GPU support", "DGGML_METAL=on")),
    ({"gpu_build": True}, {"hip": "AMD GPU"}, ("sees none", "DGGML_HIP=on")),
    ({"gpu_build": True, "devices": [device()]}, {"cuda": "Some GPU"}, ("no layer fits", "end other programs")),
    ({"gpu_build": True, "devices": [device("Vulkan0")]}, {}, ("Vulkan0", "end other programs")),
])
def test_the_cpu_beside_an_idle_gpu_is_wrong(changes: dict[str, Any], gpus: dict[str, str],
                                            words: tuple[str, str]) -> None:
    pytest.importorskip("llama_cpp")
    finding = judge_device(facts(**changes), gpus)
    assert finding.state == "wrong" and "ON THE CPU ALTHOUGH" in finding.text
    assert words[0] in finding.text and words[1] in finding.fix


def test_gpus_are_seen_without_a_library(tmp_path: Path) -> None:
    assert gpu_kinds(CPU_ONLY) == {}
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    (tmp_path / "dev" / "kfd").touch()
    found = Hardware("Linux", "a processor", 2, 1, 1, find_gpus(tmp_path, {})[0])
    assert list(gpu_kinds(found).items()) == [("cuda", "NVIDIA GPU"), ("hip", "AMD GPU")]
    card = Hardware("Linux", "a processor", 2, 1, 1, (Gpu("Card 9", 1, 1), Gpu("Card 10", 1, 1)))
    assert gpu_kinds(card) == {"cuda": "Card 9"}


def test_the_command_warns_loudly_and_still_succeeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wrong = Finding("llama.cpp", "wrong", "RUNS ON THE CPU", "rebuild it")
    findings = [Finding("disk", "ok", "much"), wrong]
    monkeypatch.setattr("localdistill.api.models.doctor.examine", lambda workspace: findings)
    app = typer.Typer()
    doctor_command.register(app)
    result = CliRunner().invoke(app, ["--workspace", str(tmp_path)])
    assert result.exit_code == 0 and "WARNING: llama.cpp RUNS ON THE CPU" in result.stderr
    assert "! llama.cpp" in result.stdout and "fix: rebuild it" in result.stdout
