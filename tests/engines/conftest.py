"""Tiny random models, in GGUF for the real llama.cpp and as a folder for transformers, without a download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import server as server
from tests.tiny_models import tiny_model as tiny_student

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking %}<think>\n{% endif %}{% endif %}"
)
SPECIAL = ("<s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")


def byte_letters() -> list[str]:
    """The 256 letters that stand for bytes in a byte-level BPE vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters, extra = {b: chr(b) for b in printable}, 0
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(256 + extra)
            extra += 1
    return [letters[b] for b in range(256)]


def write_model(path: Path, layers: int = 2, width: int = 64, vocab: int = 512, context: int = 1024, seed: int = 0,
                template: str | None = TEMPLATE, adds_bos: bool = False, scale: float = 0.5) -> Path:
    """A llama of random weights whose vocabulary is bytes, a few special tokens and rare fillers."""
    np = pytest.importorskip("numpy")
    gguf = pytest.importorskip("gguf")
    rng = np.random.default_rng(seed)
    heads, hidden = width // 32, width * 3
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_rope_dimension_count(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(vocab)
    letters = byte_letters()
    fillers = [letters[97 + i % 26] * 3 + letters[97 + i // 26] for i in range(vocab - len(letters) - len(SPECIAL))]
    tokens = [*letters, *fillers, *SPECIAL]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if t in SPECIAL else 1 for t in tokens])
    writer.add_token_merges([f"{letters[97]} {letters[98]}"])
    writer.add_bos_token_id(tokens.index("<s>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(adds_bos)
    if template is not None:
        writer.add_chat_template(template)

    def tensor(name: str, *shape: int, spread: float = 1.0) -> None:
        writer.add_tensor(name, (rng.standard_normal(shape) * spread / shape[-1] ** 0.5).astype(np.float32))

    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(width, np.float32))

    tensor("token_embd.weight", vocab, width, spread=width**0.5)
    tensor("output.weight", vocab, width, spread=scale * 8)
    ones("output_norm.weight")
    for i in range(layers):
        ones(f"blk.{i}.attn_norm.weight")
        ones(f"blk.{i}.ffn_norm.weight")
        for part in ("q", "k", "v", "output"):
            tensor(f"blk.{i}.attn_{part}.weight", width, width, spread=2.0)
        tensor(f"blk.{i}.ffn_gate.weight", hidden, width, spread=2.0)
        tensor(f"blk.{i}.ffn_up.weight", hidden, width, spread=2.0)
        tensor(f"blk.{i}.ffn_down.weight", width, hidden, spread=2.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 0.2 M parameters."""
    return write_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes further models with other settings."""
    folder = tmp_path_factory.mktemp("gguf-more")

    def make(name: str, **settings: object) -> Path:
        return write_model(folder / f"{name}.gguf", **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A qwen3 of random weights that are large enough to prefer some tokens."""
    return tiny_student(tmp_path_factory.mktemp("student") / "m", "qwen3", seed=5, initializer_range=0.3)
