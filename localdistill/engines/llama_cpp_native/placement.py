"""GPU offloading, which layers of a model go to a GPU: asks llama.cpp's backends what is free, and counts. Runs in
the child process, but for the arithmetic."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_CPU_KIND = 0
_GPU_KINDS = (1, 2)
"""ggml's numbers for cards with memory of their own and for those that use the machine's."""
_RESERVE_BYTES = 512 * 1024 * 1024
_RESERVE_SHARE = 0.08
"""Of the free memory, for what a driver and other programs take meanwhile."""


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU as llama.cpp sees it."""

    name: str
    description: str
    free_bytes: int
    total_bytes: int


def look_at_devices() -> tuple[list[Device], str]:
    """The GPUs that this build of llama.cpp can use (none for a build without GPU support), and the processor."""
    from llama_cpp._ggml import libggml as lib

    lib.ggml_backend_dev_count.restype = ctypes.c_size_t
    lib.ggml_backend_dev_get.restype, lib.ggml_backend_dev_get.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    lib.ggml_backend_dev_type.argtypes = [ctypes.c_void_p]
    for function in (lib.ggml_backend_dev_name, lib.ggml_backend_dev_description):
        function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    lib.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p] + 2 * [ctypes.POINTER(ctypes.c_size_t)]
    found = [lib.ggml_backend_dev_get(index) for index in range(lib.ggml_backend_dev_count())]
    kinds = {lib.ggml_backend_dev_type(one): _looked_at(lib, one) for one in found}
    gpus = [_looked_at(lib, one) for one in found if lib.ggml_backend_dev_type(one) in _GPU_KINDS]
    return [device for device in gpus if device.total_bytes], kinds[_CPU_KIND].description if _CPU_KIND in kinds else ""


def _looked_at(lib: Any, device: Any) -> Device:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    lib.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    name, description = lib.ggml_backend_dev_name(device), lib.ggml_backend_dev_description(device)
    return Device(name.decode("utf-8", "replace"), description.decode("utf-8", "replace"), free.value, total.value)


def layers_that_fit(layer_bytes: Sequence[int], kv_layer_bytes: int, free_bytes: Sequence[int]) -> int:
    """How many layers to put on GPUs with `free_bytes` each, counted from the end as llama.cpp does.

    `layer_bytes`: weights of each block in order, and last those of the output. `kv_layer_bytes`: keys and values of
    one block for all sequences; they lie where the block lies. All layers when sizes are not known.
    """
    room = [free * (1 - _RESERVE_SHARE) - _RESERVE_BYTES for free in free_bytes]
    left = sum(space for space in room if space > 0)
    count = 0
    for index, size in enumerate(reversed(layer_bytes)):
        left -= size + (kv_layer_bytes if index else 0)
        if left < 0:
            return count
        count += 1
    return count


def described(devices: Sequence[Device]) -> list[dict[str, Any]]:
    """JSON-ready."""
    return [asdict(device) for device in devices]
