"""Loads a checked model folder into torch, without network, remote code or pickles. The one place that calls
`from_pretrained`; engines and trainers share it so that both see the same model. Must not import torch at import."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from localdistill.core.errors import MissingExtra, ModelFileError, UsageError
from localdistill.modelfiles.devices import best_of
from localdistill.modelfiles.folder import ModelFolder
from localdistill.safety.children import go_offline

if TYPE_CHECKING:
    import torch

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]

QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

_SHARING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""OpenMP's threads spin while they wait; where another program wants the same cores, that makes training ten times
slower. GPUs are numbered as their driver does, so that the one that a plan names is the one that is taken. Read by the
runtimes when torch is first imported."""

_DROPOUTS = ("dropout", "_pdrop")
"""Ends of settings that drop at random while a model is trained."""


def import_torch() -> Any:
    """The torch module, imported so that it shares the machine: `torch` must not be imported before this is called.

    Raises MissingExtra when the `train` extra is not installed.
    """
    go_offline()
    os.environ.update(QUIET)
    for name, value in _SHARING.items():
        os.environ.setdefault(name, value)
    try:
        import torch
    except ImportError as error:
        raise MissingExtra.of("train", "torch") from error
    return torch


def import_transformers() -> Any:
    """The transformers module, imported with the network off and its progress bars silent.

    Raises MissingExtra when the `train` extra is not installed.
    """
    import_torch()
    try:
        import transformers
    except ImportError as error:
        raise MissingExtra.of("train", "transformers") from error
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    return transformers


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is the GPU with the most memory that CUDA (or ROCm, which goes by that name) offers, else the CPU;
    anything else is taken as torch names it. UsageError when that is not there."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        if count < 2:
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        best = best_of([torch.cuda.get_device_properties(index).total_memory for index in range(count)])
        torch.cuda.set_device(best)
        return torch.device("cuda", best)
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UsageError(f"device = \"{name}\": torch {torch.__version__} sees {count} such GPUs",
                         'see localdistill doctor, or take device = "auto"')
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError(f'device = "mps": torch {torch.__version__} sees no Apple GPU', 'take device = "auto"')
    return device


def device_name(device: torch.device) -> str:
    """The device as people know it: `cuda (NVIDIA T4)`, `cpu`."""
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def pick_dtype(name: DtypeName, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on CUDA chips that compute it (float16 on those that only imitate it), float32 elsewhere."""
    import torch

    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.float32


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that an allocation failed, on a GPU or on the CPU."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "not enough memory" in text
                                                or "can't allocate memory" in text)


def load_causal_model(folder: ModelFolder, dtype: torch.dtype, device: torch.device,
                      quantization: Literal["none", "nf4"] = "none") -> Any:
    """The frozen model of `folder` on `device` in evaluation mode; linear layers in NF4 when asked.

    Raises ModelFileError when the weights do not fit the configuration.
    """
    transformers = import_transformers()
    # What is dropped in training is the adapter's own dropout alone, as MLX has it.
    undropped = {key: 0.0 if key.endswith(_DROPOUTS) else value for key, value in folder.config.items()}
    config = getattr(transformers, folder.kind.config_class).from_dict(undropped)
    settings: dict[str, Any] = {"device_map": {"": device}} if quantization == "nf4" else {}
    if quantization == "nf4":
        settings["quantization_config"] = _nf4(transformers, dtype)
    try:
        model, report = getattr(transformers, folder.architecture).from_pretrained(
            folder.path, config=config, dtype=dtype, local_files_only=True, use_safetensors=True,
            attn_implementation=folder.kind.attention, output_loading_info=True, **settings)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ModelFileError(f"cannot load {folder.path}: {str(error).splitlines()[0]}",
                             "the weights do not fit config.json; download the model again") from error
    missing = sorted(report.get("missing_keys") or ())
    if missing:
        raise ModelFileError(f"{folder.path} lacks the weight '{missing[0]}' ({len(missing)} missing)",
                             "download the model again")
    if folder.tied_embeddings:
        # Files may hold the head a second time, which is then loaded as another weight with the same values.
        model.lm_head.weight = model.model.embed_tokens.weight
    model.requires_grad_(False)
    if quantization == "nf4":
        _never_pack(model)
    return (model if quantization == "nf4" else model.to(device)).eval()


def _never_pack(model: Any) -> None:
    """Let NF4 layers compute on every CPU as they do in training. For CPUs that multiply in bfloat16 bitsandbytes packs
    the weights of a model that only answers another way: it computes other figures then than those that were trained,
    and refuses layers whose width is no multiple of 32."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def dense_weight(weight: Any) -> Any:
    """The weight (out, in) of a linear layer as it computes: NF4 as it comes out of its few bits."""
    if (state := getattr(weight, "quant_state", None)) is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, state)


def _nf4(transformers: Any, dtype: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingExtra.of("train", "bitsandbytes") from error
    return transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                           bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)
