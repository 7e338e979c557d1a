"""The student's tokenizer: specials only where the text has them, offsets that are true, BOS once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.tokenizer import StudentTokenizer
from tests.tiny_models import CHAT_TEMPLATE, edit_json, tiny_model

pytest.importorskip("torch")
TEXTS = ("a farmer has 12 apples", "  two  spaces\n\n", "<think>\nWait</think>\n\n7<|im_end|>\n", "é 😀 日本", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "m", hidden=32)


def with_bos(folder: Path, target: Path) -> Path:
    """A copy whose tokenizer puts <|endoftext|> before every text and trims offsets, like those of Llama 3."""
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    data = json.loads((target / "tokenizer.json").read_text())
    bos = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}
    data["post_processor"] = {"type": "Sequence", "processors": [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {"type": "TemplateProcessing", "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
         "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
         "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}}]}
    data["truncation"] = {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    (target / "tokenizer.json").write_text(json.dumps(data))
    return target


@pytest.mark.parametrize("text", TEXTS)
def test_encoding_round_trips_and_agrees_with_transformers(folder: Path, text: str) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = StudentTokenizer(folder)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text and tokenizer.count(text) == len(ids)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    assert ids == theirs(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", TEXTS)
def test_starts_say_where_each_token_begins(folder: Path, tmp_path: Path, text: str) -> None:
    for tokenizer in (StudentTokenizer(folder), StudentTokenizer(with_bos(folder, tmp_path / "bos"))):
        ids, starts = tokenizer.encode_with_starts(text)
        assert len(ids) == len(starts) and starts == sorted(starts) and (not starts or starts[0] == 0)
        for place, start in enumerate(starts):
            assert tokenizer.decode(ids[:place]).rstrip("\ufffd") == text[:start]
        if text.startswith("a farmer"):
            assert all(text[start] == " " for start in starts if start and text[start - 1].isalpha()
                       and not text[start].isalnum())


def test_half_a_surrogate_pair_counts_as_one_replaced_character(folder: Path) -> None:
    tokenizer, halves = StudentTokenizer(folder), "one \ud83d\ude00 half"
    assert tokenizer.encode(halves) == tokenizer.encode("one \ufffd\ufffd half")
    assert tokenizer.encode_with_starts(halves)[1][-1] < len(halves) and tokenizer.count("\udcff") > 0


def test_bos_stands_once_whoever_writes_it(folder: Path, tmp_path: Path) -> None:
    plain, bos = StudentTokenizer(folder), StudentTokenizer(with_bos(folder, tmp_path / "bos"))
    assert plain.leading_ids == () and bos.leading_ids == (0,)
    body = plain.encode("a farmer has many apples")
    assert bos.encode("a farmer has many apples") == body
    assert bos.encode_prompt("a farmer has many apples") == [0, *body]
    assert bos.encode_prompt("<|endoftext|>a farmer has many apples") == [0, *body]
    assert plain.encode_prompt("a farmer has many apples") == body


def test_ids_of_tokens_and_the_end_of_a_turn(folder: Path) -> None:
    tokenizer = StudentTokenizer(folder)
    assert tokenizer.stop_token_ids == (2,) and tokenizer.token(2) == "<|im_end|>"
    assert tokenizer.vocab_size == 400
    assert tokenizer.token_id("<think>") == 398 and tokenizer.token_id("no such token") is None


def test_the_token_that_the_template_writes_after_a_turn_comes_first(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "m", hidden=32)
    edit_json(student / "generation_config.json", eos_token_id=[0, 1, 2])
    assert StudentTokenizer(student).stop_token_ids == (2, 0, 1)
    (student / "chat_template.jinja").write_text(CHAT_TEMPLATE.replace("<|im_end|>", "<|endoftext|>"))
    assert StudentTokenizer(student).stop_token_ids == (0, 1, 2)


def test_a_special_token_after_a_turn_ends_it_though_no_file_says_so(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "m", hidden=32)
    for name in ("generation_config.json", "config.json"):
        edit_json(student / name, eos_token_id=0)
    edit_json(student / "tokenizer_config.json", eos_token="<|endoftext|>")
    tokenizer = StudentTokenizer(student)
    assert tokenizer.stop_token_ids == (2, 0)
    assert tokenizer.turn_ending("\n<|im_end|>\n") == [*tokenizer.encode("\n"), 2]
    assert tokenizer.turn_ending("\nthe end") == []


def test_a_damaged_tokenizer_is_one_error(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": 5}')
    with pytest.raises(ModelFileError, match=r"tokenizer\.json"):
        StudentTokenizer(tmp_path).count("x")
