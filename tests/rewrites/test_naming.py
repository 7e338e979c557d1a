"""Names and ids of rewritten traces, which are stored: the same in every version."""

import pytest

from localdistill.core.records import Grade, Trace, content_id
from localdistill.rewrites.extract import ExtractRewrite
from localdistill.rewrites.naming import RewriteName, child_of


@pytest.mark.parametrize(("text", "use", "judge"), [
    ("summarize@1/3f9a01bc", "summarize", "summarize@1"), ("extract@12", "extract", "extract@12"),
])
def test_a_name_is_taken_apart_as_it_was_made(text: str, use: str, judge: str) -> None:
    name = RewriteName.parse(text)
    assert (str(name), name.use, name.judge) == (text, use, judge)


@pytest.mark.parametrize("text", ["", "by hand", "odd@name", "@1"])
def test_what_is_no_name_is_taken_as_it_stands(text: str) -> None:
    assert RewriteName.parse(text).use == text


def test_ids_say_parent_member_options_wording_and_writer() -> None:
    parent = Trace("b2:1", "b2:p", "e", "m", "r", "a")
    made = child_of(parent, ExtractRewrite(ExtractRewrite.Options(max_steps=3)))
    assert made.id == content_id("rewritten", "b2:1", "extract@1", {"max_steps": 3}, 1)
    assert (made.parent_id, made.rewrite) == ("b2:1", "extract@1")
    named, grade = RewriteName("extract", 1, "3f9a01bc").of(made, Grade(made.id, "extract@1", 1.0, "kept"))
    assert named.id == content_id("rewritten", "b2:1", "extract@1/3f9a01bc", made.id)
    assert (named.rewrite, grade) == ("extract@1/3f9a01bc", Grade(named.id, "extract@1", 1.0, "kept"))
