"""Which of llama.cpp's tokenizers does what a tokenizer.json says, told by its structure: byte-level BPE with the name
of its pre-tokenizer, BPE over characters with bytes to fall back on (SentencePiece's), or a unigram model.

A name is a claim about rules compiled into llama.cpp; the parity gate proves it on strings. Nothing is guessed from
model names, and an unknown structure is an error."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from localdistill.core.errors import ModelFileError

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLIT_ONE_DIGIT = _WORDS + r"\p{N}" + _REST
SPLIT_THREE_DIGITS = _WORDS + r"\p{N}{1,3}" + _REST
SPLIT_MARKS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")
_BEGINS, _ENDS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _by_case(ending: str, digits: str) -> str:
    """A pattern whose words end where small letters are followed by large ones."""
    words = (f"{_BEGINS}*{_ENDS}+", f"{_BEGINS}+{_ENDS}*")
    return "|".join(rf"[^\r\n\p{{L}}\p{{N}}]?{word}{ending}" for word in words) + "|" + digits + _CASED_REST


SPLIT_CASE = _by_case("", r"\p{N}")
SPLIT_CASE_THREE_DIGITS = _by_case(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}")
_BY_CASE = ("tekken", "gpt-4o")
_PRE_TOKENIZERS: Mapping[tuple[str, bool], str] = {
    (SPLIT_ONE_DIGIT, False): "qwen2", (SPLIT_MARKS, False): "qwen35",
    (SPLIT_THREE_DIGITS, True): "llama-bpe", (SPLIT_THREE_DIGITS, False): "smaug-bpe",
    (SPLIT_CASE, True): "tekken", (SPLIT_CASE_THREE_DIGITS, False): "gpt-4o",
}
"""(pattern, whether whole words are looked up before merging) -> name."""
BLANK = "\u2581"
"""What SentencePiece writes for a blank."""


@dataclass(frozen=True)
class TokenizerKind:
    """How llama.cpp is told to tokenize."""

    model: Literal["gpt2", "llama", "t5"]
    """What it calls the algorithm: byte-level BPE, BPE of SentencePiece, unigram."""
    pre: str
    """Its name of the pre-tokenizer."""
    prefix: Literal["never", "always", "first"] = "never"
    """Whether a blank is put before a text: before every piece between added tokens, or before the first alone."""


def tokenizer_kind(data: Mapping[str, Any]) -> TokenizerKind:
    """What a parsed tokenizer.json is. Raises ModelFileError for a structure that llama.cpp has no rules for."""
    model = data.get("model") or {}
    if model.get("type") == "BPE" and model.get("byte_fallback"):
        return TokenizerKind("llama", "default", _blank_prefix(data))
    if model.get("type") == "Unigram":
        if model.get("byte_fallback"):
            raise ModelFileError("tokenizer.json: a unigram model that falls back on bytes is none of llama.cpp's",
                                 "this student cannot be exported to GGUF")
        return TokenizerKind("t5", "default", _blank_prefix(data))
    if model.get("type") == "BPE":
        _refuse_normalizer(data)
        return TokenizerKind("gpt2", detect_pre_tokenizer(data))
    raise ModelFileError(f"tokenizer.json: a tokenizer of the type {str(model.get('type'))[:40]!r} is none of "
                         "llama.cpp's", "known: BPE and Unigram")


def splits_alike(pre: str, text: str) -> bool:
    """Whether llama.cpp is known to split `text` as the original rules do. Those that look at the case of letters it
    has for ASCII only, and it ends words before marks that stand above or below letters."""
    if pre not in _BY_CASE:
        return True
    if any(unicodedata.category(character).startswith("M") for character in text):
        return False
    return not any(one.islower() and other.isupper() and not (one + other).isascii() for one, other in pairwise(text))


def detect_pre_tokenizer(data: Mapping[str, Any]) -> str:
    """llama.cpp's name (`tokenizer.ggml.pre`) for the splitting rules in a parsed tokenizer.json."""
    steps = _steps(data.get("pre_tokenizer"), "pretokenizers")
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        raise ModelFileError("tokenizer.json: the pre-tokenizer does not end in plain ByteLevel",
                             "llama.cpp has no rules for it")
    before, by_regex = steps[:-1], steps[-1].get("use_regex", True)
    if by_regex and not before:
        return "gpt-2"
    if by_regex and len(before) == 1 and before[0].get("type") == "Digits" and before[0].get("individual_digits"):
        return "smollm"
    if not by_regex and len(before) == 1 and before[0].get("type") == "Split":
        regex = str((before[0].get("pattern") or {}).get("Regex"))
        whole = bool((data.get("model") or {}).get("ignore_merges"))
        keeps = before[0].get("behavior") == "Isolated" and not before[0].get("invert")
        if keeps and (regex, whole) in _PRE_TOKENIZERS:
            return _PRE_TOKENIZERS[regex, whole]
    shape = " + ".join(str(step.get("type")) for step in steps)
    raise ModelFileError(f"tokenizer.json: pre-tokenizer '{shape}' is none that llama.cpp is known to have",
                         f"known: gpt-2, smollm (digits one by one), {', '.join(_PRE_TOKENIZERS.values())}")


def _blank_prefix(data: Mapping[str, Any]) -> Literal["never", "always", "first"]:
    """Where a blank is put before a text, by normalizers (older files) or the pre-tokenizer."""
    normal = [step for step in _steps(data.get("normalizer"), "normalizers") if step.get("type") != "Precompiled"]
    splits = _steps(data.get("pre_tokenizer"), "pretokenizers")
    escapes = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
    prepends = {"type": "Prepend", "prepend": BLANK}
    harmless = not splits or (len(splits) == 1 and splits[0].get("type") == "Split"
                              and splits[0].get("pattern") == {"String": " "})
    if harmless and normal == [escapes]:
        return "never"
    if harmless and normal == [prepends, escapes]:
        return "always"
    if not normal and len(splits) == 1 and splits[0].get("type") == "Metaspace" and splits[0].get(
            "replacement") == BLANK and not splits[0].get("split", True):
        scheme = splits[0].get("prepend_scheme", "always")
        if scheme in ("never", "first"):
            return "never" if scheme == "never" else "first"
    shape = " + ".join(str(step.get("type")) for step in [*normal, *splits])
    raise ModelFileError(f"tokenizer.json: '{shape}' does not put blanks into words as llama.cpp does",
                         "this student cannot be exported to GGUF")


def _refuse_normalizer(data: Mapping[str, Any]) -> None:
    steps = _steps(data.get("normalizer"), "normalizers")
    odd = next((step.get("type") for step in steps if step.get("type") != "NFC"), None)
    if odd is not None:
        raise ModelFileError(f"tokenizer.json: normalizer '{odd}' is not what llama.cpp does")


def _steps(node: Any, name: str) -> list[Mapping[str, Any]]:
    if not isinstance(node, Mapping):
        return []
    return list(node.get(name) or []) if node.get("type") == "Sequence" else [node]


def piece_scores(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> tuple[float, ...]:
    """A score for every token such that SentencePiece's algorithm, which joins the neighbours whose whole has the
    highest score, does what the `merges` do, the first of which comes first."""
    ranks: dict[str, int] = {}
    for number, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, number)
    last = float(len(merges))
    return tuple(-float(ranks[token]) if token in ranks else -last for token in tokens)


_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def is_byte(token: str) -> bool:
    """Whether it stands for a byte that no other token covers."""
    return bool(_BYTE.fullmatch(token))


_STRIPPING_NAME = re.compile(r"phi-?3", re.IGNORECASE)
_KEEPS_BLANKS = ("<unk>", "<s>", "<|endoftext|>")
_STRIPS_TOO = "</s>"
MARK = "phi-3"


def strips_by_name(added: Sequence[Mapping[str, Any]], tokens: Sequence[str]) -> bool:
    """Whether added tokens swallow the blanks behind them, in the one way that llama.cpp can be told to: by the name
    of the model. GGUF has no word for it. Raises ModelFileError when they do in another way."""
    flagged = [entry for entry in added if any(entry.get(key) for key in ("lstrip", "rstrip", "single_word"))]
    if not flagged:
        return False
    known = {_STRIPS_TOO, *_KEEPS_BLANKS} <= set(tokens)
    if not known or any(bool(entry.get("rstrip")) != (entry["content"] not in _KEEPS_BLANKS)
                        or entry.get("lstrip") or entry.get("single_word") for entry in added):
        key = next(key for key in ("lstrip", "rstrip", "single_word") if flagged[0].get(key))
        raise ModelFileError(f"tokenizer.json: the added token '{flagged[0]['content']}' has {key}, which GGUF "
                             "cannot say", "this student cannot be exported to GGUF")
    return True


def served_name(name: str, strips: bool) -> str:
    """The name to store: llama.cpp lets the added tokens of a model swallow blanks when it holds `phi-3`."""
    if strips:
        return name if _STRIPPING_NAME.search(name) else f"{name} ({MARK})"
    return _STRIPPING_NAME.sub("phi 3", name)
