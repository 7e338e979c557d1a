"""The Berkeley function calling leaderboard: questions with tools, and which calls are right (one, several, none), told
from the calls alone; nothing is called. The files are the user's own copies of one kind: the questions, and the
possible answers of the same ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from localdistill.core.errors import InputError, UsageError
from localdistill.core.messages import tools_of
from localdistill.core.options import FileName
from localdistill.core.records import Prompt
from localdistill.core.samples import TaskSample
from localdistill.tasks.items import FileTask, ItemSource
from localdistill.tasks.rows import rows_in


class BfclTask(FileTask):
    """The `bfcl` task."""

    name = "bfcl"
    grader = "tool_calls"
    is_guard = False

    class Options(FileTask.Options):
        """Options of `bfcl`."""

        path: FileName
        """File of the questions, `BFCL_v3_simple.json` for example."""
        answers: FileName = ""
        """File of the possible answers of the same kind; needed unless nothing may be called."""
        wants: Literal["calls", "none"] = "calls"
        """`none`: no tool fits any of the questions, and every call is wrong (the files of irrelevance)."""

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        row = {"id": "simple_0", "question": [[{"role": "user", "content": "How warm is it in Bern?"}]], "function": [
            {"name": "weather", "description": "The weather.", "parameters": {
                "type": "dict", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]}
        right = '<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'
        answers = json.dumps({"id": "simple_0", "ground_truth": [{"weather": {"city": ["Bern"]}}]}) + "\n"
        asked, given = ["How warm is it in Bern?"], {"answers": "answers.jsonl"}
        return (
            TaskSample([row], asked, right, right.replace("Bern", "Rome"), options=given,
                       files={"answers.jsonl": answers}),
            TaskSample([row], asked, "It is cold.", right, options={"wants": "none"}),
            TaskSample([row], [], "", "", options=given, files={"answers.jsonl": '{"id": "simple_1"}\n'},
                       refused="has no answer to simple_0"),
            TaskSample([row], [], "", "", refused="which calls are right is not known"),
        )

    def _items_of(self, source: ItemSource) -> Sequence[Prompt]:
        assert isinstance(self.options, self.Options)
        items, found = super()._items_of(source), []
        answers = self._answers(source, self.options)
        for prompt in items:
            name = str(prompt.metadata.get("id", ""))
            if answers is not None and name not in answers:
                where = Path(self.options.answers).name
                raise InputError(f"{where} has no answer to {name or 'a question without id'}",
                                 "give the answers of the same kind as the questions")
            calls = answers[name] if answers is not None else []
            wanted = {"calls": calls, "tools": list(tools_of(prompt.messages))}
            found.append(replace(prompt, metadata={**prompt.metadata, **wanted}))
        return found

    def _answers(self, source: ItemSource, options: Options) -> Mapping[str, Any] | None:
        """Id -> the calls that are right; None where none is."""
        if options.wants == "none":
            return None
        if not options.answers:
            raise UsageError("which calls are right is not known: the task names no file of answers",
                             'answers = "possible_answer/....json"; or wants = "none" where nothing may be called')
        rows = rows_in(source, self.placed(options.answers))
        said = ((row.get("id"), row.get("ground_truth")) for row in rows)
        return {str(name): calls for name, calls in said if isinstance(calls, list)}
