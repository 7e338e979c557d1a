"""Chat templates in the forms that models of every architecture have, in our words: what each lays out, where it puts
a system message, what it strips, and how it is told to think."""

from __future__ import annotations

from pathlib import Path

from localdistill.templates import ChatTemplate
from tests.tiny_models import PLAIN_TEMPLATE, STRICT_TEMPLATE

_FILES = Path(__file__).with_name("chat_templates")
TEMPLATES = {"plain": PLAIN_TEMPLATE, "strict": STRICT_TEMPLATE,
             **{file.stem: file.read_text(encoding="utf-8") for file in sorted(_FILES.glob("*.jinja"))}}
SWITCHED = ("switched", "mode_in_header")
"""Those that are told to think or not."""
OF_ARCHITECTURES = {
    "llama": ("in_brackets", "with_header", "own_rule", "opened", "plain"), "qwen2": ("own_rule", "opened"),
    "qwen3": ("switched", "opened"), "mistral": ("late_rule", "in_brackets", "kept_thoughts"),
    "ministral": ("late_rule", "kept_thoughts"), "smollm3": ("mode_in_header",), "phi3": ("ended", "unbroken"),
    "gemma2": ("ruleless", "strict"), "gemma3_text": ("folded_rule",),
}
"""The forms that models of an architecture have."""
BOS = "<s>"


def template_of(name: str) -> ChatTemplate:
    """One of `TEMPLATES`, rendered in this process."""
    return ChatTemplate(TEMPLATES[name], BOS, "</s>", isolated=False, origin=name)
