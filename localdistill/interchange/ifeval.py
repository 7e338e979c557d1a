"""IFEval's rows (`{"key", "prompt", "instruction_id_list", "kwargs"}`) and MathIF's (`{"id", "question", "answer",
"constraint_desc", "constraint_name", "constraint_args"}`): prompts with instructions that the `instructions` grader
checks, as `constraints` in their metadata. A row may also hold a `response`.

MathIF is asked as its authors ask it: the question, a sentence that wants the result in a box, the descriptions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from localdistill.core.records import Message
from localdistill.core.samples import LayoutSample, asks
from localdistill.interchange.base import ReadOnly
from localdistill.interchange.imported import Imported
from localdistill.interchange.rows import (
    RowPlace,
    answer_of,
    imported,
    need_user,
    optional_text,
    prompt_of,
    reason_in,
    text_at,
)
from localdistill.interchange.usual import MODEL, first

_BOX = "Let's think step by step and output the final answer within \\boxed{}."
_RENAMED = {"length_constraint_checkers:number_words": "length_constraints:number_words"}
"""Names that MathIF gives to kinds of IFEval."""


class IfEvalLayout(ReadOnly):
    """The `ifeval` layout."""

    name = "ifeval"

    @classmethod
    def samples(cls) -> Sequence[LayoutSample]:
        """Rows and what must be read from them."""
        row = {"key": 7, "prompt": "Say jar.", "instruction_id_list": ["punctuation:no_comma", "startend:end_checker"],
               "kwargs": [{"end_phrase": None}, {"end_phrase": "Jar.", "language": None}]}
        stated = [{"kind": "punctuation:no_comma"}, {"kind": "startend:end_checker", "end_phrase": "Jar."}]
        prompt = asks("Say jar.", metadata={"key": 7, "kind": "instructions", "constraints": stated})
        words = {"num_words": 3, "relation": "at least"}
        maths = {"id": "aime-1", "question": "1 + 1?", "answer": "2", "constraint_desc": ["Use 3 words."],
                 "constraint_name": ["length_constraint_checkers:number_words"], "constraint_args": [words]}
        asked = asks(f"1 + 1? {_BOX} Use 3 words.", "2", metadata={
            "id": "aime-1", "kind": "instructions",
            "constraints": [{"kind": "length_constraints:number_words", **words}]})
        return (
            LayoutSample(row, prompt),
            LayoutSample(row | {"kwargs": json.dumps(row["kwargs"]), "response": "<think>\njar\n</think>\n\nA jar."},
                         prompt, "A jar.", "jar"),
            LayoutSample(maths, asked),
            LayoutSample(maths | {"question": " "}, asked, refused="there is no user turn"),
            LayoutSample(row | {"kwargs": [{}]}, prompt, refused="2 instructions and 1 sets of parameters"),
        )

    def recognises(self, row: Mapping[str, Any]) -> bool:
        """The instructions and their parameters, in the names of one of the two sets, beside a question."""
        return {"prompt", "instruction_id_list", "kwargs"} <= set(row) or {
            "question", "constraint_name", "constraint_args"} <= set(row)

    def read(self, row: Mapping[str, Any], number: int, source: str) -> Imported:
        """The prompt with its constraints; InputError where names and parameters are not as many."""
        place = RowPlace(source, number)
        if "constraint_name" in row:
            described = " ".join(str(one) for one in _listed(row, "constraint_desc", place))
            [asked] = need_user((Message("user", text_at(row, "question", place)),), place)
            question = " ".join(filter(None, (asked.content, _BOX, described)))
            names, parameters = _listed(row, "constraint_name", place), _listed(row, "constraint_args", place)
        else:
            question = text_at(row, "prompt", place)
            names, parameters = _listed(row, "instruction_id_list", place), _listed(row, "kwargs", place)
        if len(names) != len(parameters):
            raise place.error(f"{len(names)} instructions and {len(parameters)} sets of parameters")
        constraints = [_constraint(name, given, place) for name, given in zip(names, parameters, strict=True)]
        known = {key: row.get(key) for key in ("key", "id", "source") if row.get(key) is not None}
        metadata = {**known, "kind": "instructions", "constraints": constraints}
        prompt = prompt_of((Message("user", question),), {"metadata": metadata}, source, place,
                           optional_text(row, "answer", place))
        said = optional_text(row, "response", place)
        answer = None if said is None else answer_of(said)
        return imported(prompt, answer, row, place, first(row, MODEL), reason_in(row))


def _listed(row: Mapping[str, Any], key: str, place: RowPlace) -> Sequence[Any]:
    """A list, or the JSON of one, as tables hold it."""
    value = row.get(key)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, list):
        raise place.error(f"'{key}' is not a list")
    return value


def _constraint(name: object, given: object, place: RowPlace) -> dict[str, Any]:
    """One constraint. Sets that are tables state every parameter for every kind, and null where it has none."""
    if not isinstance(name, str) or not (given is None or isinstance(given, Mapping)):
        raise place.error("an instruction is a name with an object of parameters")
    stated = {str(key): value for key, value in (given or {}).items() if value is not None and key != "kind"}
    return {"kind": _RENAMED.get(name, name), **stated}
