"""llama.cpp's side of quantizing and of the parity gate, run as `python -m ... JOB`: a child process, because the
library aborts or dies on a signal for bad files and full disks. Reads one JSON job, writes one JSON result beside
it, and never decides whether a figure is good."""

from __future__ import annotations

import ctypes
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localdistill.exporters.gguf_parts.activations import Activations, hand_over, pieces
from localdistill.safety.text import display_safe

_LOG_WARNING = 3
_TYPE_F32 = 0
_AT_ONCE = 128
"""Tokens of a text that are watched at once."""


def main(job_file: Path) -> int:
    """Do the job in `job_file`; its result goes to `result` of the job. The exit status is 0 when it was written."""
    import llama_cpp.llama_cpp as lib

    job = json.loads(job_file.read_text(encoding="utf-8"))
    log = _log_to_stderr(lib)
    lib.llama_log_set(log, ctypes.c_void_p(0))
    lib.llama_backend_init()
    actions = {"quantize": _quantize, "tokenize": _tokenize, "compute": _compute, "watch": _watch}
    result = actions[job["action"]](lib, job)
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")
    return 0


def _log_to_stderr(lib: Any) -> Any:
    def write(level: int, text: bytes, _data: Any) -> None:
        if level >= _LOG_WARNING:
            sys.stderr.write(display_safe(text.decode("utf-8", "replace")))

    return lib.llama_log_callback(write)


def _quantize(lib: Any, job: dict[str, Any]) -> dict[str, Any]:
    params = lib.llama_model_quantize_default_params()
    params.nthread = job["threads"]
    params.ftype = getattr(lib, f"LLAMA_FTYPE_MOSTLY_{job['file_type']}")
    params.max_buf_size = job["buffer_bytes"]
    kept = hand_over(lib, params, Path(job["matrix"]), job["matrix_of"]) if job["matrix"] else []
    code = lib.llama_model_quantize(job["model"].encode(), job["output"].encode(), ctypes.byref(params))
    del kept
    return {"code": int(code)}


@contextmanager
def _loaded(lib: Any, job: dict[str, Any], vocab_only: bool) -> Iterator[Any]:
    params = lib.llama_model_default_params()
    params.vocab_only = vocab_only
    params.n_gpu_layers = 0
    # The repacked weight layouts change rounding, and those for AMX crash in 0.3.36 on batches of several tokens.
    params.use_extra_bufts = False
    model = lib.llama_model_load_from_file(job["model"].encode(), params)
    if not model:
        raise SystemExit("llama.cpp could not load the file")
    try:
        yield model
    finally:
        lib.llama_model_free(model)


def _ids(lib: Any, vocab: Any, text: str, add_special: bool) -> list[int]:
    data = text.encode("utf-8")
    room = len(data) + 8
    tokens = (lib.llama_token * room)()
    count = lib.llama_tokenize(vocab, data, len(data), tokens, room, add_special, True)
    if count < 0:
        raise SystemExit("llama.cpp could not tokenize a string")
    return list(tokens[:count])


def _tokenize(lib: Any, job: dict[str, Any]) -> dict[str, Any]:
    """`texts`: ids without BOS; `prompts`: ids as a server feeds them (BOS added unless the text begins with it)."""
    with _loaded(lib, job, vocab_only=True) as model:
        vocab = lib.llama_model_get_vocab(model)
        bos = int(lib.llama_vocab_bos(vocab))
        eos = int(lib.llama_vocab_eos(vocab))
        bos_text, eos_text = (lib.llama_vocab_get_text(vocab, token).decode() if token >= 0 else ""
                              for token in (bos, eos))
        template = lib.llama_model_chat_template(model, None)
        return {
            "texts": [_ids(lib, vocab, text, False) for text in job["texts"]],
            "prompts": [_ids(lib, vocab, text, not (bos_text and text.startswith(bos_text)))
                        for text in job["prompts"]],
            "template": template.decode("utf-8") if template is not None else None,
            "bos": bos,
            "bos_text": bos_text,
            "eos_text": eos_text,
            "stops": [token for token in range(lib.llama_vocab_n_tokens(vocab))
                      if lib.llama_vocab_is_eog(vocab, token)],
        }


def _compute(lib: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Logits of every position of each of `prompts` (ids), saved as N.npy (T, V) in `folder`, then greedy tokens."""
    import numpy as np

    with _loaded(lib, job, vocab_only=False) as model:
        vocab = lib.llama_model_get_vocab(model)
        size, stops = lib.llama_vocab_n_tokens(vocab), set(job["stops"])
        longest = max(len(prompt) for prompt in job["prompts"]) + job["greedy_tokens"]
        context = _context(lib, model, longest, job["threads"])
        greedy = []
        for number, prompt in enumerate(job["prompts"]):
            lib.llama_memory_clear(lib.llama_get_memory(context), True)
            logits = _decode(lib, context, prompt, 0, size)
            np.save(Path(job["folder"]) / f"{number}.npy", logits)
            tokens: list[int] = []
            last = logits[-1]
            while len(tokens) < job["greedy_tokens"]:
                tokens.append(int(last.argmax()))
                if tokens[-1] in stops:
                    break
                last = _decode(lib, context, tokens[-1:], len(prompt) + len(tokens) - 1, size)[-1]
            greedy.append(tokens)
        lib.llama_free(context)
    return {"greedy": greedy}


def _watch(lib: Any, job: dict[str, Any]) -> dict[str, Any]:
    """The importance matrix over the `texts` (ids), or those that `seconds` are enough for, into the file `matrix`."""
    import numpy as np

    ends, activations, seen = time.monotonic() + job["seconds"], Activations(lib), list[int]()
    with _loaded(lib, job, vocab_only=False) as model:
        longest = max(len(text) for text in job["texts"])
        context = _context(lib, model, longest, job["threads"], _AT_ONCE, activations.callback)
        for text in job["texts"]:
            lib.llama_memory_clear(lib.llama_get_memory(context), True)
            for first, tokens in pieces(text, _AT_ONCE):
                _run(lib, context, tokens, first)
            seen.append(len(text))
            if time.monotonic() > ends:
                break
        lib.llama_free(context)
    matrix: dict[str, Any] = dict(activations.matrix())
    np.savez(job["matrix"], **matrix)
    return {"texts": len(seen), "tokens": sum(seen)}


def _context(lib: Any, model: Any, length: int, threads: int, at_once: int = 0, watcher: Any = None) -> Any:
    params = lib.llama_context_default_params()
    params.n_ctx = length
    params.n_batch = params.n_ubatch = at_once or length
    if watcher is not None:
        params.cb_eval = watcher
    params.n_threads = params.n_threads_batch = threads
    params.type_k = params.type_v = _TYPE_F32
    params.flash_attn_type = 0
    params.offload_kqv = params.op_offload = False
    context = lib.llama_init_from_model(model, params)
    if not context:
        raise SystemExit("llama.cpp could not make a context")
    return context


def _decode(lib: Any, context: Any, tokens: list[int], start: int, size: int) -> Any:
    """Logits (T, V) float32 of `tokens`, which begin at position `start`."""
    import numpy as np

    _run(lib, context, tokens, start)
    return np.stack([np.ctypeslib.as_array(lib.llama_get_logits_ith(context, place), (size,))
                     for place in range(len(tokens))])


def _run(lib: Any, context: Any, tokens: list[int], start: int) -> None:
    """Compute `tokens`, with the logits of each: the last block is left out for those whose logits nobody wants."""
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place], batch.n_seq_id[place] = token, start + place, 1
            batch.seq_id[place][0], batch.logits[place] = 0, 1
        if lib.llama_decode(context, batch) != 0:
            raise SystemExit("llama.cpp could not decode")
    finally:
        lib.llama_batch_free(batch)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
