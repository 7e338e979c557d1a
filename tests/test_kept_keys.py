"""Keys as the terminal UI handles them: the text goes in and never comes out."""

from __future__ import annotations

import pytest

from localdistill import UsageError, allow_key, forget_key, keep_key, key_target, list_keys

CANARY = "sk-canary-51c2d0"


pytestmark = pytest.mark.usefixtures("own_config")


def test_a_key_is_kept_listed_and_forgotten() -> None:
    kept = keep_key("deepseek", CANARY)
    assert (kept.name, kept.host) == key_target("deepseek") and CANARY not in repr(kept)
    allow_key("MY_API_KEY", "api.example.com")
    found = list_keys()
    assert [(key.name, key.source) for key in found] == [(kept.name, "file"), ("MY_API_KEY", "approved")]
    assert CANARY not in repr(found)
    assert forget_key("deepseek") == [kept]
    assert [key.source for key in list_keys()] == ["approved"]


def test_what_cannot_be_a_key_is_refused_without_repeating_it() -> None:
    with pytest.raises(UsageError) as caught:
        keep_key("deepseek", f"{CANARY} \x1b[31m")
    assert CANARY not in str(caught.value) + caught.value.hint
    with pytest.raises(UsageError) as caught:
        keep_key(CANARY, "x")
    assert CANARY not in str(caught.value) + caught.value.hint
