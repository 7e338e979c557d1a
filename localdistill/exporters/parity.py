"""The parity gate between training and serving: a 16-bit GGUF must behave like the merged model that it was made from,
or the exporter leaves no file.

It compares what llama.cpp does with the file against what transformers does with the folder: token ids, the stored
chat template, BOS, stop tokens, logits, greedy text. It reports figures with thresholds and changes no file but the
report; what happens to a failed file is the exporter's decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from localdistill.core.borders import BORDERS
from localdistill.core.events import Cancel
from localdistill.exporters.gguf_parts.agreement import Agreement, Walk
from localdistill.exporters.gguf_parts.corpus import PROMPTS, parity_strings
from localdistill.exporters.gguf_parts.divergence import log_probabilities
from localdistill.exporters.gguf_parts.llama_client import ChildKilled, default_threads, run_llama
from localdistill.exporters.gguf_parts.reference import Reference
from localdistill.exporters.gguf_parts.vocabulary import serving_template
from localdistill.exporters.parity_report import ParityItem, ParityReport
from localdistill.modelfiles.loading import is_out_of_memory
from localdistill.modelfiles.trained import TrainedModel, logprobs_streamed
from localdistill.safety.scratch import scratch_folder

TOP1_AGREEMENT = 0.98
"""Least share of positions where both sides put the same token first."""
MEAN_KL = {"F16": 1e-3, "BF16": 1e-2}
"""Largest mean KL divergence in nats per position, by the type of the file."""
MARGIN_ERROR = 0.5
"""Largest error of the top-two margin in nats: beyond it, nothing may be excused by numeric error."""
GREEDY_TOKENS = 32
MAX_PROMPT_TOKENS = 96
TRAINED_ERROR, TRAINED_ERROR_ON_OTHERS = 0.1, 1.0
"""Largest mean difference in nats per trained token between the model as it was trained and the merged one: with the
base held as it is stored, and otherwise. Merging into stored weights rounds them. NF4 weights are other weights than
the stored ones: there the difference is said, and only what must be another model is refused."""
NOT_COMPUTED, _COMPUTE = "not computed", "float32"
"""How logits were computed."""
_EARLIER_ANSWER = "I see."


def check_parity(merged: Path, gguf: Path, cancel: Cancel, *, thinks: bool | None = None,
                 strings: Sequence[str] = (), prompts: Sequence[str] = (),
                 greedy_tokens: int = GREEDY_TOKENS, trained: TrainedModel | None = None,
                 file_type: Literal["F16", "BF16"] = "F16") -> ParityReport:
    """Compare the 16-bit file `gguf` with the model folder `merged`, prompted as for a student that `thinks`.

    `strings` are tokenized beside the built-in ones; `prompts` (user messages) replace the built-in ones. `trained` is
    the model that was merged, and is compared with what came out. A `file_type` BF16 is allowed the larger error of it.
    Where memory runs out while logits are computed, the report says so and passes by the other checks.
    """
    reference = Reference(merged, thinks)
    all_texts = parity_strings(reference.added_tokens(), strings)
    texts = [reference.lead + text for text in all_texts if reference.is_comparable(text)]
    questions = list(prompts or PROMPTS)
    rendered = [reference.render(question) for question in questions]
    served = run_llama({"action": "tokenize", "model": str(gguf), "texts": texts, "prompts": rendered},
                       "reading the GGUF's vocabulary", cancel)
    prompt_ids = [reference.encode_prompt(text) for text in rendered]
    items = [
        _token_ids(texts, [reference.encode(text) for text in texts], served["texts"], len(all_texts)),
        _template(reference, thinks, served, questions, rendered),
        _bos(served["bos"], prompt_ids, served["prompts"]),
        _prompt_ids(prompt_ids, served["prompts"]),
        _stop_tokens(reference, served["stops"]),
    ]
    if not all(item.passed for item in items):
        return ParityReport(tuple(items), NOT_COMPUTED)
    cancel.check()
    try:
        trained_items = [] if trained is None else [_as_trained(reference, trained, cancel)]
        cut = [ids[-MAX_PROMPT_TOKENS:] for ids in prompt_ids]
        items += trained_items + _computed(reference, gguf, cut, served["stops"], greedy_tokens, MEAN_KL[file_type],
                                           cancel)
    except (ChildKilled, MemoryError, RuntimeError) as error:
        if not isinstance(error, ChildKilled) and not is_out_of_memory(error):
            raise
        items.append(ParityItem("logits", True, 0, 0, "not compared: memory ran out"))
        return ParityReport(tuple(items), NOT_COMPUTED)
    return ParityReport(tuple(items), _COMPUTE)


def _token_ids(texts: Sequence[str], wanted: Sequence[Sequence[int]], served: Sequence[Sequence[int]],
               asked: int) -> ParityItem:
    wrong = [number for number, ids in enumerate(wanted) if list(ids) != list(served[number])]
    detail = f"{len(texts)} strings, all equal"
    if asked > len(texts):
        detail += f"; {asked - len(texts)} left out, which llama.cpp is known to read in another way"
    if wrong:
        first = wrong[0]
        detail = (f"{len(wrong)} of {len(texts)} strings differ, first {texts[first][:60]!r}: "
                  f"{list(wanted[first])[:12]} here, {served[first][:12]} in llama.cpp")
    return ParityItem("token_ids", not wrong, len(wrong), 0, detail)


def _template(reference: Reference, thinks: bool | None, served: Mapping[str, Any], questions: Sequence[str],
              rendered: Sequence[str]) -> ParityItem:
    """The stored bytes, and that they render the prompts of training, and a second turn, without any switch (where
    `thinks` is open, with it too) and with the names of tokens that llama.cpp reads from the file."""
    stored, names = served["template"], (served["bos_text"], served["eos_text"])
    if stored is None or stored.encode() != serving_template(reference.folder, thinks).encode():
        return ParityItem("chat_template", False, 1, 0, "the stored template is not the serving template")
    two_turns = (questions[0], _EARLIER_ANSWER, questions[-1])
    talks = [*((question,) for question in questions), two_turns]
    wanted = [*rendered, reference.render(*two_turns)]
    wrong = sum(reference.render_stored(stored, *names, *talk) != text
                for talk, text in zip(talks, wanted, strict=True))
    for way in (True, False) if thinks is None else ():
        wanted.append(reference.render(*two_turns, thinks=way))
        wrong += reference.render_stored(stored, *names, *two_turns, thinks=way) != wanted[-1]
    return ParityItem("chat_template", wrong == 0, wrong, 0,
                      f"byte-equal; {len(wanted) - wrong} of {len(wanted)} prompts render as in training")


def _bos(bos: int, wanted: Sequence[Sequence[int]], served: Sequence[Sequence[int]]) -> ParityItem:
    expected = [_leading(ids, bos) for ids in wanted]
    counts = [_leading(ids, bos) for ids in served]
    right = counts == expected and max(expected, default=0) <= 1
    return ParityItem("bos", right, max(counts, default=0), max(expected, default=0),
                      f"prompts begin with {max(counts, default=0)} BOS, {max(expected, default=0)} in training")


def _leading(ids: Sequence[int], token: int) -> int:
    return next((place for place, found in enumerate(ids) if found != token), len(ids))


def _prompt_ids(wanted: Sequence[Sequence[int]], served: Sequence[Sequence[int]]) -> ParityItem:
    wrong = sum(list(ids) != list(other) for ids, other in zip(wanted, served, strict=True))
    return ParityItem("prompt_ids", wrong == 0, wrong, 0, f"{wrong} of {len(wanted)} rendered prompts differ")


def _stop_tokens(reference: Reference, stops: Sequence[int]) -> ParityItem:
    missing = [token for token in reference.stop_ids if token not in stops]
    extra = [token for token in stops if token not in reference.stop_ids]
    detail = f"{len(reference.stop_ids)} stop tokens known to both"
    if extra:
        detail += f"; llama.cpp also stops at {', '.join(reference.token_text(token) for token in extra)}"
    if missing:
        detail = f"llama.cpp does not stop at {', '.join(reference.token_text(token) for token in missing)}"
    return ParityItem("stop_tokens", not missing, len(missing), 0, detail)


def _as_trained(reference: Reference, trained: TrainedModel, cancel: Cancel) -> ParityItem:
    """What training fitted against what merging made of it, on training rows."""
    import numpy as np

    before = trained.logprobs(trained.rows, cancel)
    after = logprobs_streamed(reference.model, trained.rows, cancel)
    one, other = np.concatenate(before), np.concatenate(after)
    error, limit = float(np.abs(one - other).mean()), TRAINED_ERROR_ON_OTHERS if trained.held else TRAINED_ERROR
    detail = (f"loss {-one.mean():.3f} as trained, {-other.mean():.3f} merged, on {len(one)} trained tokens of "
              f"{len(trained.rows)} rows")
    if trained.held:
        detail += f"; trained on {trained.held.upper()} weights, merged into the full ones"
    return ParityItem("trained", bool(error <= limit), error, limit, detail)


def _computed(reference: Reference, gguf: Path, prompts: list[list[int]], stops: list[int], greedy_tokens: int,
              limit: float, cancel: Cancel) -> list[ParityItem]:
    """Logits of the prompts, and the greedy tokens that llama.cpp wrote behind them: what was trained reads prompt and
    tokens at once, and must choose each of them itself, up to the first that is another."""
    import numpy as np

    found, walks = Agreement(), list[Walk]()
    with scratch_folder(gguf.parent) as folder:
        served = run_llama({"action": "compute", "model": str(gguf), "prompts": prompts, "folder": str(folder),
                            "stops": stops, "greedy_tokens": greedy_tokens,
                            "threads": default_threads(gguf.stat().st_size)},
                           "running the GGUF", cancel)
        whole = [[*prompt, *written] for prompt, written in zip(prompts, served["greedy"], strict=True)]
        behind = reference.model.hidden(whole, cancel)
        for number, (prompt, written, hidden) in enumerate(zip(prompts, served["greedy"], behind, strict=True)):
            there = np.load(folder / f"{number}.npy", mmap_mode="r")
            walks.append(Walk(len(prompt), written, greedy_tokens))
            for first, here in _blocks(reference, hidden, cancel):
                found.add(here[:max(0, len(prompt) - first)], there[first:first + len(here)])
                walks[-1].see(first, here)
    kl, share = found.divergence / found.positions, found.agreed / found.positions
    return [
        ParityItem("top1", share >= TOP1_AGREEMENT, share, TOP1_AGREEMENT,
                   f"{found.agreed} of {found.positions} positions agree on the first token"),
        ParityItem("kl", bool(kl <= limit), kl, limit, f"mean KL {kl:.2g} nats over {found.positions} positions"),
        ParityItem("margin_error", bool(found.error <= MARGIN_ERROR), found.error, MARGIN_ERROR,
                   f"top-two margins are off by at most {found.error:.2g} nats"),
        *_greedy(reference, walks, found.error),
    ]


def _blocks(reference: Reference, hidden: Any, cancel: Cancel) -> Iterator[tuple[int, Any]]:
    """First position and log-probabilities (T, V) of a few positions at a time."""
    at_once = reference.model.rows_at_once
    for first in range(0, len(hidden), at_once):
        cancel.check()
        logits = reference.model.logits(hidden[first:first + at_once])
        for place in range(0, len(logits), BORDERS.logit_rows):
            yield first + place, log_probabilities(logits[place:place + BORDERS.logit_rows])


def _greedy(reference: Reference, walks: Sequence[Walk], error: float) -> list[ParityItem]:
    wrong = [walk for walk in walks if walk.margin is not None and walk.margin > error]
    excused = sum(walk.margin is not None and walk.margin <= error for walk in walks)
    stops = [walk for walk in walks if walk.margin is None and _stops_alone(reference, walk)]
    compared = len(walks)
    return [
        ParityItem("greedy", not wrong, len(wrong), 0,
                   f"{compared - len(wrong)} of {compared} continuations equal, {excused} of them up to a near tie"),
        ParityItem("stop_place", not stops, len(stops), 0, f"{compared - len(stops)} of {compared} stop alike"),
    ]


def _stops_alone(reference: Reference, walk: Walk) -> bool:
    """Whether one of the two stops, or goes on, where the other does not. llama.cpp may stop at control tokens by
    their names."""
    stopped = [token in reference.stop_ids for token in walk.written]
    if any(stopped[:-1]):
        return True
    return walk.ended_early and not stopped[-1] and not reference.is_control(walk.written[-1])
