"""What looks like a mark of reasoning and is none that we know is found; what is an answer is left alone."""

from __future__ import annotations

import pytest

from localdistill.templates.unknown_marks import unknown_mark


@pytest.mark.parametrize(("text", "mark"), [
    ("<|musing|>Six of them.<|/musing|>It is 6.", "<|musing|>"),
    ("<|musing>Six of them.<musing|>It is 6.", "<|musing>"),
    ("<｜inner voice｜>Six of them.", "<｜inner voice｜>"),
    ("<unused7>Six of them.<unused8>It is 6.", "<unused7>"),
    ("◁plan▷Six◁/plan▷It is 6.", "◁plan▷"),
    ("\ufeff\n <deep_thought>Six of them.</deep_thought>", "<deep_thought>"),
    ("<acme:think>Six of them.", "<acme:think>"),
    ("<Analysis>Six of them.</Analysis>It is 6.", "<Analysis>"),
    ("<思考>Six of them.</思考>It is 6.", "<思考>"),
    ("<details type=\"reasoning\" done=\"true\">Six</details>It is 6.", "<details type=\"reasoning\" done=\"true\">"),
    ("<wonder>Six of them.</wonder>\nIt is 6.", "<wonder>"),
    ("<wonder>Six of them.</wonder>\n<answer>It is 6.</answer>", "<wonder>"),
    ("<wonder>Six of them, and no end", "<wonder>"),
    ("[WONDER]Six of them.[/WONDER]It is 6.", "[WONDER]"),
    ("[BEGIN MY THOUGHTS]\nSix of them.", "[BEGIN MY THOUGHTS]"),
    ("Sure.\n<|musing|>\nSix of them.", "<|musing|>"),
    ("Sure.\n<my_reasoning>Six of them.</my_reasoning>", "<my_reasoning>"),
    ("Six of them.</my_reasoning>It is 6.", "</my_reasoning>"),
    ("Six of them.<|end_of_reasoning|>It is 6.", "<|end_of_reasoning|>"),
])
def test_what_nobody_knows_is_found(text: str, mark: str) -> None:
    assert unknown_mark(text) == mark
    assert unknown_mark(text, [mark]) != mark


@pytest.mark.parametrize("text", [
    "", "It is 6.", "6 < 7 and [1, 2]", "<div class=\"box\">6</div>", "<br>Six", "<p>Six</p> then",
    "[1] The first source.", "[here](http://x)", "[A]", "[NOTE](x)", "[INFO] started", "[ABC] = 6 square metres",
    "<person><name>Ann</name></person>", "<recipe>\n<step>Mix.</step>\n</recipe>", "<item>1</item>\n<item>2</item>",
    "<?xml version=\"1.0\"?><a>1</a>", "<!DOCTYPE html><html></html>", "<svg width=\"6\"><path/></svg>",
    "<report>\n<analysis>Six.</analysis>\n</report>",
    "Use this:\n```\n<|musing|>\n```\nor `<deep_thought>`.", "```xml\n<deep_thought>x</deep_thought>\n```",
    "std::vector<int> v; if (a<b && c>d) {}", "It is 6.\n<|im_end|>", "a <|b|> c", "\\[ x = 6 \\]",
    "That is a reasonable <thing>.", "<answer>6</answer>",
])
def test_what_may_well_be_an_answer_is_left_alone(text: str) -> None:
    assert unknown_mark(text) == ""
