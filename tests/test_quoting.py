"""What a plan says of calls, tokens, money and time, before and after a few prompts were asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from localdistill import Plan, Workspace, make_plan, parse_recipe, start, wait
from localdistill.api.recipes.quoting import total_of
from localdistill.core.durations import estimate_text
from tests.helpers import counting_server, write_questions


def plan_of(folder: Path, url: str, top: str = "", price: str = "", sample: int = 0) -> Plan:
    text = (f'name = "q"\n{top}\n[prompts]\nfiles = ["q.jsonl"]\n[teacher]\nuse = "openai_compatible"\n'
            f'base_url = "{url}"\nmodel = "m"\nconcurrency = 4\n{price}\n[collect]\nmax_tokens = 100\n')
    recipe, workspace = parse_recipe(text), Workspace(folder)
    if sample:
        assert wait(start(workspace, recipe, text, folder, "collect", sample=sample)).state == "finished"
    return make_plan(workspace, recipe, folder)


def line_of(plan: Plan, label: str) -> str:
    return next((line.text for line in plan.lines if line.label == label), "")


PRICE = "usd_per_million_input = 1.0\nusd_per_million_output = 1000.0"


def test_nothing_is_known_of_a_teacher_without_a_price(tmp_path: Path) -> None:
    write_questions(tmp_path / "q.jsonl", 10)
    plan = plan_of(tmp_path, "http://127.0.0.1:9/v1", top="max_usd = 1.0")
    assert "10 calls" in line_of(plan, "prompts") and "unknown" in line_of(plan, "money")
    assert any("cap" in warning and "usd_per_million" in warning for warning in plan.warnings)


def test_a_few_prompts_turn_the_worst_case_into_a_range(tmp_path: Path) -> None:
    write_questions(tmp_path / "q.jsonl", 1000)
    with counting_server() as server:
        before = plan_of(tmp_path, server.url, price=PRICE)
        assert "at most $" in line_of(before, "money") and "--ask" in line_of(before, "money")
        after = plan_of(tmp_path, server.url, top="max_usd = 1.0", price=PRICE, sample=5)
        assert sum(server.asked.values()) == 5
    assert "995 calls" not in line_of(before, "prompts") and "5 answers are stored" in line_of(after, "prompts")
    middle, low, high = (float(x) for x in re.findall(r"\$(\d+\.\d+)", line_of(after, "money"))[:3])
    assert low <= middle <= high and middle == pytest.approx(995 * (5 * 1.0 + 9 * 1000.0) / 1e6, abs=0.01)
    assert any("more than the cap" in warning for warning in after.warnings)
    assert "4 in flight" in line_of(after, "time")


def test_everything_stored_costs_nothing_more(tmp_path: Path) -> None:
    write_questions(tmp_path / "q.jsonl", 4)
    with counting_server() as server:
        plan = plan_of(tmp_path, server.url, price=PRICE, sample=4)
    assert "4 answers are stored" in line_of(plan, "prompts") and not line_of(plan, "money")


@pytest.mark.usefixtures("unheard_of")
def test_what_a_stranger_takes_is_unknown_and_not_nothing(tmp_path: Path) -> None:
    write_questions(tmp_path / "q.jsonl", 2)
    recipe = parse_recipe('name = "q"\nmax_usd = 1.0\n[prompts]\nfiles = ["q.jsonl"]\n[teacher]\nuse = "unheard_of"\n')
    plan = make_plan(Workspace(tmp_path), recipe, tmp_path)
    assert "unknown" in line_of(plan, "money")
    assert any("cap" in warning for warning in plan.warnings)


def test_ranges_widen_with_scatter_and_shrink_with_replies() -> None:
    few, many = total_of([1.0, 3.0] * 2, 1000), total_of([1.0, 3.0] * 200, 1000)
    assert few.middle == many.middle == 2000
    assert many.high - many.low < few.high - few.low
    assert total_of([2.0] * 5, 10).high == 20.0
    assert [estimate_text(s) for s in (40, 120, 7200)] == ["40 s", "2 min", "2.0 h"]
