"""Writes a GGUF of a real shape with random weights, so that speed can be measured without a download.

    python benchmarks/llama_cpp_model.py FOLDER

makes FOLDER/qwen2-0.5b-Q8_0.gguf and -Q4_0.gguf: the body of Qwen2-0.5B (24 layers, width 896, 14 heads, 2 key-value
heads) with a vocabulary of 32,000 byte-level tokens. Speed depends on shapes and types alone. The tokens that end a
turn have weights of zero, so that a greedy reply never ends by itself and both sides write the same number.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import quants

LAYERS, WIDTH, HIDDEN, HEADS, KV_HEADS, VOCAB, CONTEXT = 24, 896, 4864, 14, 2, 32_000, 8192
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENDS = ("<|im_end|>", "<|end_of_text|>")
SPECIAL = ("<|im_start|>", *ENDS)
TYPES = {"Q8_0": gguf.GGMLQuantizationType.Q8_0, "Q4_0": gguf.GGMLQuantizationType.Q4_0}
FILE_TYPES = {"Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0, "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0}


def byte_letters() -> list[str]:
    """The 256 letters that stand for bytes in a byte-level vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters, extra = {byte: chr(byte) for byte in printable}, 0
    for byte in range(256):
        if byte not in letters:
            letters[byte], extra = chr(256 + extra), extra + 1
    return [letters[byte] for byte in range(256)]


def describe(writer: gguf.GGUFWriter, quant: str) -> None:
    """Everything but the tensors."""
    writer.add_name(f"random weights in the shape of Qwen2-0.5B, {quant}")
    writer.add_file_type(FILE_TYPES[quant])
    writer.add_block_count(LAYERS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    letters = byte_letters()
    words = [letters[97 + i % 26] + letters[97 + i // 26 % 26] + letters[97 + i // 676 % 26] + letters[48 + i // 17576]
             for i in range(VOCAB - len(letters) - len(SPECIAL))]
    tokens = [*letters, *words, *SPECIAL]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges([f"{letters[97]} {letters[98]}"])
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def shapes() -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor; one-dimensional ones stay in 32 bits."""
    keys = WIDTH // HEADS * KV_HEADS
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCAB, WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        for name, shape in (
            ("attn_norm.weight", (WIDTH,)), ("ffn_norm.weight", (WIDTH,)), ("attn_q.weight", (WIDTH, WIDTH)),
            ("attn_q.bias", (WIDTH,)), ("attn_k.weight", (keys, WIDTH)), ("attn_k.bias", (keys,)),
            ("attn_v.weight", (keys, WIDTH)), ("attn_v.bias", (keys,)), ("attn_output.weight", (WIDTH, WIDTH)),
            ("ffn_gate.weight", (HIDDEN, WIDTH)), ("ffn_up.weight", (HIDDEN, WIDTH)),
            ("ffn_down.weight", (WIDTH, HIDDEN)),
        ):
            found[f"blk.{layer}.{name}"] = shape
    return found


def write(path: Path, quant: str) -> Path:
    """Write the model unless it is there."""
    if path.is_file():
        return path
    rng = np.random.default_rng(0)
    unfinished = path.with_suffix(".part")
    writer = gguf.GGUFWriter(unfinished, "qwen2")
    describe(writer, quant)
    for name, shape in shapes().items():
        if len(shape) == 1:
            value = np.ones(shape, np.float32) if "norm" in name else np.zeros(shape, np.float32)
            writer.add_tensor(name, value)
            continue
        values = rng.standard_normal(shape, np.float32) * np.float32(shape[-1] ** -0.5)
        if name == "token_embd.weight":
            values[-len(ENDS) :] = 0
        writer.add_tensor(name, quants.quantize(values, TYPES[quant]), raw_dtype=TYPES[quant])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(path)
    return path


def model_of(folder: Path, quant: str) -> Path:
    """The file of one quantization, written on first use."""
    folder.mkdir(parents=True, exist_ok=True)
    return write(folder / f"qwen2-0.5b-{quant}.gguf", quant)


if __name__ == "__main__":
    for name in TYPES:
        sys.stdout.write(f"{model_of(Path(sys.argv[1]), name)}\n")
