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
from localdistill.core.messages import Message, ToolCall, ToolDefinition, tools_of
from localdistill.safety.bounded_json import read_bytes, read_table
from localdistill.templates.marks import PROMPT_ENDS, hits, opened_by
from localdistill.templates.telling import (
    SAID,
    THOUGHT,
    ReasoningName,
    ToolManners,
    reasoning_name,
    told,
    tool_manners,
)
from localdistill.templates.thinking import THOUGHT_BEGIN, THOUGHT_END, opens_thinking_tag

MOST_TEMPLATE_CHARS = 1 << 20
"""Characters of a template; of real ones the longest have some 50,000."""
_REASON_CHARS = 120
_TOKEN_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class CalledTurn:
    """What a template writes behind the prompt in a turn that calls tools."""

    before: str
    """Before reasoning, or before the text where there is none."""
    between: str | None
    """Between reasoning and text, empty without a text; None where it writes no reasoning."""
    behind: str
    """Behind all that: the calls and the turn's end."""


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
        """The conversation as text, with the tools that its first turn defines. `thinks` sets the switches
        `enable_thinking` and `thinking`; None leaves the template's own default. Raises TemplateRefused when the
        template is wrong, refuses these messages or exceeds its limits, and when it would leave out calls, results or
        definitions of tools."""
        tools, manners = tools_of(messages), ToolManners()
        if tools and (why := self.tool_manners.no_definitions):
            raise self._refused(why)
        if any(message.tool_calls or message.role == "tool" for message in messages):
            manners = self.tool_manners
            if manners.no_calls:
                raise self._refused(manners.no_calls)
        thinking = any(message.role == "assistant" and (message.reasoning or "<" in message.content
                                                        or "[" in message.content) for message in messages)
        name = self.reasoning_name if thinking else "reasoning_content"
        return self._rendered(told(messages, name, manners), tools, add_generation_prompt, thinks)

    @cached_property
    def reasoning_name(self) -> ReasoningName:
        """Under which name the template looks for reasoning."""
        return reasoning_name(self._rendered)

    @cached_property
    def tool_manners(self) -> ToolManners:
        """How the template is told of tools, or why it cannot be."""
        return tool_manners(self._rendered)

    def _refused(self, why: str) -> TemplateRefused:
        return TemplateRefused(f"{self.origin} cannot render this conversation: {why}",
                               "leave the conversations with tools out, or use another template", why)

    def _rendered(self, turns: Sequence[Mapping[str, Any]], tools: Sequence[ToolDefinition] = (),
                  add_generation_prompt: bool = False, thinks: bool | None = None) -> str:
        """Raises TemplateRefused. Some templates go through the tools even where there are none, and some want them as
        a text named `functions`."""
        from localdistill.templates.sandbox import TemplateFailure  # jinja: not needed to split a reply

        wanted: list[Any] = [[*tools]] if tools else [None, []]
        for number, given in enumerate(wanted, start=1):
            try:
                return self._rendered_with(turns, given, add_generation_prompt, thinks)
            except TemplateFailure as failure:
                if number == len(wanted) or "NoneType" not in str(failure):
                    raise TemplateRefused(
                        f"{self.origin} cannot render this conversation: {failure}",
                        "check the roles of the messages, or use another template", _short(str(failure)),
                    ) from None
        raise AssertionError("unreachable")

    def _rendered_with(self, turns: Sequence[Mapping[str, Any]], tools: Sequence[ToolDefinition] | None,
                       add_generation_prompt: bool, thinks: bool | None) -> str:
        context: dict[str, Any] = {
            **self.special_tokens, "bos_token": self.bos, "eos_token": self.eos, "messages": [*turns],
            "add_generation_prompt": add_generation_prompt, "tools": tools, "documents": None,
        }
        if thinks is not None:
            context |= {"enable_thinking": thinks, "thinking": thinks}
        if not self.isolated:
            from localdistill.templates.sandbox import render_here

            return render_here(self.source, context)
        from localdistill.templates.renderer import SHARED

        return SHARED.render(self.source, context)

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
        where it leaves reasoning out or puts nothing round it that is a known mark. What it writes between the prompt
        and the mark is part of the first."""
        try:
            text = self.render([Message("user", "?"), Message("assistant", SAID, THOUGHT)], thinks=True)
            prompt = self.prompt([Message("user", "?")], thinks=True)
        except TemplateRefused:
            return THOUGHT_BEGIN, THOUGHT_END
        before, found, after = text.partition(THOUGHT)
        behind, answered, _ = after.partition(SAID)
        begin = _opening_place(before, behind) if found and answered else None
        if begin is None:
            return THOUGHT_BEGIN, THOUGHT_END
        return before[len(prompt) if before.startswith(prompt) and len(prompt) <= begin else begin:], behind

    def answer_lead(self, messages: Sequence[Message], thinks: bool) -> str:
        """What this template writes between the prompt of `messages` and an answer without reasoning; empty where that
        cannot be told, or where the prompt says it already. It depends on who spoke last, and on nothing else."""
        if messages and messages[-1].role == "tool":
            return self._lead(messages, thinks)
        return self._leads[thinks]

    @cached_property
    def _leads(self) -> dict[bool, str]:
        return {thinks: self._lead([Message("user", "?")], thinks) for thinks in (True, False)}

    def _lead(self, messages: Sequence[Message], thinks: bool) -> str:
        try:
            text = self.render([*messages, Message("assistant", SAID)], thinks=thinks)
            prompt = self.prompt(messages, thinks)
        except TemplateRefused:
            return ""
        return text[len(prompt):].rpartition(SAID)[0] if text.startswith(prompt) else ""

    def called_turn(self, messages: Sequence[Message], calls: Sequence[ToolCall], thinks: bool, has_thought: bool,
                    has_text: bool) -> CalledTurn:
        """What this template writes behind the prompt of `messages` round the parts of a turn that calls tools. Raises
        TemplateRefused where what is said beside the calls would be left out."""
        prompt = self.prompt(messages, thinks)
        turn = Message("assistant", SAID if has_text else "", THOUGHT if has_thought else "", tuple(calls))
        text = self.render([*messages, turn], thinks=thinks)
        is_whole, begun = text.startswith(prompt), _before_block(prompt)
        if not is_whole and not text.startswith(begun):
            raise self._refused("it writes a turn that calls tools otherwise than it begins one")
        tail = text[len(prompt if is_whole else begun):]
        before, between = "", None
        if has_thought:
            before, found, rest = tail.partition(THOUGHT)
            before = before if is_whole else ""
            if not found:
                bare = self.called_turn(messages, calls, thinks, False, has_text)
                return CalledTurn("", None, bare.behind)
            tail, between = rest, ""
        if has_text:
            part, found, tail = tail.rpartition(SAID)
            if not found:
                raise self._refused("it leaves out what is said beside a call")
            before, between = (before, part) if has_thought else (part if is_whole else "", None)
        return CalledTurn(before, between, tail)

    @cached_property
    def _turn_end(self) -> str:
        try:
            text = self.render([Message("user", "?"), Message("assistant", SAID)])
        except TemplateRefused as refusal:
            # No conversation is simpler, so this is not about one conversation.
            raise ModelFileError(f"{self.origin} cannot render a question and its answer: {refusal.reason}",
                                 "use another template") from None
        _, found, after = text.rpartition(SAID)
        if not found:
            raise ModelFileError(f"{self.origin} leaves out what the assistant says", "use another template")
        return after


def _before_block(prompt: str) -> str:
    """`prompt` without the block of reasoning at its end, which it opens, or opens and closes around nothing."""
    body = prompt.rstrip()
    if opened := next((end for end in PROMPT_ENDS if body.endswith(end)), ""):
        return body.removesuffix(opened)
    *_, opening, closing = [None, None, *hits(prompt)]
    mark = opened_by(opening.text) if opening else None
    if opening is None or closing is None or mark is None or mark.closing != closing.text:
        return prompt
    is_empty = not prompt[opening.end:closing.start].strip() and not prompt[closing.end:].strip()
    return prompt[:opening.start] if is_empty else prompt


def _opening_place(before: str, behind: str) -> int | None:
    """Where the mark that opens reasoning begins in what stands before it; None where no known mark is round it."""
    unpaired = next((end for end in PROMPT_ENDS if opened_by(end) is None and before.rstrip().endswith(end)), "")
    if unpaired:
        return len(before.rstrip()) - len(unpaired) if behind.strip() else None
    opening = hits(before)[-1:]
    mark = opened_by(opening[0].text) if opening else None
    if mark is None or before[opening[0].end:].strip() or not behind.strip().startswith(mark.closing):
        return None
    return opening[0].start


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
