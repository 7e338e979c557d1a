"""Every number, list, text and file of a model folder set to what cannot be: used or refused by name, and nothing is
made as large as a file says that it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from localdistill.core.errors import ModelFileError
from localdistill.modelfiles.folder import ModelFolder
from localdistill.modelfiles.tensors import read_header
from localdistill.modelfiles.tokenizer import StudentTokenizer
from tests.helpers import REPO
from tests.strangers import students

LARGEST_PEAK_MB = 300
EVERY = 11
"""Of the small ones in a quick test; all are used in a slow one, and by the attack."""


@pytest.mark.parametrize("group", students.GROUPS)
def test_hostile_folders_are_used_or_refused_and_nothing_else(tmp_path: Path, group: str) -> None:
    found = []
    for name, change in islice(students.changes(group, large=False), 0, None, EVERY):
        try:
            found.append(students.verdict(students.changed(tmp_path, group, change)))
        except BaseException as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    assert found.count("refused") > len(found) / 10


@pytest.mark.slow
def test_of_all_hostile_folders_none_takes_more_memory_than_any_other_file(tmp_path: Path) -> None:
    ended, told = list[str](), dict[str, Any]()
    with subprocess.Popen([sys.executable, "-m", "tests.strangers.students"], cwd=REPO, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdin and process.stdout
        for group, changes in students.GROUPS.items():
            for name, change in changes():
                process.stdin.write(f"{students.changed(tmp_path, group, change)}\n")
                process.stdin.flush()
                line = process.stdout.readline()
                assert line, f"{group}: {name}: it died, after {told}"
                told = json.loads(line)
                ended.append(told["ended"])
                assert told["peak_mb"] < LARGEST_PEAK_MB, f"{group}: {name}: {told}"
        process.stdin.close()
    assert ended.count("refused") > len(ended) / 2


def test_the_sound_folder_passes(tmp_path: Path) -> None:
    assert students.verdict(students.changed(tmp_path, "configs", lambda folder: None)) == "used"


@pytest.mark.parametrize(("change", "says"), [
    ({"num_hidden_layers": 1_000_000}, "num_hidden_layers says 1,000,000, and its files hold tensors of 2 layers"),
    ({"num_hidden_layers": 1}, "hold tensors of 2 layers"),
    ({"num_hidden_layers": -2}, "a positive whole number, not -2"),
    ({"hidden_size": 8.5}, "a positive whole number"), ({"hidden_size": 10**100}, "more than 38 digits"),
    ({"hidden_size": 64}, "embed_tokens.weight to be 300 x 64, and its files hold it as 300 x 16"),
    ({"intermediate_size": 1 << 30}, r"gate_proj.weight to be 1,073,741,824 x 16"),
    ({"num_attention_heads": 2, "head_dim": 4}, "q_proj.weight to be 8 x 16"),
    ({"num_key_value_heads": 4}, "k_proj.weight to be 16 x 16"), ({"vocab_size": 301}, "301 x 16"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": float("inf")}}, "factor must be a number"),
    ({"rope_theta": [1]}, "not a list of 1"), ({"tie_word_embeddings": "yes"}, "true or false"),
    ({"eos_token_id": 300}, "token 300, and the model has 300"), ({"eos_token_id": [[2]]}, "a list of 1"),
    ({"layer_types": ["full_attention"] * 3}, "one kind for each"),
])
def test_what_the_tensors_cannot_bear_out_is_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    folder = students.write_sound(tmp_path / "student")
    (folder / "config.json").write_text(json.dumps({**students.CONFIG, **change}))
    with pytest.raises(ModelFileError, match=says):
        ModelFolder.open(folder)


def test_a_weight_that_would_be_made_up_is_missed(tmp_path: Path) -> None:
    folder, shapes = students.write_sound(tmp_path / "student"), students.shapes()
    del shapes["model.layers.1.mlp.up_proj.weight"]
    header = students.header_of(shapes)
    size = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    (folder / "model.safetensors").write_bytes(students.safetensors(header, bytes(size)))
    with pytest.raises(ModelFileError, match=r"hold no model\.layers\.1\.mlp\.up_proj\.weight"):
        ModelFolder.open(folder)


def test_labels_of_classifiers_reach_no_library_which_would_make_as_many_as_a_number_says(tmp_path: Path) -> None:
    folder = students.write_sound(tmp_path / "student")
    (folder / "config.json").write_text(json.dumps({**students.CONFIG, "num_labels": 1 << 31, "id2label": {"0": "a"}}))
    assert not {"num_labels", "id2label"} & set(ModelFolder.open(folder).config)


@pytest.mark.parametrize(("change", "says"), [
    ({"added_tokens": [{"id": 2**31, "content": "<odd>"}]}, "has the id 2147483648"),
    ({"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "x"}, "content": "x" * 1000}] * 6}}, "times longer"),
    ({"decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}] * 100}}, "more than 64 steps"),
])
def test_what_would_end_the_process_is_refused_before_the_library_sees_it(
        tmp_path: Path, change: dict[str, object], says: str) -> None:
    folder = students.write_sound(tmp_path / "student")
    (folder / "tokenizer.json").write_text(json.dumps({**students.tokenizer(), **change}))
    with pytest.raises(ModelFileError, match=says):
        StudentTokenizer(folder).encode("x")


def test_a_panic_of_the_library_is_a_named_error(tmp_path: Path) -> None:
    folder, good = students.write_sound(tmp_path / "student"), students.tokenizer()
    split = {"type": "Split", "pattern": {"Regex": "(x+x+)+y"}, "behavior": "Isolated", "invert": False}
    (folder / "tokenizer.json").write_text(json.dumps({
        **good, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, good["pre_tokenizer"]]}}))
    with pytest.raises(ModelFileError, match=r"tokenizer\.json cannot be used"):
        StudentTokenizer(folder).encode("x" * 3_000)


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        folder = students.write_sound(tmp_path / name)
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(ModelFileError):
            ModelFolder.open(folder)
    with pytest.raises(ModelFileError, match="is not a file"):
        read_header(tmp_path / "model.safetensors" / "model.safetensors")
