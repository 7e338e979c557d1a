"""Instructions about case, language, marks, and how an answer begins and ends."""

from __future__ import annotations

from localdistill.graders.obedience.detecting import is_in
from localdistill.graders.obedience.kind import Relation, Rule, compares
from localdistill.texts.sentences import treebank_words


def english_capital(answer: str) -> bool:
    """English without a small letter."""
    return answer.isupper() and is_in(answer, "en")


def english_lowercase(answer: str) -> bool:
    """English without a capital letter."""
    return answer.islower() and is_in(answer, "en")


def capital_word_frequency(answer: str, capital_frequency: int, capital_relation: Relation) -> bool:
    """So many words without a small letter, as the Penn Treebank cuts words."""
    return compares(sum(1 for word in treebank_words(answer) if word.isupper()), capital_relation, capital_frequency)


def response_language(answer: str, language: str) -> bool:
    """In the language of this code (ISO 639-1)."""
    return is_in(answer, language)


def no_comma(answer: str) -> bool:
    """There is no comma."""
    return "," not in answer


def quotation(answer: str) -> bool:
    """The whole answer stands in double quotation marks."""
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def end_checker(answer: str, end_phrase: str) -> bool:
    """It ends with the phrase, apart from case and quotation marks behind it."""
    return answer.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def repeat_prompt(answer: str, prompt_to_repeat: str) -> bool:
    """It begins with the text that is to be repeated, in any case."""
    return answer.strip().lower().startswith(prompt_to_repeat.strip().lower())


WORDING = {
    "change_case:english_capital": Rule(english_capital, "THE JAR IS ON THE TABLE.", "The jar is on the table."),
    "change_case:english_lowercase": Rule(english_lowercase, "the jar is on the table.", "The jar is on the table."),
    "change_case:capital_word_frequency": Rule(capital_word_frequency, "DON'T", "Do NOT",
                                               {"capital_frequency": 2, "capital_relation": "at least"}),
    "language:response_language": Rule(response_language, "Das Glas steht auf dem Tisch und ist leer.",
                                       "The jar is on the table and it is empty.", {"language": "de"}),
    "punctuation:no_comma": Rule(no_comma, "A jar and a lid.", "A jar, a lid."),
    "startend:quotation": Rule(quotation, ' "A jar." ', '"A jar".'),
    "startend:end_checker": Rule(end_checker, "A jar. Any Questions?\"", "Any questions? A jar.",
                                 {"end_phrase": "Any questions?"}),
    "combination:repeat_prompt": Rule(repeat_prompt, "say jar. Jar.", "Jar. Say jar.",
                                      {"prompt_to_repeat": "Say jar."}),
}
