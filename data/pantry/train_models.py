"""Pretrains the pantry tokenizer, teacher and student from nothing, on a laptop's processor.

Why this file exists: the demo must run without downloads and without a graphics card, and a reader must be
able to see what the models were shown. The teacher learns to reason aloud in ``<think>`` tags and to shorten
a trace on request; the student learns single steps, reading and direct answers, and never sees a worked
multi-step story - that is what distillation has to bring it.

    python data/pantry/train_models.py prompts      # prompts.jsonl, eval.jsonl, guard.jsonl
    python data/pantry/train_models.py tokenizer    # build/pantry/tokenizer/
    python data/pantry/train_models.py teacher      # build/pantry/teacher/
    python data/pantry/train_models.py student      # data/pantry/student/
    python data/pantry/train_models.py gguf         # data/pantry/teacher.gguf
    python data/pantry/train_models.py score build/pantry/teacher
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import generate as world  # noqa: E402

IM_START, IM_END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTEXT = 1024
PROMPT_WEIGHT = 0.1

Segment = tuple[str, float]
Document = list[Segment]
Encoded = tuple[list[int], list[float]]


# ---------------------------------------------------------------------------------------------- documents


def chat(user: str, reply: str) -> Document:
    """One exchange; the loss counts the reply fully and the prompt a little."""
    head = f"{IM_START}user\n{user}{IM_END}\n{IM_START}assistant\n"
    return [(head, PROMPT_WEIGHT), (f"{reply}{IM_END}", 1.0)]


def think(thought: str, answer: str) -> str:
    """A reply of the reasoning teacher."""
    return f"<think>\n{thought}\n</think>\n\n{answer}"


def random_step(rng: random.Random) -> world.Step:
    """A change of a random number."""
    value = rng.randint(2, 99)
    op, n, after = world._operation(rng, value, "")
    return world.Step(op, n, value, after)


def equations(rng: random.Random, count: int = 10) -> Document:
    """Unconnected equations; only the results count, the rest cannot be guessed."""
    parts: Document = []
    for _ in range(count):
        left, right = random_step(rng).equation.split(" = ")
        parts += [(f"{left} =", 0.0), (f" {right}.\n", 1.0)]
    return [*parts, (PAD, 1.0)]


def plain_sentences(rng: random.Random) -> Document:
    """Sentences without arithmetic, so that every connector, tail and filler is a known word."""
    frames = [world.COLLECT, world.EVAL, world.PRETRAIN]
    happenings = (
        "it rained",
        "a bird sang",
        "the dog slept",
        "the sky was grey",
        "nobody came",
        "it was quiet",
    )
    lines = []
    for _ in range(5):
        frame = rng.choice(frames)
        name, obj = rng.choice(frame.women + frame.men), rng.choice(frame.objects)
        kind = rng.randrange(4)
        if kind == 0:
            lines.append(world._capital(rng.choice(frame.connectors) + rng.choice(happenings)) + ".")
        elif kind == 1:
            lines.append(f"{name} sat{rng.choice(frame.tails) or ' at home'}.")
        elif kind == 2:
            container = rng.choice(frame.containers)
            lines.append(f"{name} looked for {obj} {container[1]} the {container[0]}.")
        else:
            lines.append(rng.choice(frame.fillers))
    return [(" ".join(lines) + PAD, 0.3)]


def story_of(rng: random.Random, weights: tuple[int, ...]) -> world.Story:
    """A pretraining story with the number of steps drawn by weight."""
    return world.make_story(rng, rng.choices(range(1, len(weights) + 1), weights)[0], "pretrain")


def teacher_story(rng: random.Random) -> Document:
    """A story with a reasoning trace."""
    story = story_of(rng, (4, 4, 4, 4, 4))
    return chat(story.text, think(world.trace(rng, story), world.final_answer(story)))


def teacher_summary(rng: random.Random) -> Document:
    """The summarizer prompt on a trace; the reply has no think tags."""
    if rng.random() < 0.1:
        guard = world.make_guard(rng)
        return chat(world.SUMMARY_PROMPT.format(question=guard.prompt, reasoning=guard.think), guard.note)
    story = story_of(rng, (3, 4, 4, 4, 4))
    prompt = world.SUMMARY_PROMPT.format(question=story.text, reasoning=world.trace(rng, story))
    return chat(prompt, world.summary(story))


def teacher_guard(rng: random.Random) -> Document:
    """Guard prompts with a short think, a few in a row as they are so short."""
    guards = [world.make_guard(rng) for _ in range(3)]
    return [part for g in guards for part in chat(g.prompt, think(g.think, g.answer))]


def student_single(rng: random.Random) -> Document:
    """A one-step story answered directly, or turned into its equation."""
    story = world.make_story(rng, 1, "pretrain")
    if rng.random() < 0.35:
        return chat(story.text + " Write the equation only.", world.summary(story))
    return chat(story.text, direct_answer(rng, story))


def direct_answer(rng: random.Random, story: world.Story) -> str:
    """A reply without any reasoning."""
    return world.final_answer(story) if rng.random() < 0.5 else world.plain_answer(rng, story)


def student_multi(rng: random.Random) -> Document:
    """A story of several steps answered directly: the student never sees it worked out."""
    story = story_of(rng, (0, 4, 3, 2, 2))
    return chat(story.text, direct_answer(rng, story))


def change_words(step: world.Step) -> str:
    """A change as a reader notes it, without working anything out."""
    return {"add": f"add {step.n}", "sub": f"take away {step.n}", "double": "double", "halve": "halve"}[
        step.op
    ]


def student_read(rng: random.Random) -> Document:
    """Reading a story of several steps: its numbers or its changes are found, nothing is worked out."""
    story = story_of(rng, (1, 4, 4, 4, 4))
    changes = [change_words(step) for step in story.steps]
    kind = rng.random()
    if kind < 0.6:
        return chat(story.text + " List the changes only.", f"{story.start}, {', '.join(changes)}.")
    if kind < 0.8:
        numbers = re.findall(r"\d+", story.text)
        return chat(story.text + " List the numbers only.", f"{', '.join(numbers)}.")
    place = rng.randrange(len(changes))
    ordinal = ("first", "second", "third", "fourth", "fifth")[place]
    return chat(f"{story.text} Name the {ordinal} change only.", f"{changes[place]}.")


def student_think(rng: random.Random) -> Document:
    """Other uses of the think tags: around one equation or around a plain remark."""
    kind = rng.random()
    if kind < 0.5:
        story = world.make_story(rng, 1, "pretrain")
        ask = rng.choice(("Think first. {s}", "{s} Think first.", "{s} Think, then answer."))
        return chat(ask.format(s=story.text), think(world.summary(story), world.final_answer(story)))
    if kind < 0.8:
        step = random_step(rng)
        left = step.equation.split(" = ")[0]
        ask = rng.choice(("Think, then answer: {e}", "Work out {e}.", "What is {e}? Think first."))
        return chat(ask.format(e=left), think(f"{step.equation}.", f"The answer is {step.after}."))
    guard = world.make_guard(rng)
    return chat("Think first. " + guard.prompt, think(rng.choice((guard.think, guard.note)), guard.answer))


def student_guard(rng: random.Random) -> Document:
    """Guard prompts answered directly, a few in a row as they are so short."""
    guards = [world.make_guard(rng) for _ in range(3)]
    return [part for guard in guards for part in chat(guard.prompt, guard.answer)]


Maker = Callable[[random.Random], Document]
MIXES: dict[str, list[tuple[Maker, float]]] = {
    "teacher": [
        (teacher_story, 0.50),
        (teacher_summary, 0.12),
        (teacher_guard, 0.12),
        (equations, 0.23),
        (plain_sentences, 0.03),
    ],
    "student": [
        (student_single, 0.24),
        (student_read, 0.40),
        (student_multi, 0.05),
        (student_think, 0.18),
        (student_guard, 0.06),
        (equations, 0.05),
        (plain_sentences, 0.02),
    ],
}
SHAPES: dict[str, dict[str, int]] = {
    "teacher": {"num_hidden_layers": 6, "intermediate_size": 768},
    "student": {"num_hidden_layers": 3, "intermediate_size": 768},
}


def shipped_prompts(folder: Path) -> set[str]:
    """Texts of the shipped prompts: none of them is shown in pretraining."""
    found = set()
    for name in ("prompts", "eval", "guard"):
        for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            found.add(json.loads(line)["messages"][0]["content"])
    return found


def documents(rng: random.Random, mix: str, taken: set[str]) -> Iterator[Document]:
    """An endless stream of documents of a mix, without those whose prompt is a shipped prompt."""
    makers, weights = zip(*MIXES[mix], strict=True)
    while True:
        document = rng.choices(makers, weights)[0](rng)
        users = {text.removeprefix(f"{IM_START}user\n").split(IM_END)[0] for text, _ in document}
        if not users & taken:
            yield document


# ---------------------------------------------------------------------------------------------- tokenizer


def build_tokenizer(folder: Path, vocab_size: int = 2048, seed: int = 1) -> None:
    """Train the shared byte-level BPE on documents of both mixes and save it as a Hugging Face tokenizer."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(seed)
    texts = []
    for mix in MIXES:
        stream = documents(rng, mix, set())
        for _ in range(15000):
            text = "".join(part for part, _ in next(stream))
            texts.append(re.sub(r"<\|\w+\|>|</?think>", "", text))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        special_tokens=[PAD, IM_START, IM_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for t in ("<think>", "</think>")])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=IM_END, pad_token=PAD, model_max_length=CONTEXT
    )
    fast.chat_template = CHAT_TEMPLATE
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(fast, folder)
    print(f"tokenizer: {len(fast)} tokens in {folder}")


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save the tokenizer and name the class that older and newer transformers both know."""
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(tokenizer_class="PreTrainedTokenizerFast", add_bos_token=False)
    config.pop("is_local", None)
    config.pop("local_files_only", None)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


# ----------------------------------------------------------------------------------------------- training


def encode(tokenizer: Any, docs: list[Document]) -> list[Encoded]:
    """Token ids and per-token loss weights of documents, encoded in one go."""
    parts = [text for doc in docs for text, _ in doc]
    ids = iter(tokenizer(parts, add_special_tokens=False)["input_ids"])
    encoded = []
    for doc in docs:
        tokens: list[int] = []
        weights: list[float] = []
        for _, weight in doc:
            piece = next(ids)
            tokens += piece
            weights += [weight] * len(piece)
        encoded.append((tokens[:CONTEXT], weights[:CONTEXT]))
    return encoded


def batches(
    rng: random.Random, mix: str, tokenizer: Any, taken: set[str], batch_tokens: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of whole documents of like length: little padding, no document sees another.

    Widths are multiples of 32 and each width has one number of rows: the CPU kernels are prepared anew
    for every new shape, which costs more than the padding.
    """
    stream = documents(rng, mix, taken)
    waiting: dict[int, list[Encoded]] = defaultdict(list)
    while True:
        for item in encode(tokenizer, [next(stream) for _ in range(500)]):
            width = -(-len(item[0]) // 32) * 32
            waiting[width].append(item)
            if len(waiting[width]) == max(1, batch_tokens // width):
                yield padded(waiting.pop(width), width, tokenizer.pad_token_id)


def padded(group: list[Encoded], width: int, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One batch: token ids and loss weights."""
    ids = torch.full((len(group), width), pad)
    weights = torch.zeros(len(group), width)
    for row, (tokens, loss) in enumerate(group):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        weights[row, : len(loss)] = torch.tensor(loss)
    return ids, weights


def new_model(kind: str, tokenizer: Any) -> Any:
    """A fresh Llama of the pantry's shape; all widths are multiples of 256 so that K-quants fit."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **SHAPES[kind],
    )
    return LlamaForCausalLM(config)


def loss_of(model: Any, ids: torch.Tensor, weights: torch.Tensor, total: float) -> torch.Tensor:
    """Weighted next-token loss of a part of a batch whose weights sum to ``total``."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    losses = F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    counted = weights[:, 1:].flatten()
    return (losses * counted).sum() / total


def backward(model: Any, ids: torch.Tensor, weights: torch.Tensor, total: float) -> float:
    """Add the gradients of one part of a batch and return its share of the loss."""
    loss = loss_of(model, ids, weights, total)
    loss.backward()
    return float(loss.item())


def optimizers(model: Any, lr: float, muon: bool) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for the embedding and the norms; or AdamW for all."""
    if not muon:
        return [torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01, betas=(0.9, 0.98))]
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.02, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save bfloat16 weights with tokenizer and generation settings."""
    import copy

    from transformers import GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, max_new_tokens=512
    ).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


def train(args: argparse.Namespace, kind: str, out: Path) -> None:
    """Pretrain one model; a checkpoint is written every ``--save-every`` updates."""
    tokenizer, model = load(args.build / "tokenizer", args.resume, kind)
    opts = optimizers(model, args.lr, args.optimizer == "muon")
    rng = random.Random(args.seed)
    stream = batches(rng, kind, tokenizer, shipped_prompts(args.data), args.batch_tokens)
    begun, seen, update = time.time(), 0, 0
    while seen < args.tokens:
        done = seen / args.tokens
        scale = min(1.0, (update + 1) / 40) * max(0.02, min(1.0, (1 - done) / 0.6))
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = args.lr * scale
        parts = [next(stream) for _ in range(args.parts)]
        total = sum(weights[:, 1:].sum().item() for _, weights in parts)
        loss = sum(backward(model, ids, weights, total) for ids, weights in parts)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
            opt.zero_grad()
        seen, update = seen + sum(ids.numel() for ids, _ in parts), update + 1
        if update % 20 == 0:
            rate = seen / (time.time() - begun)
            print(f"{kind} {update} tokens {seen} loss {loss:.4f} {rate:.0f} tok/s", flush=True)
        if update % args.save_every == 0:
            save_model(model, tokenizer, args.build / f"{out.name}-checkpoint")
            print(json.dumps(score(model, tokenizer, args.data, 10)), flush=True)
    save_model(model, tokenizer, out)
    record = {"tokens": seen, "updates": update, "seconds": round(time.time() - begun)}
    print(json.dumps({**record, **score(model, tokenizer, args.data)}), flush=True)


def load(tokenizer_folder: Path, resume: Path | None, kind: str) -> tuple[Any, Any]:
    """The tokenizer, and a fresh model or one to go on with (in float32 for training)."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    if resume:
        return tokenizer, AutoModelForCausalLM.from_pretrained(resume, dtype=torch.float32)
    return tokenizer, new_model(kind, tokenizer)


# ------------------------------------------------------------------------------------------------ scoring


def replies(model: Any, tokenizer: Any, prompts: list[str], temperature: float = 0.0) -> list[str]:
    """Batched decoding of user prompts (greedy at temperature 0)."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    found = [""] * len(prompts)
    tokenizer.padding_side = "left"
    sampling = (
        {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    )
    for at in range(0, len(order), 100):
        part = order[at : at + 100]
        texts = [f"{IM_START}user\n{prompts[i]}{IM_END}\n{IM_START}assistant\n" for i in part]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        inputs.pop("token_type_ids", None)
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            out = model.generate(
                **inputs,
                max_new_tokens=320,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                **sampling,
            )
        for i, row in zip(part, out[:, inputs["input_ids"].shape[1] :], strict=True):
            text = tokenizer.decode(row, skip_special_tokens=False)
            found[i] = text.split(IM_END)[0]
    return found


def last_number(reply: str) -> str:
    """The last whole number after the think tags, or an empty string."""
    numbers = re.findall(r"\d+", reply.split("</think>")[-1])
    return str(int(numbers[-1])) if numbers else ""


def score(
    model: Any, tokenizer: Any, folder: Path, per_step: int = 60, temperature: float = 0.0
) -> dict[str, Any]:
    """Shares right: evaluation and collected stories by number of steps, and the guard prompts."""
    model.eval()
    result: dict[str, Any] = {}
    for name in ("eval", "prompts"):
        rows = read_rows(folder / f"{name}.jsonl")
        kept = [
            r for s in range(1, 6) for r in [x for x in rows if x["metadata"].get("steps") == s][:per_step]
        ]
        found = replies(model, tokenizer, [r["messages"][0]["content"] for r in kept], temperature)
        right = defaultdict(list)
        for row, reply in zip(kept, found, strict=True):
            right[row["metadata"]["steps"]].append(last_number(reply) == row["reference"])
        result[name] = {s: round(sum(v) / len(v), 3) for s, v in right.items()}
        result[name]["all"] = round(sum(map(sum, right.values())) / len(kept), 3)
    rows = read_rows(folder / "guard.jsonl")
    found = replies(model, tokenizer, [r["messages"][0]["content"] for r in rows], temperature)
    kept_to = [
        world.satisfied(reply.split("</think>")[-1], row["metadata"]["constraints"])
        for row, reply in zip(rows, found, strict=True)
    ]
    result["guard"] = round(sum(kept_to) / len(kept_to), 3)
    model.train()
    return result


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ----------------------------------------------------------------------------------------------- commands


def parser() -> argparse.ArgumentParser:
    """The command line."""
    root = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root.add_argument("command", choices=("prompts", "tokenizer", "teacher", "student", "gguf", "score"))
    root.add_argument("model", nargs="?", type=Path, help="model folder (score)")
    root.add_argument("--data", type=Path, default=HERE, help="folder of the shipped files")
    root.add_argument("--build", type=Path, default=HERE.parents[1] / "build" / "pantry")
    root.add_argument("--tokens", type=float, default=8e6, help="training tokens, padding included")
    root.add_argument("--batch-tokens", type=int, default=2048, help="tokens of one part of a batch")
    root.add_argument("--parts", type=int, default=4, help="parts, of different lengths, in one update")
    root.add_argument("--lr", type=float, default=1e-3)
    root.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    root.add_argument("--out", type=Path, help="folder of the trained model, if not the usual one")
    root.add_argument("--seed", type=int, default=7)
    root.add_argument("--save-every", type=int, default=250, help="updates between checkpoints")
    root.add_argument("--resume", type=Path, help="model folder to go on from")
    root.add_argument("--temperature", type=float, default=0.0, help="sampling temperature (score)")
    root.add_argument("--threads", type=int, default=2)
    return root


def main() -> None:
    """Run one command."""
    args = parser().parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.build.mkdir(parents=True, exist_ok=True)
    if args.command == "prompts":
        world.write_shipped(args.data)
    elif args.command == "tokenizer":
        build_tokenizer(args.build / "tokenizer")
    elif args.command == "teacher":
        train(args, "teacher", args.out or args.build / "teacher")
    elif args.command == "student":
        train(args, "student", args.out or args.data / "student")
    elif args.command == "score":
        tokenizer, model = load(args.model, args.model, "")
        print(json.dumps(score(model, tokenizer, args.data, temperature=args.temperature)))
    else:
        from to_gguf import write_gguf

        write_gguf(args.build / "teacher", args.data / "teacher.gguf")


if __name__ == "__main__":
    main()
