"""What is known of every kind of student stands in one file, and a configuration that a library would read in another
way is refused rather than guessed."""

from __future__ import annotations

from typing import Any

import pytest

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.architectures import ARCHITECTURES

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 400, "num_attention_heads": 4,
         "intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 512}


@pytest.mark.parametrize("kind", ARCHITECTURES.values(), ids=lambda kind: kind.model_type)
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
    assert ARCHITECTURES["MistralForCausalLM"].window({}) == 4096
    assert ARCHITECTURES["MistralForCausalLM"].window({"sliding_window": None}) is None
    assert ARCHITECTURES["Qwen2ForCausalLM"].window({"sliding_window": 32}) is None
    assert ARCHITECTURES["Qwen2ForCausalLM"].window({"sliding_window": 32, "use_sliding_window": True}) == 32
