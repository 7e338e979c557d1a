"""Tiny random students for tests: real folders in the layout of the hub (config, safetensors, byte-level BPE
tokenizer, chat template), made in a fraction of a second, the same bytes for the same arguments. Must not download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from localdistill.modelfiles.architectures import ARCHITECTURES, Architecture

CORPUS = (
    "Question: a farmer has 12 apples and gives away 5. How many apples are left?",
    "First subtract: 12 - 5 = 7. So the answer is 7.",
    "Think step by step. 3 + 4 = 7, 7 * 2 = 14, 14 / 2 = 7, 10 - 1 = 9.",
    "The answer is 42. Therefore the result of the sum is 42, and the total is correct.",
    "Wait, let me check that again: is it really the right number of oranges in the basket?",
)

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAG_TOKENS = ("<think>", "</think>")

CHAT_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif -%}
{%- endif -%}"""
"""ChatML with the switch of Qwen3: an empty thinking block closes thinking when `enable_thinking` is false."""

OPENING_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
<think>
{% endif -%}"""
"""ChatML that always opens the thinking block itself, like the templates of distilled reasoning models."""

PLAIN_TEMPLATE = """{%- for message in messages -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}"""
"""ChatML without any notion of thinking."""

STRICT_TEMPLATE = """{%- for message in messages -%}
{%- if message['role'] == 'system' -%}{{ raise_exception('this student takes no instructions') }}{%- endif -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('ask, then answer') }}{%- endif -%}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}"""
"""ChatML that refuses system messages and roles that do not alternate."""

KINDS = {kind.model_type: kind for kind in ARCHITECTURES.values()}


def tiny_tokenizer(folder: Path, vocab: int = 400, chat_template: str = CHAT_TEMPLATE) -> int:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja into `folder`; the vocabulary size."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - len(TAG_TOKENS), special_tokens=list(SPECIAL_TOKENS), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAG_TOKENS])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
        "bos_token": None, "model_max_length": 512, "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    (folder / "chat_template.jinja").write_text(chat_template)
    return int(tokenizer.get_vocab_size())


def edit_json(file: Path, **changes: Any) -> None:
    """Set top-level keys of the JSON object in `file`, which is made when it is not there."""
    old = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(old | changes))


def tiny_model(folder: Path | str, arch: str = "llama", hidden: int = 64, layers: int = 2, vocab: int = 400,
               tied: bool = True, seed: int = 0, chat_template: str = CHAT_TEMPLATE, **overrides: Any) -> Path:
    """A random student in `folder`: `hidden` wide, `layers` deep, about `vocab` tokens, float32; returns the folder.

    Other keys of the model's config go into `overrides`.
    """
    from tokenizers import Tokenizer

    folder = Path(folder)
    size = tiny_tokenizer(folder, vocab, chat_template)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    stop, pad = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    settings: dict[str, Any] = {
        "vocab_size": size, "hidden_size": hidden, "intermediate_size": hidden * 2, "num_hidden_layers": layers,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "tie_word_embeddings": tied, "bos_token_id": None, "eos_token_id": stop, "pad_token_id": pad,
        "initializer_range": 0.1,
    }
    if arch == "qwen3":
        settings["head_dim"] = hidden // 4
    write_model(folder, KINDS[arch], settings | overrides, seed)
    return folder


def write_model(folder: Path, kind: Architecture, settings: dict[str, Any], seed: int) -> None:
    """Weights and config.json of a random model of `kind` with these settings, into `folder`."""
    import torch
    import transformers

    config = getattr(transformers, kind.config_class)(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(transformers, kind.name)(config)
    model.to(torch.float32).save_pretrained(folder, safe_serialization=True)


def tiny_of(kind: Architecture, folder: Path | str, seed: int = 0, pieces: str = "", **overrides: Any) -> Path:
    """A random student of `kind` with all that is special about it; `pieces` is a tokenizer of `tiny_pieces` that it
    has instead of a byte-level one."""
    from tests.tiny_tokenizers import tiny_pieces

    folder = Path(folder)
    settings = {"tie_word_embeddings": True, "num_hidden_layers": 2} | dict(kind.tiny) | overrides
    if not pieces:
        return tiny_model(folder, kind.model_type, layers=settings.pop("num_hidden_layers"),
                          tied=settings.pop("tie_word_embeddings"), seed=seed, **settings)
    size, begin, stop, pad = tiny_pieces(folder, pieces)
    write_model(folder, kind, {
        "vocab_size": size, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": begin, "eos_token_id": stop,
        "pad_token_id": pad, "initializer_range": 0.1, **settings}, seed)
    return folder


def tiny_adapter(student: Path, folder: Path, rank: int = 4) -> Path:
    """An adapter of random numbers over every linear layer of `student`, in `folder`."""
    import torch

    from localdistill.modelfiles.adapter import write_adapter
    from localdistill.modelfiles.folder import ModelFolder

    opened, tensors = ModelFolder.open(student), {}
    draw = torch.Generator().manual_seed(5)
    for name, (_, info) in sorted(opened.tensors.items()):
        layer = name.removesuffix(".weight")
        if layer.rpartition(".")[2] in opened.kind.linear_layers and len(info.shape) == 2:
            out_features, in_features = info.shape
            for side, shape in (("A", (rank, in_features)), ("B", (out_features, rank))):
                tensors[f"base_model.model.{layer}.lora_{side}.weight"] = 0.1 * torch.randn(shape, generator=draw)
    targets = sorted({name.split(".")[-3] for name in tensors})
    write_adapter(folder, tensors, rank=rank, alpha=2.0 * rank, dropout=0, targets=targets, tags=(), tied=True)
    return folder
