"""Turns a byte-level BPE tokenizer.json into what GGUF stores, and names the pre-tokenizer by its structure.

The name is a claim about rules compiled into llama.cpp; the parity gate proves it on strings. Nothing is guessed from
model names, and an unknown structure is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localdistill.core.errors import ModelFileError
from localdistill.core.records import Message
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.modelfiles.tokenizer_claims import read_tokenizer
from localdistill.safety.bounded_json import read_table
from localdistill.templates import ChatTemplate

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLIT_ONE_DIGIT = _WORDS + r"\p{N}" + _REST
SPLIT_THREE_DIGITS = _WORDS + r"\p{N}{1,3}" + _REST


STOPS_BY_NAME = ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>")
"""Tokens at which llama.cpp stops because of their text, whatever the file says."""


@dataclass(frozen=True)
class StopNames:
    """What the tokens that end generation are; one token may be several of them."""

    end_of_turn: int
    """What the chat template writes after a turn."""
    end_of_text: int
    end_of_message: int | None
    """A turn that goes on after a tool has answered, or a further stop token that is neither of the others."""
    all: tuple[int, ...]


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer as GGUF stores it. `tokens`, `types`: one per row of the embedding."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    pre: str
    bos: int | None
    stops: StopNames
    pad: int | None
    add_bos: bool
    chat_template: str


def serving_template(folder: ModelFolder, thinks: bool | None) -> str:
    """The chat template to store: the folder's own, with its thinking switch fixed where that decides the prompt.

    A program that serves the file does not know whether the student was trained to think, and some switch thinking on
    by themselves. `thinks` None leaves the switch alone. A BOS or EOS that the template names and the folder does not
    have is fixed as nothing: llama.cpp would write some token in its place.
    """
    template = ChatTemplate.from_folder(folder.path)
    source = template.source
    for name, text in (("bos_token", template.bos), ("eos_token", template.eos)):
        if not text and name in template.source:
            source = f'{{%- set {name} = "" -%}}{source}'
    if thinks is None:
        return source
    probe = [Message("user", "?")]
    wanted = template.prompt(probe, thinks)
    if all(template.prompt(probe, other) == wanted for other in (None, True, False)):
        return source
    value = "true" if thinks else "false"
    return f"{{%- set enable_thinking = {value} -%}}{{%- set thinking = {value} -%}}{source}"


def read_vocabulary(folder: ModelFolder, thinks: bool | None) -> Vocabulary:
    """The vocabulary of `folder`, padded to the model's rows. Raises ModelFileError when it is not a byte-level BPE
    tokenizer that llama.cpp knows, or does not fit the model."""
    data = read_tokenizer(folder.path)
    settings = folder.path / "tokenizer_config.json"
    config = read_table(settings) if settings.is_file() else {}
    model = data.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        raise ModelFileError("tokenizer.json is not byte-level BPE (SentencePiece and WordPiece cannot be exported)")
    tokens, types = _tokens(data, folder.vocab_size)
    ids = {token: number for number, token in enumerate(tokens) if types[number] != UNUSED}
    tokenizer = StudentTokenizer(folder.path)
    leading = tokenizer.leading_ids
    bos = leading[0] if leading else _token_id(config.get("bos_token"), ids)
    if len(leading) > 1:
        raise ModelFileError(f"the tokenizer puts {len(leading)} tokens before every text; GGUF can say one")
    _refuse_normalizer(data)
    return Vocabulary(
        tokens=tokens, types=types, merges=_merges(model), pre=detect_pre_tokenizer(data), bos=bos,
        stops=_stop_names(tokenizer.stop_token_ids, tokens, _template_eos(folder, config, ids)),
        pad=_token_id(config.get("pad_token"), ids), add_bos=bool(leading),
        chat_template=serving_template(folder, thinks),
    )


def _template_eos(folder: ModelFolder, config: Mapping[str, Any], ids: Mapping[str, int]) -> int | None:
    """The token that the chat template names as `eos_token`, if it does: programs take the end of text for it."""
    if "eos_token" not in ChatTemplate.from_folder(folder.path).source:
        return None
    return _token_id(config.get("eos_token"), ids)


def _stop_names(stops: tuple[int, ...], tokens: Sequence[str], template_eos: int | None) -> StopNames:
    """Names for `stops`, whose first ends a turn. Raises ModelFileError when there are more than GGUF has names for."""
    end_of_turn, *others = stops
    if template_eos is not None:
        end_of_text = template_eos
    else:
        end_of_text = next((stop for stop in others if "eom" not in tokens[stop]), end_of_turn)
    left = sorted((stop for stop in others if stop != end_of_text), key=lambda stop: "eom" not in tokens[stop])
    unknown = [stop for stop in left if tokens[stop] not in STOPS_BY_NAME]
    if len(unknown) > 1:
        names = ", ".join(tokens[stop] for stop in stops)
        raise ModelFileError(f"{len(stops)} tokens end generation ({names}); GGUF can name three",
                             "state fewer in eos_token_id of generation_config.json: those that this student writes")
    return StopNames(end_of_turn, end_of_text, next(iter(unknown or left), None), stops)


def detect_pre_tokenizer(data: Mapping[str, Any]) -> str:
    """llama.cpp's name (`tokenizer.ggml.pre`) for the splitting rules in a parsed tokenizer.json."""
    steps = _steps(data.get("pre_tokenizer"))
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        raise ModelFileError("tokenizer.json: the pre-tokenizer does not end in plain ByteLevel",
                             "llama.cpp has no rules for it")
    before, by_regex = steps[:-1], steps[-1].get("use_regex", True)
    if by_regex and not before:
        return "gpt-2"
    if by_regex and len(before) == 1 and before[0].get("type") == "Digits" and before[0].get("individual_digits"):
        return "smollm"
    if not by_regex and len(before) == 1 and before[0].get("type") == "Split":
        regex = (before[0].get("pattern") or {}).get("Regex")
        keeps = before[0].get("behavior") == "Isolated" and not before[0].get("invert")
        if keeps and regex == SPLIT_ONE_DIGIT:
            return "qwen2"
        if keeps and regex == SPLIT_THREE_DIGITS:
            return "llama-bpe" if (data.get("model") or {}).get("ignore_merges") else "smaug-bpe"
    shape = " + ".join(str(step.get("type")) for step in steps)
    raise ModelFileError(f"tokenizer.json: pre-tokenizer '{shape}' is none that llama.cpp is known to have",
                         "known: gpt-2, smollm (digits one by one), qwen2 and llama 3")


def _steps(node: Any) -> list[Mapping[str, Any]]:
    if not isinstance(node, Mapping):
        return []
    return list(node.get("pretokenizers") or []) if node.get("type") == "Sequence" else [node]


def _tokens(data: Mapping[str, Any], size: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    entries: dict[int, tuple[str, int]] = {number: (token, NORMAL) for token, number in data["model"]["vocab"].items()}
    for added in data.get("added_tokens") or []:
        strips = next((key for key in ("lstrip", "rstrip", "single_word") if added.get(key)), "")
        if strips:
            raise ModelFileError(f"tokenizer.json: the added token '{added['content']}' has {strips}, which GGUF "
                                 "cannot say", "this student cannot be exported to GGUF")
        entries[int(added["id"])] = (str(added["content"]), CONTROL if added.get("special") else USER_DEFINED)
    highest = max(entries, default=-1)
    if highest >= size:
        raise ModelFileError(f"the tokenizer has token id {highest}, but the model only {size} embedding rows")
    taken = {token for token, _ in entries.values()}
    rows = []
    for number in range(size):
        token, kind = entries.get(number, (f"[PAD{number}]", UNUSED))
        if kind == UNUSED and token in taken:
            raise ModelFileError(f"the tokenizer uses '{token}' itself, which pads the vocabulary")
        rows.append((token, kind))
    return tuple(token for token, _ in rows), tuple(kind for _, kind in rows)


def _merges(model: Mapping[str, Any]) -> tuple[str, ...]:
    merges = tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges") or [])
    odd = next((merge for merge in merges if merge.count(" ") != 1), None)
    if odd is not None:
        raise ModelFileError(f"tokenizer.json: merge '{odd}' holds a blank, which GGUF cannot store")
    return merges


def _refuse_normalizer(data: Mapping[str, Any]) -> None:
    normalizer: Mapping[str, Any] = data.get("normalizer") or {"type": "Sequence"}
    kind = normalizer.get("type")
    if kind != "NFC" and not (kind == "Sequence" and not normalizer.get("normalizers")):
        raise ModelFileError(f"tokenizer.json: normalizer '{kind}' is not what llama.cpp does")


def _token_id(value: Any, ids: Mapping[str, int]) -> int | None:
    content = value.get("content") if isinstance(value, Mapping) else value
    return ids.get(content) if isinstance(content, str) else None
