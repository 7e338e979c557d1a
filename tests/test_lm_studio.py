"""An exported file is handed over to LM Studio: a compared copy in its folder, and nothing else touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from localdistill import Workspace, copy_to_lm_studio, exports_of, model_to_chat
from localdistill.api.models import lm_studio
from localdistill.cli.app import app as cli
from localdistill.core.errors import LocalDistillError, UsageError
from tests.tui import prepared

QUANT = "garden-full-trace-Q8_0.gguf"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace, run = prepared.begun(tmp_path_factory.mktemp("studio") / "garden")
    prepared.export(workspace, run, [])
    return workspace


def test_a_copy_lies_where_lm_studio_looks_and_is_not_made_twice(exported: Workspace, tmp_path: Path) -> None:
    place = copy_to_lm_studio(exported, folder=tmp_path)
    assert place == tmp_path / "localdistill" / "garden-full-trace" / QUANT
    source = next(file.path for file in exports_of(exported)[0].files if file.path.name == QUANT)
    assert place.read_bytes() == source.read_bytes() and not place.samefile(source)
    before = place.stat().st_mtime_ns
    assert copy_to_lm_studio(exported, "garden-1", "Q8_0", tmp_path) == place and place.stat().st_mtime_ns == before
    assert copy_to_lm_studio(exported, quant="F16", folder=tmp_path).name == "garden-full-trace-F16.gguf"
    assert not list(tmp_path.rglob("*.partial"))


def test_all_parts_of_a_model_are_copied_and_told_as_one_file(tmp_path: Path) -> None:
    workspace, run = prepared.begun(tmp_path / "garden")
    digest = prepared.export(workspace, run, [], parts=2)
    [made] = exports_of(workspace)
    assert [(file.quant, file.path.name, len(file.parts), file.size_bytes) for file in made.files][1] == (
        "Q8_0", "garden-full-trace-Q8_0-00001-of-00002.gguf", 2, 3_184_000)
    assert ("serve", "llama-server -m garden-full-trace-Q8_0-00001-of-00002.gguf --jinja") in made.commands
    place = copy_to_lm_studio(workspace, folder=tmp_path / "studio")
    assert sorted(path.name for path in place.parent.iterdir()) == [path.name for path, _ in made.files[1].parts]
    assert place.parent.name == "garden-full-trace"
    place.with_name("garden-full-trace-Q8_0-00002-of-00002.gguf").unlink()
    assert copy_to_lm_studio(workspace, folder=tmp_path / "studio") == place and len(list(place.parent.iterdir())) == 2
    assert model_to_chat(workspace) == made.files[1].path
    second = workspace.find_artifact("export", digest).path / "garden-full-trace-Q8_0-00002-of-00002.gguf"
    second.write_bytes(b"damaged")
    with pytest.raises(LocalDistillError, match="is damaged"):
        model_to_chat(workspace)


def test_another_file_in_its_place_is_left_alone(exported: Workspace, tmp_path: Path) -> None:
    place = tmp_path / "localdistill" / "garden-full-trace" / QUANT
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    with pytest.raises(UsageError, match="is another file than the one of garden-1"):
        copy_to_lm_studio(exported, folder=tmp_path)
    assert place.read_bytes() == b"mine"


def test_what_is_not_there_is_said_with_what_is(exported: Workspace, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="exported no Q2_K") as caught:
        copy_to_lm_studio(exported, quant="Q2_K", folder=tmp_path)
    assert caught.value.hint == "it has F16, Q8_0, Q4_K_M"
    with pytest.raises(UsageError, match="no run has exported a model yet"):
        copy_to_lm_studio(Workspace(tmp_path / "empty"), folder=tmp_path)
    monkeypatch.setattr(lm_studio, "free_bytes", lambda place: 5)
    with pytest.raises(LocalDistillError, match="the copy needs"):
        copy_to_lm_studio(exported, folder=tmp_path)
    assert not list(tmp_path.rglob("*.gguf"))


def test_its_folder_is_found_in_every_version(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no folder here"):
        lm_studio.lm_studio_models(tmp_path)
    (tmp_path / ".cache" / "lm-studio").mkdir(parents=True)
    assert lm_studio.lm_studio_models(tmp_path) == tmp_path / ".cache/lm-studio/models"
    (tmp_path / ".lmstudio").mkdir()
    assert lm_studio.lm_studio_models(tmp_path) == tmp_path / ".lmstudio/models"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{tmp_path / 'elsewhere'}\n")
    assert lm_studio.lm_studio_models(tmp_path) == tmp_path / "elsewhere/models"


def test_the_command_copies_and_names_the_place(exported: Workspace, tmp_path: Path) -> None:
    told = CliRunner().invoke(cli, ["exports", "--lm-studio", "--into", str(tmp_path), "-w", str(exported.root)])
    assert told.exit_code == 0 and told.stdout.strip().endswith(QUANT)
    wrong = CliRunner().invoke(cli, ["exports", "--quant", "Q8_0", "-w", str(exported.root)])
    assert wrong.exit_code != 0
