"""What Go's text/template makes of our Ollama templates. `python -m tests.exporters.ollama_go` renders every case with
Go and stores the texts; tests compare them with our own rendering and with the chat template, without Go."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from localdistill.core.messages import Message
from localdistill.exporters.ollama_parts.go_template import GoTemplate, go_template
from localdistill.exporters.ollama_parts.turn_form import PROOFS, messages_of
from tests.exporters.student_templates import BOS, SWITCHED, TEMPLATES, template_of

STORED = Path(__file__).with_name("ollama_renderings.json")
PROGRAM = Path(__file__).with_name("go") / "render.go"
TALKS = [messages_of(talk) for talk in PROOFS]


@dataclass(frozen=True)
class Case:
    """A chat template, how its student was trained, and what Ollama is told."""

    name: str
    thinks: bool | None
    told: bool | None

    @property
    def key(self) -> str:
        """Under which its renderings are stored."""
        trained = {True: "thinks", False: "silent", None: "both"}[self.thinks]
        return f"{self.name}, {trained}" + ("" if self.thinks is not None else f", told {self.told}")

    @property
    def way(self) -> bool:
        """Whether the training rendering thinks: by itself a student of both kinds does."""
        return self.told is not False if self.thinks is None else self.thinks

    @cached_property
    def template(self) -> GoTemplate:
        """For Ollama."""
        made = go_template(template_of(self.name), self.thinks, BOS)
        assert made is not None, f"no form was found of {self.name}"
        return made


CASES = [Case(name, thinks, told) for name in TEMPLATES for thinks in (True, False, None)
         if name in SWITCHED or thinks for told in ((None, True, False) if thinks is None else (None,))]


def go() -> str | None:
    """Go's program, where there is one."""
    return shutil.which("go")


def rendered_by_go(cases: Sequence[Case], talks: Sequence[Sequence[Message]], folder: Path) -> dict[str, Any]:
    """Key -> digest of the template, the marks of thinking that it shows, the prompt of every talk; None where it ends
    in an error."""
    program = str(go())
    subprocess.run([program, "build", "-o", str(folder / "render"), PROGRAM.name], cwd=PROGRAM.parent, check=True,
                   env={"PATH": str(Path(program).parent), "HOME": str(folder), "GOCACHE": str(folder / "cache"),
                        "GO111MODULE": "off", "CGO_ENABLED": "0"})
    asked = [{"Template": case.template.text, "Think": bool(case.told), "IsThinkSet": case.told is not None,
              "Messages": [{"Role": one.role, "Content": one.content, "Thinking": one.reasoning} for one in talk]}
             for case in cases for talk in talks]
    made = json.loads(subprocess.run([folder / "render"], input=json.dumps(asked), capture_output=True, text=True,
                                     check=True).stdout)
    found = {}
    for number, case in enumerate(cases):
        own = made[number * len(talks):(number + 1) * len(talks)]
        found[case.key] = {"template": digest(case.template), "marks": own[0]["marks"],
                           "texts": [None if one["error"] else one["text"] for one in own]}
    return found


def digest(template: GoTemplate) -> str:
    """Of its text."""
    return sha256(template.text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as place:
        text = json.dumps(rendered_by_go(CASES, TALKS, Path(place)), ensure_ascii=False, indent=1)
    STORED.write_text(text + "\n", encoding="utf-8")
