"""The peer of `loaders`, run by an interpreter of its own: opens files by the loader of one tool and lays every row out
as tokens. Arguments: tool, folder, student, layouts. The last line of what it prints is JSON: layout -> rows, or why
not."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "WANDB_DISABLED": "true",
               "AXOLOTL_DO_NOT_TRACK": "1", "CUDA_VISIBLE_DEVICES": ""}


def by_trl(file: Path, student: str, layout: str) -> int:
    """As its trainers do it: the data set with the tokenizer's own template."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    rows = load_dataset("json", data_files=str(file), split="train", cache_dir=tempfile.mkdtemp())
    tokenizer = AutoTokenizer.from_pretrained(student)
    model = AutoModelForCausalLM.from_pretrained(student)
    common: dict[str, Any] = {"output_dir": tempfile.mkdtemp(), "report_to": [], "use_cpu": True, "bf16": False,
                              "max_length": 512, "per_device_train_batch_size": 1}
    trainer = (DPOTrainer(model=model, args=DPOConfig(**common), train_dataset=rows, processing_class=tokenizer)
               if layout == "preference" else
               SFTTrainer(model=model, args=SFTConfig(**common), train_dataset=rows, processing_class=tokenizer))
    return sum(1 for batch in trainer.get_train_dataloader() if batch)


def by_llama_factory(file: Path, student: str, layout: str) -> int:
    """By the entry that stands beside the file, with the template of ChatML."""
    from llamafactory.data.loader import get_dataset
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import AutoTokenizer, Seq2SeqTrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(student)
    data = DataArguments(dataset=file.stem, dataset_dir=str(file.parent), template="chatml", cutoff_len=512)
    template = get_template_and_fix_tokenizer(tokenizer, data)
    found = get_dataset(template, ModelArguments(model_name_or_path=student, cache_dir=tempfile.mkdtemp()), data,
                        Seq2SeqTrainingArguments(output_dir=tempfile.mkdtemp(), use_cpu=True, do_train=True,
                                                 report_to=[]), stage="sft", tokenizer=tokenizer)
    return len(found["train_dataset"])


def by_axolotl(file: Path, student: str, layout: str) -> int:
    """As its preparation of data sets does it, by the entries that its configuration would hold."""
    from axolotl.prompt_strategies.dpo import load as load_dpo
    from axolotl.utils.data.wrappers import get_dataset_wrapper
    from axolotl.utils.dict import DictDefault
    from datasets import load_dataset
    from transformers import AutoTokenizer

    rows = load_dataset("json", data_files=str(file), split="train", cache_dir=tempfile.mkdtemp())
    tokenizer = AutoTokenizer.from_pretrained(student)
    entries = {"messages": {"type": "chat_template", "field_messages": "messages"}, "alpaca": {"type": "alpaca"},
               "sharegpt": {"type": "chat_template", "field_messages": "conversations",
                            "message_property_mappings": {"role": "from", "content": "value"}},
               "preference": {"type": "chat_template.default", "field_messages": "prompt"}}
    entry = DictDefault({"path": str(file), **entries[layout]})
    cfg = DictDefault({"train_on_inputs": False, "sequence_len": 512, "chat_template": "tokenizer_default",
                       "dataset_num_proc": 1, "datasets": [entry]})
    if layout == "preference":
        way, _ = load_dpo(entry.type, cfg, dataset_idx=0)
        laid_out = [way(row, tokenizer=tokenizer) for row in rows]
        return sum(bool(row["prompt"] and row["chosen"] and row["rejected"]) for row in laid_out)
    made, _ = get_dataset_wrapper(entry, tokenizer, cfg, entry.type, rows)
    return sum(any(label >= 0 for label in row["labels"]) for row in made)


def by_unsloth(file: Path, student: str, layout: str) -> int:
    """As its notebooks do it: the chat template makes texts, which its trainer masks but for the answers."""
    import unsloth  # noqa: F401 - first, as it changes the others
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer
    from unsloth.chat_templates import train_on_responses_only

    rows = load_dataset("json", data_files=str(file), split="train", cache_dir=tempfile.mkdtemp())
    tokenizer = AutoTokenizer.from_pretrained(student)
    texts = rows.map(lambda row: {"text": tokenizer.apply_chat_template(row["messages"], tokenize=False)})
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(student), train_dataset=texts.select_columns(["text"]),
        processing_class=tokenizer, args=SFTConfig(
            output_dir=tempfile.mkdtemp(), report_to=[], use_cpu=True, bf16=False, max_length=512,
            dataset_text_field="text", per_device_train_batch_size=1))
    trainer = train_on_responses_only(trainer, "<|im_start|>user\n", "<|im_start|>assistant\n", num_proc=1)
    return sum(any(label >= 0 for label in row["labels"]) for row in trainer.train_dataset)


TOOLS = {"trl": by_trl, "llama-factory": by_llama_factory, "axolotl": by_axolotl, "unsloth": by_unsloth}


def main() -> None:
    """Open each file."""
    from importlib.metadata import version

    tool, folder, student, *layouts = sys.argv[1:]
    found: dict[str, object] = {"version": version(tool.replace("-", ""))}
    for layout in layouts:
        try:
            found[layout] = TOOLS[tool](Path(folder) / f"{layout}.jsonl", student, layout)
        except Exception as error:
            found[layout] = f"{type(error).__name__}: {error}"[:600]
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
