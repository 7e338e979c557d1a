"""Writes one GGUF file from a folder of safetensors, in pieces of its tensors: memory holds no whole one. Writes
exactly where it is told; names, gates and renames are the exporter's work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from localdistill.core.errors import MissingExtra, ModelFileError
from localdistill.exporters.gguf_parts.hyper_parameters import HyperParameters, read_hyper_parameters
from localdistill.exporters.gguf_parts.tokenizer_kinds import served_name
from localdistill.exporters.gguf_parts.vocabulary import Vocabulary, read_vocabulary
from localdistill.exporters.gguf_parts.weights import StoredTensor, stored_tensors
from localdistill.modelfiles.folder import ModelFolder
from localdistill.safety.files import writing

if TYPE_CHECKING:
    import numpy.typing as npt

FileType = Literal["F32", "F16", "BF16", "Q8_0"]

_GENERAL_FILE_TYPE = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}
_Q8_BLOCK = 32


class TooLarge(ModelFileError):
    """A weight that F16 cannot hold."""


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of the output."""

    name: str
    source: StoredTensor | None
    """None for a computed tensor."""
    shape: tuple[int, ...]
    type: FileType
    heads: int = 0
    """Heads whose rows are reordered; 0 for none."""

    @property
    def size_bytes(self) -> int:
        """Bytes in the file, without padding."""
        values = 1
        for length in self.shape:
            values *= length
        return {"F32": values * 4, "F16": values * 2, "BF16": values * 2, "Q8_0": values // _Q8_BLOCK * 34}[self.type]


def convert_to_gguf(model_folder: Path, output: Path, file_type: FileType = "F16", *, name: str = "",
                    thinks: bool | None = None, facts: Mapping[str, str] | None = None, used_tokens: int = 0,
                    tick: Callable[[int, int], None] | None = None) -> None:
    """Write the model in `model_folder` (config.json, safetensors, tokenizer.json, chat template) to `output`.

    Two-dimensional tensors are stored in `file_type` (Q8_0 falls back to F16 where rows are no multiple of 32), norms
    and biases in F32. `name` and `facts` (for example license) become general metadata; `thinks`
    fixes the thinking switch of the stored template (None leaves it). `used_tokens` is the longest text that the
    student is for (0: all of its context; see `read_hyper_parameters`). `tick(done, total)` counts
    bytes and may raise to stop. Raises ModelFileError for a model that cannot be exported, DiskFull or
    LocalDistillError when the disk refuses; `output` is removed then.
    """
    hyper, vocabulary, plan = _prepared(model_folder, file_type, thinks, used_tokens)
    try:
        with writing(output):
            _write(output, hyper, vocabulary, plan, file_type, name or output.name.split(".")[0], facts or {},
                   tick or (lambda done, total: None))
    except BaseException:
        output.unlink(missing_ok=True)
        raise


def require_convertible(model_folder: Path, thinks: bool | None, used_tokens: int) -> None:
    """Raise what `convert_to_gguf` would raise for this model before it writes, without reading its weights."""
    _prepared(model_folder, "F16", thinks, used_tokens)


def _prepared(model_folder: Path, file_type: FileType, thinks: bool | None,
              used_tokens: int) -> tuple[HyperParameters, Vocabulary, list[PlannedTensor]]:
    folder = ModelFolder.open(model_folder)
    hyper = read_hyper_parameters(folder, used_tokens)
    return (hyper, read_vocabulary(folder, thinks),
            plan_tensors(hyper, stored_tensors(folder), file_type))


def plan_tensors(hyper: HyperParameters, stored: Mapping[str, StoredTensor],
                 file_type: FileType) -> list[PlannedTensor]:
    """The output's tensors in file order. Raises ModelFileError when one is missing or has another shape."""
    plan: dict[str, PlannedTensor] = {}
    for name, tensor in stored.items():
        target = hyper.gguf_name(name)
        if target is not None:
            kind: FileType = file_type if len(tensor.shape) == 2 else "F32"
            if kind == "Q8_0" and tensor.shape[-1] % _Q8_BLOCK:
                kind = "F16"
            plan[target] = PlannedTensor(target, tensor, tensor.shape, kind, hyper.rotated_heads(target))
    for target, shape in hyper.expected_shapes().items():
        if target not in plan:
            raise ModelFileError(f"the weights lack a tensor for '{target}'", "is the folder a complete merged model?")
        if plan[target].shape != shape:
            raise ModelFileError(f"tensor '{target}' has shape {plan[target].shape}; config.json means {shape}")
    for target, values in hyper.computed_tensors().items():
        plan[target] = PlannedTensor(target, None, (len(values),), "F32")
    return sorted(plan.values(), key=_file_order)


def _file_order(tensor: PlannedTensor) -> tuple[int, int, str]:
    parts = tensor.name.split(".")
    return (1, int(parts[1]), tensor.name) if parts[0] == "blk" else (0, 0, tensor.name)


def _write(output: Path, hyper: HyperParameters, vocabulary: Vocabulary, plan: list[PlannedTensor],
           file_type: FileType, name: str, facts: Mapping[str, str], tick: Callable[[int, int], None]) -> None:
    try:
        import gguf
        import numpy as np
    except ImportError as error:
        raise MissingExtra.of("llama", "gguf") from error
    writer = gguf.GGUFWriter(path=None, arch=hyper.kind.name)
    try:
        _add_facts(writer, hyper, served_name(name, vocabulary.strips), file_type, facts)
        _add_vocabulary(writer, vocabulary)
        for tensor in plan:
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float16), tensor.size_bytes,
                                   raw_dtype=gguf.GGMLQuantizationType[tensor.type])
        writer.write_header_to_file(path=output)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done, total = 0, sum(tensor.size_bytes for tensor in plan)
        (out,) = writer.fout or []
        for tensor in plan:
            writer.write_padding(out, out.tell())
            for piece in _encoded(tensor, hyper):
                piece.tofile(out)
                done += piece.nbytes
                tick(done, total)
            writer.write_padding(out, tensor.size_bytes)
        for stream in writer.fout or []:
            stream.flush()
            os.fsync(stream.fileno())
    finally:
        writer.close()


def _encoded(tensor: PlannedTensor, hyper: HyperParameters) -> Iterator[npt.NDArray[Any]]:
    """One tensor as it lies in the file, in pieces of rows: floats, or uint8 (rows, bytes per row) when quantized."""
    import numpy as np
    from gguf import GGMLQuantizationType, quants

    if tensor.source is None:
        yield np.array(hyper.computed_tensors()[tensor.name], dtype=np.float32)
        return
    head, added = tensor.shape[0] // tensor.heads if tensor.heads else 1, hyper.added(tensor.name)
    for _, rows in tensor.source.rows(multiple=head):
        values = rows.reshape(rows.shape[0], -1)
        if added:
            values = values + np.float32(added)
        values = rotated(values, rows.shape[0] // head if tensor.heads else 0)
        with np.errstate(over="ignore"):
            encoded = quants.quantize(np.ascontiguousarray(values), GGMLQuantizationType[tensor.type])
        check = values if encoded.dtype == np.uint8 else encoded
        if not np.isfinite(check).all():
            if not np.isfinite(values).all():
                raise ModelFileError(f"a value of tensor '{tensor.source.name}' is not finite", "train again")
            raise TooLarge(f"a value of tensor '{tensor.source.name}' is too large for {tensor.type}",
                           "export as BF16")
        yield encoded


def rotated(rows: npt.NDArray[Any], heads: int) -> npt.NDArray[Any]:
    """rows (heads x width, n) of whole heads, in the order that llama.cpp rotates in: pairs beside each other where
    transformers has the first half of a head before the second; as they are where `heads` is 0."""
    if not heads:
        return rows
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def _add_facts(writer: Any, hyper: HyperParameters, name: str, file_type: FileType,
               facts: Mapping[str, str]) -> None:
    writer.add_type("model")
    writer.add_name(name)
    for key, value in facts.items():
        writer.add_string(f"general.{key}", value)
    writer.add_file_type(_GENERAL_FILE_TYPE[file_type])
    if file_type == "Q8_0":
        writer.add_quantization_version(2)
    writer.add_block_count(hyper.layers)
    writer.add_context_length(hyper.context)
    writer.add_embedding_length(hyper.hidden)
    writer.add_feed_forward_length(hyper.feed_forward)
    writer.add_head_count(hyper.heads)
    writer.add_head_count_kv(hyper.kv_heads)
    writer.add_key_length(hyper.head_dim)
    writer.add_value_length(hyper.head_dim)
    writer.add_layer_norm_rms_eps(hyper.rms_eps)
    writer.add_vocab_size(hyper.vocab)
    rope = hyper.rope
    writer.add_rope_dimension_count(rope.width(hyper.head_dim))
    writer.add_rope_freq_base(rope.base)
    for key, number in hyper.facts.items():
        state = writer.add_float32 if isinstance(number, float) else writer.add_uint32
        state(f"{hyper.kind.name}.{key}", number)
    if rope.kind in ("linear", "yarn"):
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType(rope.kind))
        writer.add_rope_scaling_factor(rope.factor)
    if rope.kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope.original_context)
        writer.add_rope_scaling_yarn_beta_fast(rope.beta_fast)
        writer.add_rope_scaling_yarn_beta_slow(rope.beta_slow)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.kind.model)
    writer.add_tokenizer_pre(vocabulary.kind.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
        writer.add_add_eos_token(False)
        writer.add_remove_extra_whitespaces(False)
    if vocabulary.charsmap:
        writer.add_precompiled_charsmap(vocabulary.charsmap)
    if vocabulary.unknown is not None:
        writer.add_unk_token_id(vocabulary.unknown)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.bos is not None:
        writer.add_bos_token_id(vocabulary.bos)
    stops = vocabulary.stops
    writer.add_eos_token_id(stops.end_of_text)
    writer.add_eot_token_id(stops.end_of_turn)
    if stops.end_of_message is not None:
        writer.add_eom_token_id(stops.end_of_message)
    # Ollama's own engine knows no other names than the end of text, and reads all of them here.
    writer.add_array("tokenizer.ggml.eos_token_ids", list(stops.all))
    if vocabulary.pad is not None:
        writer.add_pad_token_id(vocabulary.pad)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_space_prefix(vocabulary.space_prefix)
    writer.add_chat_template(vocabulary.chat_template)
