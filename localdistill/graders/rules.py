"""The rule book: every rule by which a grader finds a result in an answer or calls two results one, under the name that
the reason of a verdict gives it. Where rules could both apply, the first of a part counts; none looks at the reference
before the result is found, so that offering several results wins nothing."""

from __future__ import annotations

from enum import Enum


class RuleName(str, Enum):  # noqa: UP042  (a StrEnum takes no second value)
    """A name and what it stands for."""

    says: str

    def __new__(cls, name: str, says: str) -> RuleName:
        """A member is its name."""
        made = str.__new__(cls, name)
        made._value_, made.says = name, says
        return made

    def __str__(self) -> str:
        return str(self.value)

    # Where the result stands.
    BOXED = "boxed", "the last \\boxed{...}; boxes side by side are one list"
    HASH_LINE = "hash_line", "a line `#### N`, whatever closing sentence follows it"
    ANNOUNCED = "announced", "the last \"the answer is\", \"Answer:\", \"A:\", 答案是, 答えは"
    CONCLUSION = "conclusion", "nothing is marked: the last sentence that holds an expression or a number in words"
    STATED_AFTER = "stated_after", "what stands behind the last place of the words that the option `after` names"
    LAST_NUMBER = "last_number", "nothing is marked: the last number of the answer"
    WHOLE_ANSWER = "whole_answer", "the whole answer is the result"
    LAST_LINE = "last_line", "a last line of nothing but an option's label"
    OPENS_WITH = "opens_with", "the answer opens with an option's label"
    SAID_RIGHT = "said_right", "\"(B) is the right one\""
    NAMED_LAST = "named_last", "the last sentence names one option, others denied"
    OPTION_TEXT = "option_text", "the answer, or its last sentence, is or holds the text of one option"
    # Which expression of the passage it is.
    ONLY_ONE = "only_one", "the passage states one expression"
    SO = "so", "what follows the last \"so\", \"therefore\", 所以 of the sentence"
    BOLD = "bold", "the last bold expression"
    LAST_EQUALS = "last_equals", "what follows the last equals sign"
    PREDICATE = "predicate", "what the passage ends with after \"is\""
    COUNTED = "counted", "the one before the noun that the question counts"
    COMPUTED_LAST = "computed_last", "the one that was computed last before the passage"
    NOT_GIVEN = "not_given", "the first that the question did not give"
    FIRST = "first", "the first of several"
    IN_WORDS = "in_words", "a number written as a word"
    # When two results are one.
    SAME_NUMBER = "same_number", "one value; units, money, grouping aside, percent and multiples as asked for"
    ROUNDED = "rounded", "a decimal of four figures or more that the other value rounds to"
    SAME_OPTION = "same_option", "the same option of the question, by letter or by its text"
    SAME_WORDS = "same_words", "the same words, case and marks aside"
    SAME_TEXT = "same_text", "the same text, spaces and closing punctuation aside"
    SAME_BASE = "same_base", "the same digits in the same base, which may go unsaid"
    SAME_FORMULA = "same_formula", "equal by algebra: expressions, sets, tuples, intervals, relations, matrices"
    # Why there is no single result.
    EMPTY = "empty", "the answer is empty"
    NO_RESULT = "no_result", "nothing in the answer can be a result"
    NOT_SINGLE = "not_single", "the passage denies, bounds, offers a choice, asks, or speaks of something else"
    SEVERAL_OPTIONS = "several_options", "the last sentence that names an option names several, or asks"
    NO_OPTION = "no_option", "the answer names none of the options"
    TAKEN_BACK = "taken_back", "the answer says afterwards that the result is wrong"
    TWO_RESULTS = "two_results", "another result is announced after the box"
    NO_VALUE = "no_value", "names stay in the expression, or it is no single value, where the reference is a number"
    UNREADABLE = "unreadable", "neither this rule book nor math-verify can read the passage"
    # Why nothing can be said.
    BAD_REFERENCE = "bad_reference", "the reference is empty, or algebra cannot read it and the answer is another text"
    NO_VERDICT = "no_verdict", "judging took too long or broke off: nothing is known of the answer"
