"""Students: which kinds there are, and what of the way from training to serving works for a model on this machine. The
answers come from the files of the architectures and from the checks that a plan runs, and are listed nowhere else."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from localdistill.core.errors import LocalDistillError
from localdistill.exporters import EXPORTERS
from localdistill.exporters.base import Exporter
from localdistill.exporters.job import ExportPlan
from localdistill.modelfiles.architectures import ARCHITECTURES, Architecture
from localdistill.modelfiles.folder import ModelFolder, resolve_model
from localdistill.modelfiles.hardware import USUAL_TOKENS, Hardware, MemoryPlan, look_at_hardware
from localdistill.modelfiles.shape import shape_of
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.stages.tokenizing import trained_tags
from localdistill.trainers import TRAINERS
from localdistill.trainers.base import Trainer

_WINDOWED = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 8, "vocab_size": 9,
             "sliding_window": 2, "use_sliding_window": True, "max_window_layers": 0}
"""Of a config.json in which whatever can have a window has one."""


@dataclass(frozen=True)
class StudentKind:
    """One kind of student, and how far each step reads its texts."""

    name: str
    """As config.json says it."""
    models: str
    """Those that people know."""
    torch: str
    mlx: str
    merge: str
    gguf: str
    serve: str


@dataclass(frozen=True)
class StudentStep:
    """Whether one step of the way works for a student."""

    what: str
    """`train in torch`"""
    works: bool
    text: str
    fix: str = ""


@dataclass(frozen=True)
class StudentReport:
    """What is known of one student before anything of it is loaded."""

    source: str
    kind: str
    models: str
    parameter_count: int
    dtype: str
    context_tokens: int
    """Most positions that all libraries read alike."""
    window_tokens: int | None
    vocabulary: int
    steps: tuple[StudentStep, ...]


def student_kinds() -> list[StudentKind]:
    """All of them. `within its window` says that texts may not be longer than that where there is one."""
    return [_line(kind) for kind in ARCHITECTURES.values()]


def _line(kind: Architecture) -> StudentKind:
    windowed = kind.window(_WINDOWED) is not None
    mlx = "yes" if kind.mlx.computes_windows or not windowed else "within its window"
    gguf = "yes" if kind.gguf.computes_windows or not windowed else "within its window"
    return StudentKind(kind.name, kind.models, "yes", mlx, "yes", gguf, gguf)


def examine_student(source: str, base: Path | None = None, max_tokens: int = USUAL_TOKENS) -> StudentReport:
    """What works for the student that `source` names (a folder, relative ones from `base`, `shipped:NAME` or an
    `hf://` id that is here), trained on rows of up to `max_tokens`. Raises ModelFileError when it is none."""
    folder = ModelFolder.open(resolve_model(source, base, fetches=False))
    tokens, hardware = min(max_tokens, folder.context_length), look_at_hardware()
    merge = StudentStep("merge", True, "into the stored weights, tensor by tensor")
    steps = (*_trainings(folder, tokens, hardware), merge, *_exports(folder, tokens), *_serving(folder))
    return StudentReport(source, folder.architecture, folder.kind.models, folder.parameter_count, folder.dtype,
                         folder.context_length, folder.window, StudentTokenizer(folder.path).vocab_size, steps)


def _trainings(folder: ModelFolder, tokens: int, hardware: Hardware) -> Iterator[StudentStep]:
    for name in TRAINERS.names():
        trainer: Trainer = TRAINERS.load(name)()
        plan = trainer.estimate(shape_of(folder), tokens, hardware)
        yield _step(f"train with {name}", partial(trainer.check, folder.path, tokens, hardware),
                    _memory(plan, tokens), fits=plan.fits)


def _memory(plan: MemoryPlan, tokens: int) -> str:
    free = "not known" if plan.place.free_bytes is None else f"{plan.place.free_bytes / 1e9:.1f} GB free"
    ways = f" ({', '.join(plan.gives_way)})" if plan.gives_way else ""
    return (f"{plan.how}: about {plan.total_bytes / 1e9:.1f} GB for rows of {tokens:,} tokens{ways}, {free} "
            f"{plan.place.name}")


def _exports(folder: ModelFolder, tokens: int) -> Iterator[StudentStep]:
    tags = len(trained_tags(StudentTokenizer(folder.path), True))
    for name in EXPORTERS.names():
        member = EXPORTERS.load(name)
        exporter: Exporter = member(member.Options())
        text = f"texts of up to {folder.gguf_context_length:,} tokens"
        plain, thinker = (ExportPlan(folder.path, None, tokens, rows) for rows in (0, tags))
        thinking = _step(name, partial(exporter.check, thinker), text)
        if not thinking.works:
            text += f"; not what learns to think: {thinking.text}"
        yield _step(f"export as {name}", partial(exporter.check, plain), text)


def _serving(folder: ModelFolder) -> Iterator[StudentStep]:
    for name, module, tokens in (("transformers", "torch", folder.context_length),
                                 ("mlx", "mlx_lm", folder.mlx_context_length),
                                 ("llama_cpp", "llama_cpp", folder.gguf_context_length)):
        there = importlib.util.find_spec(module) is not None
        yield StudentStep(f"serve by {name}", there, f"texts of up to {tokens:,} tokens" if there else "not installed",
                   "" if there else "see localdistill doctor")


def _step(what: str, check: Callable[[], None], text: str, fits: bool = True) -> StudentStep:
    try:
        check()
    except LocalDistillError as error:
        return StudentStep(what, False, error.message, error.hint)
    if not fits:
        return StudentStep(what, False, f"not enough memory; {text}",
                           "take shorter rows (student.max_tokens), or a smaller student")
    return StudentStep(what, True, text)
