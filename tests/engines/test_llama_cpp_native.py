"""The decisions of the native engine: sizes, layouts, GPU layers, measurements that are remembered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.events import Cancel, Event, Noted, Warned, silent
from localdistill.core.records import Message, Request, Sampling
from localdistill.engines.llama_cpp import LlamaCppEngine, speeds_of_files
from localdistill.engines.llama_cpp_native import session as native_session
from localdistill.engines.llama_cpp_native.client import _tamer
from localdistill.engines.llama_cpp_native.context import ContextSettings
from localdistill.engines.llama_cpp_native.matrix_units import can_hide
from localdistill.engines.llama_cpp_native.model import LoadSettings
from localdistill.engines.llama_cpp_native.options import LlamaCppOptions
from localdistill.engines.llama_cpp_native.placement import layers_that_fit
from localdistill.engines.llama_cpp_native.session import thread_choices
from localdistill.engines.llama_cpp_native.sizing import Weights, kv_budget_tokens, laid_out, sizes_of
from localdistill.engines.llama_cpp_native.tuning import CACHE_ENV, Tuning, TuningFile, tuning_key
from localdistill.modelfiles.gguf_header import read_header

GB = 1 << 30
BASE = ContextSettings(parallel=8, context_tokens=2048)


def test_sizes_are_those_of_the_file(tiny_model: Path) -> None:
    header = read_header(tiny_model)
    sizes = sizes_of(header, "f16")
    assert len(sizes.layer_bytes) == 3 and sizes.trained_tokens == 1024
    embedding = next(t.size_bytes for t in header.tensors if t.name == "token_embd.weight")
    assert sum(sizes.layer_bytes) == sum(t.size_bytes for t in header.tensors) - embedding
    assert sizes.kv_token_bytes == 2 * 2 * 64 * 2 and sizes.kv_layer_token_bytes == 2 * 64 * 2
    assert sizes_of(header, "q8_0").kv_token_bytes == round(2 * 2 * 64 * 34 / 32)


def test_layers_go_to_the_gpu_as_far_as_its_free_memory_reaches() -> None:
    layers = [GB] * 10 + [2 * GB]
    assert layers_that_fit(layers, 0, [64 * GB]) == 11
    assert layers_that_fit(layers, 0, [6 * GB]) == 4  # the output and three blocks: 5 of 6 x 0.92 - 0.5 GB
    assert layers_that_fit(layers, GB, [6 * GB]) == 2  # each block brings its keys and values
    assert layers_that_fit(layers, 0, [4 * GB, 4 * GB]) == 5
    assert layers_that_fit(layers, 0, [GB]) == 0 and layers_that_fit(layers, 0, []) == 0


@pytest.mark.parametrize(("buffer", "gpu"), [("CUDA0", True), ("Metal_Mapped", True), ("CPU_Mapped", False),
                                             ("CPU_REPACK", False), ("AMX", False), ("CUDA_Host", False)])
def test_where_a_buffer_lies_is_read_from_its_name(buffer: str, gpu: bool) -> None:
    pytest.importorskip("llama_cpp")
    from localdistill.engines.llama_cpp_native.model import on_gpu

    assert on_gpu(buffer) == gpu


def test_questions_that_share_nothing_get_caches_of_their_own() -> None:
    apart = Weights(total=800, unique=800, count=8, max_tokens=500)
    assert laid_out(BASE, "auto", 0, 10**6, apart) == BASE
    system_prompt = Weights(total=8 * 160, unique=100 + 8 * 60, count=8, max_tokens=500)
    assert not laid_out(BASE, "auto", 0, 10**6, system_prompt).unified


def test_samples_of_a_long_prompt_get_one_pool_a_quarter_as_large() -> None:
    samples = Weights(total=8 * 1000, unique=1000, count=8, max_tokens=100)
    chosen = laid_out(BASE, "auto", 0, 10**6, samples)
    assert chosen.unified and 1800 <= chosen.pool_tokens <= 8 * 2048 / 4
    assert not laid_out(BASE, "split", 0, 10**6, samples).unified
    long_replies = Weights(total=8 * 1000, unique=1000, count=8, max_tokens=8000)
    assert not laid_out(BASE, "auto", 0, 10**6, long_replies).unified


def test_what_does_not_fit_beside_each_other_shares_what_there_is() -> None:
    chosen = laid_out(BASE, "auto", 0, 5000, None)
    assert chosen.unified and chosen.parallel == 8 and 4864 <= chosen.pool_tokens <= 5120
    assert laid_out(BASE, "split", 0, 5000, None).parallel == 1
    assert laid_out(BASE, "auto", 0, 100, None).pool_tokens == 2048  # one reply must fit, or llama.cpp refuses
    assert laid_out(BASE, "unified", 4096, 100, None).pool_tokens == 4096
    assert laid_out(BASE, "auto", 0, 10**6, None, prefers_unified=True).unified


def test_memory_is_that_of_the_place_where_the_model_lies(tiny_model: Path) -> None:
    sizes = sizes_of(read_header(tiny_model), "f16")
    facts: dict[str, Any] = {"device": "cpu", "devices": [], "gpu_layers": 0, "layers": 3}
    assert kv_budget_tokens(sizes, facts, 2 * GB, GB) == GB // 2 // sizes.kv_token_bytes
    assert kv_budget_tokens(sizes, facts, 0, GB) == 0
    card = {"device": "CUDA0", "devices": [{"free_bytes": 2 * GB}], "gpu_layers": 3, "layers": 3}
    assert kv_budget_tokens(sizes, card, 0, GB) == int(GB * 0.85) // sizes.kv_token_bytes


def test_after_a_crash_amx_is_hidden_first_and_rearranging_given_up_last() -> None:
    first = _tamer(LoadSettings("x"))
    assert first is not None and first.matrix_units != can_hide() and first.repacks == can_hide()
    last = _tamer(LoadSettings("x", matrix_units=False))
    assert last is not None and not last.repacks
    assert _tamer(LoadSettings("x", matrix_units=False, repacks=False)) is None


@pytest.mark.skipif(not can_hide(), reason="AMX exists on x86 only, and is hidden on Linux only")
def test_hiding_amx_refuses_the_tiles_and_nothing_else() -> None:
    code = (
        "import ctypes, subprocess, sys\n"
        "from localdistill.engines.llama_cpp_native.matrix_units import hide_matrix_units\n"
        "if not hide_matrix_units(): sys.exit(3)\n"
        "call = ctypes.CDLL(None, use_errno=True).syscall\n"
        "print(call(158, 0x1023, 18), ctypes.get_errno(), call(158, 0x1022, ctypes.byref(ctypes.c_uint64())))\n"
        "print(subprocess.run(['true']).returncode)\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if found.returncode == 3:
        pytest.skip("this system lets no filter be set")
    first, second = found.stdout.splitlines()
    assert first.startswith("-1 1 ") and second == "0"


def test_measurements_are_remembered_by_machine_model_and_version(tmp_path: Path) -> None:
    remembered, facts = TuningFile(tmp_path), {"processor": "a", "devices": []}
    tuning = Tuning(2, False, None, {"split": 10.0}, 1.5)
    key = tuning_key("sha256:1", facts, 16, "f16", 2)
    assert remembered.find(key) is None
    remembered.keep(key, tuning)
    assert TuningFile(tmp_path).find(key) == tuning and tuning.best_rate == 10.0
    for other in (tuning_key("sha256:2", facts, 16, "f16", 2), tuning_key("sha256:1", facts, 16, "q8_0", 2),
                  tuning_key("sha256:1", {**facts, "processor": "b"}, 16, "f16", 2)):
        assert other != key and remembered.find(other) is None
    (tmp_path / "llama_cpp.json").write_text("{broken")
    assert remembered.find(key) is None
    remembered.keep(key, tuning)
    assert remembered.find(key) == tuning


def test_a_file_is_hashed_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"one")
    remembered = TuningFile(tmp_path / "cache")
    first = remembered.digest(file)
    monkeypatch.setattr("localdistill.engines.llama_cpp_native.tuning.sha256_file", lambda path: "sha256:new")
    assert remembered.digest(file) == first
    file.write_bytes(b"other")
    assert remembered.digest(file) == "sha256:new"


def test_threads_worth_trying() -> None:
    assert thread_choices(8, 16) == [8, 7, 4, 16] and thread_choices(1, 1) == [1] and thread_choices(2, 2) == [2, 1]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_ENV, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_large_model_is_measured_once_and_never_against_its_options(
        tiny_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llama_cpp")
    monkeypatch.setattr(native_session, "_SMALL_MODEL_BYTES", 0)
    asked = [Request("q", (Message("user", "hello"),), Sampling(max_tokens=2))]

    def told(**options: Any) -> list[str]:
        events: list[Event] = []
        engine = LlamaCppEngine(LlamaCppOptions(model=str(tiny_model), parallel=2, processes=1, **options))
        try:
            assert len(list(engine.answer(asked, events.append, Cancel()))) == 1
        finally:
            engine.close()
        return [e.text for e in events if isinstance(e, Noted) and ("measuring" in e.text or "fastest:" in e.text)]

    assert len(told()) == 2 and (cache / "llama_cpp.json").is_file()
    assert told() == []
    assert told(tune="off", kv_type="q8_0") == []
    assert len(told(kv_type="q8_0")) == 2


def test_tuning_by_hand_reports_what_it_tried(tiny_model: Path, cache: Path) -> None:
    pytest.importorskip("llama_cpp")
    engine = LlamaCppEngine(LlamaCppOptions(model=str(tiny_model), parallel=2, processes=1))
    try:
        tuning = engine.tune(silent)
        asked = [Request("q", (Message("user", "hi"),), Sampling(max_tokens=2))]
        replies = list(engine.answer(asked, silent, Cancel()))
    finally:
        engine.close()
    assert len(replies) == 1 and tuning.threads >= 1 and tuning.best_rate > 0
    assert len(tuning.rates) >= 2 and any("unified" in name for name in tuning.rates)


def test_the_fastest_file_comes_first(tiny_model: Path, make_model: Callable[..., Path], cache: Path) -> None:
    pytest.importorskip("llama_cpp")
    large = make_model("slow", layers=8, width=256)
    speeds = speeds_of_files([large, tiny_model], parallel=2, processes=1)
    assert [speed.path for speed in speeds] == [tiny_model, large]
    assert all(speed.batched > 0 and speed.alone > 0 and speed.size_bytes > 0 for speed in speeds)


def test_a_gpu_that_is_not_used_is_said(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llama_cpp")
    events: list[Event] = []
    start = native_session.ClientPool.start

    def with_a_card(self: Any, cancel: Cancel) -> dict[str, Any]:
        facts = start(self, cancel)
        facts["devices"] = [{"name": "CUDA0", "description": "Some GPU", "free_bytes": 1, "total_bytes": 2}]
        return facts

    monkeypatch.setattr(native_session.ClientPool, "start", with_a_card)
    engine = LlamaCppEngine(LlamaCppOptions(model=str(tiny_model), parallel=1, processes=1))
    list(engine.answer([Request("q", (Message("user", "hi"),), Sampling(max_tokens=1))], events.append, Cancel()))
    engine.close()
    assert any(isinstance(e, Warned) and "although there is a GPU (Some GPU" in e.text for e in events)


def test_memory_that_holds_fewer_sequences_is_said(make_model: Callable[..., Path],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llama_cpp")
    monkeypatch.setattr(native_session, "kv_budget_tokens", lambda *anything: 3 * 512)
    events: list[Event] = []
    engine = LlamaCppEngine(LlamaCppOptions(model=str(make_model("few", context=512)), parallel=8, processes=1,
                                            kv_layout="split"))
    asked = [Request(str(n), (Message("user", "hi"),), Sampling(max_tokens=1)) for n in range(5)]
    assert len(list(engine.answer(asked, events.append, Cancel()))) == 5
    engine.close()
    assert any(isinstance(e, Warned) and "2 of 8 sequences" in e.text for e in events)
