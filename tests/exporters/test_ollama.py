"""The Modelfile: what it says, that a reader gets back what was meant, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import InputError, RecipeError
from localdistill.core.events import Cancel, Emit, Event, Warned, silent
from localdistill.core.messages import Message
from localdistill.exporters import EXPORTERS
from localdistill.exporters.job import ExportJob, ExportPlan
from localdistill.exporters.ollama import OllamaExporter, modelfile
from localdistill.exporters.ollama_parts.go_template import go_template
from localdistill.recipe import Member
from localdistill.stages.context import build_member
from localdistill.templates import ChatTemplate
from tests.tiny_models import PLAIN_TEMPLATE, STRICT_TEMPLATE, edit_json, tiny_model

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("merged"), "llama")


SAMPLED = [("PARAMETER temperature", "0"), ("PARAMETER repeat_penalty", "1")]
"""What Ollama would add by itself otherwise."""


def export(merged: Path, output: Path, card: dict[str, Any] | None = None, thinks: bool = False, emit: Emit = silent,
           **options: Any) -> str:
    job = ExportJob(merged, output, "Student", thinks, card or {})
    [path] = OllamaExporter(OllamaExporter.Options.model_validate(options)).export(job, emit, Cancel())
    assert path.name == "Modelfile" and not list(output.glob("*.partial"))
    return path.read_text()


def parsed(text: str) -> list[tuple[str, str]]:
    """Instructions as Ollama's reader takes them: a name, then a bare, quoted or triple-quoted value."""
    found = re.findall(r'^(FROM|PARAMETER \w+|SYSTEM|LICENSE|TEMPLATE) (?:"""(.*?)"""|"(.*?)"|([^"\n]*))$', text,
                       re.MULTILINE | re.DOTALL)
    return [(name, "".join(values)) for name, *values in found]


def test_it_names_the_smallest_good_file_and_the_models_stop_tokens(merged: Path, tmp_path: Path) -> None:
    for quant in ("F16", "Q8_0"):
        (tmp_path / f"Student-{quant}.gguf").write_bytes(b"")
    text = export(merged, tmp_path, {"licences": ["MIT"]})
    assert [pair for pair in parsed(text) if pair[0] != "TEMPLATE"] == [
        ("FROM", "./Student-Q8_0.gguf"), ("PARAMETER num_ctx", "512"), *SAMPLED, ("PARAMETER stop", "<|im_end|>"),
        ("LICENSE", "MIT")]
    assert str(tmp_path) not in text


def template_in(text: str) -> str:
    """What stands between the quotes of TEMPLATE; empty where there is none."""
    return "".join(value for name, value in parsed(text) if name == "TEMPLATE")


@pytest.mark.parametrize("thinks", [True, False])
def test_it_holds_the_template_that_renders_what_was_trained(merged: Path, tmp_path: Path, thinks: bool) -> None:
    (tmp_path / "Student-F16.gguf").write_bytes(b"")
    text = export(merged, tmp_path, thinks=thinks)
    wanted = go_template(ChatTemplate.from_folder(merged), thinks, "")
    assert wanted is not None and template_in(text) == wanted.text
    ask = [Message("user", "?")]
    assert wanted.render(ask) == ChatTemplate.from_folder(merged).prompt(ask, thinks)
    assert ("</think>" in wanted.render(ask)) is not thinks
    assert ("Ollama 0.9 or later" in text) is thinks, "earlier ones know no thoughts"


def test_a_template_that_cannot_be_said_is_left_out_and_the_version_is_named(tmp_path: Path) -> None:
    counted = PLAIN_TEMPLATE.replace("['role'] }}", "['role'] }} {{ loop.index }}")
    student = tiny_model(tmp_path / "m", chat_template=counted)
    (tmp_path / "Student-F16.gguf").write_bytes(b"")
    told: list[Event] = []
    text = export(student, tmp_path, emit=told.append)
    assert template_in(text) == "" and "Needs Ollama 0.30 or later" in text
    [warning] = [event for event in told if isinstance(event, Warned)]
    assert "no TEMPLATE" in warning.text and "0.30" in warning.text


def test_a_system_message_is_refused_early_where_the_student_takes_none(tmp_path: Path) -> None:
    students = [tiny_model(tmp_path / name, chat_template=source) for name, source in (
        ("strict", STRICT_TEMPLATE), ("plain", PLAIN_TEMPLATE))]
    exporter = OllamaExporter(OllamaExporter.Options(system="Be brief."))
    exporter.check(ExportPlan(students[1], False, 64))
    with pytest.raises(InputError, match="takes no instructions"):
        exporter.check(ExportPlan(students[0], False, 64))


def test_options_are_written(merged: Path, tmp_path: Path) -> None:
    (tmp_path / "Student-F16.gguf").write_bytes(b"")
    text = export(merged, tmp_path, quant="F16", num_ctx=128, stop=["User:", "<|im_end|>"], temperature=0.7,
                  system='Say "yes".\nThen stop.')
    assert [pair for pair in parsed(text) if pair[0] != "TEMPLATE"] == [
        ("FROM", "./Student-F16.gguf"), ("PARAMETER num_ctx", "128"), ("PARAMETER temperature", "0.7"), SAMPLED[1],
        ("PARAMETER stop", "<|im_end|>"), ("PARAMETER stop", "User:"), ("SYSTEM", 'Say "yes".\nThen stop.')]


def test_the_context_is_that_of_training_and_never_beyond_the_model(merged: Path, tmp_path: Path) -> None:
    (tmp_path / "Student-F16.gguf").write_bytes(b"")
    assert "num_ctx 256" in export(merged, tmp_path, {"num_ctx": 256})
    assert "num_ctx 300" in export(merged, tmp_path, {"num_ctx": 256, "evaluated_tokens": 300})
    assert "num_ctx 512" in export(merged, tmp_path, num_ctx=100_000)


def test_all_that_ends_generation_is_a_stop_line_and_a_window_bounds_the_context(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "m", "mistral", sliding_window=100)
    for name in ("generation_config.json", "config.json"):
        edit_json(student / name, eos_token_id=0)
    edit_json(student / "tokenizer_config.json", eos_token="<|endoftext|>")
    (tmp_path / "Student-F16.gguf").write_bytes(b"")
    said = parsed(export(student, tmp_path, num_ctx=400))
    assert [value for name, value in said if name.endswith(("ctx", "stop"))] == ["100", "<|im_end|>", "<|endoftext|>"]


def test_without_a_file_it_says_what_to_do(merged: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Student-Q8_0\.gguf") as caught:
        export(merged, tmp_path, quant="Q8_0")
    assert "gguf exporter before ollama" in caught.value.hint


@pytest.mark.parametrize("stop", ["a\nSYSTEM evil", "a\r", "", 'x"""y', 'ends"', "a\u2028b"])
def test_stop_strings_that_could_add_instructions_are_refused(stop: str) -> None:
    with pytest.raises(InputError):
        modelfile("x.gguf", 1, [stop])


@pytest.mark.parametrize("system", ['""" \nFROM other', 'a "quoted"', '"x'])
def test_systems_that_could_end_their_quotes_are_refused(system: str) -> None:
    with pytest.raises(InputError):
        modelfile("x.gguf", 1, [], system=system)


def test_the_file_must_lie_beside_it() -> None:
    for name in ("../x.gguf", "/x.gguf", "a\\b", "x\nSYSTEM y"):
        with pytest.raises(InputError):
            modelfile(name, 1, [])


def test_a_run_of_a_version_that_left_the_temperature_to_ollama_goes_on() -> None:
    assert OllamaExporter.Options.model_validate({"temperature": None}).temperature == 0.0
    assert OllamaExporter.Options.model_validate({"temperature": 0.7}).temperature == 0.7


def test_options_of_a_run_that_another_version_began_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="exporter 'ollama': num_ctx: ") as told:
        build_member(EXPORTERS, Member(use="ollama", options={"num_ctx": -1}), tmp_path)
    assert "another version" in told.value.hint
