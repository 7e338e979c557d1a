"""Names and ids of rewritten traces, which are stored: the same in every version."""

from dataclasses import replace

import pytest

from localdistill.core.records import Fact, Trace, content_id
from localdistill.rewrites.extract import ExtractRewrite
from localdistill.rewrites.naming import RewriteName, child_of


@pytest.mark.parametrize(("text", "use", "version", "writer"), [
    ("summarize@1/3f9a01bc", "summarize", 1, "3f9a01bc"), ("extract@12", "extract", 12, ""),
])
def test_a_name_is_taken_apart_as_it_was_made(text: str, use: str, version: int, writer: str) -> None:
    name = RewriteName.parse(text)
    assert (str(name), name.use, name.version, name.writer) == (text, use, version, writer)


@pytest.mark.parametrize("text", ["", "by hand", "odd@name", "@1"])
def test_what_is_no_name_is_taken_as_it_stands(text: str) -> None:
    assert RewriteName.parse(text).use == text


def test_ids_say_parent_member_options_wording_and_writer() -> None:
    parent = Trace("b2:1", "b2:p", "e", "m", "r", "a")
    made = child_of(parent, ExtractRewrite(ExtractRewrite.Options(max_steps=3)))
    assert made.id == content_id("rewritten", "b2:1", "extract@2", {"max_steps": 3}, 1)
    assert (made.parent_id, made.rewrite) == ("b2:1", "extract@2")
    said = Fact(made.id, "extract", 1, kind="rewrite", value=1.0, passed=True, reason="kept")
    named, fact = RewriteName("extract", 1, "3f9a01bc").of(made, said)
    assert named.id == content_id("rewritten", "b2:1", "extract@1/3f9a01bc", made.id)
    assert named.rewrite == "extract@1/3f9a01bc"
    assert fact == replace(said, subject_id=named.id, variant="3f9a01bc")
