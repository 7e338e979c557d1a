"""An importance matrix: the mean square of every value that goes into a matrix of a model's blocks, seen while
llama.cpp computes texts, and handed to its quantizer. Runs in `llama_child`; must not load a model itself."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Matrix = Mapping[str, npt.NDArray[np.float32]]
    """Name of a weight (out, in) -> mean squares (in,) of what it is multiplied by."""

_TYPE_F32, _IS_TEXT = 0, 3


class _Tensor(ctypes.Structure):
    """A tensor of ggml, as far as it is read here. `Activations` compares what it finds with ggml's own words."""

    _fields_ = (
        ("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * 4), ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int), ("op_params", ctypes.c_int32 * 16), ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10), ("view_src", ctypes.c_void_p), ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p), ("name", ctypes.c_char * 64),
    )


class Activations:
    """Adds up squares while a context that was made with `callback` decodes on the CPU."""

    def __init__(self, lib: Any) -> None:
        self._ggml = lib._lib
        self._ggml.ggml_op_name.restype = self._ggml.ggml_get_name.restype = ctypes.c_char_p
        self._ggml.ggml_get_name.argtypes = [ctypes.c_void_p]
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._wrong = ""
        self.callback = lib.ggml_backend_sched_eval_callback(self._see)

    def matrix(self) -> Matrix:
        """What was seen. SystemExit where that cannot be relied on."""
        import numpy as np

        if not self._sums or self._wrong:
            raise SystemExit(self._wrong or "llama.cpp showed no matrix product")
        found = {name: (total / self._counts[name]).astype(np.float32) for name, total in self._sums.items()}
        if not all(np.isfinite(values).all() for values in found.values()):
            raise SystemExit("the activations are not finite")
        return found

    def _see(self, address: int, asked: bool, _data: Any) -> bool:
        """ggml's question whether it should stop behind a tensor, then its report that it is computed. Nothing may be
        raised into C."""
        try:
            node = _Tensor.from_address(address)
            if self._ggml.ggml_get_name(address) != node.name:
                raise ValueError("its tensors are laid out in a way that is not known here")
            weight = self._weight(node)
            if weight and not asked:
                self._add(weight, _Tensor.from_address(node.src[1]))
            return bool(weight) or not asked
        except Exception as error:
            self._wrong = self._wrong or f"llama.cpp could not be watched: {error}"
            return False

    def _weight(self, node: _Tensor) -> str:
        """The name of the weight that a node multiplies by; empty for other nodes."""
        if self._ggml.ggml_op_name(node.op) != b"MUL_MAT" or not node.src[0]:
            return ""
        name: str = _Tensor.from_address(node.src[0]).name.decode("utf-8", "replace")
        return name if name.startswith("blk.") and name.endswith(".weight") else ""

    def _add(self, weight: str, given: _Tensor) -> None:
        import numpy as np

        width, rows = given.ne[0], given.ne[1]
        if given.type != _TYPE_F32 or given.nb[0] != 4 or given.ne[2] * given.ne[3] != 1:
            raise ValueError(f"what goes into {weight} is no plain table of float32")
        size = (rows - 1) * given.nb[1] + width * 4
        raw = np.frombuffer((ctypes.c_char * size).from_address(given.data), np.uint8)
        values = np.lib.stride_tricks.as_strided(raw.view(np.float32), (rows, width), (given.nb[1], 4))
        total = np.square(values, dtype=np.float64).sum(axis=0)
        self._sums[weight] = self._sums[weight] + total if weight in self._sums else total
        self._counts[weight] = self._counts.get(weight, 0) + rows


def hand_over(lib: Any, params: Any, file: Path, said: str) -> list[Any]:
    """Let the quantizer round by the matrix in `file`, and write into what it makes where that comes from. Returns what
    must be kept until it has run."""
    import numpy as np

    with np.load(file, allow_pickle=False) as stored:
        kept = {name: np.ascontiguousarray(stored[name], np.float32) for name in stored.files}
    floats = ctypes.POINTER(ctypes.c_float)
    entries = (lib.llama_model_imatrix_data * (len(kept) + 1))()
    for entry, (name, values) in zip(entries, kept.items(), strict=False):
        entry.name, entry.data, entry.size = name.encode(), values.ctypes.data_as(floats), values.size
    facts = (lib.llama_model_kv_override * 2)()
    facts[0].tag, facts[0].key, facts[0].value.val_str = _IS_TEXT, b"quantize.imatrix.dataset", said.encode()[:127]
    params.imatrix = ctypes.cast(entries, ctypes.POINTER(lib.llama_model_imatrix_data))
    params.kv_overrides = ctypes.cast(facts, ctypes.POINTER(lib.llama_model_kv_override))
    return [kept, entries, facts]


def pieces(row: list[int], size: int) -> Iterator[tuple[int, list[int]]]:
    """First place and tokens of every piece of a text, so that few logits are held at once."""
    return ((first, row[first:first + size]) for first in range(0, len(row), size))
