"""Hostile GGUF files: a small sound one, and every count, length, type and claim of it set to what cannot be."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
EDGES = (0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
"""What a count is set to, beside one more and one less than the truth."""

WIDTH, HEADS, BLOCKS, TOKENS, FEED = 32, 4, 2, 40, 64
Entry = tuple[str, bytes]
"""A metadata entry: its key, and type and value as they lie in the file."""


def text(value: str | bytes) -> bytes:
    """A string as it lies in the file."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def typed(kind: int, value: object) -> bytes:
    """A value with its type in front."""
    if kind == STRING:
        return struct.pack("<I", STRING) + text(str(value))
    return struct.pack("<I" + _CODES[kind], kind, value)


def array(kind: int, values: Sequence[object], count: int | None = None) -> bytes:
    """An array with its type in front; `count` is what it claims to hold."""
    body = b"".join(text(str(v)) if kind == STRING else struct.pack("<" + _CODES[kind], v) for v in values)
    return struct.pack("<IIQ", ARRAY, kind, len(values) if count is None else count) + body


@dataclass(frozen=True)
class Tensor:
    """A tensor as the header states it."""

    name: str
    shape: tuple[int, ...]
    offset: int
    kind: int = 0
    dimensions: int | None = None
    """What the header says that the shape has; None: the truth."""

    def packed(self) -> bytes:
        """Its entry in the header."""
        count = len(self.shape) if self.dimensions is None else self.dimensions
        shape = b"".join(struct.pack("<Q", n) for n in self.shape)
        return text(self.name) + struct.pack("<I", count) + shape + struct.pack("<IQ", self.kind, self.offset)


@dataclass(frozen=True)
class Gguf:
    """A file in parts, any of which may lie."""

    entries: Mapping[str, bytes]
    tensors: tuple[Tensor, ...]
    data: bytes
    magic: bytes = b"GGUF"
    version: int = 3
    entry_count: int | None = None
    tensor_count: int | None = None
    more_entries: tuple[Entry, ...] = field(default=())

    def packed(self) -> bytes:
        """The whole file."""
        entries = [*self.entries.items(), *self.more_entries]
        counts = (len(self.tensors) if self.tensor_count is None else self.tensor_count,
                  len(entries) if self.entry_count is None else self.entry_count)
        head = self.magic + struct.pack("<IQQ", self.version, *counts)
        head += b"".join(text(key) + value for key, value in entries)
        head += b"".join(tensor.packed() for tensor in self.tensors)
        return head + b"\0" * (-len(head) % 32) + self.data

    def saying(self, **values: bytes) -> Gguf:
        """The same with other metadata; dots of keys are written `__`."""
        return replace(self, entries={**self.entries, **{key.replace("__", "."): v for key, v in values.items()}})


def sound() -> Gguf:
    """A llama of two blocks that passes every check; its weights are zeros."""
    entries = {
        "general.architecture": typed(STRING, "llama"), "llama.block_count": typed(U32, BLOCKS),
        "llama.context_length": typed(U32, 512), "llama.embedding_length": typed(U32, WIDTH),
        "llama.feed_forward_length": typed(U32, FEED), "llama.attention.head_count": typed(U32, HEADS),
        "llama.attention.head_count_kv": typed(U32, HEADS), "llama.rope.dimension_count": typed(U32, WIDTH // HEADS),
        "llama.attention.layer_norm_rms_epsilon": typed(F32, 1e-5), "llama.vocab_size": typed(U32, TOKENS),
        "tokenizer.ggml.model": typed(STRING, "llama"),
        "tokenizer.ggml.tokens": array(STRING, [f"t{i}" for i in range(TOKENS)]),
        "tokenizer.ggml.scores": array(F32, [0.0] * TOKENS),
        "tokenizer.ggml.token_type": array(I32, [1] * TOKENS),
        "tokenizer.ggml.bos_token_id": typed(U32, 1), "tokenizer.ggml.eos_token_id": typed(U32, 2),
    }
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (WIDTH, TOKENS), "output_norm.weight": (WIDTH,)}
    for block in range(BLOCKS):
        parts = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH, WIDTH),
                 "attn_v": (WIDTH, WIDTH), "attn_output": (WIDTH, WIDTH), "ffn_gate": (WIDTH, FEED),
                 "ffn_up": (WIDTH, FEED), "ffn_down": (FEED, WIDTH)}
        shapes |= {f"blk.{block}.{part}.weight": shape for part, shape in parts.items()}
    tensors, offset = [], 0
    for name, shape in shapes.items():
        tensors.append(Tensor(name, shape, offset))
        size = 4
        for n in shape:
            size *= n
        offset += size
    return Gguf(entries, tuple(tensors), bytes(offset))


def _counts() -> Iterator[tuple[str, bytes]]:
    good = sound()
    for value in (*EDGES, len(good.tensors) - 1, len(good.tensors) + 1):
        yield f"{value} tensors", replace(good, tensor_count=value).packed()
    for value in (*EDGES, len(good.entries) - 1, len(good.entries) + 1):
        yield f"{value} entries", replace(good, entry_count=value).packed()
    for version in (0, 1, 4, 255, 3 << 24, 2**32 - 1):
        yield f"version {version}", replace(good, version=version).packed()
    for magic in (b"", b"G", b"FUGG", b"PK\3\4", b"\0\0\0\0"):
        yield f"begins with {magic!r}", replace(good, magic=magic).packed()


def _lengths() -> Iterator[tuple[str, bytes]]:
    good = sound()
    whole = good.packed()
    for what in (b"general.architecture", b"tokenizer.ggml.tokens", b"token_embd.weight", b"t7"):
        at = whole.index(struct.pack("<Q", len(what)) + what)
        for value in (*EDGES, len(what) - 1, len(what) + 1, len(whole)):
            yield f"{what.decode()} of {value} bytes", whole[:at] + struct.pack("<Q", value) + whole[at + 8:]
    for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.scores"):
        kind = STRING if key.endswith("tokens") else F32
        values: list[object] = ["t"] * TOKENS if kind == STRING else [0.0] * TOKENS
        for value in (*EDGES, TOKENS - 1, TOKENS + 1):
            entries = {**good.entries, key: array(kind, values, value)}
            yield f"{key} claims {value}", replace(good, entries=entries).packed()
    for size in range(0, len(whole) - len(good.data), 23):
        yield f"cut at {size}", whole[:size]
    yield "one byte short", whole[:-1]


def _types() -> Iterator[tuple[str, bytes]]:
    good = sound()
    for key in good.entries:
        for name, value in (("text", typed(STRING, "many")), ("a float", typed(F32, 1e30)),
                            ("NaN", typed(F64, float("nan"))), ("a negative number", typed(I32, -1)),
                            ("true", typed(BOOL, True)),
                            ("a list", array(U32, [1, 2, 3])), ("nothing", array(U32, [])),
                            ("a list of text", array(STRING, ["a"])),
                            ("type 99", struct.pack("<I", 99)), ("lists in a list", struct.pack("<IIQ", ARRAY, ARRAY, 1)
                             + struct.pack("<IQ", U8, 2**40))):
            yield f"{key} is {name}", replace(good, entries={**good.entries, key: value}).packed()
        yield f"{key} twice", replace(good, more_entries=((key, good.entries[key]),)).packed()
        yield f"no {key}", replace(good, entries={k: v for k, v in good.entries.items() if k != key}).packed()
    deep = struct.pack("<IIQ", ARRAY, ARRAY, 1) + struct.pack("<IQ", ARRAY, 1) * 50_000
    yield "lists 50,000 deep", good.saying(deep=deep).packed()
    yield "a key that is not UTF-8", good.packed().replace(b"llama.vocab_size", b"llama.\xff\xfecab_size")


def _claims() -> Iterator[tuple[str, bytes]]:
    good = sound()
    numbers = [key for key, value in good.entries.items() if value[:4] == struct.pack("<I", U32)]
    more = ["llama.expert_count", "llama.attention.key_length", "llama.attention.value_length",
            "llama.attention.sliding_window", "general.alignment", "split.count", "split.tensors.count",
            "general.file_type"]
    for key in (*numbers, *more):
        for kind in (U32, I32, U64, I64):
            low, high = {U32: (0, 2**32), U64: (2**31, 2**64), I32: (-1, 2**31), I64: (2**31, 2**63)}[kind]
            for value in (-1, *EDGES, BLOCKS - 1, BLOCKS + 1, WIDTH + 1, TOKENS + 1):
                if low <= value < high:
                    said = {key.replace(".", "__"): typed(kind, value)}
                    yield f"{key} = {value} ({kind})", good.saying(**said).packed()
    for key in ("llama.attention.head_count", "llama.attention.head_count_kv", "llama.feed_forward_length"):
        for values in ([], [2**31], [0] * 3, [2**32 - 1] * 2, list(range(5000))):
            said = {key.replace(".", "__"): array(U32, values)}
            yield f"{key} is a list of {len(values)}", good.saying(**said).packed()


def _tensors() -> Iterator[tuple[str, bytes]]:
    good = sound()
    first, second, *rest = good.tensors

    def file(*tensors: Tensor) -> bytes:
        return replace(good, tensors=(*tensors, *rest)).packed()

    for value in (*EDGES, len(good.data) - 1, len(good.data), len(good.data) - 32):
        yield f"offset {value}", file(replace(first, offset=value), second)
    for place in range(2):
        for value in (*EDGES, first.shape[place] - 1, first.shape[place] + 1):
            shape = tuple(value if p == place else n for p, n in enumerate(first.shape))
            yield f"shape {shape}", file(replace(first, shape=shape), second)
    for value in (0, 3, 4, 5, 255, 2**31, 2**32 - 1):
        yield f"{value} dimensions", file(replace(first, dimensions=value), second)
    for shape in ((2**32, 2**32), (2**62, 4), (2**16,) * 4, (2**63, 2), ()):
        yield f"shape {shape} overflows", file(replace(first, shape=shape), second)
    for kind in (4, 5, 31, 32, 33, 36, 37, 38, 42, 99, 2**31, 2**32 - 1):
        yield f"type {kind}", file(replace(first, kind=kind), second)
    yield "two of a name", file(first, replace(second, name=first.name))
    yield "two in one place", file(first, replace(second, offset=first.offset))
    yield "a name of 65 bytes", file(replace(first, name="n" * 65), second)
    yield "no name", file(replace(first, name=""), second)
    for name in (f"blk.{2**31}.attn_q.weight", f"blk.{'9' * 50}.a.weight", "blk.-1.attn_q.weight", "blk..x", "blk.²."):
        yield f"tensor {name}", file(first, replace(second, name=name))


def _large() -> Iterator[tuple[str, bytes]]:
    """Files of some megabytes whose parts are so small that there are very many of them."""
    good = sound()
    count = 70_000
    many = b"".join(struct.pack("<Q", 4) + struct.pack("<I", i) + typed(U8, 0) for i in range(count))
    head = good.packed()
    yield "70,000 entries", b"GGUF" + struct.pack("<IQQ", 3, 0, count + 1) + text("general.architecture") + typed(
        STRING, "llama") + many.replace(b"\xff", b"\x7f").replace(b"\x80", b"\0") + head[:64]
    tensors = b"".join(Tensor(f"{i:x}", (1,), 32 * i, 24).packed() for i in range(count))
    yield "70,000 tensors", b"GGUF" + struct.pack("<IQQ", 3, count, 1) + text("general.architecture") + typed(
        STRING, "llama") + tensors + bytes(32 * count + 64)
    empty = struct.pack("<IIQ", ARRAY, STRING, 2_200_000) + bytes(8 * 2_200_000)
    yield "2,200,000 empty tokens", good.saying(tokenizer__ggml__tokens=empty).packed()
    yield "a template of 40 MB", good.saying(tokenizer__chat_template=typed(STRING, "{{ x }}" * 6_000_000)).packed()
    yield "100 texts of 1 MB", replace(good, more_entries=tuple(
        (f"k{i}", typed(STRING, "x" * 1_000_000)) for i in range(100))).packed()


GROUPS = {"counts": _counts, "lengths": _lengths, "types": _types, "claims": _claims, "tensors": _tensors,
          "large": _large}
"""What is wrong, and the file, by what it is wrong with."""
