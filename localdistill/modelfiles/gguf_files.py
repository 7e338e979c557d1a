"""GGUF files as models: the parts of one that is split, what kind of file it is where it is no model that writes, and
the identity of all of it. Reads headers; loads nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.gguf_claims import Value
from localdistill.modelfiles.gguf_header import GgufHeader, read_header
from localdistill.safety.files import sha256_file

ADAPTER_SUFFIX = "-lora.gguf"
"""How an exported file ends that holds an adapter, which runs beside a base and not by itself."""
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_MOST_PARTS = 1_000
_OF_PICTURES = frozenset({"clip", "mmproj"})
_ENCODERS = frozenset({
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "jina-bert-v2", "jina-bert-v3", "eurobert",
    "gemma-embedding", "llama-embed", "t5encoder",
})
_KINDS = {
    "mmproj": ("the projector of a vision model (mmproj), which writes nothing by itself",
               "name the file of the language model that lies beside it"),
    "adapter": ("an adapter (LoRA), which belongs on top of a model", "name the model that it was trained for"),
    "imatrix": ("an importance matrix, by which models are quantized", "name the model itself"),
    "vocab": ("a vocabulary without weights", "name the model itself"),
    "encoder": ("an embedding model, which turns text into vectors and writes none",
                "name an instruct model: Qwen3, Llama, Mistral and their kin"),
}


def is_model_file(name: str) -> bool:
    """Whether an exported file of this name is a model to talk to: a whole one, or the first part of one."""
    part = _PART.fullmatch(name)
    return name.endswith(".gguf") and not name.endswith(ADAPTER_SUFFIX) and (part is None or int(part["number"]) == 1)


def part_name(name: str, number: int, count: int) -> str:
    """What llama.cpp calls a part of the file `name`; the first has number 0."""
    return f"{name.removesuffix('.gguf')}-{number + 1:05d}-of-{count:05d}.gguf"


def whole_name(name: str) -> str:
    """What a file of which `name` is a part would be called in one piece; itself where it is no part."""
    part = _PART.fullmatch(name)
    return f"{part['stem']}.gguf" if part else name


def part_names(name: str) -> list[str]:
    """The names of all parts of the model whose first part is called `name`; itself alone where it is no part."""
    part = _PART.fullmatch(name)
    count = int(part["count"]) if part else 1
    if not 1 < count <= _MOST_PARTS:
        return [name]
    return [part_name(whole_name(name), number, count) for number in range(count)]


@dataclass(frozen=True)
class GgufModel:
    """A model that writes, in one file or several."""

    parts: tuple[Path, ...]
    """Its files, the one with the metadata first."""
    header: GgufHeader
    """Of the first, with the tensors and the size of all of them."""

    def digest(self, tick: Callable[[], None] = lambda: None) -> str:
        """`sha256:...` of its file; of several, over what each of them comes to. `tick`: see `sha256_file`."""
        sums = [sha256_file(part, tick) for part in self.parts]
        if len(sums) == 1:
            return sums[0]
        return "sha256:" + hashlib.sha256("\n".join(sums).encode()).hexdigest()


def open_gguf(path: Path, max_array: int = 4096) -> GgufModel:
    """The model whose (first) file is `path`, with every header checked.

    Raises ModelFileError when a part is missing or another one's, and for files that are no model that writes: by what
    they are.
    """
    first = read_header(path, max_array)
    count = _number(first.metadata.get("split.count"), 1)
    if count == 1:
        _require_writer(first)
        return GgufModel((path,), first)
    parts = _parts(first, count)
    headers = [first, *(read_header(part, max_array) for part in parts[1:])]
    tensors = [tensor for header in headers for tensor in header.tensors]
    _require_one_set(headers, count, len({tensor.name for tensor in tensors}))
    whole = replace(first, tensors=tuple(tensors), size_bytes=sum(header.size_bytes for header in headers))
    _require_writer(whole)
    return GgufModel(tuple(parts), whole)


def _parts(first: GgufHeader, count: int) -> list[Path]:
    """The files of a split model, found by the names that llama.cpp gives them."""
    path, number = first.path, _number(first.metadata.get("split.no"), 0)
    name = _PART.fullmatch(path.name)
    if not 1 < count <= _MOST_PARTS or name is None or int(name["count"]) != count or int(name["number"]) != number + 1:
        raise ModelFileError(f"{path} says that it is part {number + 1:,} of {count:,}, and is not called so",
                             "give the parts their names back: NAME-00001-of-00003.gguf and so on")
    parts = [path.with_name(part) for part in part_names(path.name)]
    if number:
        raise ModelFileError(f"{path} is part {number + 1} of {count}", f"name the first one: {parts[0]}")
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise ModelFileError(f"{path} is one of {count} parts, and {len(missing)} are not beside it: "
                             f"{', '.join(missing[:3])}", "get them too, into the same folder")
    return parts


def _require_one_set(headers: list[GgufHeader], count: int, tensors: int) -> None:
    """Every part says its own number, and together they hold what the first one says."""
    for at, header in enumerate(headers):
        said = [_number(header.metadata.get(f"split.{key}"), -1) for key in ("no", "count")]
        if said != [at, count]:
            raise ModelFileError(f"{header.path} does not say that it is part {at + 1} of {count}",
                                 "get the parts again, all of one model")
    wanted = _number(headers[0].metadata.get("split.tensors.count"), tensors)
    if not wanted == tensors == sum(len(header.tensors) for header in headers):
        raise ModelFileError(f"{headers[0].path}: its {count} parts hold {tensors:,} tensors, and {wanted:,} belong to "
                             "the model", "get the parts again, all of one model")


def _require_writer(header: GgufHeader) -> None:
    """ModelFileError for a file that is no model which writes text."""
    kind = _kind(header)
    if kind:
        what, instead = _KINDS[kind]
        raise ModelFileError(f"{header.path} is {what}", instead)


def _kind(header: GgufHeader) -> str:
    """What a file is that is no model which writes; empty for one that does."""
    metadata, architecture = header.metadata, header.architecture
    said = str(metadata.get("general.type", "")).lower()
    if said in ("mmproj", "adapter", "imatrix", "vocab"):
        return said
    if architecture in _OF_PICTURES or metadata.get("clip.has_vision_encoder") or metadata.get("clip.projector_type"):
        return "mmproj"
    if not header.tensors:
        return "vocab"
    pools = _number(metadata.get(f"{architecture}.pooling_type"), 0)
    if architecture in _ENCODERS or pools > 0 or metadata.get(f"{architecture}.attention.causal") is False:
        return "encoder"
    return ""


def _number(value: Value | None, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise
