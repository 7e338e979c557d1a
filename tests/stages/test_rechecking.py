"""When a teacher gets worse: the watch fires once and in time, and the second look says what changed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import pytest

from localdistill.core.errors import Cancelled
from localdistill.core.events import Cancel
from localdistill.core.records import Status
from localdistill.engines.llama_cpp import LlamaCppEngine
from localdistill.engines.llama_cpp_native.options import LlamaCppOptions
from localdistill.engines.wire.probe_report import Probe
from localdistill.spending.ledger import SpendLedger
from localdistill.stages.rechecking import RejectionWatch, keep_probe, last_probe, probes, recheck
from localdistill.workspace.folder import Workspace
from tests.faults import refused_url
from tests.faults.asking import engine_for
from tests.teachers import PlayedTeacher, played


def fires_at(watch: RejectionWatch, statuses: list[str]) -> list[int]:
    return [place for place, status in enumerate(statuses) if watch.saw(cast(Status, status))]


GOOD, BAD = ["complete"], ["length"]


def test_it_fires_once_when_the_bad_share_passes_its_limit() -> None:
    watch = RejectionWatch()
    assert fires_at(watch, GOOD * 50 + BAD * 60) == [65], "the 16th bad one of the last 50"
    assert watch.fired and watch.before == 0.0


def test_a_teacher_that_was_never_good_must_get_twice_as_bad() -> None:
    usual = (GOOD * 3 + BAD * 2) * 10
    assert fires_at(RejectionWatch(), usual * 4) == []
    assert fires_at(RejectionWatch(), usual + (GOOD + BAD * 9) * 10) != []
    assert fires_at(RejectionWatch(), (GOOD * 9 + BAD) * 5 + (GOOD * 3 + BAD) * 50) == [], "25 % is below the share"


def test_a_known_share_counts_from_the_first_window() -> None:
    assert fires_at(RejectionWatch(before=0.0), BAD * 50) == [49]
    assert fires_at(RejectionWatch(before=0.6), BAD * 50) == []
    assert fires_at(RejectionWatch(before=0.0), BAD * 49) == [], "nothing is said before the window is full"


@pytest.mark.parametrize("status", ["length", "refusal", "filtered", "empty", "reasoning_only", "truncated", "error"])
def test_every_status_but_complete_is_bad(status: str) -> None:
    assert fires_at(RejectionWatch(before=0.1), GOOD * 34 + [status] * 16) == [49]


def test_the_second_look_says_what_changed() -> None:
    kept: list[Probe] = []
    with played(PlayedTeacher()) as teacher:
        engine = engine_for(teacher.url)
        assert "its reasoning is raw" in recheck(engine, None, SpendLedger(), Cancel(), kept.append)[0]
        assert recheck(engine, kept[0], SpendLedger(), Cancel()) == ["a probe finds it as it was"]
        teacher.model, teacher.reasoning = "played-2", ""
        changes = recheck(engine, kept[0], SpendLedger(), Cancel(), kept.append)
    assert "the model that answers: played-1 before, played-2 now" in changes
    assert "its reasoning: raw before, hidden now" in changes
    assert kept[1].answered_as == "played-2"


def test_a_failing_probe_is_a_sentence_and_a_cancel_is_not() -> None:
    said = recheck(engine_for(refused_url()), None, SpendLedger(), Cancel())
    assert len(said) == 1 and "could not be probed again" in said[0]
    with played(PlayedTeacher()) as teacher:
        priced = engine_for(teacher.url, usd_per_million_input=1.0, usd_per_million_output=1.0)
        assert "could cost" in recheck(priced, None, SpendLedger(cap_usd=0.0), Cancel())[0]
    with played(PlayedTeacher(fail=[(429, {"Retry-After": "50"})])) as slow, pytest.raises(Cancelled):
        recheck(engine_for(slow.url), None, SpendLedger(), Cancel(lambda: bool(slow.bodies)))


def test_a_model_file_is_not_asked_again() -> None:
    assert recheck(LlamaCppEngine(LlamaCppOptions(model="/none.gguf")), None, SpendLedger(), Cancel()) == []


def test_reports_are_kept_one_per_identity_newest_first(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    assert list(probes(place)) == []
    old = Probe("Host:1/A b", "Host:1", "A b", "2026-01-01T00:00:00+00:00")
    twin = dataclasses.replace(old, identity="Host:1/A_b", probed_at="2026-02-01T00:00:00+00:00")
    for probe in (old, twin, dataclasses.replace(old, solved=True)):
        keep_probe(place, probe)
    assert last_probe(place, "Host:1/A b") == dataclasses.replace(old, solved=True)
    assert last_probe(place, "Host:1/A_b") == twin, "names that look alike are not mixed up"
    assert [probe.identity for probe in probes(place)] == ["Host:1/A_b", "Host:1/A b"]
    by_name = {path: path.read_text() for path in (tmp_path / "teachers").iterdir()}
    for path, text in zip(by_name, reversed(by_name.values())):
        path.write_text(text)
    assert last_probe(place, "Host:1/A b") is None, "a report of another teacher is none of this one"
    keep_probe(place, dataclasses.replace(old, identity="../../etc/passwd"))
    assert {path.parent for path in tmp_path.rglob("*.json")} == {tmp_path / "teachers"}
