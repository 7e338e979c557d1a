"""A peer of `api_storms`: one distilabel pipeline with as many retries as it takes. Runs in the peer's interpreter,
imports nothing of this project, prints one JSON line."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", DO_NOT_TRACK="1", HF_HUB_DISABLE_TELEMETRY="1")

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main(url: str, count: int, in_flight: int) -> dict[str, object]:
    """Ask `count` questions in batches of `in_flight`: more than that are never in flight."""
    rows = [{"instruction": f"Question {number}"} for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        with Pipeline(name="bench", cache_dir=folder) as pipeline:
            load = LoadDataFromDicts(data=rows, batch_size=in_flight)
            llm = OpenAILLM(model="mock", base_url=url, api_key="x", max_retries=20, timeout=120,
                            generation_kwargs={"max_new_tokens": 1024})
            load >> TextGeneration(llm=llm, input_batch_size=in_flight)
        wall = time.perf_counter()
        made = pipeline.run(use_cache=False)
        wall = time.perf_counter() - wall
        rows_made = made["default"]["train"]
        answered = sum(answer is not None for answer in rows_made["generation"])
    used = os.times()
    cpu = used.user + used.system + used.children_user + used.children_system
    return {"wall_s": wall, "cpu_s": cpu, "answered": answered}


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(**json.loads(sys.argv[1]))) + "\n")
