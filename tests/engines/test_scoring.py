"""Log-probabilities of given continuations by the engines that hold the model: they agree with a plain forward pass and
with each other, alone and together, and what cannot be scored is refused alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.borders import BORDERS
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Continuation, Message, Reply, Request, Sampling, TokenScores
from localdistill.engines._continuations import ScoringTarget, batches
from localdistill.engines.llama_cpp import LlamaCppEngine
from localdistill.engines.transformers import TransformersEngine
from localdistill.modelfiles.tokenizer import StudentTokenizer
from localdistill.modelfiles.vocabulary import gguf_vocabulary_id
from localdistill.templates import ChatTemplate
from tests.tiny_models import tiny_model

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
SHOTS = "Question: a farmer has 12 apples and gives away 5. How many apples are left? First subtract: 12 - 5 = 7. " * 2
ANSWERS = ("7", " So the answer is 7.<|im_end|>", "Wait, let me check that again", "42, and the total is correct")
ROUNDING = 0.01
"""llama.cpp computes and keeps keys and values in 16 bits: so much the shape of a batch may change."""
QUESTIONS = ("Think step by step.", "how many apples are left in the basket of the farmer?", "x", "3 + 4 = 7, 7 * 2 =")


@pytest.fixture(scope="module")
def engine(student: Path) -> Iterator[TransformersEngine]:
    made = engine_of(student)
    yield made
    made.close()


@pytest.fixture(scope="module")
def gguf(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf")
    pytest.importorskip("llama_cpp")
    from localdistill.exporters.gguf import convert_to_gguf

    path = tmp_path_factory.mktemp("gguf") / "student-F16.gguf"
    convert_to_gguf(student, path, "F16")
    return path


@pytest.fixture(scope="module")
def native(gguf: Path) -> Iterator[LlamaCppEngine]:
    made = native_of(gguf)
    yield made
    made.close()


def engine_of(student: Path, **options: Any) -> TransformersEngine:
    return TransformersEngine(TransformersEngine.Options(model=str(student), **{"dtype": "float32", **options}))


def native_of(path: Path, **options: Any) -> LlamaCppEngine:
    settings = {"model": str(path), "threads": 1, "processes": 1, "parallel": 4, **options}
    return LlamaCppEngine(LlamaCppEngine.Options(**settings))


def asked(top: int = 0, shots: str = SHOTS) -> list[Request]:
    """Questions after a long beginning that they share, the same continuations behind each; and a raw text."""
    continuations = tuple(map(Continuation, ANSWERS))
    questions = [Request(f"q{n}", (Message("user", shots + text),), thinks=bool(n % 2) if n else None, top_logprobs=top,
                         continuations=continuations) for n, text in enumerate(QUESTIONS)]
    return [*questions, Request("raw", (), text=shots + "So", top_logprobs=top, continuations=continuations[::-1])]


def replies(made: Any, requests: list[Request]) -> dict[str, Reply]:
    found = {reply.request_id: reply for reply in made.answer(iter(requests), silent, Cancel())}
    if isinstance(made, LlamaCppEngine):  # a child that dies is started again, and hides why
        assert made._session is not None and made._session.pool.crashes == 0
    return found


def plain(model: Any, student: Path, request: Request) -> list[TokenScores]:
    """What a loop over whole texts finds: one forward pass for each continuation, all logits of it."""
    tokenizer = StudentTokenizer(student)
    text = request.text
    if text is None:
        text = ChatTemplate.from_folder(student).prompt(request.messages, request.thinks)
    prefix, found = tokenizer.encode_prompt(text), []
    for one in request.continuations:
        ids = list(one.token_ids) or tokenizer.encode(one.text)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prefix + ids]), use_cache=False).logits[0].double()
        rows = logits[len(prefix) - 1:-1].log_softmax(-1)
        best = rows.topk(request.top_logprobs)
        found.append(TokenScores(tuple(ids), tuple(rows[range(len(ids)), ids].tolist()),
                                 tuple(map(tuple, best.indices.tolist())), tuple(map(tuple, best.values.tolist()))))
    return found


def assert_close(ours: tuple[TokenScores, ...], theirs: list[TokenScores] | tuple[TokenScores, ...],
                 error: float) -> None:
    assert [one.ids for one in ours] == [one.ids for one in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.logprobs == pytest.approx(other.logprobs, abs=error)
        assert mine.total == pytest.approx(sum(other.logprobs), abs=error * len(other.ids))
        assert [len(row) for row in mine.top_ids] == [len(row) for row in other.top_ids]
        for values, wanted in zip(mine.top_logprobs, other.top_logprobs, strict=True):
            assert values == pytest.approx(wanted, abs=error) and list(values) == sorted(values, reverse=True)
        for token, logprob, ids, row in zip(mine.ids, mine.logprobs, mine.top_ids, mine.top_logprobs):
            assert token not in ids or row[ids.index(token)] == pytest.approx(logprob, abs=1e-6)


@pytest.mark.parametrize("top", [0, 5])
def test_scores_are_those_of_a_plain_forward_pass(engine: TransformersEngine, student: Path, top: int) -> None:
    requests = asked(top)
    found, model = replies(engine, requests), engine.model
    for request in requests:
        reply = found[request.id]
        assert reply.status == "complete" and not (reply.raw or reply.answer or reply.scores)
        assert_close(reply.continuations, plain(model, student, request), 2e-5)
    spread = {round(one.total, 3) for reply in found.values() for one in reply.continuations}
    assert len(spread) == len(requests) * len(ANSWERS) and max(spread) < 0


@pytest.mark.parametrize("top", [0, 5])
def test_the_native_engines_agree_on_the_same_weights(engine: TransformersEngine, native: LlamaCppEngine,
                                                      student: Path, top: int) -> None:
    """The file holds the weights in 16 bits: so much the numbers differ, and no more."""
    requests = asked(top)
    ours, theirs = replies(native, requests), replies(engine, requests)
    for request in requests:
        assert_close(ours[request.id].continuations, theirs[request.id].continuations, 0.02)
        assert ours[request.id].usage == theirs[request.id].usage
        assert_close(ours[request.id].continuations, plain(engine.model, student, request), 0.02)


@pytest.mark.parametrize("options", [{"batch_rows": 1}, {"batch_rows": 3}, {"max_batch_tokens": 300}])
def test_batches_of_every_size_find_the_same(engine: TransformersEngine, student: Path,
                                             options: dict[str, int]) -> None:
    together, apart = replies(engine, asked(3)), replies(engine_of(student, **options), asked(3))
    for key, reply in together.items():
        assert_close(reply.continuations, apart[key].continuations, 2e-5)


@pytest.mark.parametrize("options", [{"parallel": 1}, {"kv_layout": "unified", "kv_tokens": 256, "context_tokens": 256},
                                     {"kv_layout": "unified"}])
def test_every_cache_finds_the_same(native: LlamaCppEngine, gguf: Path, options: dict[str, Any]) -> None:
    requests = asked(3)
    other = native_of(gguf, **options)
    together, apart = replies(native, requests), replies(other, requests)
    other.close()
    for key, reply in together.items():
        assert_close(reply.continuations, apart[key].continuations, ROUNDING)


def test_pieces_of_long_continuations_find_the_same(engine: TransformersEngine, student: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    whole = replies(engine, asked(2))
    monkeypatch.setattr(BORDERS, "scored_bytes", 1)
    for key, reply in replies(engine, asked(2)).items():
        assert_close(reply.continuations, whole[key].continuations, 2e-5)


def test_what_is_shared_is_read_once(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, ...]] = []
    model = engine.model
    forward = type(model).forward

    def watched(self: Any, *args: Any, **inputs: Any) -> Any:
        read.append(tuple(inputs["input_ids"].shape))
        return forward(self, *args, **inputs)

    monkeypatch.setattr(type(model), "forward", watched)
    question = asked()[1]
    many = replace(question, continuations=tuple(Continuation(f" {n} apples") for n in range(80)))
    [reply] = replies(engine, [many]).values()
    assert len(reply.continuations) == 80
    prefix = reply.usage.prompt_tokens - sum(len(one.ids) for one in reply.continuations)
    beginnings = [shape for shape in read if shape[1] >= prefix - 1]
    assert beginnings == [(1, prefix - 1)] and prefix > 50
    read.clear()
    replies(engine, asked()[:4])
    assert [rows for rows, tokens in read if tokens > 50] == [1]


@pytest.fixture(scope="module")
def model(gguf: Path) -> Any:
    from localdistill.engines.llama_cpp_native.model import LoadSettings, NativeModel

    return NativeModel(LoadSettings(str(gguf), gpu_layers=0))


def batcher_of(model: Any, **context: Any) -> Any:
    from localdistill.engines.llama_cpp_native.batching import Batcher
    from localdistill.engines.llama_cpp_native.context import ContextSettings

    model.arrange(ContextSettings(**{"parallel": 4, "context_tokens": 512, "flash_attention": False, **context}))
    return Batcher(model)


def in_batches(batcher: Any, prompts: list[str], writers: int = 0, length: int = 1) -> list[list[float]]:
    """What is found for twelve continuations of each prompt, while others write a long text."""
    from localdistill.engines.llama_cpp_native.sequence import NativeRequest

    for number in range(writers):
        batcher.add(NativeRequest(100 + number, f"{number} Think", 150, temperature=1.5, seed=number))
    continuations = tuple(Continuation(f" {n} apples are left in the basket" * length) for n in range(12))
    found = [one for number, prompt in enumerate(prompts)
             for one in batcher.add(NativeRequest(number, prompt, 1, continuations=continuations, top_logprobs=2))]
    while batcher.is_busy():
        batcher.step()
    assert all(one.finish and [row[0] for row in one.scores] == list(one.target) for one in found)
    return [[row[1] for row in one.scores] for one in found]


def test_the_native_engine_reads_what_is_shared_once(model: Any) -> None:
    batcher = batcher_of(model)
    in_batches(batcher, [SHOTS])
    own = 12 * (len(model.encode(" 0 apples are left in the basket")) + 1)
    assert batcher.evaluated_tokens <= len(model.encode(SHOTS)) + own
    before = batcher.evaluated_tokens
    long = [f"{SHOTS} {question}" for question in (QUESTIONS[1] * 3, QUESTIONS[3] * 5)]
    in_batches(batcher, long)
    news = sum(len(model.encode(prompt.removeprefix(SHOTS))) + 2 for prompt in long)
    assert batcher.evaluated_tokens - before <= news + len(long) * own


def test_a_batch_with_room_for_few_logits_finds_the_same(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = in_batches(batcher_of(model), [SHOTS, QUESTIONS[1]])
    monkeypatch.setattr(BORDERS, "output_bytes", 4)
    batcher, widths = batcher_of(model), []
    logits = batcher._logits
    monkeypatch.setattr(batcher, "_logits", lambda rows: widths.append(rows) or logits(rows))
    for ours, theirs in zip(in_batches(batcher, [SHOTS, QUESTIONS[1]]), wanted, strict=True):
        assert ours == pytest.approx(theirs, abs=ROUNDING)
    assert set(widths) == {1}


def test_what_is_paused_is_scored_again(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring goes a token at a time here, so that those who write take the cells of what is half scored."""
    wanted = in_batches(batcher_of(model), [SHOTS], length=12)
    monkeypatch.setattr(BORDERS, "output_bytes", 4)
    batcher = batcher_of(model, parallel=3, context_tokens=256, unified=True, pool_tokens=256)
    for ours, theirs in zip(in_batches(batcher, [SHOTS], writers=1, length=12), wanted, strict=True):
        assert ours == pytest.approx(theirs, abs=ROUNDING)
    if not batcher.pauses:  # what the writer says follows from this machine's arithmetic, and here it ended early
        pytest.skip("nothing had to be paused on this machine")


def test_a_window_is_heeded(tmp_path: Path) -> None:
    """Prefixes of all lengths, most longer than the window, in one padded batch."""
    student = tiny_model(tmp_path / "m", "mistral", seed=3, initializer_range=0.3, sliding_window=24)
    made = engine_of(student)
    requests = asked(2)
    found, model = replies(made, requests), made.model
    for request in requests:
        assert_close(found[request.id].continuations, plain(model, student, request), 2e-5)
    wide = tiny_model(tmp_path / "wide", "mistral", seed=3, initializer_range=0.3, sliding_window=None)
    other = replies(engine_of(wide), requests)
    assert abs(other["q0"].continuations[0].total - found["q0"].continuations[0].total) > 1e-3


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_an_adapter_counts(student: Path, tmp_path: Path, quantization: str) -> None:
    if quantization == "nf4":
        pytest.importorskip("bitsandbytes")
    from tests.trainers.rows import job, random_rows
    from tests.trainers.test_torch_lora import trainer

    settings = {"quantization": "nf4", "dtype": "float32"} if quantization == "nf4" else {}
    trainer(epochs=4, learning_rate=2e-2, **settings).train(
        job(student, tmp_path / "out", random_rows(8), tag_token_ids=(398, 399)), silent, Cancel())
    made = engine_of(student, adapter=str(tmp_path / "out" / "adapter"), quantization=quantization)
    requests = asked(2)
    found, model = replies(made, requests), made.model
    for request in requests:
        # The quantized product rounds to bfloat16 on its own, and differently for every shape of a batch.
        assert_close(found[request.id].continuations, plain(model, student, request),
                     0.1 if quantization == "nf4" else 2e-5)
    bare = replies(engine_of(student, quantization=quantization), requests)
    assert max(abs(mine.total - other.total) for key, reply in found.items()
               for mine, other in zip(reply.continuations, bare[key].continuations)) > 1.0


BAD = {
    "empty": (Continuation("7"), Continuation("")), "twice": (Continuation("7", (3,)),),
    "outside": (Continuation(token_ids=(3, 999_999)),), "negative": (Continuation(token_ids=(-1,)),),
    "long": (Continuation("apples " * 600),),
}
WORDS = {"empty": "continuation 2 is empty", "twice": "both as text and as token ids",
         "outside": "outside the vocabulary", "negative": "outside the vocabulary", "long": "the context holds 512",
         "nothing": "nothing stands before"}


@pytest.mark.parametrize("which", ["engine", "native"])
def test_what_cannot_be_scored_is_refused_alone(which: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(which)
    good = asked()[:2]
    bad = [Request(name, (Message("user", "?"),), continuations=found) for name, found in BAD.items()]
    bad.append(Request("nothing", (), text="", continuations=(Continuation("7"),)))
    found = replies(made, [*bad[:3], good[0], *bad[3:], good[1]])
    assert len(found) == len(bad) + len(good)
    for name, words in WORDS.items():
        assert found[name].status == "error" and words in found[name].error, found[name].error
        assert not found[name].continuations
    assert all(len(found[one.id].continuations) == len(ANSWERS) for one in good)


@pytest.mark.parametrize("which", ["engine", "native"])
def test_token_ids_of_another_tokenizer_are_refused(which: str, request: pytest.FixtureRequest, student: Path,
                                                    gguf: Path, tmp_path: Path) -> None:
    made, tokenizer = request.getfixturevalue(which), StudentTokenizer(student)
    other = StudentTokenizer(tiny_model(tmp_path / "m", vocab=380, hidden=32)).identity
    assert tokenizer.identity == gguf_vocabulary_id(gguf) != other
    text, ids = asked()[0], tuple(tokenizer.encode(ANSWERS[1]))
    as_ids = replace(text, id="ids", continuations=(Continuation(token_ids=ids),), tokenizer=tokenizer.identity)
    strange, unknown = replace(as_ids, id="strange", tokenizer=other), replace(as_ids, id="unknown", tokenizer="")
    said = replace(text, id="said", tokenizer=other)  # a text is nobody's ids
    found = replies(made, [text, as_ids, strange, unknown, said])
    assert found["strange"].status == "error"
    assert "were made for the tokenizer" in found["strange"].error and other in found["strange"].error
    (known,), (taken,) = found["ids"].continuations, found["unknown"].continuations
    assert known.ids == taken.ids and known.logprobs == pytest.approx(taken.logprobs, abs=1e-3), "in whichever batch"
    assert found["ids"].continuations[0].total == pytest.approx(found[text.id].continuations[1].total, abs=1e-3)
    assert found["said"].continuations[0].ids == found[text.id].continuations[0].ids


def test_padding_rows_of_the_file_do_not_change_its_vocabulary(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    from localdistill.exporters.gguf import convert_to_gguf

    student = tiny_model(tmp_path / "m", hidden=32, vocab_size=448)
    convert_to_gguf(student, tmp_path / "x.gguf", "F16")
    assert gguf_vocabulary_id(tmp_path / "x.gguf") == StudentTokenizer(student).identity


@pytest.mark.parametrize("which", ["engine", "native"])
def test_scoring_and_writing_mix(which: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(which)
    scored, written = asked(2), [Request(f"w{n}", (Message("user", f"{SHOTS} {n}"),), Sampling(max_tokens=12),
                                         top_logprobs=2) for n in range(3)]
    going_on = Request("on", (), Sampling(max_tokens=6), text="3 + 4 = 7, 7 * 2")
    apart = replies(made, scored) | replies(made, [*written, going_on])
    mixed = replies(made, [scored[0], written[0], *scored[1:], *written[1:], going_on])
    assert len(mixed) == len(scored) + len(written) + 1
    for key, reply in mixed.items():
        assert_close(reply.continuations, apart[key].continuations, ROUNDING)
    assert sum(mixed[one.id].raw == apart[one.id].raw for one in [*written, going_on]) >= 3
    assert mixed["on"].usage.completion_tokens > 0


def test_new_tokens_have_their_log_probabilities_too(engine: TransformersEngine, native: LlamaCppEngine) -> None:
    """What an engine says of the tokens that it writes is what it says of them when they are given."""
    wrote = Request("w", (Message("user", SHOTS),), Sampling(max_tokens=10), top_logprobs=3)
    for made in (engine, native):
        scores = replies(made, [wrote])["w"].scores
        assert scores is not None and all(token == ids[0] for token, ids in zip(scores.ids, scores.top_ids))
        again = replace(wrote, continuations=(Continuation(token_ids=scores.ids),))
        assert_close(replies(made, [again])["w"].continuations, [scores], ROUNDING)


@pytest.mark.parametrize("which", ["engine", "native"])
def test_a_cancel_ends_it_and_leaves_nothing_half_scored(which: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(which)
    seen: list[Reply] = []
    endless = (replace(asked()[0], id=str(number)) for number in range(10**9))
    for reply in made.answer(endless, silent, Cancel(lambda: len(seen) >= 3)):
        seen.append(reply)
    assert 3 <= len(seen) <= 40 and all(len(one.continuations) == len(ANSWERS) for one in seen)
    assert list(made.answer(endless, silent, Cancel(lambda: True))) == []


def test_batches_keep_their_limits_and_lose_nothing() -> None:
    shared = tuple(range(100))
    targets = [ScoringTarget((*shared, 200 + n), (1, 2, 3)[: 1 + n % 3], 0) for n in range(10) for _ in range(3)]
    targets += [ScoringTarget(tuple(range(300, 310 + n)), (5,) * (1 + n), 0) for n in range(12)]
    targets += [ScoringTarget(tuple(range(700, 760)), (n,), 0) for n in range(40)]
    for branches in (True, False):
        found = list(batches(targets, 8, 500, branches))
        told = [target for batch in found for target in batch.targets]
        assert sorted(map(id, told)) == sorted(map(id, targets))
        for batch in found:
            rows, longest = len(batch.targets), max(target.size for target in batch.targets)
            assert rows <= 8 and (rows == 1 or rows * longest <= 500)
            assert len({target.prefix[:batch.common] for target in batch.targets}) == 1
            assert all(len(target.prefix) > batch.common for target in batch.targets)
        commons = {batch.common for batch in found if batch.targets[0].prefix[0] == 0}
        assert commons == ({100} if branches else {0})
        assert {batch.common for batch in found if batch.targets[0].prefix[0] == 700} == {59}


def test_the_total_is_a_logarithm(engine: TransformersEngine) -> None:
    """The probabilities of all tokens in one place add up to one."""
    prompt = Request("r", (), text="12 - 5 =", continuations=tuple(Continuation(token_ids=(n,)) for n in range(400)))
    [reply] = replies(engine, [prompt]).values()
    assert sum(math.exp(one.total) for one in reply.continuations) == pytest.approx(1.0, abs=1e-4)
