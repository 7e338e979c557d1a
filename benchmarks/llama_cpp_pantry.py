"""The demo's collecting stage: the shipped teacher on pantry prompts, the engine against a loop over `Llama`.

    python benchmarks/llama_cpp_pantry.py [--prompts 100] [--repeats 3] [--busy]

Both answer greedily until the teacher ends its turn. Beside the ratio it prints how many answers are equal, because a
speed that changes what is said is none; batches add up in another order, so a near tie may turn.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import machine

from localdistill.core.events import Cancel, silent
from localdistill.core.records import Request, Sampling
from localdistill.engines.llama_cpp import LlamaCppEngine
from localdistill.engines.llama_cpp_native.matrix_units import hide_matrix_units
from localdistill.engines.llama_cpp_native.options import LlamaCppOptions
from localdistill.interchange.files import read_file
from localdistill.modelfiles.shipped import shipped_path
from localdistill.templates import ChatTemplate

MAX_TOKENS = 320


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100)
    machine.add_arguments(parser)
    arguments = parser.parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    machine.describe(["llama-cpp-python", "numpy"])
    machine.check_idle(arguments.busy)
    rows = [item.prompt for _, item in read_file(shipped_path("pantry/prompts.jsonl"), None)][: arguments.prompts]
    sampling = Sampling(max_tokens=MAX_TOKENS)
    requests = [Request(row.id, row.messages, sampling) for row in rows]
    model = str(shipped_path("pantry/teacher.gguf"))
    engine = LlamaCppEngine(LlamaCppOptions(model=model))
    facts = engine.probe()
    if not facts["matrix_units"]:
        hide_matrix_units()
    llama, template = peer_of(model, facts)
    answers: dict[str, dict[str, str]] = {"peer": {}, "ours": {}}
    tokens = 0

    def peer() -> None:
        for request in requests:
            answers["peer"][request.id] = answer_of(llama, template.prompt(request.messages, None))

    def ours() -> None:
        nonlocal tokens
        replies = list(engine.answer(requests, silent, Cancel()))
        answers["ours"] = {reply.request_id: reply.raw for reply in replies}
        tokens = sum(reply.usage.completion_tokens for reply in replies)

    found = machine.compare(peer, ours, arguments.repeats)
    engine.close()
    equal = sum(answers["peer"][key] == text for key, text in answers["ours"].items())
    machine.say(f"{equal} of {len(requests)} answers are equal")
    found.report("shipped teacher: engine / loop over Llama", "as many times as there are cores", tokens)
    machine.check_idle(allowed=True)


def peer_of(model: str, facts: dict[str, Any]) -> tuple[Any, ChatTemplate]:
    """`Llama` with a single thread, with which it is fastest for a model so small, and the model's template."""
    import llama_cpp

    llama = llama_cpp.Llama(model, n_ctx=1024, n_threads=1, n_threads_batch=1, flash_attn=False, verbose=False)
    return llama, ChatTemplate(facts["template"], facts["bos"], facts["eos"], origin="the shipped teacher")


def answer_of(llama: Any, prompt: str) -> str:
    """One greedy answer."""
    tokens = llama.tokenize(prompt.encode(), add_bos=False, special=True)
    written: list[int] = []
    for token in llama.generate(tokens, temp=0.0, repeat_penalty=1.0):
        if token == llama.token_eos() or len(written) == MAX_TOKENS:
            break
        written.append(token)
    return str(llama.detokenize(written, special=True).decode("utf-8", "replace"))


if __name__ == "__main__":
    main()
