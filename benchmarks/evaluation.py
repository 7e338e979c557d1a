"""Answers of a student in torch beside lm-eval's `hf`, on one model and the same questions:

    python -m benchmarks.evaluation GSM8K.jsonl --peer-python P

A random model of some 65 M parameters with a tokenizer that is trained on the file, five shots, greedy, one thread.
How long each reply is, is forced alike on both sides (drawn as long as those of real traces are: 279 tokens on the
average, 521 at most): a random model never ends by itself. lm-eval runs at each batch size that is given and its best
counts. Times are CPU times of a whole process without the loading of the model; texts are compared one by one. `--same`
lets every reply hit the cap, `--samples N` draws N replies to each question. `--gguf` lets the F16 file of the same
model answer, too, in llama.cpp on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks import machine
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Message, Reply, Request, Sampling
from localdistill.safety.children import output_of

SHOTS, CAP = 5, 521
LAYERS, WIDTH, VOCABULARY = 18, 512, 16_000


def main() -> None:
    """Make the model, let both answer, and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="GSM8K, test.jsonl")
    parser.add_argument("--peer-python", type=Path, help="interpreter of an environment with lm-eval and torch")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--same", action="store_true", help="every reply hits the cap")
    parser.add_argument("--gguf", action="store_true", help="greedily, the exported file in llama.cpp, too")
    parser.add_argument("--cap", type=int, default=CAP, help="new tokens of the longest reply")
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--rows-at-once", type=int, default=16, help="of our engine")
    parser.add_argument("--busy", action="store_true", help="measure although other programs run")
    given = parser.parse_args()
    machine.describe(["torch", "transformers"])
    machine.check_idle(given.busy)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        rows = [json.loads(line) for line in given.rows.read_text().splitlines()]
        student = make_student(folder / "student", rows)
        prompts = prompts_of(rows, given.items)
        lengths = lengths_of(given.items * given.samples, given.cap, given.same)
        task = {"student": str(student), "prompts": prompts, "lengths": lengths, "samples": given.samples,
                "dtype": given.dtype, "cap": given.cap}
        (folder / "task.json").write_text(json.dumps(task))
        sides = {"torch": ours(student, task, given.rows_at_once)}
        if given.gguf and given.samples == 1:
            sides["GGUF"] = exported(student, task, given.rows_at_once)
        for name, (_, seconds) in sides.items():
            machine.say(f"ours, {name}, {given.rows_at_once} rows: {seconds:.1f} CPU s, in a CPU minute "
                        f"{60 * given.items / seconds:.1f} items, {60 * sum(lengths) / seconds:.0f} tokens")
        best = 0.0
        for batch, found in peers(given, folder):
            told = "".join(f", {_equal(texts, found['texts'])} texts those of {name}"
                           for name, (texts, _) in sides.items()) if given.samples == 1 else ""
            machine.say(f"lm-eval {found['version']}, batch {batch}: {found['seconds']:.1f} CPU s, "
                        f"{60 * given.items / found['seconds']:.1f} items a CPU minute{told}")
            best = min(best or found["seconds"], found["seconds"])
        if "GGUF" in sides:
            machine.say(f"GGUF: {_equal(sides['GGUF'][0], sides['torch'][0])} texts those of torch")
        for name, (_, seconds) in sides.items() if best else ():
            machine.say(f"{name}, ratio to the best of lm-eval: {best / seconds:.2f}")
    machine.check_idle(True)


def _equal(texts: Sequence[str], others: Sequence[str]) -> str:
    return f"{sum(one == other for one, other in zip(texts, others, strict=True))} of {len(texts)}"


def peers(given: argparse.Namespace, folder: Path, what: str = "") -> Iterator[tuple[int, dict[str, Any]]]:
    """Batch sizes, and what lm-eval comes to with each for `task.json` in `folder`; `what` stands before what is said
    of those with which it does not run."""
    for batch in given.batches if given.peer_python else ():
        said = output_of([str(given.peer_python), str(Path(__file__).with_name("evaluation_peer.py")),
                          str(folder / "task.json"), str(batch)], 7200)
        if said:
            yield batch, json.loads(said.decode().splitlines()[-1])
        else:
            machine.say(f"{what}lm-eval, batch {batch}: did not run")


def make_student(folder: Path, rows: Sequence[dict[str, str]]) -> Path:
    """A random Qwen2 with a byte-level tokenizer, whose numbers are large enough to prefer some tokens clearly."""
    import torch
    import transformers
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    folder.mkdir()
    tokenizer = Tokenizer(models.BPE())
    # As the class of this kind splits texts: the peer's loader puts that in place of what a file says.
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator((f"{row['question']}\n{row['answer']}" for row in rows), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
        "model_max_length": 4096, "clean_up_tokenization_spaces": False}))
    (folder / "chat_template.jinja").write_text("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    config = transformers.Qwen2Config(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=WIDTH, intermediate_size=3 * WIDTH,
        num_hidden_layers=LAYERS, num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=4096,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=0, initializer_range=0.1)
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(config)
    model.half().float()  # the F16 file holds the same numbers
    machine.say(f"student: {sum(one.numel() for one in model.parameters()) / 1e6:.0f} M parameters")
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def prompts_of(rows: Sequence[dict[str, str]], count: int) -> list[str]:
    """Five questions with their answers, then the one to answer."""
    shots = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in rows[-SHOTS:])
    return [f"{shots}Question: {row['question']}\nAnswer:" for row in rows[:count]]


def lengths_of(count: int, cap: int, same: bool) -> list[int]:
    """New tokens of each reply."""
    draw, scale = random.Random(0), cap / CAP
    drawn = (round(draw.lognormvariate(5.53, 0.45) * scale) for _ in range(count))
    return [cap if same else max(cap // 20, min(cap, one)) for one in drawn]


def ours(student: Path, task: dict[str, Any], rows: int) -> tuple[list[str], float]:
    """Texts in order, and CPU seconds."""
    from localdistill.engines.transformers import TransformersEngine
    from localdistill.modelfiles import torch_decoding

    engine = TransformersEngine(TransformersEngine.Options(
        model=str(student), dtype=task["dtype"], threads=1, batch_rows=rows, max_batch_tokens=1 << 20))
    _ = engine.model
    samples, temperature = task["samples"], 0.0 if task["samples"] == 1 else 0.8
    requests = [Request(f"{place} {sample}", (Message("user", prompt),),
                        Sampling(max_tokens=task["cap"], temperature=temperature), sample)
                for place, prompt in enumerate(task["prompts"]) for sample in range(samples)]
    wanted = {tuple(engine.rows.asked(request).ids): place for place, request in enumerate(requests)}
    pick, turn = torch_decoding.pick_tokens, dict[int, int]()

    def forced(logits: Any, live: Any) -> list[int]:
        """The end of a reply where its length is reached, and nowhere before."""
        logits[:, 0] = float("-inf")
        tokens = pick(logits, live)
        for place, row in enumerate(live):
            if id(row) not in turn:
                first = wanted[tuple(row.prompt_ids)]
                turn[id(row)] = first if samples == 1 else len(turn)
            if len(row.written) + 1 >= task["lengths"][turn[id(row)]]:
                tokens[place] = 0
        return tokens

    torch_decoding.pick_tokens = forced
    began = cpu_seconds()
    replies: dict[str, Reply] = {reply.request_id: reply for reply in engine.answer(requests, silent, Cancel())}
    seconds = cpu_seconds() - began
    return [replies[request.id].raw for request in requests], seconds


def exported(student: Path, task: dict[str, Any], rows: int) -> tuple[list[str], float]:
    """The same from the F16 file of the model in llama.cpp, whose replies are cut where theirs end."""
    from localdistill.engines.llama_cpp import LlamaCppEngine
    from localdistill.engines.llama_cpp_native.options import LlamaCppOptions
    from localdistill.exporters.gguf_parts.writer import convert_to_gguf

    file = student.parent / "model-F16.gguf"
    convert_to_gguf(student, file, "F16", used_tokens=4096)
    with closing(LlamaCppEngine(LlamaCppOptions(
            model=str(file), context_tokens=2048, parallel=rows, threads=1, processes=1, gpu_layers=0, tune="off",
            think_tags="off"))) as engine:
        first = Request("first", (Message("user", "Question:"),), Sampling(max_tokens=1))
        requests = [Request(str(place), (Message("user", prompt),), Sampling(max_tokens=length - 1))
                    for place, (prompt, length) in enumerate(zip(task["prompts"], task["lengths"], strict=True))]
        list(engine.answer([first], silent, Cancel()))  # the file is loaded
        replies: dict[str, Reply] = {}
        sample = machine.timed("GGUF", lambda: replies.update(
            (reply.request_id, reply) for reply in engine.answer(requests, silent, Cancel())))
    return [replies[request.id].raw for request in requests], sample.cpu_s


def cpu_seconds() -> float:
    """Of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
