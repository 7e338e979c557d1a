"""Options of the `llama_cpp` engine, for the engine and for the session that follows them. Loads nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from localdistill.core.options import FileName, Options


class LlamaCppOptions(Options):
    """Options of the `llama_cpp` engine."""

    model: FileName
    """Path of the GGUF file."""
    context_tokens: int = Field(default=0, ge=0)
    """Tokens of prompt and reply together, for each sequence. 0 takes what the model was trained for, at most 4096."""
    parallel: int = Field(default=16, ge=1, le=256)
    """Sequences decoded at once. Fewer are used when memory does not hold so many."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of one process. 0 takes all physical cores, or a single one for files below 64 MiB, where more would
    only wait for each other."""
    processes: int = Field(default=0, ge=0, le=64)
    """Processes that hold the model and share the work, `parallel` sequences each. 0 takes one per physical core for
    files below 64 MiB, else a single one."""
    gpu_layers: int = Field(default=-1, ge=-1)
    """Layers on the GPU. -1 puts as many there as its free memory holds. 0 stays on the CPU."""
    flash_attention: bool | None = None
    """Force flash attention on or off. Unset: as measured, else off on a CPU, where it is mostly slower."""
    kv_type: Literal["f16", "q8_0", "q4_0"] = "f16"
    """How keys and values are stored. `q8_0` takes half the memory of `f16`, `q4_0` a quarter; both need flash
    attention and change replies a little."""
    kv_layout: Literal["auto", "split", "unified"] = "auto"
    """`split` gives each sequence a cache of its own, `unified` one pool to all, so that what prompts have in common
    is stored once and a long reply may use what short ones leave. `auto` looks at the prompts and the memory."""
    kv_tokens: int = Field(default=0, ge=0)
    """Size of the pool of a unified cache, in tokens; at least one sequence's context. 0 chooses."""
    tune: Literal["auto", "off"] = "auto"
    """`auto` measures for some seconds which threads, attention and cache layout are fastest when a file of 64 MiB or
    more is loaded for the first time on this machine, and remembers it. Options that are set go before."""
    system: str = ""
    """System prompt put in front of conversations that have none. Empty adds nothing."""
    chat_template: FileName = ""
    """Path of a Jinja file to use instead of the template in the model file. Empty uses the stored one."""
    think_tags: Literal["auto", "off"] = "auto"
    """`auto` splits replies at think tags into reasoning and answer; `off` takes the whole reply as the answer."""

    @model_validator(mode="after")
    def _attention_serves_cache(self) -> LlamaCppOptions:
        if self.kv_type != "f16" and self.flash_attention is False:
            raise ValueError(f"kv_type {self.kv_type} needs flash attention, which is switched off")
        return self
