"""The everyday guard that ships with localdistill: 84 small requests outside what the arms train for, each graded by
rule: instructions, formats, questions that need no thought, short chat, other languages. Each kind is a category.

An item that says how many tokens it may take is failed by a reply of more, its reasoning included; a reply that was cut
is failed too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from localdistill.core.options import FileName
from localdistill.core.records import Prompt, Reply
from localdistill.core.samples import TaskSample
from localdistill.tasks.base import Judge, Scored
from localdistill.tasks.items import FileTask, ItemSource


class EverydayTask(FileTask):
    """The `everyday` task."""

    name = "everyday"
    is_published = False
    grader = "instructions"
    is_guard = True
    layout = "prompts"
    metrics: Mapping[str, str] = {
        "overthought": "1 where a reply took more tokens than the request is worth (of those that say how many).",
        "obeyed": "1 where every instruction is kept, however long the reply is.",
    }

    class Options(FileTask.Options):
        """Options of `everyday`."""

        path: FileName = "shipped:everyday/items.jsonl"
        """The file of requests; the default is the one that ships."""

    @classmethod
    def samples(cls) -> Sequence[TaskSample]:
        """Rows of a file, and how their items are scored."""
        rules = {"constraints": [{"kind": "one_of", "values": ["12"]}], "category": "no overthinking"}
        row = {"messages": [{"role": "user", "content": "7 + 5?"}], "metadata": rules}
        return (TaskSample([row], ["7 + 5?"], "12.", "Well, it is 12."),)

    def __init__(self, options: FileTask.Options | None = None, source: ItemSource | None = None) -> None:
        super().__init__(options or self.Options(), source)

    def score(self, prompt: Prompt, replies: Sequence[Reply], judge: Judge) -> Scored:
        """1 where every instruction is kept by a reply that ended, and that was not thought over too long."""
        scored, most = super().score(prompt, replies, judge), prompt.metadata.get("most_tokens")
        metrics = {**scored.metrics, "obeyed": scored.score}
        failed = any(reply.status == "length" for reply in replies)
        if isinstance(most, int):
            metrics["overthought"] = float(any(reply.usage.completion_tokens > most for reply in replies))
            failed |= bool(metrics["overthought"])
        return replace(scored, score=0.0 if failed else scored.score, metrics=metrics)
