"""Every kind of tokenizer that llama.cpp has comes through the gate token by token, and a fault planted in what a file
says of it does not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import ModelFileError
from localdistill.core.events import Cancel
from localdistill.exporters.gguf_parts import writer
from localdistill.exporters.gguf_parts.corpus import parity_strings
from localdistill.exporters.gguf_parts.tokenizer_kinds import (
    SPLIT_CASE,
    SPLIT_CASE_THREE_DIGITS,
    SPLIT_MARKS,
    SPLIT_ONE_DIGIT,
    SPLIT_THREE_DIGITS,
    piece_scores,
    served_name,
    splits_alike,
)
from localdistill.exporters.gguf_parts.vocabulary import StopNames, Vocabulary
from localdistill.exporters.gguf_parts.writer import convert_to_gguf
from localdistill.exporters.parity import check_parity
from localdistill.exporters.parity_report import ParityReport
from localdistill.modelfiles.architectures import ARCHITECTURES
from localdistill.modelfiles.gguf_header import read_header
from tests.tiny_models import PLAIN_TEMPLATE, SPECIAL_TOKENS, TAG_TOKENS, tiny_model, tiny_of
from tests.tiny_tokenizers import PIECES, TEMPLATE

pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")
pytest.importorskip("transformers")
LLAMA = ARCHITECTURES["LlamaForCausalLM"]
SPLITS = {"qwen2": (SPLIT_ONE_DIGIT, False), "qwen35": (SPLIT_MARKS, False), "llama-bpe": (SPLIT_THREE_DIGITS, True),
          "smaug-bpe": (SPLIT_THREE_DIGITS, False), "tekken": (SPLIT_CASE, True),
          "gpt-4o": (SPLIT_CASE_THREE_DIGITS, False)}
Change = Callable[[Vocabulary], Vocabulary]


def by_pieces(folder: Path, which: str, **settings: Any) -> Path:
    return tiny_of(LLAMA, folder, pieces=which, num_hidden_layers=1, **settings)


def split_by(folder: Path, pattern: str, whole: bool) -> Path:
    """A student whose byte-level tokenizer splits by `pattern`, and would join what other patterns leave together."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(parity_strings([]), trainers.BpeTrainer(
        vocab_size=1200, special_tokens=list(SPECIAL_TOKENS), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAG_TOKENS])
    tiny_model(folder, "llama", layers=1, vocab_size=tokenizer.get_vocab_size())
    tokenizer.save(str(folder / "tokenizer.json"))
    data = json.loads((folder / "tokenizer.json").read_text())
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}
    data["model"]["ignore_merges"] = whole
    (folder / "tokenizer.json").write_text(json.dumps(data))
    return folder


def gate(folder: Path, name: str = "student") -> ParityReport:
    convert_to_gguf(folder, folder / "x.gguf", name=name)
    return check_parity(folder, folder / "x.gguf", Cancel(), prompts=("Hi", " two  apples\n", "naïve 東京 12345"),
                        greedy_tokens=2)


def failed(report: ParityReport) -> set[str]:
    return {item.name for item in report.items if not item.passed}


@pytest.mark.parametrize("which", PIECES)
def test_sentencepiece_of_every_kind_passes_the_gate(which: str, tmp_path: Path) -> None:
    report = gate(by_pieces(tmp_path, which))
    assert not failed(report), report.to_json()
    said = read_header(tmp_path / "x.gguf").metadata
    assert said["tokenizer.ggml.model"] == ("t5" if which == "unigram" else "llama")
    assert said["tokenizer.ggml.add_space_prefix"] is (which in ("always", "strips"))


@pytest.mark.parametrize("pre", SPLITS)
def test_byte_level_splits_of_every_kind_pass_the_gate(pre: str, tmp_path: Path) -> None:
    report = gate(split_by(tmp_path, *SPLITS[pre]))
    assert not failed(report), report.to_json()
    assert read_header(tmp_path / "x.gguf").metadata["tokenizer.ggml.pre"] == pre


FAULTS: dict[str, tuple[Change, str]] = {
    "another blank before texts": (
        lambda made: dataclasses.replace(made, space_prefix=not made.space_prefix), "token_ids"),
    "scores upside down": (
        lambda made: dataclasses.replace(made, scores=tuple(-score for score in made.scores)), "token_ids"),
    "another end of text": (
        lambda made: dataclasses.replace(made, stops=StopNames(made.stops.end_of_turn, 9, None, made.stops.all)),
        "chat_template"),
    "another begin": (lambda made: dataclasses.replace(made, bos=9), "prompt_ids"),
    "another template": (
        lambda made: dataclasses.replace(made, chat_template=made.chat_template + " "), "chat_template"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("which", ["always", "never", "unigram"])
def test_a_fault_in_what_the_file_says_is_found(which: str, fault: str, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    folder, (change, shown) = by_pieces(tmp_path, which), FAULTS[fault]
    named = "{{ bos_token }}" + PLAIN_TEMPLATE.replace("<|im_end|>", "{{ eos_token }}")
    (folder / "chat_template.jinja").write_text(named if fault == "another end of text" else TEMPLATE)
    read = writer.read_vocabulary
    monkeypatch.setattr(writer, "read_vocabulary", lambda *given: change(read(*given)))
    assert shown in failed(gate(folder)), fault


@pytest.mark.parametrize("pre", SPLITS)
def test_another_name_of_a_pre_tokenizer_is_found(pre: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, read = split_by(tmp_path, *SPLITS[pre]), writer.read_vocabulary

    def renamed(*given: Any) -> Vocabulary:
        made = read(*given)
        return dataclasses.replace(made, kind=dataclasses.replace(made.kind, pre="smollm"))

    monkeypatch.setattr(writer, "read_vocabulary", renamed)
    assert "token_ids" in failed(gate(folder))


def test_added_tokens_swallow_blanks_by_the_name_of_the_model_and_by_no_other(tmp_path: Path) -> None:
    assert served_name("student", True) == "student (phi-3)" and served_name("My Phi3", True) == "My Phi3"
    assert served_name("phi-3-mine", False) == "phi 3-mine"
    plain = gate(by_pieces(tmp_path / "plain", "always"), "phi-3 of mine")
    assert not failed(plain), "a name does not make tokens swallow blanks that did not in training"
    folder = by_pieces(tmp_path / "strips", "strips")
    assert read_header_name(folder) == "student (phi-3)"


def read_header_name(folder: Path) -> Any:
    convert_to_gguf(folder, folder / "x.gguf", name="student")
    return read_header(folder / "x.gguf").metadata["general.name"]


def test_added_tokens_that_strip_in_another_way_are_refused_before_training(tmp_path: Path) -> None:
    folder = by_pieces(tmp_path, "strips")
    data = json.loads((folder / "tokenizer.json").read_text())
    data["added_tokens"][1]["rstrip"] = True
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ModelFileError, match="has rstrip"):
        writer.require_convertible(folder, None, 0)


def test_a_blank_before_words_that_begin_with_none_is_refused(tmp_path: Path) -> None:
    folder = by_pieces(tmp_path, "first")
    data = json.loads((folder / "tokenizer.json").read_text())
    data["pre_tokenizer"]["prepend_scheme"] = "always"
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ModelFileError, match="does not put blanks into words"):
        writer.require_convertible(folder, None, 0)


def test_texts_that_llama_cpp_is_known_to_split_otherwise_are_left_out_and_counted(tmp_path: Path) -> None:
    assert splits_alike("qwen2", "приВЕТ नमस्ते") and splits_alike("gpt-4o", "camelCase HTTPServer Привет")
    assert not splits_alike("gpt-4o", "приВЕТ") and not splits_alike("tekken", "नमस्ते")
    detail = gate(split_by(tmp_path, *SPLITS["gpt-4o"])).items[0].detail
    assert "left out, which llama.cpp is known to read in another way" in detail


def test_pieces_are_scored_by_the_first_merge_that_makes_them() -> None:
    assert piece_scores(["a", "b", "ab", "aba"], [("a", "b"), ("a", "ba"), ("ab", "a")]) == (-3.0, -3.0, 0.0, -1.0)
