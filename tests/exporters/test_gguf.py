"""The GGUF exporter: files, headers, quantizing, failures that leave nothing, and inputs that are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localdistill.core.borders import BORDERS
from localdistill.core.errors import Cancelled, LocalDistillError, ModelFileError
from localdistill.core.events import Cancel, Event, Noted, Warned, silent
from localdistill.exporters import EXPORTERS
from localdistill.exporters import gguf as exporter_module
from localdistill.exporters.gguf import GgufExporter, convert_to_gguf
from localdistill.exporters.gguf_parts import llama_client as child
from localdistill.exporters.gguf_parts import quantizer
from localdistill.exporters.gguf_parts.quantizer import quantize
from localdistill.exporters.gguf_parts.tokenizer_kinds import (
    SPLIT_ONE_DIGIT,
    SPLIT_THREE_DIGITS,
    detect_pre_tokenizer,
)
from localdistill.exporters.gguf_parts.vocabulary import STOPS_BY_NAME
from localdistill.exporters.job import ExportJob, ExportPlan
from localdistill.exporters.parity import check_parity
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.gguf_header import read_header
from localdistill.safety.scrubbing import scrub
from localdistill.scorecard import (
    ContestantResult,
    FileChoice,
    FileStanding,
    ItemResult,
    ScoreCard,
    build_forms_card,
)
from tests.helpers import files_of_at_most
from tests.tiny_models import CHAT_TEMPLATE, PLAIN_TEMPLATE, edit_json, tiny_model

pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("merged"), "llama", hidden=128)


def job_of(merged: Path, output: Path, **card: Any) -> ExportJob:
    facts = {"base_model": "hf://org/base@main", "arm": "a", "licences": ["MIT"], **card}
    return ExportJob(merged, output, "student", False, facts)


def export(job: ExportJob, *quants: str) -> list[Path]:
    options = GgufExporter.Options.model_validate({"quants": quants or ("F16", "Q8_0", "Q4_K_M"), "greedy_tokens": 4})
    return GgufExporter(options).export(job, silent, Cancel())


def models_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*.gguf*"))


def test_all_files_appear_complete(merged: Path, tmp_path: Path) -> None:
    paths = export(job_of(merged, tmp_path))
    assert [path.name for path in paths] == [
        "student-F16.gguf", "student-Q8_0.gguf", "student-Q4_K_M.gguf", "parity.json", "README.md", "SHA256SUMS"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(path.name for path in paths)
    types = [read_header(path).metadata["general.file_type"] for path in paths[:3]]
    assert types == [1, 7, 15]
    for line in (tmp_path / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    assert json.loads((tmp_path / "parity.json").read_text())["passed"] is True


def test_f16_is_only_kept_when_wanted(merged: Path, tmp_path: Path) -> None:
    export(job_of(merged, tmp_path), "Q8_0")
    assert models_in(tmp_path) == ["student-Q8_0.gguf"]


def test_the_header_says_what_the_model_is(merged: Path, tmp_path: Path) -> None:
    convert_to_gguf(merged, tmp_path / "x.gguf", name="my student", facts={"license": "MIT"})
    header = read_header(tmp_path / "x.gguf")
    said = header.metadata
    assert [said[f"general.{key}"] for key in ("architecture", "name", "license")] == ["llama", "my student", "MIT"]
    sizes = ("block_count", "embedding_length", "attention.head_count", "attention.head_count_kv")
    assert [said[f"llama.{key}"] for key in sizes] == [2, 128, 4, 2]
    assert said["llama.attention.key_length"] == said["llama.rope.dimension_count"] == 32
    assert (said["tokenizer.ggml.model"], said["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    assert said["tokenizer.ggml.add_bos_token"] is False and said["tokenizer.ggml.add_space_prefix"] is False
    assert said["tokenizer.chat_template"] == (merged / "chat_template.jinja").read_text()
    kinds = {tensor.name: tensor.type for tensor in header.tensors}
    assert kinds["blk.0.attn_q.weight"] == "F16" and kinds["blk.0.attn_norm.weight"] == "F32"
    assert "output.weight" not in kinds


def test_token_types(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m", "llama", vocab_size=410)
    convert_to_gguf(folder, tmp_path / "x.gguf")
    said = read_header(tmp_path / "x.gguf").metadata
    tokens, types = said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"]
    assert isinstance(tokens, list) and isinstance(types, list) and len(tokens) == len(types) == 410
    kind = dict(zip(tokens, types))
    assert kind["<|im_end|>"] == 3 and kind["<think>"] == 4 and kind["a"] == 1 and types[-1] == 5
    assert said["tokenizer.ggml.eos_token_id"] == tokens.index("<|im_end|>")


@pytest.mark.parametrize("file_type", ["F32", "BF16", "Q8_0"])
def test_other_file_types_hold_the_weights(merged: Path, tmp_path: Path, file_type: Any) -> None:
    from gguf import GGUFReader, quants
    from safetensors.numpy import load_file

    convert_to_gguf(merged, tmp_path / "x.gguf", file_type)
    tensor = next(t for t in GGUFReader(tmp_path / "x.gguf").tensors if t.name == "blk.1.ffn_down.weight")
    assert tensor.tensor_type.name == file_type
    found = quants.dequantize(tensor.data, tensor.tensor_type)
    wanted = load_file(merged / "model.safetensors")["model.layers.1.mlp.down_proj.weight"]
    limit = {"F32": 0.0, "BF16": 0.004, "Q8_0": 0.01}[file_type]
    assert np.abs(found - wanted).max() <= limit * np.abs(wanted).max()


def test_large_tensors_are_converted_in_pieces(merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert_to_gguf(merged, tmp_path / "whole.gguf", name="x")
    monkeypatch.setattr(BORDERS, "weight_values", 1000)
    convert_to_gguf(merged, tmp_path / "pieces.gguf", name="x")
    assert (tmp_path / "whole.gguf").read_bytes() == (tmp_path / "pieces.gguf").read_bytes()


def test_nothing_exported_names_a_machine(merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = "workbench-7"
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    card = {"data": f"/home/someone/data/rows.jsonl on {host}", "server": "http://127.0.0.1:8000/v1 and http://10.0.0.7/x",
            "note": "see https://example.org/a/b", "nested": {"path": "C:\\Users\\someone\\x.json"}}
    paths = export(job_of(merged, tmp_path, **card), "F16", "Q8_0")
    for path in paths:
        content = path.read_bytes()
        for secret in (str(tmp_path), str(merged), "/home/someone", "127.0.0.1", "10.0.0.7", "Users", host):
            assert secret.encode() not in content, (path.name, secret)
    text = (tmp_path / "README.md").read_text()
    assert "rows.jsonl" in text and "https://example.org/a/b" in text
    assert text.startswith('---\nbase_model: "org/base"\n')


def test_scrub_leaves_ordinary_text() -> None:
    for text in ("GSM8K/MATH", "a/b/c", "1/2 and 3/4", "https://huggingface.co/org/model", "MIT", "base @ 50%"):
        assert scrub(text) == text


def test_a_failed_gate_leaves_no_model(merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localdistill.exporters.gguf_parts.tokenizer_kinds.detect_pre_tokenizer", lambda data: "smollm")
    with pytest.raises(LocalDistillError, match="token_ids"):
        export(job_of(merged, tmp_path))
    assert models_in(tmp_path) == []
    assert json.loads((tmp_path / "parity.json").read_text())["passed"] is False


def test_a_full_disk_while_converting_leaves_nothing(merged: Path, tmp_path: Path) -> None:
    with files_of_at_most(200_000), pytest.raises(LocalDistillError, match=r"\.partial cannot be written"):
        export(job_of(merged, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_while_quantizing_leaves_nothing(merged: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in.gguf", tmp_path / "out.gguf"
    convert_to_gguf(merged, source)
    with files_of_at_most(100_000), pytest.raises(LocalDistillError, match="quantizing to Q8_0 failed"):
        quantize(source, output, "Q8_0", Cancel())
    assert models_in(tmp_path) == ["in.gguf"]


def test_a_killed_quantizer_is_one_clear_error(merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert_to_gguf(merged, tmp_path / "in.gguf")
    real = child._wait

    def kill_first(process: Any, cancel: Cancel) -> int:
        process.kill()
        return real(process, cancel)

    monkeypatch.setattr(child, "_wait", kill_first)
    with pytest.raises(LocalDistillError, match=r"quantizing to Q8_0 failed.*SIGKILL"):
        quantize(tmp_path / "in.gguf", tmp_path / "out.gguf", "Q8_0", Cancel())
    assert models_in(tmp_path) == ["in.gguf"]


def test_a_quantizer_that_writes_too_little_is_found(merged: Path, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    convert_to_gguf(merged, tmp_path / "in.gguf")

    def half(task: dict[str, Any], what: str, cancel: Cancel) -> dict[str, Any]:
        content = Path(task["model"]).read_bytes()
        Path(task["output"]).write_bytes(content[:len(content) // 2])
        return {"code": 0}

    monkeypatch.setattr(quantizer, "run_llama", half)
    with pytest.raises(ModelFileError):
        quantize(tmp_path / "in.gguf", tmp_path / "out.gguf", "Q8_0", Cancel())
    assert models_in(tmp_path) == ["in.gguf"]


def test_the_second_quant_failing_removes_the_first(merged: Path, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    def second_fails(source: Path, output: Path, kind: str, *rest: Any) -> None:
        if kind == "Q4_K_M":
            raise LocalDistillError("no")
        quantize(source, output, kind, *rest)

    monkeypatch.setattr(exporter_module, "quantize", second_fails)
    with pytest.raises(LocalDistillError, match="no"):
        export(job_of(merged, tmp_path))
    assert models_in(tmp_path) == []


def test_cancelling_leaves_nothing(merged: Path, tmp_path: Path) -> None:
    seen: list[Event] = []
    exporter = GgufExporter(GgufExporter.Options())
    with pytest.raises(Cancelled):
        exporter.export(job_of(merged, tmp_path), seen.append, Cancel(lambda: len(seen) > 3))
    assert models_in(tmp_path) == []


def test_too_little_space_is_said_before_anything_is_written(merged: Path, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    usage: Any = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(exporter_module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(LocalDistillError, match="the export needs about"):
        export(job_of(merged, tmp_path))
    usage.free = int(1.5 * 2 * ModelFolder.open(merged).parameter_count)
    parts = GgufExporter(GgufExporter.Options(quants=("F16",), split_gb=1.0))
    with pytest.raises(LocalDistillError, match="the export needs about"):
        parts.export(job_of(merged, tmp_path), silent, Cancel())
    assert list(tmp_path.iterdir()) == []


def edited(merged: Path, folder: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> Path:
    folder.mkdir()
    for file in merged.iterdir():
        if file.is_file():
            (folder / file.name).write_bytes(file.read_bytes())
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))
    return folder


@pytest.mark.parametrize(("name", "change", "message"), [
    ("config.json", lambda data: data.update(architectures=["MistralForCausalLM"], model_type="mistral",
                                             sliding_window=100), "a sliding window of 100"),
    ("config.json", lambda data: data.update(hidden_act="gelu"), "hidden_act"),
    ("config.json", lambda data: data.update(rope_parameters={"rope_type": "longrope"}), "longrope"),
    ("config.json", lambda data: data.update(num_hidden_layers=3), "num_hidden_layers says 3"),
    ("config.json", lambda data: data.update(num_hidden_layers=1), "num_hidden_layers says 1"),
    ("config.json", lambda data: data.update(intermediate_size=100), "it means model.layers.0.mlp.gate_proj"),
    ("config.json", lambda data: data.pop("intermediate_size"), "lacks intermediate_size"),
    ("config.json", lambda data: data.update(vocab_size=300), "it means model.embed_tokens"),
    ("tokenizer.json", lambda data: data["added_tokens"][0].update(rstrip=True), "has rstrip"),
    ("tokenizer.json", lambda data: data.update(normalizer={"type": "Lowercase"}), "Lowercase"),
    ("tokenizer.json", lambda data: data["model"].update(type="Unigram", vocab=[["a", 0.0]]), "does not put blanks"),
    ("tokenizer.json", lambda data: data.update(pre_tokenizer={"type": "Whitespace"}), "ByteLevel"),
])
def test_models_that_gguf_could_not_say_exactly_are_refused(
        merged: Path, tmp_path: Path, name: str, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    folder = edited(merged, tmp_path / "m", name, change)
    with pytest.raises(ModelFileError, match=message):
        convert_to_gguf(folder, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize(("window", "used", "context"), [
    (None, 0, 512), (512, 0, 512), (9000, 0, 512), (100, 100, 100), (100, 40, 100),
])
def test_a_window_that_is_never_reached_is_left_out_and_bounds_the_context(
        tmp_path: Path, window: int | None, used: int, context: int) -> None:
    folder = tiny_model(tmp_path / "m", "mistral", sliding_window=window)
    convert_to_gguf(folder, tmp_path / "x.gguf", used_tokens=used)
    said = read_header(tmp_path / "x.gguf").metadata
    assert (said["general.architecture"], said["llama.context_length"]) == ("llama", context)


def test_a_window_that_is_reached_is_refused_with_what_helps(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "m", "mistral", sliding_window=100)
    for used in (0, 101):
        with pytest.raises(ModelFileError, match="a sliding window of 100") as caught:
            convert_to_gguf(folder, tmp_path / "x.gguf", used_tokens=used)
        assert "max_tokens to at most 100" in caught.value.hint


@pytest.mark.parametrize(("arch", "told", "message"), [
    ("mistral", {"sliding_window": 100}, "sliding window"),
    ("qwen2", {"sliding_window": 100, "use_sliding_window": True, "max_window_layers": 0}, "sliding window"),
    ("qwen3", {"attention_bias": True}, "a bias that llama.cpp does not know"),
])
def test_the_check_before_training_refuses_what_an_export_would_refuse(
        tmp_path: Path, arch: str, told: dict[str, Any], message: str) -> None:
    folder = tiny_model(tmp_path / "m", arch, **told)
    exporter = GgufExporter(GgufExporter.Options())
    with pytest.raises(ModelFileError, match=message):
        exporter.check(ExportPlan(folder, False, 400))
    with pytest.raises(ModelFileError, match=message):
        export(job_of(folder, tmp_path / "out", num_ctx=400), "F16")
    assert models_in(tmp_path / "out") == []


def with_stops(folder: Path, *stated: str, eos: str = "", template: str = CHAT_TEMPLATE) -> Path:
    """A student whose vocabulary has more tokens that may end something, of which `stated` end generation."""
    from tokenizers import Tokenizer

    tiny_model(folder, "llama", vocab_size=410)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|eom_id|>", "<stop a>", "<stop b>", *STOPS_BY_NAME])
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = [tokenizer.token_to_id(token) for token in stated]
    edit_json(folder / "generation_config.json", eos_token_id=ids)
    edit_json(folder / "config.json", eos_token_id=ids)
    edit_json(folder / "tokenizer_config.json", eos_token=eos or stated[0])
    (folder / "chat_template.jinja").write_text(template)
    return folder


NAMED = PLAIN_TEMPLATE.replace("<|im_end|>", "{{ eos_token }}")


@pytest.mark.parametrize(("stated", "eos", "template", "text", "turn", "message"), [
    (["<|im_end|>"], "", PLAIN_TEMPLATE, "<|im_end|>", "<|im_end|>", None),
    (["<|endoftext|>", "<|im_end|>"], "", PLAIN_TEMPLATE, "<|endoftext|>", "<|im_end|>", None),
    (["<|im_end|>", "<|endoftext|>"], "", PLAIN_TEMPLATE, "<|endoftext|>", "<|im_end|>", None),
    (["<|endoftext|>", "<|eom_id|>", "<|im_end|>"], "", PLAIN_TEMPLATE, "<|endoftext|>", "<|im_end|>", "<|eom_id|>"),
    (["<|eom_id|>", "<|im_end|>", "<|endoftext|>"], "", PLAIN_TEMPLATE, "<|endoftext|>", "<|im_end|>", "<|eom_id|>"),
    (["<|im_end|>", "<stop a>", "<|endoftext|>"], "", PLAIN_TEMPLATE, "<stop a>", "<|im_end|>", "<|endoftext|>"),
    (["<|endoftext|>", "<stop a>"], "<stop a>", NAMED, "<stop a>", "<stop a>", "<|endoftext|>"),
])
def test_tokens_that_end_are_named_by_what_they_end(
        tmp_path: Path, stated: list[str], eos: str, template: str, text: str, turn: str, message: str | None) -> None:
    folder = with_stops(tmp_path / "m", *stated, eos=eos, template=template)
    convert_to_gguf(folder, tmp_path / "x.gguf")
    said = read_header(tmp_path / "x.gguf").metadata
    tokens = said["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    found = [said.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    assert [None if token is None else tokens[int(str(token))] for token in found] == [text, turn, message]
    every = said["tokenizer.ggml.eos_token_ids"]
    assert isinstance(every, list) and {tokens[token] for token in every} == set(stated)
    report = check_parity(folder, tmp_path / "x.gguf", Cancel(), greedy_tokens=4)
    assert report.passed, report.to_json()


def test_more_stop_tokens_than_there_are_names_are_refused_unless_llama_cpp_knows_them(tmp_path: Path) -> None:
    known = with_stops(tmp_path / "known", "<stop a>", *STOPS_BY_NAME)
    convert_to_gguf(known, tmp_path / "x.gguf")
    assert check_parity(known, tmp_path / "x.gguf", Cancel(), greedy_tokens=4).passed
    folder = with_stops(tmp_path / "m", "<|im_end|>", "<stop a>", "<stop b>", "<think>")
    with pytest.raises(ModelFileError, match="4 tokens end generation"):
        convert_to_gguf(folder, tmp_path / "y.gguf")


def with_a_large_weight(folder: Path) -> Path:
    from safetensors.numpy import load_file, save_file

    tiny_model(folder, "llama")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_file_of_f16_refuses_values_beyond_it(tmp_path: Path) -> None:
    folder = with_a_large_weight(tmp_path / "m")
    with pytest.raises(ModelFileError, match=r"up_proj\.weight' is too large for F16"):
        convert_to_gguf(folder, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()
    convert_to_gguf(folder, tmp_path / "x.gguf", "BF16")


def test_an_export_takes_bf16_where_a_weight_is_too_large_for_f16(tmp_path: Path) -> None:
    folder, events = with_a_large_weight(tmp_path / "m"), list[Event]()
    options = GgufExporter.Options.model_validate({"quants": ["F16", "Q8_0"], "greedy_tokens": 2})
    made = GgufExporter(options).export(job_of(folder, tmp_path / "out"), events.append, Cancel())
    assert [file.name for file in made][:2] == ["student-BF16.gguf", "student-Q8_0.gguf"]
    assert any("the 16-bit file is BF16" in event.text for event in events if isinstance(event, Warned))


def test_bits_per_weight_are_said_and_what_a_type_does_not_fit(tmp_path: Path) -> None:
    folder, events = tiny_model(tmp_path / "m", "llama", hidden=96), list[Event]()
    options = GgufExporter.Options.model_validate({"quants": ["Q4_K_M", "F32"], "greedy_tokens": 2})
    GgufExporter(options).export(job_of(folder, tmp_path / "out"), events.append, Cancel())
    said = [event.text for event in events if isinstance(event, Noted) and "bits per weight" in event.text]
    assert len(said) == 2 and "held in" in said[0] and "blk.0." in said[0], said
    assert "student-F32.gguf: 3" in said[1] and "held in" not in said[1]


@pytest.mark.parametrize(("steps", "ignore_merges", "name"), [
    ([{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}], False, "gpt-2"),
    ([{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}], False, "smollm"),
    ([{"type": "Split", "pattern": {"Regex": SPLIT_ONE_DIGIT}, "behavior": "Isolated", "invert": False},
      {"type": "ByteLevel", "use_regex": False}], False, "qwen2"),
    ([{"type": "Split", "pattern": {"Regex": SPLIT_THREE_DIGITS}, "behavior": "Isolated", "invert": False},
      {"type": "ByteLevel", "use_regex": False}], True, "llama-bpe"),
])
def test_pre_tokenizers_are_known_by_structure(steps: list[dict[str, Any]], ignore_merges: bool, name: str) -> None:
    node = {"type": "Sequence", "pretokenizers": steps}
    assert detect_pre_tokenizer({"pre_tokenizer": node, "model": {"ignore_merges": ignore_merges}}) == name
    steps[0] = {**steps[0], "type": "Metaspace"}
    with pytest.raises(ModelFileError):
        detect_pre_tokenizer({"pre_tokenizer": node})


def test_every_exporter_is_built_from_its_options() -> None:
    for name in EXPORTERS.names():
        member = EXPORTERS.load(name)
        made = member(member.Options())
        assert member.name == name and callable(made.export) and callable(made.check)


def measured_card() -> ScoreCard:
    def form(name: str, right: int) -> ContestantResult:
        items = tuple(ItemResult(f"p{n}", float(n < right), True, False, 3, output=str(n < right)) for n in range(10))
        return ContestantResult(name, 0, "full_trace@1", False, 0, "", items)

    forms = [form("trained", 6), form("merged", 6), form("Q8_0", 4)]
    return build_forms_card(forms, "trained", "stories|odd", "exact", False, "arm 'a'")


class Measured:
    """Notes what it is asked to measure."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.choice: FileChoice | None = None

    def __call__(self, files: Sequence[Path]) -> list[ScoreCard]:
        assert all(read_header(file).tensors for file in files)
        self.seen.append([file.name for file in files])
        self.choice = FileChoice("Q8_0", "F16", 0.05, (FileStanding("Q8_0", 1_000_000, "good", "stories +0.0"),))
        return [measured_card()]


def test_files_are_measured_when_they_are_complete_and_the_card_shows_it(merged: Path, tmp_path: Path) -> None:
    measure = Measured()
    job = dataclasses.replace(job_of(merged, tmp_path), measure=measure)
    export(job, "F16", "Q8_0")
    assert measure.seen == [["student-F16.gguf", "student-Q8_0.gguf"]]
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert any(line.startswith("| stories\\|odd | Q8_0 | 40.0% |") and "| 0 / 2 | 8 of 10 | cannot tell (-20.0 points"
               in line for line in lines), lines
    assert any(line.startswith("| stories\\|odd | trained | 60.0% |") for line in lines)
    assert "- Take Q8_0 (1.0 MB): the smallest file that stays within 5 points of F16 (stories +0.0)." in lines


def test_measuring_can_be_switched_off(merged: Path, tmp_path: Path) -> None:
    measure = Measured()
    job = dataclasses.replace(job_of(merged, tmp_path), measure=measure)
    options = GgufExporter.Options.model_validate({"quants": ("F16",), "greedy_tokens": 4, "measure": False})
    GgufExporter(options).export(job, silent, Cancel())
    assert measure.seen == [] and "The files themselves" not in (tmp_path / "README.md").read_text()


def test_a_cancel_while_measuring_leaves_nothing(merged: Path, tmp_path: Path) -> None:
    class Stopped(Measured):
        def __call__(self, files: Sequence[Path]) -> list[ScoreCard]:
            raise Cancelled("cancelled")

    with pytest.raises(Cancelled):
        export(dataclasses.replace(job_of(merged, tmp_path), measure=Stopped()), "F16", "Q8_0")
    assert models_in(tmp_path) == []


def test_the_card_says_the_strictest_terms(merged: Path, tmp_path: Path) -> None:
    terms = {"strictest": "prohibited", "providers": ["a (prohibited)", "b (allowed)"]}
    export(job_of(merged, tmp_path, terms_of_use=terms), "F16")
    text = (tmp_path / "README.md").read_text()
    assert "| terms of use: strictest | prohibited |" in text
    assert "| terms of use: providers | a (prohibited), b (allowed) |" in text
