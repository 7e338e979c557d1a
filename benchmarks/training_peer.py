"""The peer of `training`, run by an interpreter of its own: TRL's SFTTrainer on the same rows from the same adapter, or
its loss head. Arguments: the task as JSON, settings as JSON. The last line of what it prints is JSON: losses and CPU
seconds at the end of every step, and the peak of its memory."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_OFFLINE": "1",
               "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "",
               "WANDB_MODE": "off"}


def steps(task: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Train; every step sees all rows."""
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(1)
    dtype = getattr(torch, settings.get("weights", "float32"))
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(task["student"], dtype=dtype),
                                      task["adapter"], is_trainable=True)
    rows = Dataset.from_dict({
        "input_ids": task["ids"],
        "labels": [[-100] * prompt + row[prompt:] for row, prompt in zip(task["ids"], task["prompts"])]})
    count, seconds = len(task["ids"]), []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.process_time())

    at_once = settings.get("at_once", count)
    with tempfile.TemporaryDirectory() as output:
        config = SFTConfig(
            output_dir=output, per_device_train_batch_size=at_once, gradient_accumulation_steps=count // at_once,
            num_train_epochs=task["steps"], learning_rate=1e-4, lr_scheduler_type="constant", weight_decay=0.0,
            max_grad_norm=1.0, logging_steps=1, report_to=[], save_strategy="no", use_cpu=True, max_length=None,
            disable_tqdm=True,
            **{key: settings[key] for key in ("gradient_checkpointing", "padding_free") if key in settings})
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(task["student"]) / "tokenizer.json"),
                                            pad_token="<|endoftext|>", eos_token="<|im_end|>")
        trainer = SFTTrainer(model, config, train_dataset=rows, processing_class=tokenizer, callbacks=[Clock()])
        trainer.train()
    return {"losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], "seconds": seconds}


def head(_: dict[str, Any], __: dict[str, Any]) -> dict[str, Any]:
    """The loss head as its trainer calls it on a CPU: over all positions, with the metrics that it logs."""
    import torch
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction
    from trl.trainer import utils

    torch.set_num_threads(1)
    torch.manual_seed(0)
    weight = torch.nn.Linear(896, 151_936, bias=False, dtype=torch.bfloat16).weight.detach()
    hidden = torch.randn(1024, 896).bfloat16().requires_grad_()
    targets, labelled = torch.randint(len(weight), (1024,)), torch.arange(1024) % 2 == 1
    seconds = []
    for _ in range(2):
        began = time.process_time()
        logprobs = ChunkedLogProbFunction.apply(hidden, weight, None, targets, 1.0, utils._CHUNKED_LOGPROB_CHUNK_SIZE,
                                                None, 1.0, ("log_probs", "entropy", "is_top1"))[0]
        (-(logprobs * labelled).sum()).backward()
        seconds.append(time.process_time() - began)
    return {"seconds": min(seconds)}


def main() -> None:
    """One side."""
    settings = json.loads(sys.argv[2])
    file = Path(sys.argv[1])
    task = json.loads(file.read_text()) if file.is_file() else {}
    found = {"steps": steps, "head": head}[settings["what"]](task, settings)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    sys.stdout.write("\n" + json.dumps({**found, "peak": peak}) + "\n")


if __name__ == "__main__":
    main()
