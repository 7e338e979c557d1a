from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from localdistill.core.errors import ModelFileError
from localdistill.core.records import Message
from localdistill.templates import ChatTemplate
from localdistill.templates.renderer import SHARED

SOURCE = """\
{%- if messages[0].role == 'system' %}
    {{- messages[0].content + '|' }}
{%- endif %}
{%- for m in messages %}
    {%- if m.role == 'system' %}{% continue %}{% endif %}
    {%- if m.role == 'assistant' %}
        {{- 'A:' }}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{{ '\n' }}
    {%- else %}
        {{- bos_token + 'U:' + m.content + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'A:' }}
    {%- if enable_thinking is defined and enable_thinking %}{{ '<think>\n' }}{% endif %}
{%- endif %}
"""
TALK = [Message("system", "s"), Message("user", "u<&>"), Message("assistant", "a")]


@pytest.mark.parametrize("isolated", [True, False])
def test_rendering_prompts_and_switches(isolated: bool) -> None:
    template = ChatTemplate(SOURCE, bos="<s>", eos="</s>", isolated=isolated)
    assert template.render(TALK) == "s|<s>U:u<&>\nA:a</s>\n"
    assert template.prompt(TALK[:2]) == "s|<s>U:u<&>\nA:"
    assert template.prompt(TALK[:2], thinks=True) == "s|<s>U:u<&>\nA:<think>\n"
    assert template.opens_thinking(True) and not template.opens_thinking(False) and not template.opens_thinking()
    assert template.turn_end() == "</s>\n"


def test_json_filter_keeps_text_as_models_saw_it() -> None:
    assert ChatTemplate("{{ messages[0].content | tojson }}").render([Message("user", "<é'>")]) == '"<é\'>"'


@pytest.mark.parametrize(("source", "says"), [
    ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    ("{{ messages.append(1) }}", "unsafe"),
    ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "unsafe"),
    ("{{ raise_exception('only user turns') }}", "only user turns"),
    ("{% if %}", "expression"),
    ("{{ 'a' * 10**9 }}", "memory"),
    ("{{ 'a' * 4_000_001 }}", "4,000,001 characters"),
    ("{{ " + "(" * 5_000 + "1" + ")" * 5_000 + " }}", "RecursionError"),
    ("{% for i in range(9**9) %}{% endfor %}", "finish within|too big"),
    ("{% include '/etc/passwd' %}", "loader"),
    ("{{ 1 / 0 }}", "ZeroDivision"),
])
def test_bad_templates_are_model_file_errors_and_the_next_render_works(source: str, says: str) -> None:
    with pytest.raises(ModelFileError) as error:
        ChatTemplate(source).render(TALK)
    assert re.search(says, str(error.value))
    assert error.value.hint
    assert ChatTemplate("ok").render(TALK) == "ok"


def test_a_template_that_does_not_end_is_ended() -> None:
    ChatTemplate("warm").render(TALK)
    begin = time.monotonic()
    with pytest.raises(ModelFileError, match="did not finish within 2 s"):
        ChatTemplate("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}").render(TALK)
    assert time.monotonic() - begin < 10
    assert ChatTemplate("ok").render(TALK) == "ok"


def test_a_killed_renderer_starts_again() -> None:
    assert ChatTemplate("one").render(TALK) == "one"
    SHARED.close()
    assert ChatTemplate("one").render(TALK) == "one"


def test_from_folder_prefers_the_jinja_file_and_reads_tokens(tmp_path: Path) -> None:
    config = {
        "bos_token": {"content": "<b>"}, "eos_token": "<e>", "pad_token": None,
        "chat_template": [{"name": "tools", "template": "no"}, {"name": "default", "template": "{{ bos_token }}c"}],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert ChatTemplate.from_folder(tmp_path).render(TALK) == "<b>c"
    (tmp_path / "chat_template.jinja").write_text("{{ eos_token }}j")
    assert ChatTemplate.from_folder(tmp_path).render(TALK) == "<e>j"


def test_from_folder_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no chat template"):
        ChatTemplate.from_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"tokenizer_config\.json is not valid JSON"):
        ChatTemplate.from_folder(tmp_path)


@pytest.mark.parametrize(("name", "content", "says"), [
    ("chat_template.jinja", "x" * ((1 << 20) + 1), "1,048,577 characters"),
    ("chat_template.jinja", "x" * (5 << 20), "larger than"),
    ("tokenizer_config.json", "{" + ",".join(f'"{n}": 1' for n in range(150_000)) + "}", "values"),
    ("tokenizer_config.json", '{"a": ' + "[" * 100 + "]" * 100 + "}", "64 deep"),
    ("chat_template.json", '{"chat_template": ' + "9" * 6_000 + "}", "not valid JSON"),
])
def test_a_template_is_no_longer_or_deeper_than_templates_are(tmp_path: Path, name: str, content: str,
                                                              says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ModelFileError, match=says) as error:
        ChatTemplate.from_folder(tmp_path)
    assert error.value.hint and len(error.value.message) < 600


def test_a_template_without_assistant_text_has_no_turn_end() -> None:
    with pytest.raises(ModelFileError, match="leaves out"):
        ChatTemplate("nothing").turn_end()
