"""A workspace whose texts break careless readers: separators of lines, NUL, marks of order, tags that are none."""

from __future__ import annotations

from pathlib import Path

from localdistill import Fact, Message, Prompt, Store, Trace, Workspace

TEXTS = ("plain", "line\u2028separated\x85", "NUL \x00 and \ufeff", "<think>not a thought</think>", "🙂 é \ufdd0")


def filled(root: Path) -> Workspace:
    """A right and a wrong answer to every question."""
    place = Workspace(root)
    store = Store(place.store_path)
    prompts = [Prompt((*([Message("system", "Be brief.")] if n % 2 else []), Message("user", f"{text} {n}?")),
                      metadata={"level": n if n % 2 else str(n)}) for n, text in enumerate(TEXTS)]
    store.add_prompts(prompts)
    traces = [Trace(f"b2:{n}-{right}", one.id, "imported", "m", f"so {one.question}" * (n % 2), f"it is {n} {right}")
              for n, one in enumerate(prompts) for right in (True, False)]
    store.add_traces(traces)
    store.add_facts(Fact(one.id, "exact", value=float(one.id.endswith("True")), passed=one.id.endswith("True"))
                    for one in traces)
    return place
