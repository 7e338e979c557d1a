"""The batcher on a tiny random model, in this process: sharing, one pool for all, pauses. Every question is queued
before the first step, so nothing depends on how fast questions arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localdistill.engines.llama_cpp_native.cells import CellAllocator

pytest.importorskip("llama_cpp")

from localdistill.engines.llama_cpp_native.batching import Batcher
from localdistill.engines.llama_cpp_native.context import ContextSettings
from localdistill.engines.llama_cpp_native.model import LoadSettings, NativeModel
from localdistill.engines.llama_cpp_native.sequence import NativeRequest, NativeSequence
from localdistill.modelfiles.beginnings import common_length

SYSTEM = "Answer briefly and never explain anything at all. "
Answers = dict[int, NativeSequence]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Iterator[NativeModel]:
    yield NativeModel(LoadSettings(str(tiny_model), gpu_layers=0))


@pytest.fixture(params=["split", "unified"])
def batcher(request: pytest.FixtureRequest, model: NativeModel) -> Batcher:
    model.arrange(ContextSettings(4, 512, unified=request.param == "unified", flash_attention=False))
    return Batcher(model)


def answers(batcher: Batcher, questions: list[NativeRequest]) -> Answers:
    for question in questions:
        batcher.add(question)
    done: Answers = {}
    while batcher.is_busy():
        done |= {s.request.key: s for s in batcher.step() if s.finish}
    return done


def one_by_one(batcher: Batcher, questions: list[NativeRequest]) -> Answers:
    found: Answers = {}
    for question in questions:
        found |= answers(batcher, [question])
        batcher._trim_shared(0)
    return found


def test_a_shared_prefix_is_evaluated_once_and_changes_nothing(batcher: Batcher) -> None:
    questions = [NativeRequest(n, f"{SYSTEM}Item {n}?", 20) for n in range(8)]
    alone = one_by_one(batcher, questions)
    before = batcher.evaluated_tokens
    together = answers(batcher, questions)
    evaluated = batcher.evaluated_tokens - before
    prefix, own = len(SYSTEM) + len("Item "), len("0?")
    # Greedy text may differ where two tokens are all but equally likely: another batch rounds differently.
    assert sum(together[n].tokens == alone[n].tokens for n in range(8)) >= 7
    assert all(together[n].cached == prefix for n in range(8))
    written = sum(len(s.tokens) for s in together.values())
    assert evaluated <= prefix + 8 * own + written


def test_samples_of_one_prompt_read_it_once(batcher: Batcher) -> None:
    prompt = SYSTEM * 4
    found = answers(batcher, [NativeRequest(n, prompt, 10, temperature=1.5, seed=n) for n in range(8)])
    assert len({tuple(s.tokens) for s in found.values()}) == 8
    assert batcher.evaluated_tokens <= len(prompt) + 8 + sum(len(s.tokens) for s in found.values())


def test_a_late_question_copies_from_one_that_is_writing(batcher: Batcher) -> None:
    batcher.add(NativeRequest(0, f"{SYSTEM}First?", 40))
    for _ in range(5):
        batcher.step()
    late = answers(batcher, [NativeRequest(1, f"{SYSTEM}Second?", 5)])[1]
    assert late.cached == len(SYSTEM)


def test_a_pool_too_small_pauses_the_youngest_and_answers_as_a_large_one(model: NativeModel) -> None:
    questions = [NativeRequest(n, f"{n} tell me a long story", 180, temperature=1.5, seed=n) for n in range(6)]
    model.arrange(ContextSettings(4, 256, unified=True, pool_tokens=1536, flash_attention=False))
    roomy = Batcher(model)
    expected = answers(roomy, questions)
    model.arrange(ContextSettings(4, 256, unified=True, pool_tokens=256, flash_attention=False))
    tight = Batcher(model)
    found = answers(tight, questions)
    assert roomy.pauses == 0 and tight.pauses > 0
    assert {n: len(s.tokens) for n, s in found.items()}.keys() == expected.keys()
    assert sum(found[n].tokens == expected[n].tokens for n in expected) >= 5
    assert tight._cells is not None and tight._cells.free + tight._cells.held_by(tight._shared_slot) == 256


def test_one_reply_may_use_the_whole_pool(model: NativeModel) -> None:
    model.arrange(ContextSettings(2, 256, unified=True, pool_tokens=256, flash_attention=False))
    batcher = Batcher(model)
    answers(batcher, [NativeRequest(n, SYSTEM * 2 + str(n), 3) for n in range(3)])
    long = answers(batcher, [NativeRequest(9, "x" * 30, 500, temperature=1.5, seed=5, stop=("\0",))])[9]
    assert long.finish in ("length", "stop") and (long.finish == "stop" or len(long.tokens) == 256 - 30)


def test_the_oldest_reply_is_never_paused(model: NativeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model.arrange(ContextSettings(3, 256, unified=True, pool_tokens=256, flash_attention=False))
    batcher, paused = Batcher(model), []
    pause = NativeSequence.pause

    def noting(self: NativeSequence) -> None:
        older = [s.request.key for s in batcher._running.values()]
        assert older and min(older) < self.request.key
        paused.append(self.request.key)
        pause(self)

    monkeypatch.setattr(NativeSequence, "pause", noting)
    found = answers(batcher, [NativeRequest(n, f"{n} once upon", 120, temperature=1.5, seed=n) for n in range(5)])
    assert len(found) == 5 and paused


def test_slots_enter_the_batch_in_order(batcher: Batcher, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    decode = batcher._decode

    def noting(tokens: list[int], positions: list[int], slots: list[int], outputs: list[int]) -> None:
        seen.append(slots)
        decode(tokens, positions, slots, outputs)

    monkeypatch.setattr(batcher, "_decode", noting)
    answers(batcher, [NativeRequest(n, f"{n}?", 3 + n % 4, temperature=1.5, seed=n) for n in range(12)])
    assert all(slots == sorted(slots) for slots in seen)


def test_separate_caches_do_not_lie_a_power_of_two_apart() -> None:
    assert ContextSettings(3, 1024).cells == 4 * 1280
    assert ContextSettings(3, 1024, unified=True, pool_tokens=1000).cells == 1024


def test_common_length() -> None:
    assert common_length([1, 2, 3], [1, 2, 4]) == 2 and common_length([], [1]) == 0
    assert common_length([1, 2, 3], [1, 2, 3, 4]) == 3 and common_length([1, 2, 3], [1, 2, 3], limit=1) == 1


Steps = st.lists(st.tuples(st.sampled_from(["extend", "share", "keep", "release"]), st.integers(0, 4),
                           st.integers(0, 4), st.integers(0, 40)), max_size=60)


@settings(max_examples=200, deadline=None)
@given(Steps)
def test_the_allocator_of_cells_agrees_with_one_that_counts_every_cell(steps: list[tuple[str, int, int, int]]) -> None:
    allocator, cells, fresh = CellAllocator(300), dict[int, list[int]](), iter(range(10_000))
    act: dict[str, Callable[[int, int, int], None]] = {
        "extend": lambda s, _, n: allocator.extend(s, n), "share": lambda s, d, n: allocator.share(d, s, n),
        "keep": lambda s, _, n: allocator.keep(s, n), "release": lambda s, _, n: allocator.release(s),
    }
    for name, sequence, donor, count in steps:
        held = cells.get(sequence, [])
        used = len({cell for row in cells.values() for cell in row})
        possible = {
            "extend": used + count <= 300, "keep": len(held) >= count, "release": True,
            "share": not held and donor != sequence and len(cells.get(donor, [])) >= count,
        }[name]
        if not possible:
            continue
        act[name](sequence, donor, count)
        cells[sequence] = {"extend": held + [next(fresh) for _ in range(count)], "keep": held[:count], "release": [],
                           "share": cells.get(donor, [])[:count]}[name]
        assert allocator.free == 300 - len({cell for row in cells.values() for cell in row})
        for one, row in cells.items():
            assert allocator.held_by(one) == len(row)
            others = {cell for other, cells_of in cells.items() if other != one for cell in cells_of}
            assert allocator.gained_without(one) == len(set(row) - others)
