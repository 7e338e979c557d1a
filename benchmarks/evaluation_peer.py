"""The peer of `evaluation`, run by an interpreter of its own: lm-eval's `hf` answers the same questions. Arguments: the
task as JSON, the batch size. The last line of what it prints is JSON: texts or scores, CPU seconds, version."""

from __future__ import annotations

import json
import os
import resource
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_OFFLINE": "1",
               "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}


def main() -> None:
    """Answer everything once."""
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(1)
    task = json.loads(Path(sys.argv[1]).read_text())
    model = HFLM(pretrained=task["student"], dtype=task["dtype"], device="cpu", batch_size=int(sys.argv[2]),
                 max_length=4096)
    if "continuations" in task:
        _tell(*_scored(model, task))
        return
    samples = task["samples"]
    prompts = [prompt for prompt in task["prompts"] for _ in range(samples)]
    _force_lengths(model, prompts, task["lengths"])
    settings: dict[str, Any] = {"until": [], "max_gen_toks": task["cap"], "do_sample": samples > 1,
                                **({"temperature": 0.8, "top_k": 0} if samples > 1 else {})}
    requests = [Instance("generate_until", {}, (prompt, dict(settings)), place) for place, prompt in enumerate(prompts)]
    began = _cpu_seconds()
    texts = model.generate_until(requests, disable_tqdm=True)
    _tell(texts, _cpu_seconds() - began)


def _tell(found: list[Any], seconds: float) -> None:
    sys.stdout.write("\n" + json.dumps({"texts": found, "seconds": seconds, "version": version("lm_eval")}) + "\n")


def _scored(model: Any, task: dict[str, Any]) -> tuple[list[float], float]:
    """Log-likelihood of each continuation of each prompt, in order, and CPU seconds."""
    from lm_eval.api.instance import Instance

    pairs = [(prompt, one) for prompt, many in zip(task["prompts"], task["continuations"]) for one in many]
    requests = [Instance("loglikelihood", {}, pair, place) for place, pair in enumerate(pairs)]
    began = _cpu_seconds()
    found = model.loglikelihood(requests, disable_tqdm=True)
    return [score for score, _ in found], _cpu_seconds() - began


def _force_lengths(model: Any, prompts: list[str], lengths: list[int]) -> None:
    """Let each reply end where its length is reached, and nowhere before."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList

    wanted: dict[tuple[int, ...], list[int]] = {}
    for prompt, length in zip(prompts, lengths):
        wanted.setdefault(tuple(model.tok_encode(prompt)), []).append(length)
    generate = model.model.generate

    class Ends(LogitsProcessor):
        def __init__(self, targets: list[int], width: int) -> None:
            self.targets, self.width = torch.tensor(targets), width

        def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            done = ids.shape[1] - self.width + 1 >= self.targets
            scores[:, 0] = float("-inf")
            scores[done] = float("-inf")
            scores[done, 0] = 0.0
            return scores

    def forced(*args: Any, **settings: Any) -> Any:
        ids, mask = settings["input_ids"], settings["attention_mask"]
        targets = [wanted[tuple(row[kept.bool()].tolist())].pop(0) for row, kept in zip(ids, mask)]
        processor = LogitsProcessorList([Ends(targets, ids.shape[1])])
        return generate(*args, **settings, logits_processor=processor)

    model.model.generate = forced


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
