"""Scoring through a server that tells the log-probabilities of prompts: bodies as vLLM and others lay them out, filled
with what a model in this process says, so that the numbers must come out as those of the engine that holds it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.capabilities import needed_by, require
from localdistill.core.errors import UsageError
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Continuation, Message, Reply, Request, Sampling
from localdistill.engines.openai_compatible import OpenAICompatibleEngine
from localdistill.engines.transformers import TransformersEngine
from localdistill.modelfiles.tokenizer import StudentTokenizer
from tests.faults import Rule, Script, Step, fault_server
from tests.tiny_models import tiny_model

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
ANSWERS = (Continuation("7"), Continuation(" So the answer is 7.<|im_end|>"), Continuation("\u00e9\n\n42"))
ASKED = Request("r", (Message("user", "12 - 5 = ?"),), thinks=False, continuations=ANSWERS)
RAW = Request("raw", (), text="Think step by step. 3 + 4 =", continuations=ANSWERS[::-1])


@pytest.fixture(scope="module")
def holder(student: Path) -> Iterator[TransformersEngine]:
    made = TransformersEngine(TransformersEngine.Options(model=str(student), dtype="float32"))
    yield made
    made.close()


def engine_at(url: str, student: Path, **options: Any) -> OpenAICompatibleEngine:
    settings = {"base_url": url, "model": "m", "tokenizer": str(student), "concurrency": 1, "retries": 0, **options}
    return OpenAICompatibleEngine(OpenAICompatibleEngine.Options(**settings))


def prompts_of(holder: TransformersEngine, request: Request) -> list[list[int]]:
    return [[*target.prefix, *target.ids] for target in holder._targets(request)]


def listed(holder: TransformersEngine, prompts: list[list[int]], top: int) -> list[dict[str, Any]]:
    """Choices as vLLM makes them of `prompt_logprobs`, the last first: the order is for `index` to say."""
    choices = []
    for index, ids in enumerate(prompts):
        rows = holder.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        places: list[Any] = [None]
        for token, row in zip(ids[1:], rows):
            kept = {*row.topk(top).indices.tolist(), token}
            places.append({str(key): {"logprob": float(row[key]), "rank": int((row > row[key]).sum()) + 1,
                                      "decoded_token": holder.tokenizer.decode([key])} for key in kept})
        choices.append({"index": index, "text": "x", "finish_reason": "length", "prompt_logprobs": places})
    return choices[::-1]


def echoed(holder: TransformersEngine, prompts: list[list[int]], top: int) -> list[dict[str, Any]]:
    """Choices of `echo` with `logprobs`: the prompt and the one token that was written behind it."""
    choices = []
    for index, ids in enumerate(prompts):
        rows = holder.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        values = [float(row[token]) for token, row in zip(ids[1:], rows)]
        texts = [holder.tokenizer.decode([token]) for token in [*ids, 3]]
        choices.append({"index": index, "text": "x", "finish_reason": "length", "logprobs": {
            "tokens": texts, "token_logprobs": [None, *values, -0.5], "text_offset": [0] * len(texts),
            "top_logprobs": None}})
    return choices


def body_of(choices: list[dict[str, Any]], prompts: list[list[int]]) -> str:
    usage = {"prompt_tokens": sum(map(len, prompts)), "completion_tokens": len(prompts)}
    return json.dumps({"id": f"cmpl-{len(prompts)}", "object": "text_completion", "choices": choices, "usage": usage})


Layout = Callable[[TransformersEngine, list[list[int]], int], list[dict[str, Any]]]


@pytest.mark.parametrize(("way", "layout", "top"), [("prompt_logprobs", listed, 0), ("prompt_logprobs", listed, 3),
                                                   ("echo", echoed, 0)])
def test_a_server_scores_as_the_engine_that_holds_the_model(holder: TransformersEngine, student: Path, way: str,
                                                            layout: Layout, top: int) -> None:
    requests = [replace(one, top_logprobs=top) for one in (ASKED, RAW)]
    wanted = {reply.request_id: reply for reply in holder.answer(requests, silent, Cancel())}
    rules = []
    for request in requests:
        prompts = prompts_of(holder, request)
        body = body_of(layout(holder, prompts, max(1, top)), prompts)
        rules.append(Rule(Step(body=body), path="/v1/completions", times=1))
    written = Request("w", (Message("user", "Double 7"),), Sampling(max_tokens=99))
    with fault_server(Script(rules=tuple(rules))) as server:
        engine = engine_at(server.url, student, prompt_logprobs=way, usd_per_million_input=1.0,
                           usd_per_million_output=2.0)
        found = {reply.request_id: reply for reply in engine.answer([*requests, written], silent, Cancel())}
        engine.close()
        assert [request.path for request in server.requests] == [
            "/v1/completions", "/v1/completions", "/v1/chat/completions"]
        for request, seen in zip(requests, server.requests):
            assert seen.body["prompt"] == prompts_of(holder, request) and seen.body["max_tokens"] == 1
            asks = {"prompt_logprobs": max(1, top)} if way == "prompt_logprobs" else {"echo": True, "logprobs": 1}
            assert seen.body.items() >= asks.items() and "stream" not in seen.body
    assert found["w"].status == "complete"
    for request in requests:
        ours, theirs = found[request.id], wanted[request.id]
        assert ours.status == "complete" and ours.usage.prompt_tokens == sum(map(len, prompts_of(holder, request)))
        assert ours.cost_usd == pytest.approx((ours.usage.prompt_tokens + 2 * len(ANSWERS)) / 1e6)
        for mine, other in zip(ours.continuations, theirs.continuations, strict=True):
            assert (mine.ids, mine.top_ids) == (other.ids, other.top_ids)
            assert mine.logprobs == pytest.approx(other.logprobs, abs=1e-4)
            for row, other_row in zip(mine.top_logprobs, other.top_logprobs):
                assert row == pytest.approx(other_row, abs=1e-4)


def refused(holder: TransformersEngine, student: Path, body: str, way: str = "prompt_logprobs", top: int = 0) -> str:
    with fault_server(Script(rules=(Rule(Step(body=body)),))) as server:
        engine = engine_at(server.url, student, prompt_logprobs=way)
        [reply] = engine.answer([replace(ASKED, top_logprobs=top)], silent, Cancel())
        engine.close()
        assert len(server.requests) == 1
    assert reply.status == "error" and not reply.continuations
    return reply.error


def test_a_server_that_reads_other_tokens_is_refused(holder: TransformersEngine, student: Path) -> None:
    prompts = prompts_of(holder, ASKED)
    told = listed(holder, prompts, 1)
    for choice in told:
        for place in choice["prompt_logprobs"][1:]:
            for entry in place.values():
                entry["decoded_token"] = "other" if entry["decoded_token"].strip() else entry["decoded_token"]
    assert "as 'other'" in refused(holder, student, body_of(told, prompts))
    short = [ids[2:] for ids in prompts]
    assert "were sent" in refused(holder, student, body_of(listed(holder, short, 1), short))
    assert "were sent" in refused(holder, student, body_of(echoed(holder, short, 1), short), "echo")
    numbered = echoed(holder, prompts, 1)
    for choice, ids in zip(numbered, prompts):
        choice["logprobs"]["tokens"] = [f"token_id:{token + 1}" for token in [*ids, 3]]
    assert "token_id:" in refused(holder, student, body_of(numbered, prompts), "echo")


def test_a_server_that_tells_nothing_is_refused(holder: TransformersEngine, student: Path) -> None:
    prompts = prompts_of(holder, ASKED)
    silent_ones = [{"index": n, "text": "x", "logprobs": None, "prompt_logprobs": None} for n in range(len(prompts))]
    for way in ("prompt_logprobs", "echo"):
        assert "tells no log-probabilities" in refused(holder, student, body_of(silent_ones, prompts), way)
    assert "fewer than 3" in refused(holder, student, body_of(listed(holder, prompts, 1), prompts), top=3)
    assert "choices" in refused(holder, student, body_of(listed(holder, prompts[:1], 1), prompts[:1]))


def test_what_cannot_be_scored_is_not_sent(student: Path, tmp_path: Path) -> None:
    other = StudentTokenizer(tiny_model(tmp_path / "m", vocab=380, hidden=32)).identity
    bad = [replace(ASKED, id="empty", continuations=(Continuation(),)),
           replace(ASKED, id="outside", continuations=(Continuation(token_ids=(400,)),)),
           replace(ASKED, id="strange", continuations=(Continuation(token_ids=(4,)),), tokenizer=other)]
    with fault_server() as server:
        engine = engine_at(server.url, student, prompt_logprobs="echo")
        replies: dict[str, Reply] = {reply.request_id: reply for reply in engine.answer(bad, silent, Cancel())}
        engine.close()
        assert not server.requests
    for key, words in (("empty", "is empty"), ("outside", "vocabulary of 400"), ("strange", "were made for")):
        assert replies[key].status == "error" and words in replies[key].error


def test_what_a_server_can_is_known_from_its_options(student: Path) -> None:
    scored = replace(ASKED, top_logprobs=2)
    for options, can in (
        ({}, False), ({"prompt_logprobs": "none"}, False), ({"prompt_logprobs": "echo"}, False),
        ({"prompt_logprobs": "prompt_logprobs"}, True), ({"provider": "vllm"}, True),
        ({"provider": "vllm", "tokenizer": ""}, False), ({"provider": "llama_server"}, False),
        ({"provider": "vllm", "prompt_logprobs": "none"}, False), ({"provider": "vllm", "batch": True}, False),
    ):
        engine = engine_at("http://127.0.0.1:9/v1", student, **options)
        if can:
            require(engine, needed_by(scored))
            continue
        with pytest.raises(UsageError, match="the engine judge cannot") as refusal:
            require(engine, needed_by(scored), "judge")
        assert refusal.value.hint
    require(engine_at("http://127.0.0.1:9/v1", student, prompt_logprobs="echo"), needed_by(ASKED))
