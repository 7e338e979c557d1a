"""How long a person waits for a chat at the shape of 1.5B: the whole command for one token, and in a process that runs
already what loading takes and the first token after it; beside `llama_cpp.Llama` on the same file.

    python -m benchmarks.chat_start FOLDER [--quants Q4_K_M Q8_0] [--repeats 3]

FOLDER is one that `benchmarks.export --shape 1.5B --only made --keep FOLDER` filled; the files are made there on first
use. Every figure is a process of its own, the sides in turns. The file is read once before, so that it lies in the
system's cache.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from benchmarks import machine
from localdistill.core.events import Cancel
from localdistill.exporters.gguf_parts.quantizer import quantize
from localdistill.exporters.gguf_parts.writer import convert_to_gguf
from localdistill.safety.children import output_of

QUESTION = "Ann had 3 cups. She bought 2 more on the way home, and then gave one to Bob. How many cups has she now?"
_MOST_S = 900.0


def ours(file: Path) -> None:
    """Seconds of importing, of loading, and from the question to the first piece."""
    begin = time.perf_counter()
    from localdistill import open_chat

    imported = time.perf_counter()
    with open_chat(file, max_tokens=4) as session:
        loaded = time.perf_counter()
        next(iter(session.stream(QUESTION)), None)
        _say(begin, imported, loaded, time.perf_counter())


def theirs(file: Path) -> None:
    """The same of llama-cpp-python's own class."""
    begin = time.perf_counter()
    import llama_cpp

    imported = time.perf_counter()
    model = llama_cpp.Llama(str(file), n_ctx=4096, verbose=False)
    loaded = time.perf_counter()
    pieces = model.create_chat_completion(messages=[{"role": "user", "content": QUESTION}], max_tokens=4,
                                          temperature=0.0, stream=True)
    next((one for one in pieces if one["choices"][0]["delta"].get("content")), None)
    _say(begin, imported, loaded, time.perf_counter())


def _say(begin: float, imported: float, loaded: float, first: float) -> None:
    machine.say(f"{imported - begin} {loaded - imported} {first - loaded}")


def figures(side: str, file: Path) -> tuple[float, ...]:
    """One process of one side; `command` is the whole command `chat --ask` for one token."""
    begin = time.perf_counter()
    if side == "command":
        words = ["-m", "localdistill", "chat", str(file), "--ask", QUESTION, "--max-tokens", "1"]
        output_of([sys.executable, *words], _MOST_S)  # one token may be no answer, which its exit code says
        return (time.perf_counter() - begin,)
    words = ["-m", "benchmarks.chat_start", str(file.parent), "--one", side, file.name]
    said = output_of([sys.executable, *words], _MOST_S)
    if said is None:
        raise SystemExit(f"{side} failed; run it alone: --one {side} {file.name}")
    return (*map(float, said.split()[-3:]), time.perf_counter() - begin)


def main() -> None:
    """Measure, or be one of the processes that do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quants", nargs="+", default=["Q4_K_M", "Q8_0"])
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "FILE"), help="print one side's figures, in seconds")
    machine.add_arguments(parser)
    given = parser.parse_args()
    if given.one:
        {"ours": ours, "theirs": theirs}[given.one[0]](given.folder / given.one[1])
        return
    machine.describe(["llama-cpp-python"])
    machine.check_idle(given.busy)
    source = given.folder / "chat-F16.gguf"
    if not source.is_file():
        convert_to_gguf(given.folder / "student", source, "F16", used_tokens=4096)
    for kind in given.quants:
        file = given.folder / f"chat-{kind}.gguf"
        if not file.is_file():
            quantize(source, file, kind, Cancel())
        with file.open("rb") as stream:
            while stream.read(1 << 24):
                pass
        sides = ("command", "ours", "theirs")
        found: dict[str, list[tuple[float, ...]]] = {side: [] for side in sides}
        for _ in range(given.repeats):
            for side in sides:
                found[side].append(figures(side, file))
        machine.say(f"{kind}, {file.stat().st_size / 1e9:.2f} GB: chat --ask until it ends behind one token "
                    f"{statistics.median(one[0] for one in found['command']):.2f} s")
        for side in ("ours", "theirs"):
            imported, loaded, first, whole = (statistics.median(one[at] for one in found[side]) for at in range(4))
            machine.say(f"  {side}: import {imported:.2f} s, load {loaded:.2f} s, first token {first:.2f} s "
                        f"after the question; the process {whole:.2f} s")
    machine.check_idle(True)


if __name__ == "__main__":
    main()
