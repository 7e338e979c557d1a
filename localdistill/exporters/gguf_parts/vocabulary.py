"""Turns a tokenizer.json into what GGUF stores. Which of llama.cpp's tokenizers that is, `tokenizer_kinds` says."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localdistill.core.errors import ModelFileError
from localdistill.core.records import Message
from localdistill.exporters.gguf_parts.tokenizer_kinds import (
    BLANK,
    TokenizerKind,
    is_byte,
    piece_scores,
    strips_by_name,
    tokenizer_kind,
)
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.modelfiles.tokenizer_claims import read_tokenizer
from localdistill.safety.bounded_json import read_table
from localdistill.templates import ChatTemplate
from localdistill.templates.marks import MARKS, OURS, marks_in

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

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
    """Of byte-level BPE."""
    scores: tuple[float, ...]
    """One per token, of the others."""
    kind: TokenizerKind
    space_prefix: bool
    """Whether a blank is put before a text and behind every added token."""
    strips: bool
    """Whether added tokens swallow the blanks behind them."""
    unknown: int | None
    """What stands for what no token covers."""
    charsmap: bytes
    """How a unigram model rewrites characters before anything else; empty when it does not."""
    bos: int | None
    stops: StopNames
    pad: int | None
    add_bos: bool
    chat_template: str


def serving_template(folder: ModelFolder, thinks: bool | None) -> str:
    """The chat template to store: the folder's own, with its thinking switch fixed where that decides the prompt.

    A program that serves the file does not know whether the student was trained to think, and some switch thinking on
    by themselves. `thinks` None leaves the switch alone. A BOS or EOS that the template names and the folder does not
    have is fixed as nothing: llama.cpp would write some token in its place. Ollama takes a model for one that thinks by
    the marks in its template: where it has none, a remark holds those of a student that thinks.
    """
    template = ChatTemplate.from_folder(folder.path)
    source = template.source
    if thinks and not source.startswith("\n") and not {mark.opening for mark in MARKS} & set(marks_in(source)):
        source = f"{{# {OURS.opening}{OURS.closing} #}}{source}"
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
    """The vocabulary of `folder`, padded to the model's rows. Raises ModelFileError when it is not a tokenizer that
    llama.cpp knows, or does not fit the model."""
    data = read_tokenizer(folder.path)
    settings = folder.path / "tokenizer_config.json"
    config = read_table(settings) if settings.is_file() else {}
    model = data.get("model") or {}
    kind = tokenizer_kind(data)
    tokens, types = _tokens(data, folder.vocab_size, kind)
    ids = {token: number for number, token in enumerate(tokens) if types[number] != UNUSED}
    tokenizer = StudentTokenizer(folder.path)
    leading = tokenizer.leading_ids
    bos = leading[0] if leading else _token_id(config.get("bos_token"), ids)
    if len(leading) > 1:
        raise ModelFileError(f"the tokenizer puts {len(leading)} tokens before every text; GGUF can say one")
    merges = _merges(model) if kind.model == "gpt2" else ()
    unknown = model.get("unk_id") if kind.model == "t5" else _token_id(model.get("unk_token"), ids)
    return Vocabulary(
        tokens=tokens, types=types, merges=merges, scores=_scores(model, tokens, kind), kind=kind,
        space_prefix=kind.prefix == "always", strips=strips_by_name(data.get("added_tokens") or [], tokens),
        unknown=unknown, charsmap=_charsmap(data) if kind.model == "t5" else b"", bos=bos,
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


def _tokens(data: Mapping[str, Any], size: int, how: TokenizerKind) -> tuple[tuple[str, ...], tuple[int, ...]]:
    model = data["model"]
    listed = {token: number for number, (token, _) in enumerate(model["vocab"])} if how.model == "t5" else \
        model["vocab"]
    by_bytes = how.model == "llama"
    entries: dict[int, tuple[str, int]] = {
        number: (token, BYTE if by_bytes and is_byte(token) else NORMAL) for token, number in listed.items()}
    for added in data.get("added_tokens") or []:
        content, number = str(added["content"]), int(added["id"])
        if how.model != "gpt2" and added.get("normalized"):
            content = content.replace(BLANK, " ")  # it is looked for where blanks are still blanks
        unknown = number == model.get("unk_id") if how.model == "t5" else content == model.get("unk_token")
        entries[number] = (content, (UNKNOWN if unknown and how.model != "gpt2" else CONTROL)
                           if added.get("special") else USER_DEFINED)
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


def _scores(model: Mapping[str, Any], tokens: Sequence[str], kind: TokenizerKind) -> tuple[float, ...]:
    if kind.model == "gpt2":
        return ()
    if kind.model == "t5":
        stated = [float(score) for _, score in model["vocab"]]
        return tuple(stated[:len(tokens)] + [0.0] * (len(tokens) - len(stated)))
    pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model.get("merges") or []]
    return piece_scores(tokens, [(left, right) for left, right in pairs])


def _charsmap(data: Mapping[str, Any]) -> bytes:
    normalizer: Mapping[str, Any] = data.get("normalizer") or {}
    steps = normalizer.get("normalizers") or [normalizer]
    stated = next((step.get("precompiled_charsmap") for step in steps if step.get("type") == "Precompiled"), "")
    return b64decode(stated or "")


def _merges(model: Mapping[str, Any]) -> tuple[str, ...]:
    merges = tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges") or [])
    odd = next((merge for merge in merges if merge.count(" ") != 1), None)
    if odd is not None:
        raise ModelFileError(f"tokenizer.json: merge '{odd}' holds a blank, which GGUF cannot store")
    return merges


def _token_id(value: Any, ids: Mapping[str, int]) -> int | None:
    content = value.get("content") if isinstance(value, Mapping) else value
    return ids.get(content) if isinstance(content, str) else None
