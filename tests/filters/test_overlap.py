"""Finding evaluation items in training texts."""

import json
from pathlib import Path

import pytest

from localdistill.filters.overlap import contaminated, ngrams_of, words_of
from localdistill.interchange.files import read_prompts
from localdistill.modelfiles.shipped import shipped_path

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
WORDS = [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(60)]
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real data (../shared/data) is not on this machine")


def test_words_ignore_case_punctuation_and_forms() -> None:
    assert words_of("The CAT’s 1,200.5 ﬁsh_x!") == ("the", "cat", "s", "1,200.5", "fish", "x")
    assert words_of("1,200 and 7", mask_numbers=True) == ("#", "and", "#")


def test_a_share_of_the_ngrams_decides() -> None:
    item = " ".join(WORDS[:20])
    assert len(ngrams_of(words_of(item))) == 8
    half = " ".join([*WORDS[:16], "stop"])
    less = " ".join([*WORDS[:15], "stop"])
    assert contaminated([half], [item]) == [0] and contaminated([less], [item]) == []
    assert contaminated([less], [item], threshold=0.375) == [0]


def test_short_items_must_be_equal() -> None:
    assert contaminated(["What is 1 + 1?"], ["what is 1+1", "What is 1 + 2?", "", "is 1 + 1"]) == [0]


def test_masked_numbers_match() -> None:
    item, text = (" ".join([*WORDS[:10], number, *WORDS[10:20]]) for number in ("12", "99"))
    assert contaminated([text], [item]) == [] and contaminated([text], [item], mask_numbers=True) == [0]


def test_an_item_in_pieces_is_found() -> None:
    item = " ".join(WORDS[:40])
    pieces = [" ".join(WORDS[:20]), " ".join(WORDS[18:40])]
    assert contaminated(pieces, [item]) == [0] and contaminated(pieces[:1], [item]) == []


def test_nothing_in_nothing() -> None:
    assert (
        contaminated([], ["a b"]) == [] and contaminated(["a b"], []) == [] and contaminated(["", "?"], ["", "!"]) == []
    )


@needs_data
def test_the_582_questions_are_found_in_the_full_test_split_and_nothing_else() -> None:
    trained = [row["question"] for row in json.loads((DATA / "traces/gsm8k_QwQ.json").read_text("utf-8"))]
    test = [prompt.question for prompt in read_prompts(DATA / "gsm8k/test.jsonl")]
    planted = [index for index, question in enumerate(test) if question in set(trained)]
    assert contaminated(trained, test) == planted and len(planted) == 582
    clean = [question for index, question in enumerate(test) if index not in set(planted)]
    assert len(clean) == 737 and contaminated(trained, clean) == []


def test_the_shipped_evaluation_stories_are_not_among_the_shipped_prompts() -> None:
    trained = [prompt.question for prompt in read_prompts(shipped_path("pantry/prompts.jsonl"))]
    items = [prompt.question for prompt in read_prompts(shipped_path("pantry/eval.jsonl"))]
    assert contaminated(trained, items, mask_numbers=True) == []
    assert contaminated([*trained, items[3]], items) == [3]
