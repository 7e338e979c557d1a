"""What is known of every kind of student stands in one file, and a configuration that a library would read in another
way is refused rather than guessed."""

from __future__ import annotations

from typing import Any

import pytest

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.architectures import ARCHITECTURES

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 400, "num_attention_heads": 4,
         "intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 512}


@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES.values() if kind.activation == "silu" and "q_proj"
                                  in kind.linear_layers], ids=lambda kind: kind.model_type)
def test_mlx_is_told_every_setting_so_that_none_of_its_defaults_counts(kind: Any) -> None:
    told = kind.mlx_config(SMALL | {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}})
    assert (told["rope_theta"], told["rope_scaling"]) == (5e5, {"type": "default"})
    assert told["tie_word_embeddings"] is False, "the class of mlx-lm would drop the head"
    assert told["head_dim"] == 8 and told["num_key_value_heads"] == 2
    older = kind.mlx_config(SMALL | {"rope_theta": 5e5, "rope_scaling": {
        "type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}})
    assert older["rope_theta"] == 5e5 and older["rope_scaling"]["factor"] == 8.0


@pytest.mark.parametrize(("name", "config", "said"), [
    ("LlamaForCausalLM", {"hidden_act": "gelu"}, "hidden_act"),
    ("LlamaForCausalLM", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope type 'dynamic'"),
    ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "attention_factor": 1.5}},
     "its own attention factor"),
    ("Qwen2ForCausalLM", {"head_dim": 16}, "head_dim 16"),
    ("Qwen3ForCausalLM", {"attention_bias": True}, "attention_bias"),
])
def test_what_mlx_would_leave_out_in_silence_is_refused(name: str, config: dict[str, Any], said: str) -> None:
    with pytest.raises(ModelFileError, match=said):
        ARCHITECTURES[name].mlx_config(SMALL | config)


def test_windows_are_read_as_each_kind_states_them() -> None:
    def window(name: str, **told: Any) -> int | None:
        return ARCHITECTURES[name].window(SMALL | told)

    assert window("MistralForCausalLM") == 4096 and window("MistralForCausalLM", sliding_window=None) is None
    assert window("Qwen2ForCausalLM", sliding_window=32) is None
    assert window("Qwen2ForCausalLM", sliding_window=32, use_sliding_window=True) is None
    assert window("Qwen2ForCausalLM", sliding_window=32, use_sliding_window=True, max_window_layers=1) == 32
    gemma = ARCHITECTURES["Gemma3ForCausalLM"].windows(SMALL | {"num_hidden_layers": 7, "sliding_window": 9})
    assert gemma == [9, 9, 9, 9, 9, None, 9]
    smol = SMALL | {"num_hidden_layers": 4, "use_sliding_window": True, "sliding_window": 9}
    assert ARCHITECTURES["SmolLM3ForCausalLM"].windows(smol) == [None, None, None, 9]


@pytest.mark.parametrize(("name", "told", "said"), [
    ("Gemma2ForCausalLM", {"attn_logit_softcapping": None, "tie_word_embeddings": True}, "a cap is switched off"),
    ("Gemma2ForCausalLM", {"layer_types": ["full_attention"] * 2, "tie_word_embeddings": True}, "every second one"),
    ("Gemma2ForCausalLM", {"query_pre_attn_scalar": 5, "tie_word_embeddings": True}, "query_pre_attn_scalar is 5"),
    ("Gemma3ForCausalLM", {"sliding_window_pattern": 2}, "every 6th one"),
    ("Gemma3ForCausalLM", {"rope_local_base_freq": 5000.0}, "the base 5000"),
    ("Gemma3ForCausalLM", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("SmolLM3ForCausalLM", {"no_rope_layers": [0, 1]}, "every 4th"),
])
def test_what_llama_cpp_would_compute_otherwise_is_refused(name: str, told: dict[str, Any], said: str) -> None:
    assert said in ARCHITECTURES[name].gguf.refuse({"head_dim": 256} | SMALL | told)


def test_positions_of_long_texts_are_read_from_every_spelling() -> None:
    factors = {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.0, 4.0]}
    phi = ARCHITECTURES["Phi3ForCausalLM"]
    older = SMALL | {"rope_scaling": {"type": "su", **factors}, "original_max_position_embeddings": 128}
    newer = SMALL | {"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 128, **factors}}
    assert phi.rope(older) == phi.rope(newer) and phi.context(older) == 128
    assert phi.mlx_config(newer)["rope_scaling"]["long_factor"] == factors["short_factor"], "no longer text comes to it"
    with pytest.raises(ModelFileError, match="4 factors"):
        phi.rope(SMALL | {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}})
