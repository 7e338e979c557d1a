"""Files that went out, opened by the tools that are to read them, each by its own loader in an environment of its own:

    python -m benchmarks.loaders --trl P --llama-factory P --axolotl P --unsloth P

P is the interpreter of an environment that has the tool. Rows hold what usually breaks loaders: line separators of
Unicode, NUL, tags in answers, code points that mean nothing, and metadata of another type in every row. A loader
that opens a file and gives another number of rows, or cannot lay one out as tokens, fails.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks import machine
from localdistill import export_data, shipped_path
from localdistill.safety.children import output_of
from tests.odd_texts import filled

LAYOUTS = {"trl": ("messages", "prompt_completion", "preference"), "llama-factory": ("sharegpt", "alpaca"),
           "axolotl": ("messages", "sharegpt", "alpaca", "preference"), "unsloth": ("messages",)}


def main() -> None:
    """Export, let each tool open its files, and print what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for tool in LAYOUTS:
        parser.add_argument(f"--{tool}", type=Path, help=f"interpreter of an environment with {tool}")
    given = vars(parser.parse_args())
    failed = False
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        place = filled(folder / "w")
        for tool, layouts in LAYOUTS.items():
            python = given[tool.replace("-", "_")]
            if python is None:
                machine.say(f"{tool}: not run, no environment was given")
                continue
            out = folder / tool
            rows = {layout: export_data(place, out / f"{layout}.jsonl", layout=layout,
                                        tool=tool if tool == "llama-factory" else "").rows for layout in layouts}
            script, student = Path(__file__).with_name("loaders_peer.py"), shipped_path("pantry/student")
            said = output_of([str(python), str(script), tool, str(out), str(student), *layouts], 600)
            found = json.loads(said.decode().splitlines()[-1]) if said else {}
            for layout in layouts:
                opened = found.get(layout, "the tool did not run")
                failed |= opened != rows[layout]
                machine.say(f"{tool} {found.get('version', '?')}: {layout}: {opened} of {rows[layout]} rows: "
                            + ("opened" if opened == rows[layout] else "FAILED"))
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
