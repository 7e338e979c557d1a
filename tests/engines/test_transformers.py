"""The student under test: batching changes nothing, stopping means stop tokens, adapters answer as trained."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import EngineError
from localdistill.core.events import Cancel, silent
from localdistill.core.records import Message, Reply, Request, Sampling
from localdistill.engines.transformers import TransformersEngine
from tests.tiny_models import OPENING_TEMPLATE, STRICT_TEMPLATE, edit_json, tiny_adapter, tiny_model

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
QUESTIONS = ("12 - 5 = 7", "how many apples are left in the basket of the farmer? Think step by step.", "Wait",
             "is it really the right number of oranges", "3 + 4 = 7, 7 * 2 = 14, 14 / 2 = 7, 10 - 1 = 9. So", "x")


def engine(student: Path, **options: Any) -> TransformersEngine:
    return TransformersEngine(TransformersEngine.Options(model=str(student), **{"dtype": "float32", **options}))


def requests(max_tokens: int = 24, **sampling: Any) -> list[Request]:
    return [Request(f"r{number}", (Message("user", text),), Sampling(max_tokens=max_tokens + 5 * number, **sampling))
            for number, text in enumerate(QUESTIONS)]


def answers(made: TransformersEngine, asked: list[Request]) -> dict[str, Reply]:
    return {reply.request_id: reply for reply in made.answer(asked, silent, Cancel())}


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.8, "top_p": 0.9, "top_k": 30, "seed": 4}])
def test_a_batch_answers_as_single_requests_do(student: Path, sampling: dict[str, Any]) -> None:
    together = answers(engine(student), requests(**sampling))
    alone = answers(engine(student, batch_rows=1), requests(**sampling))
    assert {key: reply.raw for key, reply in together.items()} == {key: reply.raw for key, reply in alone.items()}
    assert len(together) == len(QUESTIONS) and len({reply.raw for reply in together.values()}) > 3


def test_what_the_template_refuses_is_an_error_of_that_request_alone(tmp_path: Path) -> None:
    made = engine(tiny_model(tmp_path / "m", hidden=32, chat_template=STRICT_TEMPLATE))
    refused = Request("bad", (Message("system", "Be brief."), Message("user", "x")), Sampling(max_tokens=4))
    found = answers(made, [requests()[0], refused, requests()[5]])
    assert set(found) == {"r0", "bad", "r5"}
    assert found["bad"].status == "error" and "takes no instructions" in found["bad"].error
    assert all(found[key].status != "error" for key in ("r0", "r5"))
    with pytest.raises(EngineError, match="takes no instructions"):
        next(made.stream(refused, Cancel()))


def test_half_a_character_in_a_template_is_part_of_what_tells_it_from_others(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "m", hidden=32)
    (student / "chat_template.jinja").unlink()
    said = []
    for half in "\ud83d\ud83e":
        edit_json(student / "tokenizer_config.json", chat_template=half + OPENING_TEMPLATE)
        said.append(engine(student).computes_with()["template"])
    assert len(set(said)) == 2


def test_it_stops_at_what_the_template_writes_after_a_turn_though_no_file_says_so(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "m", hidden=32)
    for name in ("generation_config.json", "config.json"):
        edit_json(student / name, eos_token_id=0)
    edit_json(student / "tokenizer_config.json", eos_token="<|endoftext|>")
    assert engine(student).rows.asked(requests()[0]).stop_ids == {0, 2}


def test_greedy_text_is_the_one_of_the_library(student: Path) -> None:
    made = engine(student)
    reply = answers(made, requests()[1:2])["r1"]
    ids = torch.tensor([made.tokenizer.encode_prompt(made.rows.asked(requests()[1]).prompt)])
    theirs = made.model.generate(ids, max_new_tokens=29, do_sample=False, eos_token_id=2, pad_token_id=0)
    written = theirs[0, ids.shape[1]:].tolist()
    assert reply.raw == made.tokenizer.decode([token for token in written if token != 2])


def test_length_and_stop_are_told_apart(student: Path) -> None:
    made = engine(student)
    long = answers(made, requests())["r0"]
    assert long.finish_reason == "length" and long.status == "length" and long.usage.completion_tokens == 24
    words = made.tokenizer.decode(made.tokenizer.encode(long.raw)[5:6])
    place = long.raw.index(words)
    stopped = answers(made, requests(stop=(words,))[:1])["r0"]
    assert stopped.finish_reason == "stop" and stopped.raw == long.raw[:place]


def test_finished_rows_leave_the_batch(student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = engine(student)
    widths: list[int] = []
    forward = type(made.model).forward

    def watched(model: Any, *args: Any, **inputs: Any) -> Any:
        widths.append(len(inputs["input_ids"]))
        return forward(model, *args, **inputs)

    monkeypatch.setattr(type(made.model), "forward", watched)
    asked = [Request(f"r{n}", (Message("user", "Wait"),), Sampling(max_tokens=n + 1, seed=n)) for n in range(16)]
    replies = answers(made, asked)
    assert all(replies[f"r{n}"].usage.completion_tokens <= n + 1 for n in range(16))
    assert widths[0] == 16 and widths[-1] <= 2 and sum(widths) < 16 * 16 * 0.85
    texts = [replies[f"r{n}"].raw for n in range(16)]
    assert all(texts[15].startswith(text.rstrip("\ufffd")) for text in texts)


def test_thinking_is_split_also_when_the_template_opened_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from localdistill.modelfiles import torch_decoding

    made = engine(tiny_model(tmp_path / "m", hidden=32, chat_template=OPENING_TEMPLATE))
    script = made.tokenizer.encode("12 - 5 = 7\n</think>\n\nThe answer is 7.<|im_end|>")
    monkeypatch.setattr(torch_decoding, "pick_tokens", lambda logits, rows: [script[len(row.written)] for row in rows])
    reply = answers(made, [Request("r", (Message("user", "?"),), Sampling(max_tokens=60))])["r"]
    assert (reply.reasoning, reply.answer, reply.status) == ("12 - 5 = 7", "The answer is 7.", "complete")
    assert reply.finish_reason == "stop" and reply.usage.completion_tokens == len(script)
    assert 0 < reply.usage.reasoning_tokens < len(script)
    short = answers(made, [Request("r", (Message("user", "?"),), Sampling(max_tokens=4))])["r"]
    assert short.status == "length" and short.answer == ""


def test_streaming_writes_the_same_text_in_pieces(student: Path) -> None:
    made = engine(student)
    whole = answers(made, requests())["r1"].raw
    pieces = list(made.stream(requests()[1], Cancel()))
    assert "".join(pieces) == whole and len(pieces) > 5
    stream = made.stream(requests()[1], Cancel())
    assert next(stream)
    stream.close()


def test_a_prompt_that_is_too_long_is_an_error_reply_and_the_rest_goes_on(student: Path) -> None:
    made = engine(student)
    asked = [Request("long", (Message("user", "apples " * 600),)), *requests()]
    replies = answers(made, asked)
    assert replies["long"].status == "error" and "512" in replies["long"].error
    assert len(replies) == len(asked) and all(replies[r.id].status != "error" for r in requests())
    with pytest.raises(EngineError, match="512"):
        next(made.stream(asked[0], Cancel()))


def test_requests_are_pulled_lazily_and_a_cancel_ends_it(student: Path) -> None:
    pulled: list[str] = []

    def endless() -> Any:
        number = 0
        while True:
            pulled.append(f"r{number}")
            yield Request(f"r{number}", (Message("user", "x"),), Sampling(max_tokens=2))
            number += 1

    seen: list[Reply] = []
    for reply in engine(student, batch_rows=2).answer(endless(), silent, Cancel(lambda: len(seen) >= 3)):
        seen.append(reply)
    assert 3 <= len(seen) <= 4 and len(pulled) <= 16


def test_an_adapter_answers_as_the_merged_model_and_has_its_own_identity(student: Path, tmp_path: Path) -> None:
    from localdistill.trainers.merge import merge
    from tests.trainers.rows import job, random_rows
    from tests.trainers.test_torch_lora import trainer

    trainer(epochs=4, learning_rate=2e-2).train(
        job(student, tmp_path / "out", random_rows(8), tag_token_ids=(398, 399)), silent, Cancel())
    adapter = tmp_path / "out" / "adapter"
    tuned = engine(student, adapter=str(adapter))
    merged = engine(merge(student, adapter, tmp_path / "merged").path)
    ours, theirs = answers(tuned, requests()), answers(merged, requests())
    assert {key: reply.raw for key, reply in ours.items()} == {key: reply.raw for key, reply in theirs.items()}
    assert ours["r0"].raw != answers(engine(student), requests())["r0"].raw
    assert tuned.identity().startswith(engine(student).identity() + "+sha256:")


def test_engines_over_one_base_load_it_once_and_answer_as_those_that_load_it_alone(
        student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from localdistill.modelfiles import loading

    four, two = (str(tiny_adapter(student, tmp_path / str(rank), rank)) for rank in (4, 2))
    places = ["", four, two, ""]
    alone = [engine(student, adapter=place) for place in places]
    wanted = [({key: reply.raw for key, reply in answers(made, requests()[:3]).items()}, made.identity())
              for made in alone]
    loads, load = list[Path](), loading.load_causal_model
    monkeypatch.setattr(loading, "load_causal_model", lambda *how: (loads.append(how[0].path), load(*how))[1])
    before, found = engine(student), []
    for place in places:
        made = engine(student, adapter=place)
        assert made.take_over(before)
        found.append(({key: reply.raw for key, reply in answers(made, requests()[:3]).items()}, made.identity()))
        before = made
    assert found == wanted and len(loads) == 1
    assert found[0] == found[3] and len({str(one) for one in found}) == 3


def test_an_engine_over_another_base_takes_nothing_over(student: Path, tmp_path: Path) -> None:
    before = engine(student)
    wanted = answers(before, requests()[:1])["r0"].raw
    for other in (engine(tiny_model(tmp_path / "m", hidden=32)), engine(student, dtype="bfloat16")):
        assert not other.take_over(before) and other._base is None
    assert not before.take_over(OtherEngine())  # type: ignore[arg-type]
    assert answers(before, requests()[:1])["r0"].raw == wanted


class OtherEngine:
    """Of another kind."""


def test_an_adapter_of_nf4_training_answers_beside_quantized_weights(tmp_path: Path) -> None:
    """The reference is a plain model whose weights are the dequantized ones plus the update."""
    pytest.importorskip("bitsandbytes")
    from bitsandbytes.functional import dequantize_4bit

    from localdistill.modelfiles.adapter import AdapterFolder
    from localdistill.modelfiles.folder import ModelFolder
    from localdistill.modelfiles.loading import load_causal_model
    from tests.trainers.rows import job, random_rows
    from tests.trainers.test_torch_lora import trainer

    student = tiny_model(tmp_path / "m", "llama", hidden=64, seed=5, initializer_range=0.3)
    trainer(quantization="nf4", dtype="float32", epochs=4, learning_rate=2e-2).train(
        job(student, tmp_path / "out", random_rows(8), tag_token_ids=(398, 399)), silent, Cancel())
    adapter = tmp_path / "out" / "adapter"
    assert json.loads((tmp_path / "out" / "training.json").read_text())["base"] == {
        "quantization": "nf4", "dtype": "float32"}
    ours = engine(student, adapter=str(adapter), quantization="nf4")
    merged = engine(student, adapter=str(adapter))
    folder = ModelFolder.open(student)
    quantized = load_causal_model(folder, torch.float32, torch.device("cpu"), "nf4")
    update = AdapterFolder.open(adapter, folder)
    reference = engine(student)
    with torch.no_grad():
        for name, weight in reference.model.named_parameters():
            held = quantized.get_parameter(name)
            plain = dequantize_4bit(held.data, held.quant_state) if hasattr(held, "quant_state") else held
            weight.copy_(update.apply(name, plain.float()))
    ids = torch.tensor([[5, 17, 398, 42, 7, 399, 30]])
    with torch.no_grad():
        beside, wanted, folded = (made.model(ids).logits for made in (ours, reference, merged))
    # The quantized product itself is rounded to bfloat16; merging into the stored weights is another model.
    ours_off, folded_off = ((logits - wanted).abs().mean() for logits in (beside, folded))
    assert ours_off < 0.05 * wanted.abs().mean() and ours_off < 0.2 * folded_off, (ours_off, folded_off)
    assert all(reply.status != "error" for reply in answers(ours, requests()[:2]).values())


def test_building_and_closing_load_nothing() -> None:
    script = (
        "import sys\nfrom localdistill.engines.transformers import TransformersEngine as Engine\n"
        "made = Engine(Engine.Options(model='nowhere'))\nmade.close()\nmade.close()\n"
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_closing_frees_the_model_and_the_next_question_loads_it_again(student: Path) -> None:
    made = engine(student)
    before = answers(made, requests()[:1])["r0"].raw
    first = weakref.ref(made.model)
    made.close()
    gc.collect()
    assert first() is None
    assert answers(made, requests()[:1])["r0"].raw == before
