"""What the contamination filter finds of training questions that a published audit paired with MATH-500 items, and what
it takes for contaminated that is not: a folder with `*_c_lex.jsonl`, `*_c_sem.jsonl`, `clean_baseline.jsonl`,
`perturbations.jsonl`; with a second folder also GSM8K's `train.jsonl` against its `test.jsonl`.

    python -m benchmarks.contamination FOLDER [GSM8K]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from localdistill.core.means import Means
from localdistill.filters.contamination import ContaminationFilter


def rows(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """The rows of all files of this name."""
    return [json.loads(line) for path in sorted(folder.glob(pattern))
            for line in path.read_text(encoding="utf-8").split("\n") if line]


def built(items: list[str], **options: Any) -> ContaminationFilter:
    """The filter with these items."""
    rule = ContaminationFilter(ContaminationFilter.Options(**options))
    rule.begin(Means(items=list(dict.fromkeys(items))))
    return rule


def share(found: int, of: int) -> str:
    """`n of m (p %)`."""
    return f"{found} of {of} ({100 * found / max(1, of):.1f} %)"


def main(folder: Path, gsm8k: Path | None) -> None:
    """Print one line for each question."""
    lexical, semantic = rows(folder, "*_c_lex.jsonl"), rows(folder, "*_c_sem.jsonl")
    clean, changed = rows(folder, "clean_baseline.jsonl"), rows(folder, "perturbations.jsonl")
    paired = {row["math500_id"] for row in lexical}
    clean_only = [row for row in clean if row["math500_id"] not in paired]
    trained = list(dict.fromkeys(row["train_problem"] for row in (*lexical, *semantic)))
    print(f"{len(clean) - len(clean_only)} of {len(clean)} clean items are in the lexical pairs, too, and left out")
    for said, options in (("as it is", {}), ("close = 3", {"close": 3}), ("close = 0", {"close": 0}),
                          ("masked", {"mask_numbers": True}),
                          ("masked, close = 0", {"close": 0, "mask_numbers": True})):
        def found(pairs: list[dict[str, Any]], options: dict[str, Any] = options) -> str:
            every = built([row["math500_problem"] for row in (*lexical, *semantic)], **options)
            return share(sum(bool(every.why({"question": row["train_problem"]})) for row in pairs), len(pairs))

        alone = [built([row["problem"]], **options) for row in clean_only]
        alarms = [(index, reason) for index, rule in enumerate(alone) for text in trained
                  if (reason := rule.why({"question": text}))]
        held = share(len({index for index, _ in alarms}), len(clean_only))
        print(f"{said}: lexical pairs {found(lexical)}, paraphrases {found(semantic)}; clean items that one of "
              f"{len(trained)} suspicious questions holds {held}, {len(alarms)} of {len(trained) * len(alone)} pairs")
        for _, reason in () if options else alarms:
            print(f"  clean, and {' '.join(reason.split())}")
        original = [row["problem"] for row in changed if row["perturbation_type"] == "original"]
        for kind in ("surface_noise", "number_swap"):
            texts = [row["problem"] for row in changed if row["perturbation_type"] == kind]
            rule = built(original, **options)
            print(f"  {kind}: {share(sum(bool(rule.why({'question': text})) for text in texts), len(texts))}")
        if gsm8k is not None:
            questions = {name: [row["question"] for row in rows(gsm8k, f"{name}.jsonl")] for name in ("train", "test")}
            rule = built(questions["test"], **options)
            removed = sum(bool(rule.why({"question": text})) for text in questions["train"])
            print(f"  GSM8K train against its test: {share(removed, len(questions['train']))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
