"""Small real workspaces for pilot tests: one that ran up to its datasets, one that holds hostile texts."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from localdistill import Fact, Message, Prompt, Store, Trace, Workspace, parse_recipe, start, wait
from tests.helpers import counting_server, write_questions
from tests.tui.hostile import HOSTILE, LONG

QUESTIONS = 40
LAID_OUT = HOSTILE.replace("\ud83d", "")
"""Hostile, but text that a tokenizer takes."""
RECIPE = """
name = "doubling"
[prompts]
files = ["questions.jsonl"]
[teacher]
use = "openai_compatible"
base_url = "{url}"
model = "counter"
[[grade]]
use = "exact"
[[filter]]
use = "verified"
[[filter]]
use = "duplicates"
[student]
model = "shipped:pantry/student"
max_tokens = 64
[[arm]]
name = "short"
format = "answer_only"
[[arm]]
name = "long"
format = "full_trace"
"""


@cache
def doubling() -> Path:
    """A workspace whose run `doubling-1` has come to its datasets: 40 traces, the first five wrong."""
    root = Path(tempfile.mkdtemp(prefix="doubling-"))
    write_questions(root / "questions.jsonl", QUESTIONS)
    with counting_server() as server:
        server.wrong_tries = lambda number: 1 if number < 5 else 0
        text = RECIPE.format(url=server.url)
        (root / "recipe.toml").write_text(text)
        run = start(Workspace(root), parse_recipe(text), text, root, "format")
        status = wait(run)
    assert status.state == "finished", run.log.read_text()
    return root


@cache
def hostile() -> Path:
    """A workspace of traces whose every text tries something; two long ones among them."""
    root = Path(tempfile.mkdtemp(prefix="hostile-"))
    store = Store(Workspace(root).store_path)
    prompts = [Prompt((Message("system", HOSTILE), Message("user", f"{number} {HOSTILE}")), reference=HOSTILE,
                      source=HOSTILE, licence=HOSTILE) for number in range(6)]
    prompts[1:3] = [Prompt((Message("user", f"{number} {LAID_OUT}"),), original=LAID_OUT) for number in (1, 2)]
    prompts.append(Prompt((Message("user", LONG),), reference=LONG))
    store.add_prompts(prompts)
    traces = [Trace(f"b2:\x1b[31m{number}\u202e[red]\x9b2J", prompt.id, HOSTILE, HOSTILE, reasoning=LAID_OUT,
                    answer=LAID_OUT if number in (1, 2) else HOSTILE, trace_kind="raw", finish_reason=HOSTILE,
                    sampling={HOSTILE: HOSTILE}, source=HOSTILE, terms=HOSTILE)
              for number, prompt in enumerate(prompts[:6])]
    traces.append(Trace("b2:long", prompts[6].id, "e", "m", reasoning=LONG, answer=LONG, trace_kind="raw"))
    traces.append(Trace("b2:child", prompts[0].id, "e", "m", reasoning="r", answer="a", trace_kind="summary",
                        parent_id=traces[0].id, rewrite=HOSTILE))
    store.add_traces(traces)
    store.add_facts(Fact(trace.id, f"g\x1b[2J{number % 2}", value=float(number % 2), passed=number % 2 == 1,
                         reason=HOSTILE, extracted=HOSTILE)
                    for number, trace in enumerate(traces))
    store.save_selection(HOSTILE, {"filters": [{"use": HOSTILE, "options": {}}], "run": HOSTILE},
                         [trace.id for trace in traces], {HOSTILE: 3})
    return root


@cache
def empty() -> Path:
    """A workspace without anything."""
    return Path(tempfile.mkdtemp(prefix="empty-"))
