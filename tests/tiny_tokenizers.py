"""Tiny tokenizers of SentencePiece's kinds for tests, in the shapes in which models have them: BPE over characters with
bytes to fall back on, with a blank before every piece (Llama 2), before the first (its later form) or before none
(Gemma), and a unigram model. Must not download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.tiny_models import CORPUS, PLAIN_TEMPLATE

BLANK = "\u2581"
SPECIALS = ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = "{{ bos_token }}" + PLAIN_TEMPLATE
PIECES = ("always", "first", "never", "unigram", "strips")
"""`strips` is `always` with added tokens that swallow the blanks behind them, as those of Phi-3."""
_ESCAPES = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
_PREPENDS = {"type": "Prepend", "prepend": BLANK}


def tiny_pieces(folder: Path, which: str, size: int = 480) -> tuple[int, int, int, int]:
    """Write the tokenizer `which` of `PIECES` into `folder`: its size, and ids of begin, end of turn, padding."""
    words = _unigram() if which == "unigram" else _bpe(size)
    normalizer: dict[str, Any] | None = _ESCAPES
    splits: dict[str, Any] | None = None
    if which in ("always", "strips"):
        normalizer = {"type": "Sequence", "normalizers": [_PREPENDS, _ESCAPES]}
    elif which == "first":
        normalizer, splits = None, {"type": "Metaspace", "replacement": BLANK, "prepend_scheme": "first",
                                    "split": False}
    added = [{"id": number, "content": token, "single_word": False, "lstrip": False, "normalized": False,
              "rstrip": which == "strips" and token not in ("<unk>", "<s>", "<|endoftext|>"), "special": True}
             for number, token in enumerate(SPECIALS)]
    data = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": splits,
        "post_processor": {"type": "TemplateProcessing", "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": BLANK}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}]},
        "model": words,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(data))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>", "unk_token": "<unk>", "model_max_length": 512}))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return len(words["vocab"]), 1, SPECIALS.index("<|im_end|>"), SPECIALS.index("<|endoftext|>")


def pieces_to_merges(pieces: list[str]) -> list[list[str]]:
    """The merges by which BPE joins what SentencePiece would: all ways to make each of `pieces`, the first first."""
    place = {piece: number for number, piece in enumerate(pieces)}
    merges = []
    for piece in pieces:
        ways = [[piece[:cut], piece[cut:]] for cut in range(1, len(piece))
                if piece[:cut] in place and piece[cut:] in place]
        merges += sorted(ways, key=lambda way: (place[way[0]], place[way[1]]))
    return merges


def _bpe(size: int) -> dict[str, Any]:
    """As SentencePiece lays it out: special tokens, bytes, pieces by their score, characters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    room = size - len(SPECIALS) - 256
    tokenizer.train_from_iterator(CORPUS * 4, trainers.BpeTrainer(vocab_size=room, show_progress=False))
    found = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    pieces = [token for token, _ in found if len(token) > 1] + [token for token, _ in found if len(token) == 1]
    vocabulary = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(vocabulary)}, "merges": pieces_to_merges(pieces)}


def _unigram() -> dict[str, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(CORPUS * 4, trainers.UnigramTrainer(
        vocab_size=200, show_progress=False, special_tokens=list(SPECIALS), unk_token="<unk>"))
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model
