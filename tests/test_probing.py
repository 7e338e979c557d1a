"""The probe report against teachers of every kind: what it says of each, what it spends, and what it keeps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from localdistill.api.teachers.examining import examine_teacher
from localdistill.api.teachers.findings import findings_of
from localdistill.api.teachers.known import facts_of, known_teachers
from localdistill.api.teachers.probe_targets import ProbeTarget, local_target, provider_target, recipe_targets
from localdistill.core.errors import BudgetReached, Cancelled, EngineError, EngineUnavailable, UsageError
from localdistill.core.events import Cancel
from localdistill.engines.anthropic import AnthropicEngine, AnthropicOptions
from localdistill.engines.openai_compatible import OpenAICompatibleEngine, OpenAICompatibleOptions
from localdistill.engines.wire.probe import probe, worst_cost_nano
from localdistill.engines.wire.probe_report import ABSURD_LIMIT, Probe, compare, limits_in
from localdistill.modelfiles.shipped import shipped_path
from localdistill.providers import provider, provider_names
from localdistill.recipe import parse_recipe
from localdistill.recipe.sections import TeacherSection
from localdistill.spending.ledger import SpendLedger
from localdistill.stages.rechecking import last_probe
from localdistill.workspace.folder import Workspace
from tests.teachers import REASONING, REASONING_TOKENS, PlayedTeacher, played

PRICES = {"usd_per_million_input": 1.0, "usd_per_million_output": 2.0}


def engine_for(url: str, **options: Any) -> OpenAICompatibleEngine:
    """An engine that switches thinking the way the played teachers know."""
    settings = {"model": "m", "thinking_switch": "thinking", **options}
    return OpenAICompatibleEngine(OpenAICompatibleOptions(base_url=url, **settings))


def probed(teacher: PlayedTeacher, ledger: SpendLedger | None = None, **options: Any) -> Probe:
    with played(teacher):
        return probe(engine_for(teacher.url, **options), ledger or SpendLedger(), Cancel())


# ---- what the reasoning is


def test_a_teacher_that_shows_all_of_its_reasoning() -> None:
    found = probed(PlayedTeacher())
    assert (found.reasoning, found.carriers, found.reasoning_tokens) == ("raw", ("reasoning_content",), 240)
    assert "240 were billed as reasoning" in found.evidence
    assert (found.switch, found.switch_verdict, found.solved) == ("thinking", "works", True)
    assert (found.answered_as, found.usage_whole, found.usage_streamed) == ("played-1", True, True)
    assert found.finish_at_limit == "length" and set(found.finish_reasons) == {"stop", "length"}
    assert found.first_token_s is not None and found.tokens_per_s is not None and found.tokens_per_s > 0


def test_far_less_shown_than_billed_is_a_summary() -> None:
    found = probed(PlayedTeacher(reasoning="I multiplied and added the three products.", billed=REASONING_TOKENS))
    assert found.reasoning == "summary" and "240" in found.evidence
    beside = probed(PlayedTeacher(reasoning="I multiplied and added the three products.", billed=None))
    assert beside.reasoning == "summary" and "beside the answer" in beside.evidence


def test_whole_reasoning_is_told_from_new_tokens_alone() -> None:
    assert probed(PlayedTeacher(billed=None)).reasoning == "raw"


def test_without_token_counts_nothing_is_claimed() -> None:
    found = probed(PlayedTeacher(usage=False))
    assert found.reasoning == "unclear" and "no token counts" in found.evidence
    assert (found.usage_whole, found.usage_streamed, found.tokens_per_s) == (False, False, None)


def test_marked_summaries_encrypted_and_hidden_reasoning() -> None:
    marked = PlayedTeacher(field_name="", reasoning="", details=[{"type": "reasoning.summary", "summary": REASONING}])
    assert probed(marked).reasoning == "summary"
    blocks = [{"type": "reasoning.encrypted", "data": "gAAAA"}]
    assert probed(PlayedTeacher(reasoning="", details=blocks)).reasoning == "encrypted"
    hidden = probed(PlayedTeacher(reasoning=""))
    assert hidden.reasoning == "hidden" and "240 tokens" in hidden.evidence
    assert probed(PlayedTeacher(reasoning="", billed=None)).reasoning == "hidden"
    assert probed(PlayedTeacher(reasoning="", billed=0)).reasoning == "none"


@pytest.mark.parametrize(("tags", "place"), [
    (("<think>\n", "\n</think>\n\n"), "<think> in the text"),
    (("", "\n</think>\n\n"), "</think> in the text, without its opening tag"),
    (("<reasoning>", "</reasoning>"), "<reasoning> in the text"),
])
def test_reasoning_inside_the_text(tags: tuple[str, str], place: str) -> None:
    found = probed(PlayedTeacher(field_name="", tags=tags))
    assert (found.reasoning, found.carriers) == ("raw", (place,))


def test_two_places_are_both_named() -> None:
    teacher = PlayedTeacher(field_name="reasoning", details=[{"type": "reasoning.text", "text": REASONING}])
    assert probed(teacher).carriers == ("reasoning", "reasoning_details")


def test_the_messages_api() -> None:
    def ask(blocks: list[dict[str, Any]]) -> Probe:
        with played(PlayedTeacher(), blocks) as teacher:
            options = AnthropicOptions(provider="", base_url=teacher.url, model="m", thinking="budget")
            found = probe(AnthropicEngine(options), SpendLedger(), Cancel())
            assert teacher.bodies[0]["thinking"]["budget_tokens"] < teacher.bodies[0]["max_tokens"]
            return found

    assert ask([{"type": "thinking", "thinking": REASONING, "signature": "s"}]).reasoning == "raw"
    assert ask([{"type": "thinking", "thinking": "I multiplied.", "signature": "s"}]).reasoning == "summary"
    assert ask([{"type": "redacted_thinking", "data": "x"}]).reasoning == "encrypted"


# ---- switch, settings, limits


def test_the_thinking_switch() -> None:
    assert probed(PlayedTeacher(obeys_switch=False)).switch_verdict == "stays_on"
    assert probed(PlayedTeacher(reasoning="", billed=0)).switch_verdict == "stays_off"
    assert probed(PlayedTeacher(), thinking_switch="none").switch_verdict == "none"
    off = probed(PlayedTeacher(refuses=("thinking:disabled",)))
    assert off.switch_verdict == "off_refused" and off.accepts_seed is True
    assert any("switched off" in note and "Unsupported" in note for note in off.notes)
    on = probed(PlayedTeacher(refuses=("thinking:enabled",)))
    assert on.switch_verdict == "on_refused" and on.reasoning == "raw", "asked again without the switch"


@pytest.mark.parametrize(("refuses", "seed", "temperature"), [
    ((), True, True), (("seed",), False, True), (("temperature",), True, False),
    (("seed", "temperature"), False, False),
])
def test_seed_and_temperature_are_told_apart(refuses: tuple[str, ...], seed: bool, temperature: bool) -> None:
    found = probed(PlayedTeacher(refuses=refuses))
    assert (found.accepts_seed, found.accepts_temperature) == (seed, temperature)
    warned = [name for name in refuses if any(f"would send {name}" in note for note in found.notes)]
    assert warned == list(refuses), "a run with these options would be refused"


def test_the_refusal_of_an_absurd_limit_states_the_true_one() -> None:
    found = probed(PlayedTeacher(limit_error="Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"))
    assert (found.max_output_tokens, found.context_tokens) == (8192, None)
    assert "[1, 8192]" in found.limit_words


def test_a_limit_that_is_taken_is_cut_off_and_stays_unknown() -> None:
    teacher = PlayedTeacher(stalls=True)
    found = probed(teacher, idle_s=1.0)
    assert not found.lacks_finish, "nobody waited for the end"
    assert found.max_output_tokens is None and any("without a word" in note for note in found.notes)
    assert [body["max_tokens"] for body in teacher.bodies].count(ABSURD_LIMIT) == 1


@pytest.mark.parametrize(("words", "output", "context"), [
    (f"max_tokens is too large: {ABSURD_LIMIT}. This model supports at most 16384 completion tokens, whereas you "
     f"provided {ABSURD_LIMIT}.", 16384, None),
    (f"max_tokens: {ABSURD_LIMIT} > 64000, which is the maximum allowed number of output tokens for x-4-5-2025", 64000,
     None),
    (f"This model's maximum context length is 4096 tokens. However, you requested {ABSURD_LIMIT + 13} tokens (13 in "
     f"the messages, {ABSURD_LIMIT} in the completion).", None, 4096),
    (f"'max_tokens' is too large: {ABSURD_LIMIT}. This model's maximum context length is 40960 tokens and your request "
     f"has 12 input tokens ({ABSURD_LIMIT} > 40960 - 12).", None, 40960),
    ("`max_tokens` must be less than or equal to `32,768`, the maximum value for `max_tokens` is less than the "
     "`context_window` for this model", 32768, None),
    (f"`inputs` tokens + `max_new_tokens` must be <= 8193. Given: 20 `inputs` tokens and {ABSURD_LIMIT} "
     "`max_new_tokens`", None, 8193),
    ("The supported range is from 1 (inclusive) to 65537 (exclusive)", 65537, None),
    (f"You requested up to {ABSURD_LIMIT} tokens, but can only afford 12", None, None),
    ("Internal error 500", None, None),
    ("<400> InternalError.Algo.InvalidParameter: Range of max_tokens should be [1, 131072]", 131072, None),
    (f"integer above maximum value, expected a value <= 12288, but got {ABSURD_LIMIT} instead", 12288, None),
])
def test_limits_in_the_words_of_servers(words: str, output: int | None, context: int | None) -> None:
    assert limits_in(words) == (output, context)


def test_rate_limits_come_from_the_headers() -> None:
    headers = {"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499",
               "x-ratelimit-reset-requests": "120ms", "x-ratelimit-limit-tokens": "30000"}
    limits = {limit.name: limit for limit in probed(PlayedTeacher(headers=headers)).rate_limits}
    assert (limits["requests"].limit, limits["requests"].remaining, limits["requests"].reset_s) == (500, 499, 0.12)
    assert limits["tokens"].limit == 30000


def test_a_missing_finish_reason_is_reported() -> None:
    found = probed(PlayedTeacher(finish=None))
    assert found.lacks_finish and found.finish_reasons == ()


# ---- trouble and money


def test_a_refused_key_ends_the_probe_and_a_busy_server_is_waited_for() -> None:
    with pytest.raises(EngineError, match="401"):
        probed(PlayedTeacher(fail=[(401, {})]))
    teacher = PlayedTeacher(fail=[(429, {"Retry-After": "0"}), (503, {"Retry-After": "0"})])
    assert probed(teacher).reasoning == "raw"
    with pytest.raises(EngineUnavailable, match="wait"):
        probed(PlayedTeacher(fail=[(429, {"Retry-After": "600"})]))


def test_a_server_that_fails_later_leaves_a_report() -> None:
    class Failing(PlayedTeacher):
        def refusal(self, body: dict[str, Any]) -> str:
            if not self.fail and len(self.bodies) == 2:
                self.fail = [(429, {"Retry-After": "900"})]
            return ""

    teacher = Failing()
    with played(teacher):
        found = probe(engine_for(teacher.url), SpendLedger(), Cancel())
    assert found.reasoning == "raw" and found.accepts_seed is None
    assert any("later question failed" in note for note in found.notes)


def test_every_call_is_in_the_ledger() -> None:
    ledger = SpendLedger(cap_usd=1.0)
    found = probed(PlayedTeacher(limit_error="at most 4096"), ledger, **PRICES)
    assert found.cost_usd == pytest.approx((40 * 1 + 248 * 2) / 1e6)
    paid = (3 * 40 * 1 + (248 + 8 + 8) * 2) / 1e6
    assert found.spent_usd == pytest.approx(paid) and ledger.spent_usd == pytest.approx(paid)
    assert ledger.reserved_nano == 0


def test_the_worst_case_is_an_upper_bound_and_unknown_without_a_price() -> None:
    with played(PlayedTeacher(usage=False)) as teacher:
        engine = engine_for(teacher.url, **PRICES)
        worst = worst_cost_nano(engine)
        ledger = SpendLedger()
        probe(engine, ledger, Cancel())
        assert worst is not None and 0 < ledger.spent_nano <= worst, "without counts all that was reserved counts"
        assert worst_cost_nano(engine_for(teacher.url)) is None


def test_a_probe_is_counted_at_the_price_of_single_requests() -> None:
    options = {"provider": "openai", "model": "gpt-4o", "base_url": "https://api.openai.com/v1"}
    single, batched = (worst_cost_nano(OpenAICompatibleEngine(OpenAICompatibleOptions(**options, batch=batch)))
                       for batch in (False, True))
    assert single and single == batched


def test_the_cap_holds() -> None:
    with pytest.raises(BudgetReached):
        probed(PlayedTeacher(), SpendLedger(cap_usd=0.0001), **PRICES)
    ledger = SpendLedger(cap_usd=0.0028)
    found = probed(PlayedTeacher(usage=False), ledger, **PRICES)
    assert ledger.spent_usd <= 0.0028 and any("money cap" in note for note in found.notes)
    assert found.reasoning == "unclear", "what was paid for is reported"


def test_a_cancelled_probe_stops() -> None:
    with played(PlayedTeacher(fail=[(429, {"Retry-After": "50"})])) as teacher, pytest.raises(Cancelled):
        probe(engine_for(teacher.url), SpendLedger(), Cancel(lambda: len(teacher.bodies) > 0))


def test_hostile_words_are_made_harmless() -> None:
    evil = "\x1b]0;owned\x07\u202egpt"
    found = probed(PlayedTeacher(model=evil, limit_error=f"at most 4096 {evil}\x9b31m", finish=f"st{evil}"))
    texts = json.dumps(found.to_json(), ensure_ascii=False) + "".join(f"{a}{b}" for a, b in findings_of(found))
    assert not set(texts) & set("\x1b\x07\x9b\u202e")
    assert found.max_output_tokens == 4096
    long = probed(PlayedTeacher(model="m" * 5000))
    assert len(long.answered_as) <= 300


# ---- what is kept, and what changed


def target_for(url: str, **options: Any) -> ProbeTarget:
    given = {"base_url": url, "model": "m", "thinking_switch": "thinking", **options}
    return ProbeTarget("t", TeacherSection(use="openai_compatible", name="t", options=given), Path.cwd())


def test_a_probe_is_kept_and_compared_with_the_next(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    with played(PlayedTeacher(limit_error="at most 8192")) as teacher:
        first = examine_teacher(place, target_for(teacher.url), SpendLedger(), Cancel())
        assert first.before is None and first.changes == ()
        assert last_probe(place, first.probe.identity) == first.probe
        teacher.reasoning, teacher.limit_error = "I multiplied.", "at most 4096"
        second = examine_teacher(place, target_for(teacher.url), SpendLedger(), Cancel())
        assert any("reasoning: raw before, summary now" in change for change in second.changes)
        assert any("8192 before, 4096 now" in change for change in second.changes)
        other = examine_teacher(place, target_for(teacher.url, thinking_switch="none"), SpendLedger(), Cancel())
        assert other.before is None, "another switch is another endpoint"
    assert len(list((tmp_path / "teachers").glob("*.json"))) == 2
    assert last_probe(place, "nobody/x") is None


def test_damaged_and_foreign_reports_count_as_none(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    with played(PlayedTeacher()) as teacher:
        kept = examine_teacher(place, target_for(teacher.url), SpendLedger(), Cancel()).probe
    path = next((tmp_path / "teachers").glob("*.json"))
    whole = path.read_text()
    for text in ("", "[]", "{}", whole[:-30], whole.replace('"format": 1', '"format": 99')):
        path.write_text(text)
        assert last_probe(place, kept.identity) is None
        known_teachers(place)


def test_comparing() -> None:
    old = Probe("i", "h", "m", "2026-01-01T00:00:00+00:00", answered_as="a", tokens_per_s=50.0, accepts_seed=True,
                elapsed_s=3.0)
    assert compare(old, dataclasses.replace(old, probed_at="later", tokens_per_s=60.0)) == []
    assert compare(old, dataclasses.replace(old, accepts_seed=None)) == [], "not found out is no change"
    slower = compare(old, dataclasses.replace(old, tokens_per_s=10.0, answered_as="b", accepts_seed=False))
    assert slower == ["the model that answers: a before, b now", "a seed is accepted: yes before, no now",
                      "tokens per second: 50 before, 10 now"]
    assert compare(old, dataclasses.replace(old, tokens_per_s=10.0, elapsed_s=0.2)) == [], "too short to tell"
    dearer = compare(dataclasses.replace(old, cost_usd=0.001), dataclasses.replace(old, cost_usd=0.003))
    assert dearer == ["price of an answer in US dollars: 0.001 before, 0.003 now"]


def test_a_probe_survives_json() -> None:
    found = probed(PlayedTeacher(headers={"x-ratelimit-limit-requests": "7"}, refuses=("seed",)))
    assert found.rate_limits and found.notes
    assert Probe.from_json(json.loads(json.dumps(found.to_json()))) == found


# ---- who is probed, and what is listed


def test_the_shipped_gguf_is_probed(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    target = local_target(shipped_path("pantry/teacher.gguf"))
    found = examine_teacher(Workspace(tmp_path), target, SpendLedger(), Cancel()).probe
    assert (found.reasoning, found.carriers, found.cost_usd) == ("raw", ("<think> in the text",), 0.0)
    assert found.device and found.tokens_per_s and found.finish_at_limit == "length"
    labels = [label for label, _ in findings_of(found)]
    assert "rate limits" not in labels and "speed" in labels


def test_teachers_of_a_recipe() -> None:
    text = """
name = "two"
[prompts]
files = ["p.jsonl"]
[[teacher]]
name = "big"
use = "openai_compatible"
base_url = "http://127.0.0.1:1/v1"
model = "m"
[[teacher]]
use = "replay"
path = "r.jsonl"
"""
    recipe = parse_recipe(text)
    both = recipe_targets(recipe, Path("/x"), model="other")
    assert [target.label for target in both] == ["big", "teacher-2"]
    assert both[0].build().options.model == "other"
    with pytest.raises(UsageError, match="nothing to probe"):
        both[1].build()
    assert [s.label for s in recipe_targets(recipe, Path("/x"), "big")] == ["big"]
    with pytest.raises(UsageError, match="did you mean 'big'"):
        recipe_targets(recipe, Path("/x"), "bigg")


def test_a_provider_needs_a_model_and_wrong_addresses_are_named() -> None:
    with pytest.raises(UsageError) as caught:
        provider_target("deepseek")
    assert "deepseek-" in caught.value.hint
    with pytest.raises(UsageError, match="https"):
        provider_target("deepseek", "m", "ftp://x").build()


def test_every_provider_is_listed_with_its_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-canary-1")
    rows = {row.name: row for row in known_teachers(Workspace(tmp_path))}
    assert list(rows) == provider_names()
    assert (rows["deepseek"].key, rows["ollama"].key, rows["openai"].batch) == (
        "environment", "not needed", "0.5 of the price")
    for name in provider_names():
        known, text = provider(name), "\n".join(f"{a} {b}" for a, b in facts_of(provider(name)))
        assert "sk-canary-1" not in text and known.base_url in text
        for cited in (known.terms, known.limits, known.batch, *known.models):
            assert not cited.url or (cited.url in text and str(cited.date) in text)
