"""The parity gate passes honest files of every family and names what is wrong with dishonest ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import LocalDistillError
from localdistill.core.events import Cancel, silent
from localdistill.exporters import parity as parity_module
from localdistill.exporters.gguf_parts import writer
from localdistill.exporters.gguf_parts.corpus import STRINGS, parity_strings
from localdistill.exporters.gguf_parts.hyper_parameters import HyperParameters
from localdistill.exporters.gguf_parts.llama_client import ChildKilled
from localdistill.exporters.gguf_parts.vocabulary import StopNames
from localdistill.exporters.gguf_parts.writer import convert_to_gguf
from localdistill.exporters.parity import ParityItem, ParityReport, check_parity
from localdistill.modelfiles.architectures.rope import Rope
from localdistill.modelfiles.trained import TrainedModel, TrainedRow
from localdistill.trainers.merge import merge
from localdistill.trainers.torch_lora import TorchLoraTrainer
from tests.tiny_models import CHAT_TEMPLATE, KINDS, OPENING_TEMPLATE, PLAIN_TEMPLATE, tiny_model, tiny_of
from tests.trainers.rows import job, random_rows

pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
pytest.importorskip("transformers")


def gate(folder: Path, thinks: bool | None = None, stored_thinks: bool | None = None) -> ParityReport:
    file = folder / "model.gguf"
    convert_to_gguf(folder, file, thinks=thinks if stored_thinks is None else stored_thinks)
    return check_parity(folder, file, Cancel(), thinks=thinks)


def failed(report: ParityReport) -> list[str]:
    return [item.name for item in report.items if not item.passed]


def edit_json(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


@pytest.mark.parametrize(("arch", "tied", "overrides"), [
    ("llama", True, {}),
    ("llama", False, {"attention_bias": True, "head_dim": 32, "rope_theta": 50_000.0}),
    ("llama", True, {"rope_parameters": {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0,
                                         "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                         "original_max_position_embeddings": 64}}),
    ("llama", True, {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}}),
    ("qwen2", True, {}),
    ("qwen2", False, {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0,
                                          "original_max_position_embeddings": 128}}),
    ("mistral", True, {"sliding_window": None}),
    ("mistral", False, {"sliding_window": 512, "head_dim": 32}),
    ("qwen3", True, {}),
    ("qwen3", False, {"rms_norm_eps": 1e-5}),
])
def test_honest_files_pass(tmp_path: Path, arch: str, tied: bool, overrides: dict[str, Any]) -> None:
    report = gate(tiny_model(tmp_path, arch, tied=tied, **overrides))
    assert failed(report) == [], report.to_json()
    assert [item.name for item in report.items] == [
        "token_ids", "chat_template", "bos", "prompt_ids", "stop_tokens", "top1", "kl", "margin_error", "greedy",
        "stop_place"]
    assert report.compute == "float32"
    report.require()


def test_bfloat16_weights_pass(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = tiny_model(tmp_path, "qwen2")
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    assert failed(gate(folder)) == []


def test_padded_vocabulary_passes(tmp_path: Path) -> None:
    assert failed(gate(tiny_model(tmp_path, "llama", vocab_size=448))) == []


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, OPENING_TEMPLATE, PLAIN_TEMPLATE])
@pytest.mark.parametrize("thinks", [True, False])
def test_the_stored_template_prompts_as_in_training(tmp_path: Path, template: str, thinks: bool) -> None:
    folder = tiny_model(tmp_path, "llama", chat_template=template)
    assert failed(gate(folder, thinks=thinks)) == []


def test_unpermuted_query_rows_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HyperParameters, "rotated_heads", lambda self, name: 0)
    report = gate(tiny_model(tmp_path, "llama"))
    assert "kl" in failed(report)
    with pytest.raises(LocalDistillError, match="kl \\(mean KL"):
        report.require()


def rotating(pairs: bool) -> Callable[[HyperParameters], HyperParameters]:
    return lambda made: replace(made, kind=replace(made.kind, rotates_pairs=pairs))


PLANTED: dict[str, tuple[str, Callable[[HyperParameters], HyperParameters]]] = {
    "llama: another base of the rotation": ("llama", lambda made: replace(made, rope=replace(made.rope, base=9e3))),
    "llama: no divisors of the frequencies": ("llama", lambda made: replace(made, rope=Rope(made.rope.base))),
    "qwen2: another base of the rotation": ("qwen2", lambda made: replace(made, rope=Rope(2e4))),
    "qwen3: pairs are rotated": ("qwen3", rotating(True)),
    "mistral: halves are rotated": ("mistral", rotating(False)),
    "ministral: another epsilon": ("ministral", lambda made: replace(made, rms_eps=1e-2)),
    "smollm3: halves are rotated": ("smollm3", rotating(False)),
    "phi3: factors of long texts": ("phi3", lambda made: replace(made, rope=replace(
        made.rope, short_factors=made.rope.long_factors))),
    "phi3: all of a head is rotated": ("phi3", lambda made: replace(made, rope=Rope(made.rope.base))),
    "gemma2: norms from zero": ("gemma2", lambda made: replace(made, kind=replace(made.kind, norms_add_one=False))),
    "gemma2: other caps": ("gemma2", lambda made: replace(made, facts={
        **made.facts, "final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0})),
    "gemma3: no window": ("gemma3_text", lambda made: replace(made, facts={})),
    "gemma3: another base of the rotation": ("gemma3_text", lambda made: replace(made, rope=Rope(20.0))),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_what_is_special_about_a_kind_and_left_out_of_the_file_is_found(
        fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arch, change = PLANTED[fault]
    read = writer.read_hyper_parameters
    monkeypatch.setattr(writer, "read_hyper_parameters", lambda *given: change(read(*given)))
    folder = tiny_of(KINDS[arch], tmp_path)
    convert_to_gguf(folder, tmp_path / "model.gguf", used_tokens=64)
    report = check_parity(folder, tmp_path / "model.gguf", Cancel(), prompts=("plums " * 40, "Hi"), greedy_tokens=2)
    assert "kl" in failed(report), report.to_json()


def test_a_template_for_the_other_kind_of_student_is_found(tmp_path: Path) -> None:
    report = gate(tiny_model(tmp_path, "llama"), thinks=False, stored_thinks=True)
    assert failed(report) == ["chat_template"] and report.compute == "not computed"
    with pytest.raises(LocalDistillError, match="chat_template"):
        report.require()


def test_a_changed_template_is_found(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, "llama")
    convert_to_gguf(folder, tmp_path / "model.gguf")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE.replace("assistant", "helper"))
    assert "chat_template" in failed(check_parity(folder, tmp_path / "model.gguf", Cancel()))


def test_a_wrong_pre_tokenizer_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localdistill.exporters.gguf_parts.tokenizer_kinds.detect_pre_tokenizer", lambda data: "smollm")
    report = gate(tiny_model(tmp_path, "llama"))
    assert "token_ids" in failed(report)
    assert "strings differ" in report.items[0].detail


def test_a_second_bos_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_model(tmp_path, "llama")
    edit_json(folder / "tokenizer_config.json", lambda data: data.update(bos_token="<|endoftext|>"))
    original = writer._add_vocabulary

    def with_bos(target: Any, vocabulary: Any) -> None:
        original(target, vocabulary)
        target.kv_data[0]["tokenizer.ggml.add_bos_token"].value = True

    monkeypatch.setattr(writer, "_add_vocabulary", with_bos)
    assert {"bos", "prompt_ids"} <= set(failed(gate(folder)))


def add_bos(data: dict[str, Any]) -> None:
    data["post_processor"] = {
        "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
                                                 {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
    }


@pytest.mark.parametrize("prefix", ["", "{{ bos_token }}"])
def test_a_tokenizer_with_bos_gets_exactly_one(tmp_path: Path, prefix: str) -> None:
    folder = tiny_model(tmp_path, "llama", chat_template=prefix + CHAT_TEMPLATE)
    edit_json(folder / "tokenizer.json", add_bos)
    edit_json(folder / "tokenizer_config.json", lambda data: data.update(bos_token="<|endoftext|>"))
    report = gate(folder)
    assert failed(report) == []
    assert next(item.figure for item in report.items if item.name == "bos") == 1


def test_other_weights_are_found(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "a", "qwen3", seed=0)
    convert_to_gguf(folder, tmp_path / "model.gguf")
    other = tiny_model(tmp_path / "b", "qwen3", seed=1)
    assert {"top1", "kl"} <= set(failed(check_parity(other, tmp_path / "model.gguf", Cancel())))


@pytest.mark.parametrize("name", ["bos_token", "eos_token"])
def test_a_token_that_the_template_names_and_the_folder_lacks_is_nothing_when_served(tmp_path: Path, name: str) -> None:
    folder = tiny_model(tmp_path, "llama", chat_template="{{ " + name + " }}" + CHAT_TEMPLATE)
    edit_json(folder / "tokenizer_config.json", lambda data: data.pop(name))
    assert failed(gate(folder)) == []


def test_a_template_that_takes_another_end_of_text_than_the_file_names_is_found(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_model(tmp_path, "llama", chat_template=CHAT_TEMPLATE.replace("<|im_end|>", "{{ eos_token }}"))
    monkeypatch.setattr("localdistill.exporters.gguf_parts.vocabulary._stop_names",
                        lambda stops, tokens, eos: StopNames(2, 0, None, (2, 0)))
    assert failed(gate(folder)) == ["chat_template"]


def trained_student(folder: Path, **options: Any) -> TrainedModel:
    """A tiny student with an adapter that was trained on random rows."""
    rows = random_rows(6)
    student = tiny_model(folder / "student", "llama", tied=False)
    made = {"rank": 4, "learning_rate": 2e-2, "epochs": 4, "dtype": "float32", "device": "cpu", **options}
    trainer = TorchLoraTrainer(TorchLoraTrainer.Options(**made))
    trainer.train(job(student, folder / "out", rows), silent, Cancel())
    return TrainedModel(tuple(TrainedRow(tuple(row["input_ids"]), tuple(row["weights"])) for row in rows),
                        partial(trainer.logprobs, student, folder / "out"),
                        trainer.served(student, folder / "out").held)


def compared(trained: TrainedModel, merged: Path) -> ParityItem:
    """The gate's line on the trained model."""
    convert_to_gguf(merged, merged / "model.gguf")
    report = check_parity(merged, merged / "model.gguf", Cancel(), trained=trained, greedy_tokens=2)
    return next(item for item in report.items if item.name == "trained")


def test_the_merged_model_is_compared_with_the_trained_one(tmp_path: Path) -> None:
    trained = trained_student(tmp_path)
    item = compared(trained, merge(tmp_path / "student", tmp_path / "out" / "adapter", tmp_path / "merged").path)
    assert item.passed and item.figure < 1e-3, item
    assert "as trained" in item.detail and f"of {len(trained.rows)} rows" in item.detail
    forgotten = compared(trained, merge(tmp_path / "student", None, tmp_path / "base").path)
    assert not forgotten.passed and forgotten.figure > forgotten.threshold == 0.1


def test_a_model_trained_on_quantized_weights_is_compared_and_named_as_such(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    trained = trained_student(tmp_path, quantization="nf4")
    item = compared(trained, merge(tmp_path / "student", tmp_path / "out" / "adapter", tmp_path / "merged").path)
    assert item.figure > 1e-4 and item.threshold == 1.0
    assert "trained on NF4 weights, merged into the full ones" in item.detail


def test_memory_that_runs_out_while_logits_are_compared_costs_no_file(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_model(tmp_path, "llama")
    convert_to_gguf(folder, tmp_path / "model.gguf")
    real = parity_module.run_llama

    def killed(job: dict[str, Any], what: str, cancel: Cancel) -> dict[str, Any]:
        if job["action"] == "compute":
            raise ChildKilled("no memory")
        return real(job, what, cancel)

    monkeypatch.setattr(parity_module, "run_llama", killed)
    report = check_parity(folder, tmp_path / "model.gguf", Cancel())
    assert report.passed and report.compute == "not computed"
    assert report.items[-1].detail == "not compared: memory ran out"
    monkeypatch.setattr(parity_module, "run_llama", real)

    def broken(*_: Any) -> None:
        raise RuntimeError("a fault of another kind")

    monkeypatch.setattr(parity_module, "_computed", broken)
    with pytest.raises(RuntimeError, match="another kind"):
        check_parity(folder, tmp_path / "model.gguf", Cancel())


def test_given_strings_and_prompts_are_used(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, "llama")
    convert_to_gguf(folder, tmp_path / "model.gguf")
    report = check_parity(folder, tmp_path / "model.gguf", Cancel(), strings=("zebra-only",), prompts=("Hi",),
                          greedy_tokens=4)
    figures = {item.name: item.detail for item in report.items}
    assert f"{STRINGS + 1} strings" in figures["token_ids"] and "1 of 1 continuations" in figures["greedy"]


def test_the_report_is_written_as_json(tmp_path: Path) -> None:
    report = gate(tiny_model(tmp_path, "llama"))
    report.write(tmp_path / "parity.json")
    data = json.loads((tmp_path / "parity.json").read_text())
    assert data["passed"] is True and {"name", "passed", "figure", "threshold", "detail"} == set(data["items"][0])


def test_the_corpus_is_large_fixed_and_holds_added_tokens() -> None:
    strings = parity_strings(["<think>"], ["given"])
    assert strings == parity_strings(["<think>"], ["given"]) and len(set(strings)) == len(strings) >= STRINGS
    assert strings[0] == "given" and "a<think>b" in strings
    assert any("\n\n" in text for text in strings) and any(not text.isascii() for text in strings)
