"""Continuous batching of students in torch: rows join and leave, share what they begin with and give way where memory
runs out, and each writes what it writes alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import OutOfMemory
from localdistill.core.events import Cancel, Event, Warned, silent
from localdistill.core.records import Message, Reply, Request, Sampling
from localdistill.engines.transformers import TransformersEngine
from localdistill.modelfiles.architectures import ARCHITECTURES, Architecture
from tests.tiny_models import tiny_of

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
SHOTS = "Question: a farmer has 12 apples and gives away 5. First subtract: 12 - 5 = 7. So the answer is 7. " * 2
ENDS = ("12 - 5 = 7", "how many apples are left in the basket of the farmer?", "x", "is it really the right number",
        "7 * 2 = 14", "7 * 2 = 14")
NUMERIC_ERROR = 1e-3
"""Of logits in float32, generously: a token whose lead is smaller may lose it to rounding."""


def made(student: Path, **options: Any) -> TransformersEngine:
    return TransformersEngine(TransformersEngine.Options(model=str(student), **{"dtype": "float32", **options}))


def asked(shots: str, most: int, ends: Sequence[str] = ENDS, **sampling: Any) -> list[Request]:
    return [Request(f"r{place}", (Message("user", shots + end),),
                    Sampling(max_tokens=4 + most * (place % 3), **sampling)) for place, end in enumerate(ends)]


def replies(engine: TransformersEngine, requests: list[Request], emit: Callable[[Event], None] = silent,
            ) -> dict[str, Reply]:
    return {reply.request_id: reply for reply in engine.answer(requests, emit, Cancel())}


def texts(engine: TransformersEngine, requests: list[Request]) -> dict[str, str]:
    return {key: reply.raw for key, reply in replies(engine, requests).items()}


def differing(engine: TransformersEngine, request: Request, text: str) -> str:
    """Why `text` is not what the library writes greedily, one row at a time; empty where it is, or where the first
    other token was as good up to the numeric error."""
    question = engine.rows.asked(request)
    ids = torch.tensor([question.ids])
    theirs = engine.model.generate(ids, max_new_tokens=question.room, do_sample=False, pad_token_id=0,
                                   eos_token_id=list(question.stop_ids))[0]
    written = [token for token in theirs[ids.shape[1]:].tolist() if token not in question.stop_ids]
    if text == engine.tokenizer.decode(written):
        return ""
    place = next(n for n in range(len(written) + 1) if not text.startswith(engine.tokenizer.decode(written[:n]))) - 1
    with torch.no_grad():
        first, second = engine.model(theirs[None, :ids.shape[1] + place]).logits[0, -1].topk(2).values.tolist()
    return "" if first - second < NUMERIC_ERROR else f"{request.id}: {text!r}, not {engine.tokenizer.decode(written)!r}"


def fed(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(rows, tokens) of every forward pass from now on."""
    shapes: list[tuple[int, int]] = []
    body = type(engine.model.model)
    forward = body.forward

    def watched(model: Any, *args: Any, **inputs: Any) -> Any:
        shapes.append(tuple(inputs["input_ids"].shape))
        return forward(model, *args, **inputs)

    monkeypatch.setattr(body, "forward", watched)
    return shapes


@pytest.mark.parametrize("kind", ARCHITECTURES.values(), ids=lambda kind: kind.model_type)
def test_every_kind_of_student_writes_what_the_library_writes_row_by_row(kind: Architecture, tmp_path: Path) -> None:
    engine = made(tiny_of(kind, tmp_path / "m"), batch_rows=3)
    for shots in ("", SHOTS):
        requests = asked(shots, 7, ENDS[:5])
        found = replies(engine, requests)
        assert [differing(engine, request, found[request.id].raw) for request in requests] == [""] * len(requests)
        assert len({reply.raw for reply in found.values()}) > 3


@pytest.mark.parametrize("shots", ["", SHOTS], ids=["alone", "shared"])
def test_any_number_of_rows_at_once_writes_the_same(student: Path, shots: str) -> None:
    requests = asked(shots, 7, [f"{end} {number}" for end in ENDS[:4] for number in range(4)])
    single = texts(made(student, batch_rows=1), requests)
    for rows in (3, 16):
        assert texts(made(student, batch_rows=rows), requests) == single


def test_rows_join_as_others_leave(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(student, batch_rows=4)
    shapes = fed(engine, monkeypatch)
    lengths = [2, 40, 3, 4, 2, 3, 2, 4, 3, 2, 4, 3]
    requests = [Request(f"r{place}", (Message("user", f"Wait {place}"),), Sampling(max_tokens=most))
                for place, most in enumerate(lengths)]
    found = replies(engine, requests)
    assert [found[request.id].usage.completion_tokens for request in requests] == lengths
    steps = [rows for rows, tokens in shapes if tokens == 1]
    assert len(steps) == 40, "the longest reply alone decides how many steps there are"


@pytest.mark.whole
def test_what_many_rows_begin_with_is_read_once(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(student)
    shapes = fed(engine, monkeypatch)
    requests = asked(SHOTS, 0)
    prompts = [engine.rows.asked(request).ids for request in requests]
    shared = next(n for n in range(400) if len({tuple(ids[:n + 1]) for ids in prompts}) > 1)
    replies(engine, requests)
    read = [shape for shape in shapes if shape[1] > 1]
    assert read[0] == (1, shared) and len(read) == 2
    assert read[1] == (5, max(map(len, prompts)) - shared - 1), "the last two ask the same: one of them is read"


def test_samples_of_one_prompt_are_read_once_and_differ(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(student)
    shapes = fed(engine, monkeypatch)
    for samples in (2, 6):
        del shapes[:]
        requests = [Request(f"r{n}", (Message("user", ENDS[1]),), Sampling(max_tokens=12, temperature=1.0),
                            sample_index=n) for n in range(samples)]
        found = replies(engine, requests)
        size = found["r0"].usage.prompt_tokens or 0
        assert [shape for shape in shapes if shape[1] > 1] == [(1, size - 1)]
        assert len({reply.raw for reply in found.values()}) == samples
        alone = made(student, batch_rows=1)
        assert {key: reply.raw for key, reply in found.items()} == texts(alone, requests)


def test_several_beginnings_live_side_by_side(student: Path) -> None:
    other = "Think step by step: is it really the right number of oranges in the basket? Wait, check that again. " * 2
    requests = [Request(f"{place} {number}", (Message("user", begin + end),), Sampling(max_tokens=5 + 4 * number))
                for place, begin in enumerate((SHOTS, other, "")) for number, end in enumerate(ENDS)]
    assert texts(made(student, batch_rows=16), requests) == texts(made(student, batch_rows=1), requests)


def test_replies_that_outgrow_the_memory_that_was_allowed_wait_and_go_on(student: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    from localdistill.modelfiles import torch_decoding

    monkeypatch.setattr(torch_decoding, "_ROOM", 1)
    requests = [Request(f"r{n}", (Message("user", f"12 - {n} = 7 " * 3),), Sampling(max_tokens=90)) for n in range(4)]
    whole = made(student)
    wanted = texts(whole, requests)
    tight = made(student, max_batch_tokens=256)
    shapes = fed(tight, monkeypatch)
    assert texts(tight, requests) == wanted
    steps = [rows for rows, tokens in shapes if tokens == 1]
    assert steps[0] == 4 and min(steps) < 4, "all begin, and some must wait for the others to end"
    assert max(rows * tokens for rows, tokens in shapes) < 256


def in_little_memory(engine: TransformersEngine, most: int, error: Exception,
                     monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let memory run out whenever the model is given more than `most` rows; how many it was given then."""
    forward, failed = type(engine.model).forward, list[int]()

    def small(model: Any, *args: Any, **inputs: Any) -> Any:
        if len(inputs["input_ids"]) > most:
            failed.append(len(inputs["input_ids"]))
            raise error
        return forward(model, *args, **inputs)

    monkeypatch.setattr(type(engine.model), "forward", small)
    return failed


def test_memory_that_runs_out_halves_the_rows_and_goes_on(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(student)
    wanted, said = texts(engine, asked("", 9)), list[Event]()
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    in_little_memory(engine, 2, error, monkeypatch)
    found = replies(engine, asked("", 9), said.append)
    assert {key: reply.raw for key, reply in found.items()} == wanted
    warned = [event.text for event in said if isinstance(event, Warned)]
    assert warned == ["memory ran out with room for 6 replies at once; going on with 3",
                      "memory ran out with room for 3 replies at once; going on with 1"]


def test_memory_that_runs_out_without_a_word_is_noticed_too(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(student)
    wanted = texts(engine, asked("", 9))
    failed = in_little_memory(engine, 3, MemoryError(), monkeypatch)
    assert texts(engine, asked("", 9)) == wanted and failed == [6]


def test_memory_that_runs_out_while_others_wait_for_the_only_row_gives_their_room_up(
        student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(student)
    requests = [*asked("", 9, ENDS[2:3]), *(Request(f"s{one.id}", one.messages, one.sampling)
                                            for one in asked(SHOTS, 9))]
    wanted = texts(engine, requests)
    forward, said = type(engine.model.model).forward, list[Event]()

    def once(model: Any, *args: Any, **inputs: Any) -> Any:
        if inputs["input_ids"].shape[1] > 50 and not said:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(model, *args, **inputs)

    monkeypatch.setattr(type(engine.model.model), "forward", once)
    found = replies(engine, requests, lambda event: said.append(event) if isinstance(event, Warned) else None)
    assert {key: reply.raw for key, reply in found.items()} == wanted
    assert [event.text for event in said if isinstance(event, Warned)] == [
        "memory ran out with room for 7 replies at once; going on with 3"]


def test_slots_never_hold_more_than_was_allowed(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from localdistill.modelfiles.torch_slots import SlotCache

    shaped, shape = list[tuple[int, int]](), SlotCache.shape

    def watched(slots: SlotCache, *room: int) -> None:
        shape(slots, *room)
        shaped.append((slots.rows, slots.capacity))

    monkeypatch.setattr(SlotCache, "shape", watched)
    requests = [Request(f"r{n}", (Message("user", f"12 - {n} = 7 " * 6),), Sampling(max_tokens=8)) for n in range(9)]
    for most in (150, 230, 310):
        del shaped[:]
        replies(made(student, max_batch_tokens=most), requests)
        assert shaped and all(rows == 1 or rows * capacity <= most for rows, capacity in shaped), (most, shaped)


def test_where_not_even_one_row_fits_that_is_said(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(student)

    def none(model: Any, *args: Any, **inputs: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr(type(engine.model), "forward", none)
    with pytest.raises(OutOfMemory, match="while one reply was written"):
        replies(engine, asked("", 3))


def test_other_errors_of_a_model_are_not_taken_for_memory(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = made(student)

    def broken(model: Any, *args: Any, **inputs: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(type(engine.model), "forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        replies(engine, asked("", 3))


def rows_of(count: int, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> list[Any]:
    from localdistill.modelfiles.torch_decoding import Generation

    return [Generation([0], 1, frozenset(), temperature, top_p, top_k, generator=torch.Generator().manual_seed(seed))
            for seed in range(count)]


@pytest.mark.parametrize(("sampling", "kept"), [
    ({}, [.4, .3, .2, .1, 0]), ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0, 0]), ({"top_p": 0.65}, [4 / 7, 3 / 7, 0, 0, 0]),
    ({"top_p": 0.75, "top_k": 4}, [4 / 9, 3 / 9, 2 / 9, 0, 0]), ({"top_p": 0.01}, [1, 0, 0, 0, 0]),
    ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30, 0]), ({"temperature": 0.0}, [1, 0, 0, 0, 0])])
def test_tokens_are_drawn_as_often_as_their_probability_says(sampling: dict[str, Any], kept: list[float]) -> None:
    from localdistill.modelfiles.torch_picking import pick_tokens

    order = torch.tensor([3, 1, 4, 0, 2])
    logits = torch.full((5,), -torch.inf)
    logits[order] = torch.tensor([.4, .3, .2, .1, 0]).log()
    rows = rows_of(2000, **sampling)
    counts = Counter(pick_tokens(logits.expand(len(rows), -1), rows))
    shares = [counts[int(token)] / len(rows) for token in order]
    assert shares == pytest.approx(kept, abs=0.03)
    assert all(share == 0 for share, wanted in zip(shares, kept) if wanted == 0)


def test_a_nucleus_wider_than_the_first_look_is_the_one_of_the_whole_vocabulary() -> None:
    from localdistill.modelfiles.torch_picking import pick_tokens

    logits = torch.linspace(0, 1, 3000)[torch.randperm(3000, generator=torch.Generator().manual_seed(1))]
    shares, order = logits.softmax(-1).sort(descending=True)
    nucleus = set(order[:int((shares.cumsum(-1) < 0.9).sum()) + 1].tolist())
    drawn = set(pick_tokens(logits.expand(2500, -1), rows_of(2500, top_p=0.9)))
    assert drawn <= nucleus and len(drawn) > 1200


def test_what_a_row_draws_does_not_depend_on_its_neighbours() -> None:
    from localdistill.modelfiles.torch_picking import pick_tokens

    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(2))
    settings = [{}, {"temperature": 0.0}, {"top_p": 0.8}, {"top_k": 5}, {"temperature": 2.0}, {"top_p": 0.8}]
    mixed = [rows_of(place + 1, **setting)[-1] for place, setting in enumerate(settings)]
    alone = [rows_of(place + 1, **setting)[-1] for place, setting in enumerate(settings)]
    for _ in range(20):
        together = pick_tokens(logits, mixed)
        assert together == [pick_tokens(logits[place:place + 1], [row])[0] for place, row in enumerate(alone)]
