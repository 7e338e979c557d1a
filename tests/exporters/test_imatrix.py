"""The importance matrix: what is measured is what a calculation by hand gives, files that are rounded by it come closer
to the 16-bit one, and one that cannot be measured costs no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localdistill.core.borders import BORDERS
from localdistill.core.events import Cancel, Event, Noted, Warned
from localdistill.exporters import gguf as exporter_module
from localdistill.exporters.gguf import GgufExporter
from localdistill.exporters.gguf_parts.divergence import divergences
from localdistill.exporters.gguf_parts.importance import importance_of
from localdistill.exporters.gguf_parts.quantizer import quantize
from localdistill.exporters.gguf_parts.reference import Reference
from localdistill.exporters.gguf_parts.writer import convert_to_gguf
from localdistill.exporters.job import ExportJob
from localdistill.exporters.ollama import OllamaExporter
from localdistill.exporters.parity_report import PARITY_FILE, ParityReport
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.gguf_header import read_header
from localdistill.modelfiles.loading import load_causal_model
from localdistill.modelfiles.trained import TrainedModel, TrainedRow, logprobs_streamed
from tests.tiny_models import tiny_model

torch = pytest.importorskip("torch")
pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
pytest.importorskip("transformers")
ROWS = [[(7 * place + row) % 390 + 3 for place in range(length)] for row, length in enumerate((200, 60, 33, 64))]
"""Of several lengths, one longer than what is watched at once."""


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model some of whose channels are far larger than others, as those of trained models are."""
    from safetensors.torch import load_file, save_file

    folder = tiny_model(tmp_path_factory.mktemp("uneven"), hidden=256)
    tensors, chance = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(1)
    for name, tensor in tensors.items():
        if name.endswith("layernorm.weight"):
            tensors[name] = torch.exp(torch.randn(tensor.shape, generator=chance) * 1.5)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def by_hand(folder: Path, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Mean squares of what goes into the linear layers, seen in torch, by the names of the checkpoint."""
    model = load_causal_model(ModelFolder.open(folder), torch.float32, torch.device("cpu"))
    sums, count = dict[str, Any](), 0
    for name, layer in model.model.named_modules():
        if isinstance(layer, torch.nn.Linear):
            def add(_: Any, given: Any, name: str = name) -> None:
                total = given[0][0].double().square().sum(0).numpy()
                sums[name] = sums.get(name, 0) + total

            layer.register_forward_pre_hook(add)
    with torch.no_grad():
        for row in rows:
            model(torch.tensor([list(row)]))
            count += len(row)
    return {name: total / count for name, total in sums.items()}


def test_the_matrix_is_the_one_that_is_computed_by_hand(uneven: Path, tmp_path: Path) -> None:
    convert_to_gguf(uneven, tmp_path / "x.gguf", "F32")
    made = importance_of(tmp_path / "x.gguf", ROWS, 10_000, tmp_path / "m.npz", Cancel())
    assert (made.texts, made.tokens) == (4, 357) and made.said == "357 tokens of 4 training rows"
    wanted = by_hand(uneven, ROWS)
    parts = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
             "ffn_down": "mlp.down_proj"}
    with np.load(made.file) as found:
        assert len(found.files) == 2 * len(parts)
        for name in found.files:
            _, block, part, _ = name.split(".")
            assert np.allclose(found[name], wanted[f"layers.{block}.{parts[part]}"], rtol=1e-3), name


def test_no_more_tokens_are_read_than_were_asked_for(uneven: Path, tmp_path: Path) -> None:
    convert_to_gguf(uneven, tmp_path / "x.gguf")
    made = importance_of(tmp_path / "x.gguf", ROWS, 230, tmp_path / "m.npz", Cancel())
    assert (made.texts, made.tokens) == (2, 230)


@pytest.mark.parametrize("kind", ["Q4_K_M", "Q4_0"])
def test_files_that_are_rounded_by_it_are_closer_to_the_16_bit_one(uneven: Path, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "x.gguf"
    convert_to_gguf(uneven, source)
    made = importance_of(source, ROWS[:2], 10_000, tmp_path / "m.npz", Cancel())
    files = {"plain": tmp_path / "plain.gguf", "weighed": tmp_path / "weighed.gguf"}
    quantize(source, files["plain"], kind, Cancel())
    quantize(source, files["weighed"], kind, Cancel(), made)
    found = {name: one.kl for name, one in divergences(source, files, ROWS[2:], Cancel())}
    assert found["weighed"] < 0.95 * found["plain"], found
    said = [read_header(file).metadata.get("quantize.imatrix.dataset") for file in files.values()]
    assert said == [None, "260 tokens of 2 training rows"]


def test_how_many_rows_are_quantized_at_once_changes_nothing(uneven: Path, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    convert_to_gguf(uneven, tmp_path / "x.gguf")
    quantize(tmp_path / "x.gguf", tmp_path / "whole.gguf", "Q4_K_M", Cancel())
    monkeypatch.setattr(BORDERS, "quantized_bytes", 20_000)
    quantize(tmp_path / "x.gguf", tmp_path / "pieces.gguf", "Q4_K_M", Cancel())
    assert (tmp_path / "whole.gguf").read_bytes() == (tmp_path / "pieces.gguf").read_bytes()


def export(folder: Path, output: Path, others: Callable[[], Sequence[Sequence[int]]]) -> list[Event]:
    """The events of an export to Q4_K_M by an importance matrix, with its Modelfile."""
    reference = Reference(folder, False)

    def logprobs(rows: Sequence[TrainedRow], cancel: Cancel) -> list[Any]:
        return logprobs_streamed(reference.model, rows, cancel)

    trained = TrainedModel((TrainedRow(tuple(ROWS[2]), (1.0,) * len(ROWS[2])),), logprobs, others=others)
    options = GgufExporter.Options(quants=("Q4_K_M", "Q8_0"), greedy_tokens=2, parity_prompts=("Hi",), imatrix=True)
    events: list[Event] = []
    job = ExportJob(folder, output, "mine", False, trained=trained)
    GgufExporter(options).export(job, events.append, Cancel())
    OllamaExporter(OllamaExporter.Options(quant="Q4_K_M")).export(job, events.append, Cancel())
    return events


def test_card_report_and_modelfile_say_what_the_matrix_rests_on(uneven: Path, tmp_path: Path) -> None:
    events = export(uneven, tmp_path, lambda: ROWS[:2])
    said = "importance matrix from 260 tokens of 2 training rows"
    assert said in [event.text for event in events if isinstance(event, Noted)]
    report = ParityReport.from_bytes((tmp_path / PARITY_FILE).read_bytes(), PARITY_FILE)
    assert {file.name: file.weighed for file in report.files} == {
        "mine-Q4_K_M.gguf": "260 tokens of 2 training rows", "mine-Q8_0.gguf": ""}
    card = (tmp_path / "README.md").read_text()
    assert card.count(f"rounded by an {said}") == 1
    assert said in (tmp_path / "Modelfile").read_text()
    assert not list(tmp_path.glob(".scratch*"))


def test_a_matrix_that_cannot_be_measured_costs_no_file(uneven: Path, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    [warned] = [event for event in export(uneven, tmp_path / "a", tuple) if isinstance(event, Warned)]
    assert "without an importance matrix: there are no training rows" in warned.text
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(b"GGUF")
    monkeypatch.setattr(exporter_module, "importance_of", lambda source, *rest: importance_of(cut, *rest))
    [warned] = [event for event in export(uneven, tmp_path / "b", lambda: ROWS) if isinstance(event, Warned)]
    assert "without an importance matrix: measuring which weights matter failed" in warned.text
    for name in ("a", "b"):
        assert (tmp_path / name / "mine-Q4_K_M.gguf").is_file()
        assert "importance matrix" not in (tmp_path / name / "README.md").read_text()
