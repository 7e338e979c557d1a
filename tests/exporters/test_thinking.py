"""Thinking survives: a student that was trained to think, not to, or to do as it is told, does so when it is asked as
trained, merged, in a GGUF file, by the prompts of the Ollama template, and in a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from localdistill import ChatTarget, open_chat
from localdistill.core.events import Cancel, silent
from localdistill.core.options import Member
from localdistill.core.records import Candidate, Message, Prompt, Request, Sampling, Skip, Trace
from localdistill.engines import ENGINES
from localdistill.exporters.gguf import GgufExporter
from localdistill.exporters.job import ExportJob
from localdistill.exporters.ollama import OllamaExporter
from localdistill.exporters.ollama_parts.go_template import go_template
from localdistill.stages.context import build_member
from localdistill.stages.tokenizing import TraceTokenizer, format_of
from localdistill.templates import ChatTemplate
from localdistill.trainers.merge import merge
from tests.exporters.student_templates import TEMPLATES
from tests.tiny_models import KINDS, tiny_of
from tests.trainers.rows import job
from tests.trainers.test_torch_lora import trainer

pytest.importorskip("torch")
pytest.importorskip("llama_cpp")

QUESTIONS = ("How many apples?", "What is the total?")
LIMITS = Sampling(max_tokens=60)
THOUGHT, ANSWER = "12 - 5 = 7.", "The answer is 7."
EPOCHS = {True: 40, False: 40, None: 120}
"""In which it learns them by heart."""
FORMATS = {True: ("full_trace",), False: ("answer_only",), None: ("full_trace", "answer_only")}
WAYS = pytest.mark.parametrize("thinks", [True, False, None], ids=["to think", "not to think", "both"])


@dataclass(frozen=True)
class Made:
    """A student that was trained, merged and exported."""

    base: Path
    output: Path
    merged: Path
    gguf: Path
    template: ChatTemplate
    thinks: bool | None


def made(folder: Path, kind: str, template: str, thinks: bool | None) -> Made:
    """A tiny student of `kind` that learned two answers by heart."""
    base = tiny_of(KINDS[kind], folder / "base")
    (base / "chat_template.jinja").write_text(template, encoding="utf-8")
    tokens, rows = TraceTokenizer(base, 200), list[dict[str, Any]]()
    for place, question in enumerate(QUESTIONS):
        prompt = Prompt((Message("user", question),))
        trace = Candidate(Trace(f"t{place}", prompt.id, "", "", THOUGHT, ANSWER, trace_kind="raw"), True)
        for form in FORMATS[thinks]:
            for row in tokens.rows(format_of(Member(use=form), folder), prompt, [trace]):
                assert not isinstance(row, Skip), row
                rows.append({"row_id": f"{form}{place}", "input_ids": list(row.input_ids), "sign": 1, "group": "",
                             "weights": list(row.weights)})
    learner = trainer(epochs=EPOCHS[thinks], learning_rate=1e-2, rank=16, alpha=32)
    learner.train(job(base, folder / "out", rows), silent, Cancel())
    merged = merge(base, folder / "out" / "adapter", folder / "merged")
    export = ExportJob(merged.path, folder / "gguf", "student", thinks, {"num_ctx": 200},
                       adapter=folder / "out" / "adapter")
    options = GgufExporter.Options(quants=("F16",), greedy_tokens=4, parity_prompts=QUESTIONS)
    files = GgufExporter(options).export(export, silent, Cancel())
    OllamaExporter(OllamaExporter.Options()).export(export, silent, Cancel())
    return Made(base, folder / "out", merged.path, files[0], ChatTemplate.from_folder(base), thinks)


def replies(use: str, options: Mapping[str, object], asked: Sequence[Request]) -> list[bool]:
    """Whether each of its replies thought; everything that one says must be right."""
    engine = build_member(ENGINES, Member(use=use, options=dict(options)), Path())
    try:
        found = {reply.request_id: reply for reply in engine.answer(asked, silent, Cancel())}
    finally:
        engine.close()
    for reply in found.values():
        assert (reply.status, reply.answer) == ("complete", ANSWER) and reply.reasoning in ("", THOUGHT)
    return [bool(found[request.id].reasoning) for request in asked]


def check(made: Made) -> None:
    """Whoever asks the student, in whichever of its forms, is answered as it was trained, or as it is told."""
    ways = (None, True, False) if made.thinks is None else (made.thinks,)
    wanted = [way is not False for way in ways for _ in QUESTIONS]
    asked = [Request(f"{way} {question}", (Message("user", question),), LIMITS, 0, way)
             for way in ways for question in QUESTIONS]
    adapter = {"model": str(made.base), "adapter": str(made.output / "adapter")}
    assert replies("transformers", adapter, asked) == wanted, "as it was trained"
    assert replies("transformers", {"model": str(made.merged)}, asked) == wanted, "merged"
    served = [replace(one, thinks=one.thinks if made.thinks is None else None) for one in asked]
    assert replies("llama_cpp", {"model": str(made.gguf)}, served) == wanted, "the file alone"
    ollama = go_template(made.template, made.thinks, "")
    assert ollama is not None and ollama.text in (made.gguf.parent / "Modelfile").read_text(encoding="utf-8")
    texts = [replace(one, text=ollama.render(one.messages, one.thinks is not False)) for one in asked]
    assert replies("llama_cpp", {"model": str(made.gguf)}, texts) == wanted, "by the prompts of Ollama"
    target = ChatTarget(Member(use="llama_cpp", options={"model": str(made.gguf)}), "the file")
    with open_chat(target, max_tokens=LIMITS.max_tokens) as session:
        for one, thought in zip(served, wanted, strict=True):
            session.reset()
            session.thinks = one.thinks
            reply = session.ask(one.messages[0].content)
            assert (reply.answer, bool(reply.reasoning)) == (ANSWER, thought), "in a chat"


@pytest.mark.slow
@WAYS
@pytest.mark.parametrize(("kind", "template"), [("qwen3", "switched"), ("smollm3", "mode_in_header")])
def test_what_was_learned_of_thinking_is_served(kind: str, template: str, thinks: bool | None, tmp_path: Path) -> None:
    check(made(tmp_path, kind, TEMPLATES[template], thinks))


@pytest.mark.slow
@pytest.mark.parametrize("thinks", [True, False], ids=["to think", "not to think"])
@pytest.mark.parametrize(("kind", "template"), [("qwen2", "opened"), ("llama", "plain"), ("mistral", "kept_thoughts")])
def test_so_is_it_without_a_switch(kind: str, template: str, thinks: bool, tmp_path: Path) -> None:
    check(made(tmp_path, kind, TEMPLATES[template], thinks))


def test_a_student_that_was_trained_to_do_both_does_as_it_is_told(tmp_path: Path) -> None:
    check(made(tmp_path, "qwen3", TEMPLATES["switched"], None))
