"""A model's chat template: from messages to the exact text the model was made for.

Nothing here tokenizes, and nothing imports transformers. Rendering happens in a child process with limits, except
for code that is such a child itself (`isolated=False`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from localdistill.core.errors import ModelFileError, TemplateRefused
from localdistill.core.records import Message
from localdistill.safety.bounded_json import read_bytes, read_table
from localdistill.templates.marks import hits, opened_by
from localdistill.templates.thinking import THOUGHT_BEGIN, THOUGHT_END, opens_thinking_tag

MOST_TEMPLATE_CHARS = 1 << 20
"""Characters of a template; of real ones the longest have some 50,000."""
_REASON_CHARS = 120
_SENTINEL, _THOUGHT = "qLDvSentinelqLDv", "qLDvThoughtqLDv"
_THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")
_TOKEN_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class ChatTemplate:
    """A template with the special tokens it may name."""

    source: str
    """Jinja text."""
    bos: str = ""
    eos: str = ""
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    """Further names the template may use, for example `pad_token`."""
    isolated: bool = True
    """False renders in this process: only for code that already runs in a child."""
    origin: str = "the chat template"
    """What error messages call it, for example the file it came from."""

    def __post_init__(self) -> None:
        if len(self.source) > MOST_TEMPLATE_CHARS:
            raise ModelFileError(f"{self.origin} is {len(self.source):,} characters long; templates have at most "
                                 f"{MOST_TEMPLATE_CHARS:,}", "use another template")

    @classmethod
    def from_folder(cls, folder: Path, isolated: bool = True) -> ChatTemplate:
        """The serving template of a model folder: `chat_template.jinja`, else `chat_template.json`, else the entry in
        `tokenizer_config.json`. Raises ModelFileError when there is none or a file cannot be read."""
        config = _read_json(folder / "tokenizer_config.json")
        tokens = _special_tokens(_read_json(folder / "special_tokens_map.json")) | _special_tokens(config)
        for name in ("chat_template.jinja", "chat_template.json", "tokenizer_config.json"):
            path = folder / name
            if not path.is_file():
                continue
            source = read_template(path) if name.endswith("jinja") else _template_of(_read_json(path))
            if source:
                bos, eos = tokens.pop("bos_token", ""), tokens.pop("eos_token", "")
                return cls(source, bos, eos, tokens, isolated, str(path))
        raise ModelFileError(
            f"{folder} has no chat template",
            "put the template of the model's authors there as chat_template.jinja",
        )

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = False,
               thinks: bool | None = None) -> str:
        """The conversation as text. `thinks` sets the switches `enable_thinking` and `thinking`; None leaves the
        template's own default. Raises TemplateRefused when the template is wrong, refuses these messages or exceeds its
        limits."""
        return self._rendered([{"role": m.role, "content": m.content} for m in messages], add_generation_prompt, thinks)

    def _rendered(self, turns: Sequence[Mapping[str, str]], add_generation_prompt: bool = False,
                  thinks: bool | None = None) -> str:
        from localdistill.templates.sandbox import TemplateFailure, render_here  # jinja: not needed to split a reply

        context: dict[str, Any] = {
            **self.special_tokens, "bos_token": self.bos, "eos_token": self.eos, "messages": [*turns],
            "add_generation_prompt": add_generation_prompt, "tools": None, "documents": None,
        }
        if thinks is not None:
            context |= {"enable_thinking": thinks, "thinking": thinks}
        try:
            if not self.isolated:
                return render_here(self.source, context)
            from localdistill.templates.renderer import SHARED

            return SHARED.render(self.source, context)
        except TemplateFailure as failure:
            raise TemplateRefused(
                f"{self.origin} cannot render this conversation: {failure}",
                "check the roles of the messages, or use another template", _short(str(failure)),
            ) from None

    def prompt(self, messages: Sequence[Message], thinks: bool | None = None) -> str:
        """What the model is given to write the next assistant turn: conversation and generation prompt."""
        return self.render(messages, add_generation_prompt=True, thinks=thinks)

    def opens_thinking(self, thinks: bool | None = None) -> bool:
        """True when the generation prompt itself ends with an opened think tag, so that a reply starts inside it."""
        return opens_thinking_tag(self.prompt([Message("user", "?")], thinks))

    def turn_end(self) -> str:
        """The text that follows the content of the last assistant turn (the end-of-turn token and what comes after
        it). Raises ModelFileError when the template does not render a question and its answer, or hides the answer."""
        return self._turn_end

    @cached_property
    def thought_marks(self) -> tuple[str, str]:
        """What this template writes before and behind the reasoning of the last turn, blanks included; what we write
        where it leaves reasoning out or puts nothing round it that is a known mark."""
        turn = {"role": "assistant", "content": _SENTINEL, **dict.fromkeys(_THOUGHT_KEYS, _THOUGHT)}
        try:
            text = self._rendered([{"role": "user", "content": "?"}, turn])
        except TemplateRefused:
            return THOUGHT_BEGIN, THOUGHT_END
        before, found, after = text.partition(_THOUGHT)
        opening = hits(before)[-1:]
        mark = opened_by(opening[0].text) if found and opening else None
        behind, answered, _ = after.partition(_SENTINEL)
        if mark is None or not answered or behind.strip() != mark.closing or before[opening[0].end:].strip():
            return THOUGHT_BEGIN, THOUGHT_END
        return before[opening[0].start:], behind

    @cached_property
    def _turn_end(self) -> str:
        try:
            text = self.render([Message("user", "?"), Message("assistant", _SENTINEL)])
        except TemplateRefused as refusal:
            # No conversation is simpler, so this is not about one conversation.
            raise ModelFileError(f"{self.origin} cannot render a question and its answer: {refusal.reason}",
                                 "use another template") from None
        _, found, after = text.rpartition(_SENTINEL)
        if not found:
            raise ModelFileError(f"{self.origin} leaves out what the assistant says", "use another template")
        return after


def _short(text: str) -> str:
    """The first line of what a template said, cut where it becomes long: it is counted and listed."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no reason is given")
    return line if len(line) <= _REASON_CHARS else line[:_REASON_CHARS - 3] + "..."


def read_template(path: Path) -> str:
    """The Jinja text in a file. Raises ModelFileError when it cannot be read, or is longer than any template."""
    try:
        text = read_bytes(path, 4 * MOST_TEMPLATE_CHARS).decode("utf-8")
    except FileNotFoundError:
        raise ModelFileError(f"there is no file {path}", "check the path") from None
    except UnicodeDecodeError:
        raise ModelFileError(f"{path} is not UTF-8 text", "get the model again") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_json(path: Path) -> dict[str, Any]:
    return read_table(path) if path.is_file() else {}


def _template_of(config: Mapping[str, Any]) -> str:
    found = config.get("chat_template")
    if isinstance(found, list):
        named = {str(item.get("name")): item.get("template") for item in found if isinstance(item, dict)}
        found = named.get("default")
    return found if isinstance(found, str) else ""


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    tokens: dict[str, str] = {}
    for name in _TOKEN_NAMES:
        value = config.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            tokens[name] = value
    return tokens
