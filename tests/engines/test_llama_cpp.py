"""The native engine against the real llama.cpp with tiny random models."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from localdistill.core.errors import ModelFileError
from localdistill.core.events import Cancel, Event, Noted, Warned, silent
from localdistill.core.records import Message, Reply, Request, Sampling
from localdistill.engines.llama_cpp import LlamaCppEngine, seed_of
from localdistill.engines.llama_cpp_native import client as native_client
from localdistill.engines.llama_cpp_native.options import LlamaCppOptions
from localdistill.engines.llama_cpp_native.sequence import NativeRequest, NativeSequence
from localdistill.texts.loops import is_looping
from tests.borders import SITE, SWITCH
from tests.helpers import REPO

pytest.importorskip("llama_cpp")


def engine_of(path: Path, **options: Any) -> LlamaCppEngine:
    settings = {"model": str(path), "threads": 1, "processes": 1, "parallel": 4, **options}
    return LlamaCppEngine(LlamaCppOptions(**settings))


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[LlamaCppEngine]:
    built = engine_of(tiny_model)
    yield built
    built.close()


def request(text: str, thinks: bool | None = None, index: int = 0, **sampling: Any) -> Request:
    settings = Sampling(**{"max_tokens": 24, **sampling})
    return Request(f"{text}/{index}", (Message("user", text),), settings, index, thinks)


def ask(engine: LlamaCppEngine, requests: list[Request]) -> dict[str, Reply]:
    return {r.request_id: r for r in engine.answer(iter(requests), silent, Cancel())}


def test_every_request_is_answered_with_counts(engine: LlamaCppEngine) -> None:
    replies = ask(engine, [request(f"q{i}", temperature=1.0) for i in range(11)])
    assert len(replies) == 11
    for reply in replies.values():
        assert reply.status in ("complete", "length", "empty", "reasoning_only") and reply.cost_usd == 0.0
        assert reply.usage.prompt_tokens > 10 and 0 <= reply.usage.completion_tokens <= 24
    assert any(r.status == "length" and r.usage.completion_tokens == 24 for r in replies.values())


def test_greedy_text_equals_the_high_level_binding(tiny_model: Path, engine: LlamaCppEngine) -> None:
    import llama_cpp

    alone = llama_cpp.Llama(str(tiny_model), n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False)
    texts = [f"tell me about {i}" for i in range(6)]
    replies = ask(engine, [request(t) for t in texts])
    agreed = 0
    for text in texts:
        prompt = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        tokens = alone.tokenize(prompt.encode(), add_bos=False, special=True)
        alone.reset()
        written: list[int] = []
        for token in alone.generate(tokens, temp=0.0, repeat_penalty=1.0):
            if token == alone.token_eos() or len(written) == 24:
                break
            written.append(token)
        expected = alone.detokenize(written, special=True).decode("utf-8", "replace")
        reply = replies[f"{text}/0"]
        assert reply.usage.prompt_tokens == len(tokens)
        agreed += reply.raw == expected
    alone.close()
    assert agreed >= 5  # batching adds up numbers in another order, which may turn one near tie


def test_a_sample_is_the_same_alone_and_in_company(engine: LlamaCppEngine) -> None:
    wanted = request("a riddle", temperature=1.0, seed=3)
    alone = ask(engine, [wanted])[wanted.id].raw
    company = [request(f"other {i}", temperature=1.0) for i in range(7)]
    assert ask(engine, [*company[:4], wanted, *company[4:]])[wanted.id].raw == alone


def test_a_model_is_loaded_whatever_one_call_holds(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(SITE), str(REPO))))
    parts = engine_of(tiny_model)
    try:
        replies = ask(parts, [request(f"q{i} " + "and so on " * 20) for i in range(3)])
    finally:
        parts.close()
    assert [reply.usage.prompt_tokens > 48 for reply in replies.values()] == [True] * 3
    assert not {reply.status for reply in replies.values()} & {"error", "cancelled"}


def test_samples_differ_by_index_and_seed(engine: LlamaCppEngine) -> None:
    asked = [request("same", index=i, temperature=1.2) for i in range(4)]
    assert len({r.raw for r in ask(engine, asked).values()}) == 4
    assert seed_of(asked[0]) != seed_of(asked[1])
    assert seed_of(asked[0]) != seed_of(dataclasses.replace(asked[0], sampling=Sampling(seed=9)))


def test_a_system_prompt_changes_what_is_asked(tiny_model: Path) -> None:
    system = "You answer in one word and never explain. " * 4
    plain, shared = engine_of(tiny_model, parallel=1), engine_of(tiny_model, system=system)
    asked = [request(f"item {i}") for i in range(8)]
    told = [dataclasses.replace(r, messages=(Message("system", system), *r.messages)) for r in asked]
    one_by_one = {r.id: ask(plain, [r])[r.id] for r in told}
    together = ask(shared, asked)
    plain.close()
    shared.close()
    assert sum(together[i].raw == one_by_one[i].raw for i in together) >= 7
    assert all(together[i].usage.prompt_tokens == one_by_one[i].usage.prompt_tokens for i in together)
    assert shared.identity() != plain.identity()


def test_a_grammar_and_a_schema_are_obeyed(engine: LlamaCppEngine) -> None:
    grammar = 'root ::= ("yes" | "no") " because " [a-z]{3,5} "."'
    replies = ask(engine, [request("g", index=i, temperature=1.5, grammar=grammar, max_tokens=60) for i in range(4)])
    assert all(re.fullmatch(r"(yes|no) because [a-z]{3,5}\.", r.answer) for r in replies.values())
    schema = json.dumps({"type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 22]}},
                         "required": ["ok", "n"], "additionalProperties": False})
    greedy = ask(engine, [request("s", json_schema=schema, max_tokens=60)])["s/0"]
    assert set(json.loads(greedy.answer)) == {"ok", "n"} and greedy.status == "complete"


@pytest.mark.parametrize("bad", [{"grammar": "root := nonsense ("}, {"json_schema": "{no json"},
                                 {"json_schema": '{"$ref": "https://example.com/schema.json"}'}])
def test_an_unreadable_grammar_is_refused_alone(engine: LlamaCppEngine, bad: dict[str, str]) -> None:
    replies = ask(engine, [request("bad", **bad), request("good", max_tokens=4)])
    assert replies["bad/0"].status == "error" and replies["bad/0"].error
    assert replies["good/0"].status != "error"


def test_log_probabilities_are_those_of_the_model_and_change_nothing(engine: LlamaCppEngine) -> None:
    plain = [request("score me", max_tokens=12), request("score me", index=1, max_tokens=12, temperature=1.5)]
    scored = [dataclasses.replace(r, top_logprobs=5) for r in plain]
    before, after = ask(engine, plain), ask(engine, scored)
    for asked in plain:
        reply, scores = after[asked.id], after[asked.id].scores
        assert reply.raw == before[asked.id].raw and before[asked.id].scores is None and scores is not None
        ended_itself = reply.finish_reason == "stop"
        assert len(scores.ids) == reply.usage.completion_tokens + ended_itself
        assert all(len(row) == 5 and list(row) == sorted(row, reverse=True) for row in scores.top_logprobs)
        assert all(sum(map(math.exp, row)) <= 1.0001 for row in scores.top_logprobs)
        for token, logprob, ids, row in zip(scores.ids, scores.logprobs, scores.top_ids, scores.top_logprobs):
            assert token not in ids or logprob == row[ids.index(token)]
    greedy = after["score me/0"].scores
    assert greedy is not None and all(token == ids[0] for token, ids in zip(greedy.ids, greedy.top_ids))


@pytest.mark.parametrize("kv_type", ["q8_0", "q4_0"])
def test_a_quantized_cache_takes_less_memory_and_answers(tiny_model: Path, kv_type: str) -> None:
    full, small = engine_of(tiny_model), engine_of(tiny_model, kv_type=kv_type)
    try:
        assert len(ask(small, [request("q", max_tokens=3)])) == 1
        assert small.probe()["kv_bytes"] < {"q8_0": 0.6, "q4_0": 0.35}[kv_type] * full.probe()["kv_bytes"]
    finally:
        full.close()
        small.close()
    with pytest.raises(ValueError, match="flash attention"):
        LlamaCppOptions(model="x", kv_type=kv_type, flash_attention=False)


def test_many_samples_of_a_long_prompt_share_one_small_cache(tiny_model: Path) -> None:
    events: list[Event] = []
    long = "every letter is a token here, " * 20
    engine = engine_of(tiny_model, parallel=8)
    replies = list(engine.answer([request(long, index=i, temperature=1.0, max_tokens=20) for i in range(8)],
                                 events.append, Cancel()))
    facts = engine.probe()
    engine.close()
    assert len({r.raw for r in replies}) == 8 and {r.status for r in replies} <= {"complete", "length", "empty"}
    assert sum(r.usage.cached_tokens > 500 for r in replies) >= 7
    assert facts["unified"] and 4 * facts["kv_cells"] <= 8 * 1024
    assert any(isinstance(e, Noted) and "one cache" in e.text for e in events)


def test_a_small_pool_answers_everything(tiny_model: Path) -> None:
    asked = [request(f"number {i}", temperature=1.5, max_tokens=100) for i in range(9)]
    engine = engine_of(tiny_model, kv_layout="unified", kv_tokens=256, context_tokens=256)
    replies = ask(engine, asked)
    assert engine.probe()["kv_cells"] == 256
    engine.close()
    assert len(replies) == 9 and all(r.usage.completion_tokens > 0 for r in replies.values() if r.status == "length")


def test_prompts_longer_than_the_context_are_refused_alone(tiny_model: Path) -> None:
    engine = engine_of(tiny_model, context_tokens=256)
    replies = ask(engine, [request("x" * 900), request("short", max_tokens=5)])
    engine.close()
    assert replies["x" * 900 + "/0"].status == "error" and "context holds 256" in replies["x" * 900 + "/0"].error
    assert replies["short/0"].usage.completion_tokens <= 5


def test_the_context_ends_a_reply_as_length(tiny_model: Path) -> None:
    engine = engine_of(tiny_model, context_tokens=256)
    replies = ask(engine, [request("y" * 200, index=i, temperature=1.5, max_tokens=500) for i in range(4)])
    engine.close()
    for reply in replies.values():
        assert reply.usage.prompt_tokens + reply.usage.completion_tokens <= 256
    assert "length" in {r.status for r in replies.values()}


def test_stop_strings_end_and_are_not_shown(engine: LlamaCppEngine) -> None:
    whole = ask(engine, [request("letters")])["letters/0"].raw
    mark = next(whole[i : i + 2] for i in range(4, len(whole) - 2) if whole[i : i + 2].isascii())
    cut = ask(engine, [request("letters", stop=(mark,))])["letters/0"]
    assert cut.raw == whole[: whole.index(mark)] and cut.finish_reason == "stop"


def test_an_opened_think_tag_makes_everything_reasoning_until_it_closes(engine: LlamaCppEngine) -> None:
    reply = ask(engine, [request("why", thinks=True, temperature=1.0)])["why/0"]
    if "</think>" not in reply.raw:
        assert reply.reasoning == reply.raw.strip() and not reply.answer and reply.trace_kind == "raw"
        assert reply.usage.reasoning_tokens == reply.usage.completion_tokens


@pytest.mark.parametrize(("adds_bos", "template", "leads"), [
    (True, "{{ bos_token }}{{ messages[0].content }}", 1), (True, "{{ messages[0].content }}", 1),
    (True, "{{ bos_token }}{{ bos_token }}{{ messages[0].content }}", 1), (False, "{{ messages[0].content }}", 0),
    (False, "{{ bos_token }}{{ messages[0].content }}", 1),
])
def test_prompts_have_one_bos_when_the_model_wants_one(
        make_model: Callable[..., Path], adds_bos: bool, template: str, leads: int) -> None:
    engine = engine_of(make_model(f"bos{adds_bos}{len(template)}", adds_bos=adds_bos, template=template))
    reply = ask(engine, [request("abcde", max_tokens=1)])["abcde/0"]
    engine.close()
    assert reply.usage.prompt_tokens == len("abcde") + leads


def test_streams_add_up_to_the_reply(engine: LlamaCppEngine) -> None:
    asked = request("stream me", temperature=1.0)
    pieces = list(engine.stream(asked, Cancel()))
    assert engine.last_reply is not None
    assert "".join(pieces) == engine.last_reply.raw == ask(engine, [asked])[asked.id].raw
    assert len(pieces) > 1


def test_cancel_stops_pulling_and_the_engine_works_on(engine: LlamaCppEngine) -> None:
    pulled: list[int] = []

    def endless() -> Iterator[Request]:
        for i in range(10_000):
            pulled.append(i)
            yield request(f"n{i}", max_tokens=200, temperature=1.0)

    seen: list[Reply] = []
    for reply in engine.answer(endless(), silent, Cancel(lambda: bool(seen))):
        seen.append(reply)
    assert len(seen) == 1 and len(pulled) < 30
    assert len(ask(engine, [request("after")])) == 1


def test_requests_are_pulled_lazily(engine: LlamaCppEngine) -> None:
    pulled: list[int] = []

    def some() -> Iterator[Request]:
        for i in range(100):
            pulled.append(i)
            yield request(f"n{i}", max_tokens=4)

    replies = engine.answer(some(), silent, Cancel())
    next(replies)
    assert len(pulled) <= 2 * 4 + 1
    replies.close()  # type: ignore[attr-defined]


def test_a_killed_child_is_replaced_and_nothing_is_lost(tiny_model: Path) -> None:
    engine = engine_of(tiny_model)
    events: list[Event] = []
    replies = engine.answer([request(f"k{i}", max_tokens=40, temperature=1.0) for i in range(10)], events.append,
                            Cancel())
    answered = [next(replies)]
    assert engine._session is not None and engine._session.pool.first._child is not None
    os.kill(engine._session.pool.first._child.pid, signal.SIGKILL)
    answered += list(replies)
    engine.close()
    assert sorted(r.request_id for r in answered) == [f"k{i}/0" for i in range(10)]
    assert all(r.status != "error" for r in answered)
    assert any(isinstance(e, Warned) for e in events)


def test_a_request_that_kills_the_child_is_marked_and_only_that(
        tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deadly_child.py").write_text(
        "import os\n"
        "from localdistill.engines.llama_cpp_native import batching, child\n"
        "add = batching.Batcher.add\n"
        "def deadly(self, question):\n"
        "    if 'poison' in question.prompt:\n"
        "        os.abort()\n"
        "    add(self, question)\n"
        "batching.Batcher.add = deadly\n"
        "child.main()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(native_client, "_MODULE", "deadly_child")
    engine = engine_of(tiny_model)
    asked = [request("a"), request("b"), request("poison"), request("c"), request("d"), request("e")]
    replies = ask(engine, asked)
    engine.close()
    assert {i for i, r in replies.items() if r.status == "error"} == {"poison/0"}
    assert "SIGABRT" in replies["poison/0"].error and len(replies) == 6


def test_missing_and_damaged_files_are_named_before_a_child_starts(
        tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **more: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(native_client, "JsonChild", never)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_model.read_bytes()[:-1000])
    for path in (cut, tmp_path / "none.gguf"):
        with pytest.raises(ModelFileError) as error:
            ask(engine_of(path), [request("q")])
        assert str(path) in str(error.value) and error.value.hint


def test_a_file_that_llama_cpp_refuses_is_a_model_file_error(tiny_model: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.gguf"
    odd.write_bytes(tiny_model.read_bytes().replace(b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama",
                                                    b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llamo", 1))
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        ask(engine_of(odd), [request("q")])


def test_a_model_without_a_template_needs_one(make_model: Callable[..., Path], tmp_path: Path) -> None:
    bare = make_model("bare", template=None)
    with pytest.raises(ModelFileError, match="no chat template"):
        ask(engine_of(bare), [request("q")])
    own = tmp_path / "own.jinja"
    own.write_text("{{ messages[0].content }}:")
    engine = engine_of(bare, chat_template=str(own))
    assert ask(engine, [request("q", max_tokens=2)])["q/0"].usage.prompt_tokens == 2
    engine.close()


def test_probe_and_identity(engine: LlamaCppEngine, tiny_model: Path) -> None:
    facts = engine.probe()
    assert facts["device"] == "cpu" and facts["tokens_per_s"] > 0 and facts["n_ctx_train"] == 1024
    assert "llama" in facts["description"]
    assert engine.identity().startswith("sha256:") and len(engine.identity()) == 7 + 64


def test_loops_are_seen_and_progress_is_not() -> None:
    assert is_looping([5] * 160)
    assert is_looping([*range(999), *([1, 2, 3] * 60)])
    assert is_looping([*range(50), *(list(range(40)) * 8)])
    assert is_looping([*range(50), *(list(range(70)) * 4)]) and is_looping([*range(50), *(list(range(300)) * 4)])
    assert not is_looping([*range(900), *(list(range(70)) * 3)])
    assert not is_looping([*range(900), *(list(range(24)) * 7)])
    assert not is_looping([5] * 159)
    assert not is_looping(list(range(400)))
    assert not is_looping([1, 2, 3] * 60 + [9])


def sequence(**settings: Any) -> NativeSequence:
    return NativeSequence(NativeRequest(key=0, prompt="", **{"max_tokens": 99, **settings}), [1], 99)


def test_stop_strings_across_tokens_and_characters_across_pieces() -> None:
    one = sequence(stop=("END",), streams=True)
    shown = ""
    for token, piece in enumerate([b"a", b"\xc3", b"\xa9E", b"N", b"Dx"]):
        one.add(token, piece)
        shown += one.fresh_text()
    assert one.finish == "stop" and one.text() == "aé" and shown == "aé"


def test_reasoning_tokens_end_where_the_answer_begins() -> None:
    pieces = [b"<think>", b"r1", b" r2", b"</think>", b"\n\n", b"an", b"swer"]
    one = sequence()
    for token, piece in enumerate(pieces):
        one.add(token, piece)
    assert one.reasoning_tokens(pieces.__getitem__) == 5


def native_children() -> set[int]:
    return {c.pid for c in psutil.Process().children() if "llama_cpp_native" in " ".join(c.cmdline())}


def test_two_processes_share_the_work_and_answer_as_one_does(tiny_model: Path, engine: LlamaCppEngine) -> None:
    asked = [request(f"question {n}", max_tokens=12) for n in range(20)]
    alone = ask(engine, asked)
    before = native_children()
    two = engine_of(tiny_model, processes=2)
    try:
        shared = ask(two, asked)
        assert shared.keys() == alone.keys()
        # Greedy text may differ where two tokens are all but equally likely: another batch rounds differently.
        assert sum(shared[key].raw == alone[key].raw for key in alone) >= 16
        assert len(native_children() - before) == 2
    finally:
        two.close()
    assert native_children() <= before
