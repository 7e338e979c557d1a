"""Hostile model folders: a small sound student, and every number, shape and file of it set to what cannot be. Made
without torch, so that hundreds of them take a second. `python -m tests.strangers.students` uses the
folders whose names come as lines, and says what that took."""

from __future__ import annotations

import json
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from localdistill.core.errors import ModelFileError
from localdistill.core.records import Message
from localdistill.modelfiles.adapter import AdapterFolder
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.templates import ChatTemplate
from tests.measuring import peak_mb

WIDTH, HEADS, KV_HEADS, BLOCKS, TOKENS, FEED = 16, 4, 2, 2, 300, 32
EDGES = (0, 1, -1, 2**16, 1_000_000, 2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64, 10**100)
"""What a number is set to."""
LONG = "9" * 6_000
"""A number of 6,000 digits, as JSON writes it."""
GROWTH = 1000
MILLION = [1] * 1_000_000
Change = Callable[[Path], object]

CONFIG: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH, "intermediate_size": FEED,
    "num_hidden_layers": BLOCKS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": TOKENS,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": True, "eos_token_id": 258, "bos_token_id": None, "pad_token_id": 256,
    "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02,
    "torch_dtype": "float32", "use_cache": True,
}
TEMPLATE = ("{%- for m in messages -%}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor -%}"
            "{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}")


def shapes() -> dict[str, tuple[int, ...]]:
    """The weights of the sound student."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (TOKENS, WIDTH), "model.norm.weight": (WIDTH,)}
    kv = WIDTH // HEADS * KV_HEADS
    parts = {"self_attn.q_proj": (WIDTH, WIDTH), "self_attn.k_proj": (kv, WIDTH), "self_attn.v_proj": (kv, WIDTH),
             "self_attn.o_proj": (WIDTH, WIDTH), "mlp.gate_proj": (FEED, WIDTH), "mlp.up_proj": (FEED, WIDTH),
             "mlp.down_proj": (WIDTH, FEED), "input_layernorm": (WIDTH,), "post_attention_layernorm": (WIDTH,)}
    for block in range(BLOCKS):
        found |= {f"model.layers.{block}.{part}.weight": shape for part, shape in parts.items()}
    return found


def header_of(tensors: Mapping[str, tuple[int, ...]], dtype: str = "F32", width: int = 4) -> dict[str, Any]:
    """What a safetensors header says of tensors that lie one behind the other."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in tensors.items():
        size = prod(shape) * width
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    return header


def safetensors(header: object, data: bytes, length: int | None = None) -> bytes:
    """A file; `length` is what it says that its header takes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def byte_alphabet() -> list[str]:
    """The 256 characters by which byte-level tokenizers write bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + n) for n in range(256 - len(plain))]


def tokenizer() -> dict[str, Any]:
    """A byte-level BPE tokenizer without merges."""
    vocab = {token: number for number, token in enumerate(byte_alphabet())}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    return {"version": "1.0", "truncation": None, "padding": None,
            "added_tokens": [{"id": 256 + n, "content": name, **special} for n, name in enumerate(names)],
            "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                                                  "use_regex": True},
            "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                                                "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
                      "merges": []}}


def write_sound(folder: Path) -> Path:
    """A student that passes every check; its weights are zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 258}))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    header = header_of(shapes())
    size = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    (folder / "model.safetensors").write_bytes(safetensors(header, bytes(size)))
    return folder


def _put(file: str, content: str | bytes | Callable[[], str | bytes]) -> Change:
    """Contents that are large are made when they are written."""
    def write(folder: Path) -> None:
        made = content() if callable(content) else content
        (folder / file).write_bytes(made.encode() if isinstance(made, str) else made)
    return write


def _put_json(file: str, value: object) -> Change:
    return _put(file, lambda: json.dumps(value))


def _config(**changes: object) -> Change:
    return _put_json("config.json", {**CONFIG, **changes})


def _odd() -> Iterator[tuple[str, object]]:
    """Values of every wrong kind, by what they are."""
    yield from ((str(n) if abs(n) < 2**65 else "10**100", n) for n in EDGES)
    yield from (("1.5", 1.5), ("16.0", 16.0), ("infinite", float("inf")), ("NaN", float("nan")), ("-0.0", -0.0),
                ("text", "16"), ("null", None), ("true", True), ("a list", [16]), ("a table", {"a": 16}),
                ("a list of a million", MILLION), ("1e308", 1e308))


CONFIG_NUMBERS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                  "vocab_size", "max_position_embeddings", "head_dim", "rms_norm_eps", "rope_theta", "eos_token_id",
                  "bos_token_id", "pad_token_id", "sliding_window", "max_window_layers", "pretraining_tp", "num_labels",
                  "initializer_range", "attention_dropout", "partial_rotary_factor")


def configs() -> Iterator[tuple[str, Change]]:
    """What is wrong with config.json, and how to make it so."""
    for key in CONFIG_NUMBERS:
        for what, value in _odd():
            yield f"{key} is {what}", _config(**{key: value})
        yield f"{key} has 6,000 digits", _put("config.json", json.dumps({**CONFIG, key: "@"}).replace('"@"', LONG))
        yield f"{key} twice", _put("config.json", json.dumps(CONFIG)[:-1] + f', "{key}": 1, "{key}": 7}}')
    for key in ("rope_scaling", "rope_parameters"):
        for kind in ("linear", "dynamic", "yarn", "llama3", "longrope", "default", "x" * 10_000, None, 7):
            for what, value in _odd():
                yield f"{key}: {str(kind)[:9]}, factor {what}", _config(**{key: {
                    "rope_type": kind, "factor": value, "rope_theta": 1e4, "original_max_position_embeddings": value,
                    "low_freq_factor": 1.0, "high_freq_factor": 4.0, "long_factor": value, "short_factor": value}})
        for what, value in _odd():
            yield f"{key} is {what}", _config(**{key: value})
    for key in ("layer_types", "id2label", "label2id", "hidden_act", "torch_dtype", "dtype", "tie_word_embeddings",
                "use_cache", "is_decoder", "architectures", "model_type", "transformers_version", "text_config",
                "quantization_config", "auto_map", "chunk_size_feed_forward", "return_dict", "output_attentions",
                "per_layer_config", "base_model_tp_plan", "max_length", "task_specific_params", "unknown_key"):
        for what, value in _odd():
            yield f"{key} is {what}", _config(**{key: value})
    yield from _texts("config.json")
    yield "nested 900 deep", _config(unknown=_nested(900))


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def _texts(file: str) -> Iterator[tuple[str, Change]]:
    """Text that is no JSON table, or more of one than anybody writes."""
    yield "empty", _put(file, "")
    yield "no JSON", _put(file, "{nothing")
    yield "a list", _put(file, "[1]")
    yield "null", _put(file, "null")
    yield "not UTF-8", _put(file, b'{"a": "\xff"}')
    yield "a surrogate", _put(file, '{"architectures": ["\\ud800"], "\\ud800": "\\ud800"}')
    yield "NUL bytes", _put(file, b"\0" * 100)
    for depth in (500, 5_000, 100_000):
        yield f"{depth} lists deep", _put(file, '{"a": ' + "[" * depth + "]" * depth + "}")
        yield f"{depth} tables deep", _put(file, '{"a": ' * depth + "1" + "}" * depth)
    yield "4 million lists", _put(file, lambda: '{"a": [' + "[]," * 4_000_000 + "1]}")
    yield "2 million keys", _put(file, lambda: "{" + ",".join(f'"{n:x}":{{}}' for n in range(2_000_000)) + "}")
    yield "60 MB of text", _put(file, lambda: '{"a": "' + "x" * 60_000_000 + '"}')
    yield "60 MB of blanks", _put(file, lambda: " " * 60_000_000 + "{}")
    yield "a folder", lambda folder: ((folder / file).unlink(missing_ok=True), (folder / file).mkdir())


def tokenizers() -> Iterator[tuple[str, Change]]:
    """What is wrong with tokenizer.json, and how to make it so."""
    good = tokenizer()

    def put(**changes: object) -> Change:
        return _put_json("tokenizer.json", {**good, **changes})

    def model(**changes: object) -> Change:
        return put(model={**good["model"], **changes})

    yield from _texts("tokenizer.json")
    for key in good:
        for what, value in _odd():
            yield f"{key} is {what}", put(**{key: value})
    for key in ("vocab", "merges", "dropout", "unk_token", "byte_fallback", "type"):
        for what, value in _odd():
            yield f"model.{key} is {what}", model(**{key: value})
    for number in (*EDGES, TOKENS, TOKENS - 1, 2**32 - 1):
        yield f"a token has the id {number}", model(vocab={**good["model"]["vocab"], "odd": number})
        odd = {**good["added_tokens"][0], "id": number, "content": "<odd>"}
        yield f"an added token has the id {number}", put(added_tokens=[*good["added_tokens"], odd])
    for key in ("id", "content", "special", "lstrip", "normalized"):
        for what, value in _odd():
            first, *rest = good["added_tokens"]
            yield f"added_tokens.{key} is {what}", put(added_tokens=[{**first, key: value}, *rest])
        first, *rest = good["added_tokens"]
        yield f"an added token without {key}", put(added_tokens=[{k: v for k, v in first.items() if k != key}, *rest])
    for pattern in ("(x+x+)+y", "(a|a)*b", "(.*)*$", "((((((.*)*)*)*)*)*)*!", "(?<a>x)\\g<a>" * 50, "[", "x{1,100000}"):
        yield f"splits by {pattern[:20]}", put(pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            good["pre_tokenizer"]]})
    yield "a replacement that grows", put(normalizer={"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "x"}, "content": "x" * GROWTH}] * 6})
    yield "10,000 normalizers", put(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 10_000})
    yield "padding to 2**40", put(padding={"strategy": {"Fixed": 2**40}, "direction": "Right", "pad_id": 0,
                                           "pad_to_multiple_of": None, "pad_type_id": 0, "pad_token": "a"})
    yield "a merge of nothing", model(merges=["a b c", ""])
    yield "merges of unknown tokens", model(merges=["zz yy"])


def weights() -> Iterator[tuple[str, Change]]:
    """What is wrong with the weights' header, and how to make it so."""
    good = header_of(shapes())
    size = max(entry["data_offsets"][1] for name, entry in good.items() if name != "__metadata__")
    data = bytes(size)
    first, second = "model.embed_tokens.weight", "model.norm.weight"

    def put(header: object, length: int | None = None, data: bytes = data) -> Change:
        return _put("model.safetensors", lambda: safetensors(header() if callable(header) else header, data, length))

    def entry(name: str, **changes: object) -> Change:
        return put({**good, name: {**good[name], **changes}})

    text = json.dumps(good).encode()
    for length in (0, 1, 7, len(text) - 1, len(text) + 1, len(text) + size, len(text) + size + 1, 100 * 2**20, 2**31,
                   2**32, 2**40, 2**63 - 1, 2**63, 2**64 - 1):
        yield f"a header of {length} bytes", put(text, length)
    for count in range(9):
        yield f"only {count} bytes", _put("model.safetensors", safetensors(text, data)[:count])
    yield "one byte short", put(good, data=data[:-1])
    yield "one byte more", put(good, data=data + b"\0")
    for what, value in _odd():
        for key in ("dtype", "shape", "data_offsets"):
            yield f"{key} is {what}", entry(first, **{key: value})
        yield f"a dimension is {what}", entry(first, shape=[value, WIDTH])
        yield f"an offset is {what}", entry(first, data_offsets=[0, value])
        yield f"the entry is {what}", put({**good, first: value})
    for shape in ([2**32, 2**32], [2**62, 4], [2**63, 2], [0, 2**63], [TOKENS * WIDTH], [1] * 1000 + [TOKENS * WIDTH],
                  [-TOKENS, -WIDTH], [], [1] * 1_000_000, [10**4000] * 100):
        yield f"shape {str(shape)[:30]}", entry(first, shape=shape)
    for dtype in ("F64", "F16", "F8_E4M3", "I4", "BOOL", "", "f32", "F32 ", "x" * 1_000_000):
        yield f"dtype {dtype[:9]!r}", entry(first, dtype=dtype)
    offsets = good[first]["data_offsets"]
    yield "two in one place", entry(second, data_offsets=[offsets[0], offsets[0] + WIDTH * 4])
    yield "offsets turned round", entry(first, data_offsets=offsets[::-1])
    yield "three offsets", entry(first, data_offsets=[*offsets, 7])
    yield "a name twice", put(text[:-1] + b', "' + first.encode() + b'": ' + json.dumps(good[first]).encode() + b"}")
    nothing = {"dtype": "U8", "shape": [0], "data_offsets": [size, size]}
    yield "an empty tensor beyond the file", put({**good, "x": {**nothing, "data_offsets": [2**40] * 2}})
    yield "blocks up to 2**31", put({**good, f"model.layers.{2**31}.x": nothing})
    yield "400,000 empty tensors", put(
        lambda: {**good, **dict.fromkeys((f"t{n:x}" for n in range(400_000)), nothing)})
    for name, change in _texts("model.safetensors"):
        yield f"{name} without a length", change
    for depth in (500, 5_000, 100_000):
        yield f"a header {depth} deep", put(b'{"a": ' + b"[" * depth + b"]" * depth + b"}")
    yield "a header of 4 million lists", put(lambda: b'{"a": [' + b"[]," * 4_000_000 + b"1]}")
    yield "a header of 90 MB", put(lambda: text[:-1] + b" " * 90_000_000 + b"}")
    yield from ((f"the index: {name}", change) for name, change in _texts("model.safetensors.index.json"))
    for what, value in _odd():
        yield f"weight_map is {what}", _put_json("model.safetensors.index.json", {"weight_map": value})
        yield f"a weight lies in {what}", _put_json("model.safetensors.index.json", {"weight_map": {first: value}})
    yield "100,000 files", _put("model.safetensors.index.json", lambda: json.dumps(
        {"weight_map": {f"t{n}": f"{n}.safetensors" for n in range(100_000)}}))


def others() -> Iterator[tuple[str, Change]]:
    """What is wrong with the small files beside the weights, and how to make it so."""
    for file in ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.json"):
        yield from ((f"{file}: {name}", change) for name, change in _texts(file))
    for key in ("eos_token_id", "max_length", "max_new_tokens", "num_beams"):
        for what, value in _odd():
            yield f"generation_config: {key} is {what}", _put_json("generation_config.json", {key: value})
    for key in ("eos_token", "bos_token", "chat_template", "model_max_length", "added_tokens_decoder"):
        for what, value in _odd():
            yield f"tokenizer_config: {key} is {what}", _put_json("tokenizer_config.json",
                                                                   {"eos_token": "<|im_end|>", key: value})


def adapters() -> Iterator[tuple[str, Change]]:
    """What is wrong with the adapter in the folder `adapter`, and how to make it so."""
    good = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"],
            "trainable_token_indices": None}
    yield from _texts("adapter_config.json")
    for key in ("r", "lora_alpha", "trainable_token_indices", "target_modules", "peft_type", "rank_pattern"):
        for what, value in _odd():
            yield f"{key} is {what}", _put_json("adapter_config.json", {**good, key: value})
        yield f"{key} has 6,000 digits", _put("adapter_config.json",
                                              json.dumps({**good, key: "@"}).replace('"@"', LONG))
    for what, value in _odd():
        yield f"a trained token is {what}", _put_json("adapter_config.json", {
            **good, "trainable_token_indices": {"embed_tokens": [value]}})
    for shape in ([2**40, 4], [4, WIDTH, 1], [0, WIDTH], [1024, WIDTH]):
        yield f"an update of shape {shape}", _put("adapter_model.safetensors", safetensors(header_of(
            {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": tuple(shape),
             "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": (WIDTH, 4)}), b""))


def write_adapter(folder: Path) -> Path:
    """An adapter that fits the sound student; its weights are zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    header = header_of({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": (4, WIDTH),
                        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": (WIDTH, 4)})
    (folder / "adapter_model.safetensors").write_bytes(safetensors(header, bytes(2 * 4 * WIDTH * 4)))
    return folder


GROUPS = {"configs": configs, "tokenizers": tokenizers, "weights": weights, "others": others, "adapters": adapters}
"""What is wrong with a folder, and how to make it so, by what it is wrong with."""
_LARGE = ("million", "0 MB", "00,000 ", "100000")
ADAPTER = "adapter"
"""The folder in which the adapter lies, beside the student's files."""


def changes(group: str, large: bool) -> Iterator[tuple[str, Change]]:
    """The large ones of a group, which write megabytes, or all others."""
    return ((name, change) for name, change in GROUPS[group]() if any(mark in name for mark in _LARGE) == large)


def changed(folder: Path, group: str, change: Change) -> Path:
    """A sound student with a sound adapter, and then the change. What is large is not written anew."""
    sound = write_sound(folder / "sound") if not (folder / "sound").is_dir() else folder / "sound"
    if not (sound / ADAPTER).is_dir():
        write_adapter(sound / ADAPTER)
    target = folder / "student"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(sound, target)
    change(target / ADAPTER if group == "adapters" else target)
    return target


def used(folder: Path) -> None:
    """All that this process makes of a student and its adapter. Raises ModelFileError, and nothing else."""
    student = ModelFolder.open(folder)
    student.kind.rope(student.config)
    student.kind.mlx_config(student.config)
    tokenizer = StudentTokenizer(folder)
    assert tokenizer.leading_ids == () and tokenizer.vocab_size and tokenizer.identity
    tokenizer.decode(tokenizer.encode_prompt("x" * 3_000 + "!"))
    template = ChatTemplate.from_folder(folder, isolated=False)
    assert template.prompt([Message("user", "?")]) and student.digest() and student.context_length
    AdapterFolder.open(folder / ADAPTER, student)


def verdict(folder: Path) -> str:
    """`used`, or how it was refused; anything but a named error is raised with the name of what it is."""
    try:
        used(folder)
    except ModelFileError as error:
        if not error.hint or len(error.message) > 600 + len(str(folder)):
            raise AssertionError(f"no sentence for people: {error.message[:1000]}") from None
        return "refused"
    return "used"


if __name__ == "__main__":
    for line in sys.stdin:
        begun = time.monotonic()
        ended = verdict(Path(line.rstrip()))
        told = {"ended": ended, "seconds": time.monotonic() - begun, "peak_mb": peak_mb()}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
