"""Identity is content: the ids that are made fast are those that `content_id` makes, whatever the text."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from localdistill.core.messages import message_of, turn_key
from localdistill.core.records import Message, Prompt, content_id, imported_id

TEXTS = st.text(st.characters(categories=("L", "P", "Cc", "Cs", "Zs", "So", "Cn")), max_size=8)


@given(TEXTS, TEXTS, TEXTS)
def test_ids_are_those_of_the_content(asked: str, said: str, beside: str) -> None:
    turns = (Message("system", beside), message_of("user", asked, {"name": beside} if beside else {}))
    keys = [*map(turn_key, turns)]
    prompt = Prompt(turns, reference=said)
    assert prompt.id == content_id("prompt", keys, said, None)
    assert replace(prompt, tests=beside, reference=None).id == content_id("prompt", keys, None, beside)
    assert imported_id(turns, said, beside) == content_id("imported", keys, said, beside)
    assert imported_id(turns, (asked, said), beside) == content_id("imported", keys, [asked, said], beside)


def test_every_character_of_ascii_is_written_as_content_id_writes_it() -> None:
    for code in range(256):
        turns = (Message("user", f"a{chr(code)}b"),)
        assert Prompt(turns).id == content_id("prompt", [*map(turn_key, turns)], None, None), code
