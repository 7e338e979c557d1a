"""Sentences and words of English text."""

import pytest

from localdistill.texts.sentences import sentences_in, treebank_words


@pytest.mark.parametrize(("text", "count"), [
    ("", 0), (" \n ", 0), ("No end", 1), ("One. Two.", 2), ("One.\nTwo", 2), ("Heading\nOne.", 1),
    ("Ask Dr. Egg. He knows.", 2), ("It is 3.5 m. It fits.", 2), ("In the U.S. The jar broke.", 2),
    ("In the U.S. jars broke.", 1), ("Eggs, jars, etc. are here.", 1), ("What?! Really.", 2), ("Wait... No.", 2),
    ("Wait... Egg came.", 1), ("He said \"Go.\" Then he went.", 2), ("1. Take a jar.\n2. Fill it.", 4),
    ("J. Egg came.", 1), ("(See it.) Good.", 2), ("Go to a.example/b.html now.", 1), ("Room 7. It is dark.", 2),
    ("at 7. and 8. of May", 1),
])
def test_sentences_end_where_a_reader_ends_them(text: str, count: int) -> None:
    assert sentences_in(text) == count


def test_words_are_cut_as_the_treebank_cuts_them() -> None:
    assert treebank_words("I CAN'T (NOT) go, it's 1,000 U.S. jars. STOP!") == [
        "I", "CA", "N'T", "(", "NOT", ")", "go", ",", "it", "'s", "1,000", "U.S.", "jars", ".", "STOP", "!"]
