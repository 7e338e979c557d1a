"""Terms of use: asked once per workspace and provider, decided by hosts, stored with their document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from localdistill import __version__
from localdistill.core.errors import LocalDistillError, UsageError
from localdistill.core.options import Member
from localdistill.engines import ENGINES
from localdistill.providers import THIS_MACHINE, Terms, Who, provider, provider_names
from localdistill.recipe.sections import Recipe
from localdistill.workspace.folder import Workspace
from localdistill.workspace.terms import (
    accept_terms,
    consents,
    give_consent,
    open_terms,
    require,
    strictest,
    terms_in,
    terms_notes,
    terms_of,
)
from tests.toys import listed

API = "openai_compatible"


def recipe(teacher: dict[str, Any] | None = None, *rewriters: dict[str, Any], use: str = API) -> Recipe:
    """A recipe with these engines; only what consent reads is filled in."""
    return Recipe.model_validate({
        "name": "r",
        "prompts": {"files": ("p.jsonl",)},
        "engine": {"teacher": {"use": use, "options": teacher or {}},
                   **{f"e{i}": {"use": API, "options": options} for i, options in enumerate(rewriters)}},
        "traces": {"teacher": {"ask": "teacher"},
                   **{f"w{i}": {"from": "teacher", "rewrite": "summarize", "options": {"summarizer": f"e{i}"}}
                      for i, _ in enumerate(rewriters)}},
    })


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "ws")


def asked(options: dict[str, Any], place: Workspace) -> list[str]:
    return [question.name for question in open_terms(recipe(options), place)]


def test_every_class_is_treated_as_promised(place: Workspace) -> None:
    for name in provider_names():
        wanted = [name] if provider(name).terms.class_ in ("prohibited", "unknown") else []
        assert asked({"provider": name}, place) == wanted, name
        assert asked({"base_url": provider(name).base_url}, place) == wanted, name


def test_it_is_asked_once_per_workspace_and_provider(place: Workspace, tmp_path: Path) -> None:
    openai = recipe({"provider": "openai"})
    with pytest.raises(UsageError) as caught:
        require(openai, place)
    document = provider("openai").terms
    assert caught.value.exit_code == 2 and "--accept-terms openai" in caught.value.hint
    assert document.url in caught.value.message and str(document.date) in caught.value.message
    assert [question.name for question in accept_terms(openai, place, ["openai"])] == ["openai"]
    require(openai, place)
    require(recipe({"base_url": "https://api.openai.com/v1"}), place)
    assert accept_terms(openai, place, ["openai"]) == [], "a second consent changes nothing"
    for other in (recipe({"provider": "anthropic"}), recipe({"base_url": "https://gpu.example.com/v1"})):
        with pytest.raises(UsageError):
            require(other, place)
    with pytest.raises(UsageError):
        require(openai, Workspace(tmp_path / "other"))


def test_what_is_stored_says_all_of_it(place: Workspace) -> None:
    question = open_terms(recipe({"provider": "openai"}), place)[0]
    give_consent(place, question)
    rows = json.loads((place.root / "consents.json").read_text())
    terms = provider("openai").terms
    given = rows[0].pop("given")
    assert given.endswith("+00:00")
    assert rows == [{
        "name": "openai", "host": "api.openai.com", "class": "prohibited", "document": terms.url,
        "document_date": str(terms.date), "version": __version__,
    }]
    assert [path.name for path in place.root.iterdir()] == ["consents.json"]


def test_this_machine_asks_nothing(place: Workspace) -> None:
    for base in ("http://127.0.0.1:8000/v1", "http://localhost:1/v1", "http://[::1]:9/v1"):
        assert asked({"base_url": base}, place) == [] and terms_of(API, {"base_url": base}) == ""
    require(recipe({"provider": "vllm"}), place)
    require(recipe({"model": "shipped:pantry/teacher"}, use="llama_cpp"), place)
    assert terms_of("llama_cpp", {"base_url": "https://api.openai.com/v1"}) == ""


def test_the_host_decides_and_not_the_recipes_word(place: Workspace) -> None:
    assert asked({"provider": "vllm", "base_url": "https://api.openai.com/v1"}, place) == ["openai"]
    assert asked({"provider": "deepseek", "base_url": "https://api.openai.com/v1"}, place) == ["openai"]
    assert asked({"provider": "deepseek", "base_url": "https://proxy.example/v1"}, place) == ["proxy.example"]
    assert asked({"provider": "openai", "base_url": "https://proxy.example/v1"}, place) == ["proxy.example", "openai"]
    assert asked({"provider": "vllm", "base_url": "https://gpu.example.com/v1"}, place) == ["gpu.example.com"]
    assert len(asked({"model": "m"}, place)) == 1, "an engine without an address is not taken as harmless"
    assert [q.name for q in open_terms(recipe({"model": "m"}, use="anthropic"), place)] == ["anthropic"]


def test_every_server_of_a_pool_counts(place: Workspace) -> None:
    pool = {"base_url": "http://127.0.0.1:1/v1", "endpoints": [
        {"base_url": "https://api.deepseek.com"}, {"base_url": "https://a.example/v1"},
        {"base_url": "https://api.openai.com/v1"}, {"base_url": "https://a.example/v1"},
    ]}
    assert asked(pool, place) == ["a.example", "openai"]
    assert terms_of(API, pool) == "prohibited:openai"


def test_teacher_and_rewriters_are_asked_together(place: Workspace) -> None:
    both = recipe({"provider": "openai"}, {"provider": "openai"}, {"provider": "groq"}, {"provider": "deepseek"})
    found = {question.name: question.roles for question in open_terms(both, place)}
    assert found == {"openai": ("teacher", "rewrite w0"), "groq": ("rewrite w1",)}
    with pytest.raises(UsageError) as caught:
        require(both, place)
    assert "--accept-terms openai --accept-terms groq" in caught.value.hint
    accept_terms(both, place, ["groq"])
    assert [question.name for question in open_terms(both, place)] == ["openai"]
    assert {row["name"] for row in consents(place)} == {"groq"}


def test_every_teacher_is_asked_about(place: Workspace) -> None:
    several = Recipe.model_validate({
        "name": "r",
        "prompts": {"files": ("p.jsonl",)},
        "engine": {"here": {"use": API, "options": {"base_url": "http://127.0.0.1:8000/v1"}},
                   "big": {"use": API, "options": {"provider": "openai"}}},
        "traces": {"both": {"ask": ["here", "big"]}},
    })
    asked = [(question.name, question.roles) for question in open_terms(several, place)]
    assert asked == [("openai", ("teacher big",))]


def test_conditions_are_shown_and_not_asked(place: Workspace) -> None:
    shown = terms_notes(recipe({"provider": "openrouter"}))
    assert [note.name for note in shown] == ["openrouter"] and shown[0].url in shown[0].text
    require(recipe({"provider": "openrouter"}), place)
    assert terms_notes(recipe({"provider": "deepseek"})) == []
    assert [t.terms_class for t in terms_in(recipe({"provider": "deepseek"}))] == ["allowed"]


def test_consent_to_another_class_does_not_count(place: Workspace) -> None:
    question = open_terms(recipe({"provider": "openai"}), place)[0]
    give_consent(place, type(question)(question.name, question.host, "unknown", question.roles))
    assert asked({"provider": "openai"}, place) == ["openai"]


def test_only_what_the_recipe_uses_can_be_accepted(place: Workspace) -> None:
    with pytest.raises(UsageError, match="did you mean 'openai'"):
        accept_terms(recipe({"provider": "openai"}), place, ["openia"])
    with pytest.raises(UsageError) as caught:
        accept_terms(recipe({"base_url": "http://127.0.0.1/v1"}), place, ["openai"])
    assert "nobody" in caught.value.hint
    assert consents(place) == []


def test_terms_go_with_every_trace() -> None:
    assert terms_of(API, {"provider": "deepseek"}) == "allowed:deepseek"
    assert terms_of(API, {"base_url": "https://gpu.example.com:8443/v1"}) == "unknown:gpu.example.com"
    assert terms_of("anthropic", {"provider": "anthropic"}) == "prohibited:anthropic"


@pytest.mark.usefixtures("unheard_of")
def test_an_engine_that_does_not_say_who_answers_is_a_strangers(place: Workspace) -> None:
    def names(options: dict[str, Any]) -> list[tuple[str, str]]:
        return [(q.name, q.terms_class) for q in open_terms(recipe(options, use="unheard_of"), place)]

    assert names({}) == [("unheard_of", "unknown")]
    assert names({"base_url": "http://127.0.0.1:1/v1"}) == [("unheard_of", "unknown")], "it said nothing"
    assert names({"base_url": "https://api.openai.com/v1"}) == [("openai", "prohibited"), ("unheard_of", "unknown")]
    with pytest.raises(UsageError) as caught:
        require(recipe({}, use="unheard_of"), place)
    assert "--accept-terms unheard_of" in caught.value.hint
    assert terms_of("unheard_of", {}) == "unknown:unheard_of"
    accept_terms(recipe({}, use="unheard_of"), place, ["unheard_of"])
    require(recipe({}, use="unheard_of"), place)
    rewriter = recipe({"base_url": "http://127.0.0.1:1/v1"}, {})
    unsaid = rewriter.rewrites[0].model_copy(update={"engine": Member(use="unheard_of")})
    assert terms_in(rewriter.model_copy(update={"rewrites": (unsaid,)}))[0].roles == ("rewrite w0",)


def test_an_engine_says_itself_that_it_is_local(unheard_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unheard_of, "who", lambda options: THIS_MACHINE, raising=False)
    assert terms_of("unheard_of", {}) == ""
    monkeypatch.setattr(unheard_of, "who", lambda options: Who(("api.openai.com", "127.0.0.1")), raising=False)
    assert terms_of("unheard_of", {}) == "prohibited:openai"
    monkeypatch.setattr(unheard_of, "who", lambda options: None, raising=False)
    assert terms_of("unheard_of", {}) == "unknown:unheard_of", "what is no answer is none"


def test_a_rewrite_that_borrows_the_teacher_is_one_of_its_roles() -> None:
    both = recipe({"provider": "openai"}, {})
    borrowing = both.rewrites[0].model_copy(update={"options": {"summarizer": ""}})
    ruled = borrowing.model_copy(update={"name": "rule", "rewrite": "extract", "options": {}})
    roles = terms_in(both.model_copy(update={"sets": (*both.asked, borrowing, ruled)}))[0].roles
    assert roles == ("teacher", "rewrite w0")


def test_the_strictest_of_several() -> None:
    assert strictest(["", "allowed:a", "unknown:b", "conditional:c"]) == "unknown:b"
    assert strictest(["allowed:a", "prohibited:b", "unknown:c"]) == "prohibited:b"
    assert strictest(["conditional:c", "invented:x"]) == "invented:x"
    assert strictest(["", ""]) == "" and strictest([]) == ""


@pytest.mark.parametrize("text", ["{", "[3]", '[{"name": "openai"}]', "null"])
def test_a_damaged_file_grants_nothing(text: str, place: Workspace) -> None:
    place.root.mkdir(parents=True)
    (place.root / "consents.json").write_text(text)
    with pytest.raises(LocalDistillError, match=r"consents\.json is damaged"):
        require(recipe({"provider": "openai"}), place)


def test_an_engine_may_state_the_terms_of_hosts_that_no_file_knows(
        place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(kind: str, *hosts: str) -> list[tuple[str, str, str]]:
        terms = Terms.model_validate({"class": kind, "url": "https://example.net/terms", "date": "2026-01-02",
                                      "note": "As the engine says."})

        class Hosted:
            name = "hosted"

            @classmethod
            def who(cls, options: Mapping[str, object]) -> Who:
                return Who(hosts, terms=terms)

        listed(monkeypatch, ENGINES, "hosted", Hosted)
        return [(q.name, q.terms_class, q.url) for q in terms_in(recipe(use="hosted"))]

    assert said("prohibited", "api.example.net") == [("api.example.net", "prohibited", "https://example.net/terms")]
    assert [question.name for question in open_terms(recipe(use="hosted"), place)] == ["api.example.net"]
    assert said("allowed", "api.example.net")[0][1] == "allowed" and open_terms(recipe(use="hosted"), place) == []
    assert terms_of("hosted", {}) == "allowed:api.example.net"
    assert said("allowed", "") == [("hosted", "unknown", "")], "of whom nobody named, nobody can speak"
    assert said("allowed", "api.openai.com")[0][:2] == ("openai", "prohibited"), "hosts that are known decide"
