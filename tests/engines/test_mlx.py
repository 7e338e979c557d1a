"""The student in MLX answers as it does in torch: the same greedy texts and scores, in batches and alone, with an
adapter, in any thread; and what it cannot read as the student means it is refused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localdistill.core.errors import EngineError
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Continuation, Message, Reply, Request, Sampling
from localdistill.engines.mlx import MlxEngine
from localdistill.engines.transformers import TransformersEngine
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.mlx_models import MlxDtype, MlxHolding
from tests.engines.test_scoring import asked, assert_close
from tests.engines.test_transformers import requests
from tests.tiny_models import STRICT_TEMPLATE, tiny_model

torch = pytest.importorskip("torch")
pytest.importorskip("mlx.core")
torch.set_num_threads(1)
ERROR = 1e-4
"""Numeric error of a margin between the likeliest two tokens, in nats: nearer ones may fall either way."""


@pytest.fixture(scope="module")
def adapter(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny_models import tiny_adapter

    return tiny_adapter(student, tmp_path_factory.mktemp("adapter"))


def mlx(student: Path, **options: Any) -> MlxEngine:
    return MlxEngine(MlxEngine.Options(model=str(student), **{"dtype": "float32", **options}))


def in_torch(student: Path, **options: Any) -> TransformersEngine:
    return TransformersEngine(TransformersEngine.Options(model=str(student), **{"dtype": "float32", **options}))


def answers(made: Any, asked: list[Request]) -> dict[str, Reply]:
    return {reply.request_id: reply for reply in made.answer(iter(asked), silent, Cancel())}


def questions(count: int, max_tokens: int = 24) -> list[Request]:
    words = ["how", "many", "apples", "are", "left", "in", "the", "basket", "of", "the", "farmer", "12", "- 5", "="]
    return [Request(f"q{n}", (Message("user", " ".join([*words[n % 7:n % 7 + 1 + n % 11], str(n)])),),
                    Sampling(max_tokens=max_tokens), thinks=(None, True, False)[n % 3], top_logprobs=2)
            for n in range(count)]


def compare(ours: dict[str, Reply], theirs: dict[str, Reply]) -> int:
    """How many texts are equal, up to a token that was nearly not chosen; all others fail."""
    assert set(ours) == set(theirs)
    for key, reply in ours.items():
        mine, other = reply.scores, theirs[key].scores
        assert mine is not None and other is not None
        if mine.ids == other.ids:
            continue
        place = next(n for n, (one, two) in enumerate(zip(mine.ids, other.ids)) if one != two)
        margin = other.top_logprobs[place][0] - other.top_logprobs[place][1]
        assert margin < ERROR, (key, place, margin)
    return sum(reply.raw == theirs[key].raw for key, reply in ours.items())


@pytest.mark.parametrize("with_adapter", [False, True])
def test_greedy_texts_are_those_of_torch(student: Path, adapter: Path, with_adapter: bool) -> None:
    added = {"adapter": str(adapter)} if with_adapter else {}
    asked = questions(12)
    ours, theirs = answers(mlx(student, **added), asked), answers(in_torch(student, **added), asked)
    assert compare(ours, theirs) >= 11 and len({reply.raw for reply in ours.values()}) > 4
    for key, reply in ours.items():
        assert (reply.usage, reply.status) == (theirs[key].usage, theirs[key].status), key
    assert mlx(student, **added).identity() == in_torch(student, **added).identity()


@pytest.mark.parametrize(("dtype", "quantization"), [("float32", "none"), ("bfloat16", "none"), ("float32", "4bit")])
def test_adapters_are_put_on_one_base_in_mlx_and_taken_off_bit_for_bit(
        student: Path, adapter: Path, tmp_path: Path, dtype: MlxDtype, quantization: MlxHolding) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    from localdistill.modelfiles.adapter import AdapterFolder
    from localdistill.modelfiles.mlx_adapter import AdaptedMlxModel
    from localdistill.modelfiles.mlx_models import load_mlx_model
    from tests.modelfiles.test_adapted import tagged

    folder = ModelFolder.open(student)
    every, few = AdapterFolder.open(adapter, folder), tagged(folder, tmp_path / "few")

    def loaded() -> AdaptedMlxModel:
        return AdaptedMlxModel(load_mlx_model(folder, dtype, quantization), folder, dtype, quantization == "none")

    def computed(model: Any) -> tuple[dict[str, bytes], bytes]:
        kept = {name: bytes(memoryview(mx.view(weight, mx.uint8))) for name, weight in tree_flatten(model.parameters())}
        return kept, bytes(memoryview(mx.view(model(mx.array([[5, 17, 3, 42, 99]])), mx.uint8)))

    held, alone = loaded(), {id(one): computed(loaded().put_on(one)) for one in (every, few, None)}
    for one in (every, few, None, few, every, None):
        assert computed(held.put_on(one)) == alone[id(one)]
    assert len({logits for _, logits in alone.values()}) == 3


def test_what_is_merged_in_mlx_is_rounded_once(student: Path, adapter: Path) -> None:
    import mlx.core as mx

    from localdistill.modelfiles.adapter import AdapterFolder
    from localdistill.modelfiles.tensors import read_tensor

    folder = ModelFolder.open(student)
    update, model = AdapterFolder.open(adapter, folder), mlx(student, adapter=str(adapter), dtype="bfloat16").model
    layer = model.model.layers[0].self_attn.q_proj
    name = "model.layers.0.self_attn.q_proj.weight"
    wanted = update.apply(name, read_tensor(*folder.tensors[name]).float()).numpy()
    assert layer.weight.dtype == mx.bfloat16
    assert np.allclose(np.array(layer.weight.astype(mx.float32)), wanted, rtol=2**-8, atol=0)


def test_engines_over_one_base_in_mlx_load_it_once(student: Path, adapter: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [answers(mlx(student, adapter=place), requests()[:3]) for place in ("", str(adapter))]
    bare, loads = MlxEngine._bare, list[str]()
    monkeypatch.setattr(MlxEngine, "_bare", lambda self, dtype: (loads.append(dtype), bare(self, dtype))[1])
    before = mlx(student)
    for place, texts in zip(("", str(adapter), ""), (*wanted, wanted[0])):
        made = mlx(student, adapter=place)
        assert made.take_over(before)
        assert {key: reply.raw for key, reply in answers(made, requests()[:3]).items()} == {
            key: reply.raw for key, reply in texts.items()}
        before = made
    assert len(loads) == 1 and not mlx(student, quantization="4bit").take_over(before)
    assert not before.take_over(in_torch(student))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["llama", "qwen2", "qwen3"])
def test_sixty_greedy_texts_are_those_of_torch(arch: str, tmp_path: Path) -> None:
    student = tiny_model(tmp_path / arch, arch)
    equal = compare(answers(mlx(student), questions(60, 64)), answers(in_torch(student), questions(60, 64)))
    print(f"{arch}: {equal} of 60 texts equal")


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "top_p": 0.9, "top_k": 30, "seed": 4}])
def test_a_batch_in_mlx_answers_as_single_requests_do(student: Path, sampling: dict[str, Any]) -> None:
    together = answers(mlx(student, batch_rows=3), requests(**sampling))
    alone = answers(mlx(student, batch_rows=1), requests(**sampling))
    assert {key: reply.raw for key, reply in together.items()} == {key: reply.raw for key, reply in alone.items()}
    assert len(together) == 6 and len({reply.raw for reply in together.values()}) > 3


@pytest.mark.parametrize("top", [0, 3])
def test_scores_in_mlx_are_those_of_torch(student: Path, top: int) -> None:
    ours, theirs = answers(mlx(student), asked(top)), answers(in_torch(student), asked(top))
    assert len(ours) == len(asked(top))
    for key, reply in ours.items():
        assert_close(reply.continuations, theirs[key].continuations, 2e-5)


def test_requests_of_every_kind_are_pulled_lazily_and_answered_or_refused(student: Path) -> None:
    pulled = 0

    def many() -> Any:
        nonlocal pulled
        for number in range(40):
            pulled += 1
            if number % 2:
                yield Request(f"s{number}", (), text="So the", continuations=(Continuation(" answer"),))
            else:
                yield Request(f"w{number}", (Message("user", "x" * (3000 if number == 4 else 3)),),
                              Sampling(max_tokens=3))

    found = mlx(student, batch_rows=2).answer(many(), silent, Cancel())
    first = next(found)
    assert pulled < 20 and first.status != "error"
    said = {reply.request_id: reply for reply in (first, *found)}
    assert len(said) == 40 and pulled == 40
    assert [key for key, reply in said.items() if reply.status == "error"] == ["w4"]
    assert "context ends at 512" in said["w4"].error


def test_what_the_template_refuses_is_an_error_of_that_request_alone_in_mlx(tmp_path: Path) -> None:
    made = mlx(tiny_model(tmp_path / "m", hidden=32, chat_template=STRICT_TEMPLATE))
    refused = Request("bad", (Message("system", "Be brief."), Message("user", "x")), Sampling(max_tokens=4))
    found = answers(made, [requests()[0], refused])
    assert found["bad"].status == "error" and "takes no instructions" in found["bad"].error
    assert found["r0"].status != "error"


def test_a_stream_in_a_thread_of_its_own_says_what_the_reply_says(student: Path) -> None:
    made = mlx(student)
    request = requests()[1]
    streamed: list[str] = []
    worker = threading.Thread(target=lambda: streamed.extend(made.stream(request, Cancel())))
    worker.start()
    worker.join()
    assert "".join(streamed) == answers(made, [request])["r1"].raw and len(streamed) > 1
    pieces = made.stream(request, Cancel())
    next(pieces)
    pieces.close()
    with pytest.raises(EngineError, match="context ends"):
        next(made.stream(Request("long", (Message("user", "x" * 3000),), Sampling(max_tokens=4)), Cancel()))


def test_a_cancel_leaves_out_what_is_unfinished(student: Path) -> None:
    seen: list[Reply] = []
    cancel = Cancel(lambda: bool(seen))
    for reply in mlx(student, batch_rows=1).answer(iter(requests()), silent, cancel):
        seen.append(reply)
    assert len(seen) == 1


def test_a_window_ends_the_context_that_mlx_reads(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "mistral", "mistral", hidden=32, sliding_window=64)
    made = mlx(student)
    assert made.context_length == 64 and ModelFolder.open(student).context_length == 512
    found = answers(made, [Request("r", (Message("user", "x"),), Sampling(max_tokens=200)),
                           Request("long", (Message("user", "x" * 80),), Sampling(max_tokens=4))])
    assert found["long"].status == "error" and found["r"].usage.completion_tokens < 64
    assert np.isfinite(found["r"].elapsed_s)
