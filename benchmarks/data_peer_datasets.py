"""The peer of `data_transform`, run by an interpreter of its own: `datasets` loads JSON lines, keeps what is right,
drops exact duplicates, lays it out as messages and writes it. Arguments: file, output, cache."""

from __future__ import annotations

import hashlib
import json
import os
import sys

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def main() -> None:
    """Transform, and print the number of rows."""
    import datasets

    source, output, cache = sys.argv[1:4]
    rows = datasets.load_dataset("json", data_files=source, split="train", cache_dir=cache)
    seen: set[bytes] = set()

    def is_new(messages: list[dict[str, str]]) -> bool:
        key = hashlib.blake2b(json.dumps(messages).encode(), digest_size=16).digest()
        known = key in seen
        seen.add(key)
        return not known

    kept = rows.filter(lambda right: right, input_columns="verified", load_from_cache_file=False)
    kept = kept.filter(is_new, input_columns="messages", load_from_cache_file=False)
    made = kept.map(lambda row: {"messages": [
        {"role": turn["role"], "content": turn["content"], "reasoning_content": turn.get("reasoning_content")}
        for turn in row["messages"]]}, remove_columns=[name for name in kept.column_names if name != "messages"],
        load_from_cache_file=False)
    made.to_json(output)
    sys.stdout.write(json.dumps(len(made)))


if __name__ == "__main__":
    main()
