"""What GGUF says about a student beside its vocabulary: hyper-parameters and tensor names.

A config value that this file does not understand is an error, never a guess: a wrong rope or head count makes a file
that loads and talks nonsense."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.architectures.base import GgufKind, Shapes, head_size
from localdistill.modelfiles.architectures.rope import Rope
from localdistill.modelfiles.folder import ModelFolder

GLOBAL_TENSORS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


@dataclass(frozen=True)
class HyperParameters:
    """The hyper-parameters that GGUF stores."""

    kind: GgufKind
    block: Shapes
    """The shapes of a block's weights, by the names of transformers."""
    facts: Mapping[str, int | float]
    """What files of this kind state beside what all state, by the end of the key."""
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    rms_eps: float
    context: int
    vocab: int
    tied: bool
    rope: Rope

    def rotated_heads(self, name: str) -> int:
        """Head count when the rows of GGUF tensor `name` must be reordered for llama.cpp's rope, else 0.

        A kind that rotates neighbouring pairs needs it: transformers rotates the two halves of a head.
        """
        if not self.kind.rotates_pairs:
            return 0
        part = name.split(".")[-2]
        return {"attn_q": self.heads, "attn_k": self.kv_heads}.get(part, 0)

    def added(self, name: str) -> float:
        """What is added to every value of GGUF tensor `name`: one, to norms that are stored as a difference from it."""
        return 1.0 if self.kind.norms_add_one and name.endswith("norm.weight") else 0.0

    def gguf_name(self, name: str) -> str | None:
        """The GGUF name of the checkpoint's tensor `name`; None for one that is left out on purpose."""
        if name == "lm_head.weight" and self.tied:
            return None
        if name in GLOBAL_TENSORS:
            return GLOBAL_TENSORS[name]
        prefix, _, rest = name.removeprefix("model.layers.").partition(".")
        module, _, kind = rest.rpartition(".")
        part = self.kind.parts.get(module, "")
        if not name.startswith("model.layers.") or not prefix.isdigit() or not part or kind not in ("weight", "bias"):
            raise ModelFileError(f"tensor '{name}' is not part of a {self.kind.name} model that can be exported",
                                 "merge the adapter into its base model before exporting")
        if int(prefix) >= self.layers:
            raise ModelFileError(f"tensor '{name}' lies beyond the {self.layers} layers of config.json")
        if kind == "bias" and part not in self.kind.biases:
            raise ModelFileError(f"tensor '{name}' is a bias that llama.cpp does not know in a {self.kind.name} model",
                                 "this student cannot be exported to GGUF")
        return f"blk.{prefix}.{part}.{kind}"

    def expected_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes that must be there, by GGUF name (biases are optional or arch specific)."""
        shapes: dict[str, tuple[int, ...]] = {
            "token_embd.weight": (self.vocab, self.hidden), "output_norm.weight": (self.hidden,)}
        if not self.tied:
            shapes["output.weight"] = (self.vocab, self.hidden)
        layer = {self.kind.parts[module]: shape for module, shape in self.block.items()}
        for number in range(self.layers):
            shapes |= {f"blk.{number}.{part}.weight": shape for part, shape in layer.items()}
            shapes |= {f"blk.{number}.{part}.bias": layer[part][:1] for part in self.kind.needed_biases}
        return shapes

    def computed_tensors(self) -> Mapping[str, tuple[float, ...]]:
        """Divisors of the rotary frequencies, where they are stored, by GGUF name."""
        return self.rope.stored(self.head_dim)


def read_hyper_parameters(folder: ModelFolder, used_tokens: int = 0) -> HyperParameters:
    """The hyper-parameters of the model in `folder`. Raises ModelFileError for anything that GGUF could not
    say exactly.

    `used_tokens`: the longest text that the student is trained on and served with; 0 is all of its context. Where
    llama.cpp computes no sliding window for a kind, one that such a text never reaches past is left out, and the
    context that the file states ends at it.
    """
    config, kind = folder.config, folder.kind
    if said := kind.refused(config) or kind.gguf.refuse(config):
        raise ModelFileError(f"config.json: {said}, which llama.cpp does not compute",
                             "this student cannot be exported")
    used = used_tokens or folder.context_length
    if folder.window is not None and folder.gguf_context_length < used:
        raise ModelFileError(f"config.json: texts of {used} tokens are read through a sliding window of {folder.window}"
                             ", which llama.cpp does not compute for this family",
                             f"set student.max_tokens to at most {folder.window}, or use a student without a window")
    try:
        heads = int(config["num_attention_heads"])
        return HyperParameters(
            kind=kind.gguf, block=kind.shapes({**config, "num_key_value_heads": config.get("num_key_value_heads")
                                               or heads, "intermediate_size": config["intermediate_size"]}),
            facts=kind.gguf.facts(config), layers=folder.layers, hidden=folder.hidden_size,
            feed_forward=int(config["intermediate_size"]), heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=head_size(config),
            rms_eps=float(config.get("rms_norm_eps", 1e-6)), context=folder.gguf_context_length,
            vocab=folder.vocab_size, tied=folder.tied_embeddings, rope=kind.rope(config),
        )
    except KeyError as error:
        raise ModelFileError(f"config.json lacks {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"config.json holds a value of the wrong kind: {error}") from error
