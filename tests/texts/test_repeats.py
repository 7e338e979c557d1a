"""What a text says again."""

from localdistill.texts.repeats import most_repeats, repeated_share, tokens_of


def test_tokens_are_words_marks_and_single_east_asian_signs() -> None:
    assert tokens_of("It is 2.5, 等等 ok") == ["It", "is", "2", ".", "5", ",", "等", "等", "ok"]


def test_strings_are_counted_overlapping() -> None:
    assert most_repeats(list("abababa"), 2) == 3 and most_repeats(list("ab"), 3) == 0
    assert repeated_share(list("ababab"), 2) == 1 - 2 / 5 and repeated_share([], 2) == 0
