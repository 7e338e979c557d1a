"""Compares the `instructions` grader with stored verdicts of the published checker: IFEval replies in a folder that
holds `prompts.jsonl`, `responses_NAME.jsonl` and `verdicts_NAME.jsonl` (key, strict[], loose[]). Prints every
instruction on which the two differ.

    python -m benchmarks.ifeval_verdicts FOLDER
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from localdistill.graders.obedience import Instruction
from localdistill.graders.obedience.detecting import BY_TABLE, is_exact


def rows(path: Path) -> dict[int, dict[str, Any]]:
    """The rows of a file by their key."""
    return {row["key"]: row for row in map(json.loads, path.read_text(encoding="utf-8").split("\n")[:-1])}


def main(folder: Path) -> int:
    """Print both tables and the differences; how many instructions differ."""
    prompts, differ = rows(folder / "prompts.jsonl"), 0
    print("langdetect" if is_exact() else BY_TABLE)
    for path in sorted(folder.glob("verdicts_*.jsonl")):
        name = path.stem.removeprefix("verdicts_")
        replies, count, wrong = rows(folder / f"responses_{name}.jsonl"), Counter[str](), 0
        for key, verdict in rows(path).items():
            prompt, reply = prompts[key], replies[key]["response"]
            stated = [Instruction.read({"kind": kind, **parameters}) for kind, parameters in
                      zip(prompt["instruction_id_list"], prompt["kwargs"], strict=True)]
            for said, way in (("strict", Instruction.holds), ("loose", Instruction.holds_loosely)):
                kept = [way(one, reply) for one in stated]
                count.update({f"{said}, prompt": all(kept), f"{said}, instruction": sum(kept)})
                for one, ours, theirs in zip(stated, kept, verdict[said], strict=True):
                    if ours != theirs:
                        wrong += 1
                        print(f"  {name} {key} {said}: ours {ours}, stored {theirs}: {str(one)[:150]}"
                              f"{' (ambiguous)' if verdict['ambiguous'] else ''}")
            count.update({"prompts": 1, "instructions": len(stated)})
        print(f"{name}: {wrong} of {2 * count['instructions']} verdicts differ; " + ", ".join(
            f"{what} {number / count['prompts' if 'prompt' in what else 'instructions']:.4f}"
            for what, number in count.items() if ", " in what))
        differ += wrong
    return differ


if __name__ == "__main__":
    raise SystemExit(bool(main(Path(sys.argv[1]))))
