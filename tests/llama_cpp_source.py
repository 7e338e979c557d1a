"""llama.cpp's own converter, where its source is at hand: it is part of the source archive of llama-cpp-python and of
no wheel, so tests that compare with it are skipped elsewhere. Nothing here fetches it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

SOURCE = "LLAMA_CPP_PYTHON_SOURCE"
"""The variable that names the archive."""
_PARTS = ("conversion/", "gguf-py/gguf/", "convert_hf_to_gguf.py", "convert_lora_to_gguf.py")
_LEAST_BYTES, _GZIP = 10_000_000, b"\x1f\x8b"
_DRIVER = """
import runpy, sys
root, script, pre, *arguments = sys.argv[1:]
sys.path[:0] = [root + "/gguf-py", root]
from conversion import base
import conversion
for model in {conversion.get_model_class(name) for name in sys.stdin.read().split()}:
    for kind in model.__mro__:
        if "set_vocab" in vars(kind) or kind is model:
            kind.set_vocab = lambda self: self._set_vocab_gpt2()
base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
sys.argv = [script, *arguments]
runpy.run_path(root + "/" + script, run_name="__main__")
"""
"""Runs one of its programs. Tiny tokenizers are byte-level ones, and none of those that it knows by their hash."""


def unpacked(folder: Path) -> Path:
    """The root of llama.cpp's source, its converter in `folder`; the test is skipped where there is no archive."""
    for archive in _archives():
        with tarfile.open(archive) as tar:
            members = [member for member in tar if member.isfile()
                       and member.name.partition("/vendor/llama.cpp/")[2].startswith(_PARTS)]
            tar.extractall(folder, members, filter="data")
        return next(folder.glob("*/vendor/llama.cpp"))
    pytest.skip("no source archive: pip download --no-deps --no-binary llama-cpp-python "
                f"llama-cpp-python=={version('llama-cpp-python')} brings it; name it by {SOURCE}")


def _archives() -> Iterator[Path]:
    """The one that is named, else one that pip kept."""
    if named := os.environ.get(SOURCE):
        yield Path(named)
        return
    folder = f"llama_cpp_python-{version('llama-cpp-python')}/"
    for kept in Path.home().glob(".cache/pip/http*/**/*"):
        if kept.is_file() and kept.stat().st_size > _LEAST_BYTES and kept.open("rb").read(2) == _GZIP:
            with tarfile.open(kept) as tar:
                first = tar.next()
            if first is not None and first.name.startswith(folder):
                yield kept


def convert(root: Path, script: str, kind: str, *arguments: str, pre: str = "gpt-2") -> None:
    """Run one of its programs on a model of the architecture `kind`."""
    done = subprocess.run([sys.executable, "-c", _DRIVER, str(root), script, pre, *arguments], input=kind,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
