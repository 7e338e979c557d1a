"""Quantizes a 16-bit GGUF with llama.cpp's own quantizer in a child process. The output appears under the name it is
given only complete and checked; on any failure nothing is left."""

from __future__ import annotations

import os
from pathlib import Path

from localdistill.core.borders import BORDERS
from localdistill.core.errors import LocalDistillError, ModelFileError
from localdistill.core.events import Cancel
from localdistill.exporters.gguf_parts.importance import ImportanceMatrix
from localdistill.exporters.gguf_parts.llama_client import default_threads, run_llama
from localdistill.modelfiles.gguf_header import read_header

_FTYPES = {"Q8_0": 7, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "Q4_0": 2, "Q4_K_S": 14}


def quantize(source: Path, output: Path, file_type: str, cancel: Cancel,
             matrix: ImportanceMatrix | None = None) -> None:
    """Write the GGUF `source` as `file_type` to `output`, rounded by `matrix`. Raises LocalDistillError; `output` does
    not exist then."""
    partial = output.with_name(output.name + ".partial")
    if partial.resolve() == source.resolve() or output.resolve() == source.resolve():
        raise LocalDistillError("the quantizer cannot write to the file it reads")
    try:
        run_llama({"action": "quantize", "model": str(source), "output": str(partial), "file_type": file_type,
                   "threads": default_threads(source.stat().st_size), "buffer_bytes": BORDERS.quantized_bytes,
                   "matrix": str(matrix.file) if matrix else "", "matrix_of": matrix.said if matrix else ""},
                  f"quantizing to {file_type}", cancel)
        check_gguf(partial, _tensor_names(source), _FTYPES[file_type])
        os.replace(partial, output)
    finally:
        partial.unlink(missing_ok=True)


def check_gguf(file: Path, names: set[str], file_type: int) -> None:
    """Read the header of `file` again: it holds the tensors `names`, says `file_type`, and is long enough for its data.

    Raises ModelFileError otherwise.
    """
    header = read_header(file)
    found, said = {tensor.name for tensor in header.tensors}, header.metadata.get("general.file_type")
    if found != names or said != file_type:
        raise ModelFileError(f"{file.name} is incomplete: {len(found)} of {len(names)} tensors, file type {said}",
                             "is there enough disk space?")


def _tensor_names(file: Path) -> set[str]:
    return {tensor.name for tensor in read_header(file).tensors}
