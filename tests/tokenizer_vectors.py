"""Stored vectors of real vocabularies through our export: `python -m tests.tokenizer_vectors FOLDER`. FOLDER holds
NAME.gguf.gz (a vocabulary), NAME.gguf.inp (texts) and NAME.gguf.out (their ids, line by line).

Of each vocabulary a tokenizer.json is made in the shape in which models have it, a tiny student is put around it,
exported, and what llama.cpp and the tokenizer itself make of every text is compared with the ids that are stored."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from gguf import GGUFReader

from localdistill.core.events import Cancel
from localdistill.exporters.gguf_parts.llama_client import run_llama
from localdistill.exporters.gguf_parts.tokenizer_kinds import SPLIT_ONE_DIGIT
from localdistill.exporters.gguf_parts.writer import convert_to_gguf
from localdistill.modelfiles.architectures import ARCHITECTURES
from localdistill.modelfiles.tokenizer import StudentTokenizer
from tests.tiny_models import PLAIN_TEMPLATE, write_model
from tests.tiny_tokenizers import BLANK, pieces_to_merges

BETWEEN = "\n__ggml_vocab_test__\n"
_CONTROL, _USER_DEFINED, _UNKNOWN = 3, 4, 2
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_SPLITS: dict[str, Any] = {
    "gpt-2": _BYTE_LEVEL,
    "qwen2": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": SPLIT_ONE_DIGIT}, "behavior": "Isolated", "invert": False},
        {**_BYTE_LEVEL, "use_regex": False}]},
}


def tokenizer_of(said: dict[str, Any]) -> dict[str, Any] | None:
    """The tokenizer.json of a vocabulary as GGUF states it; None for a kind that no student has."""
    tokens, types = list(said["tokenizer.ggml.tokens"]), list(said["tokenizer.ggml.token_type"])
    model, pre = said["tokenizer.ggml.model"], said.get("tokenizer.ggml.pre", "default")
    added = [{"id": number, "content": tokens[number], "special": types[number] != _USER_DEFINED, "lstrip": False,
              "rstrip": False, "single_word": False, "normalized": False}
             for number, kind in enumerate(types) if kind in (_CONTROL, _USER_DEFINED, _UNKNOWN)]
    place = {token: number for number, token in enumerate(tokens)}
    data: dict[str, Any] = {"version": "1.0", "added_tokens": added, "post_processor": None, "normalizer": None}
    if model == "llama":
        scores = list(said["tokenizer.ggml.scores"])
        order = sorted((number for number in range(len(tokens)) if types[number] == 1),
                       key=lambda number: (-scores[number], number))
        pieces = [tokens[number] for number in order]
        return data | {
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": BLANK},
                {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}]},
            "pre_tokenizer": None, "decoder": None,
            "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": place,
                      "merges": pieces_to_merges(pieces)}}
    if model != "gpt2" or pre not in _SPLITS:
        return None
    merges = [merge.split(" ") for merge in said["tokenizer.ggml.merges"]]
    return data | {"pre_tokenizer": _SPLITS[pre], "decoder": _BYTE_LEVEL,
                   "model": {"type": "BPE", "vocab": place, "merges": merges, "byte_fallback": False}}


def compare(packed: Path, place: Path) -> str:
    """What comes of one vocabulary, in a sentence."""
    name, vocabulary = packed.name.removesuffix(".gz"), place / "vocabulary.gguf"
    with gzip.open(packed) as source, vocabulary.open("wb") as target:
        shutil.copyfileobj(source, target)
    said = {key: field.contents() for key, field in GGUFReader(vocabulary).fields.items()}
    data = tokenizer_of(said)
    if data is None:
        return f"{name}: {said['tokenizer.ggml.model']}, {said.get('tokenizer.ggml.pre')}: no student has such a one"
    texts = packed.with_name(f"{name}.inp").read_text(encoding="utf-8").split(BETWEEN)
    wanted = [[int(one) for one in line.split()]
              for line in packed.with_name(f"{name}.out").read_text().split("\n")][:len(texts)]
    student, end = place / "student", int(str(said.get("tokenizer.ggml.eos_token_id", 0)))
    student.mkdir()
    (student / "tokenizer.json").write_text(json.dumps(data))
    tokens = list(said["tokenizer.ggml.tokens"])
    (student / "tokenizer_config.json").write_text(json.dumps({"eos_token": tokens[end]}))
    (student / "chat_template.jinja").write_text(PLAIN_TEMPLATE.replace("<|im_end|>", tokens[end]))
    write_model(student, ARCHITECTURES["LlamaForCausalLM"], {
        "vocab_size": len(tokens), "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64, "eos_token_id": end,
        "tie_word_embeddings": True}, 0)
    convert_to_gguf(student, place / "made.gguf")
    served = run_llama({"action": "tokenize", "model": str(place / "made.gguf"), "texts": texts, "prompts": []},
                       "tokenizing", Cancel())["texts"]
    ours = StudentTokenizer(student)
    by_llama = sum(list(one) != other for one, other in zip(served, wanted, strict=True))
    by_tokenizers = sum(ours.encode(text) != other for text, other in zip(texts, wanted, strict=True))
    return f"{name}: {len(texts)} texts, {by_llama} differ in llama.cpp, {by_tokenizers} in tokenizers"


def main(folder: Path) -> None:
    """Print a line for every vocabulary."""
    for packed in sorted(folder.glob("*.gguf.gz")):
        with tempfile.TemporaryDirectory(prefix="vectors-") as place:
            print(compare(packed, Path(place)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
