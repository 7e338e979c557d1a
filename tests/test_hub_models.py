"""Models of the hub, of a stand-in on loopback: one revision, safetensors only, what is half here is completed, what is
here is used without a request, and every refusal says what to do."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from localdistill.core.errors import Cancelled, ModelFileError
from localdistill.core.events import Cancel, Event, Noted, Progressed, silent
from localdistill.hub.models import cached, fetch, lacking
from localdistill.hub.names import HubName, in_hub
from localdistill.modelfiles.folder import resolve_model
from localdistill.safety.children import child_environment, go_offline, is_offline_by_choice
from tests.hub import Repository, StandIn, stand_in

pytest.importorskip("huggingface_hub")
WHOLE = {
    "config.json": b"{}", "tokenizer.json": b"{}", "tokenizer_config.json": b"{}", "chat_template.jinja": b"hello",
    "model.safetensors": b"w" * 1000, "pytest.py": b"import os", "pytorch_model.bin": b"p" * 5000,
    "onnx/model.safetensors": b"o" * 70, "consolidated.safetensors": b"c" * 1000, "tf_model.h5": b"t" * 50,
}
SHARDS = {
    **{name: data for name, data in WHOLE.items() if name != "model.safetensors"},
    "model.safetensors.index.json": json.dumps({"weight_map": {
        "a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}).encode(),
    "model-00001-of-00002.safetensors": b"1" * 600, "model-00002-of-00002.safetensors": b"2" * 700,
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with stand_in(monkeypatch, tmp_path / "home") as made:
        made.repositories["acme/tiny"] = Repository(dict(WHOLE))
        yield made


def said(events: list[Event]) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Noted))


def test_a_model_comes_in_one_revision_as_safetensors_only_with_size_and_licence(hub: StandIn) -> None:
    events: list[Event] = []
    model = fetch("hf://acme/tiny", events.append, Cancel())
    commit = hub.repositories["acme/tiny"].commit
    assert model.commit == commit == model.path.name and model.licence == "apache-2.0"
    assert sorted(path.name for path in model.path.iterdir()) == [
        "chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert (model.path / "model.safetensors").read_bytes() == b"w" * 1000
    assert model.size_bytes == model.fetched_bytes == 1011
    assert f"acme/tiny at {commit[:12]}: 1.0 kB, licence apache-2.0; fetched now" in said(events)
    assert not any("/resolve/main" in line for line in hub.asked), "what a branch means may change on the way"


def test_one_bar_tells_of_all_files_together(hub: StandIn) -> None:
    hub.repositories["acme/tiny"] = Repository(dict(SHARDS))
    events: list[Event] = []
    fetch("hf://acme/tiny", events.append, Cancel())
    bars = [event for event in events if isinstance(event, Progressed)]
    assert {event.label for event in bars} == {"fetching acme/tiny"} and bars[-1].done == bars[-1].total
    assert [event.done for event in bars] == sorted(event.done for event in bars)
    assert sorted(name for name in hub.fetched() if name.endswith(".safetensors")) == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def test_what_is_here_is_used_without_a_request(hub: StandIn) -> None:
    first = fetch("hf://acme/tiny", silent, Cancel())
    hub.asked.clear()
    assert resolve_model("hf://acme/tiny") == first.path == fetch("hf://acme/tiny", silent, Cancel()).path
    assert resolve_model(HubName.of("hf://acme/tiny").at(first.commit), fetches=False) == first.path
    assert not hub.asked
    hub.repositories["acme/tiny"].files["config.json"] = b'{"a": 1}'
    assert fetch("hf://acme/tiny", silent, Cancel()).commit == first.commit, "a name means what it meant"
    newer = fetch("hf://acme/tiny", silent, Cancel(), newest=True)
    assert newer.commit == hub.repositories["acme/tiny"].commit != first.commit


def test_a_snapshot_of_which_another_program_fetched_a_part_is_completed(hub: StandIn, tmp_path: Path) -> None:
    commit = hub.repositories["acme/tiny"].commit
    place = tmp_path / "home" / "hub" / "models--acme--tiny"
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    for name in ("config.json", "chat_template.jinja", "tokenizer.json"):
        (snapshot / name).write_bytes(WHOLE[name])
    assert cached("hf://acme/tiny") is None and lacking(snapshot) == ["model.safetensors"]
    assert cached("hf://acme/tiny", weights=False) is not None
    with pytest.raises(ModelFileError, match="not on this machine yet"):
        resolve_model("hf://acme/tiny", fetches=False)
    assert resolve_model("hf://acme/tiny") == snapshot
    assert sorted(hub.fetched()) == ["model.safetensors", "tokenizer_config.json"]
    assert lacking(snapshot) == []


def test_a_missing_shard_and_a_shortened_file_are_fetched_again(hub: StandIn) -> None:
    hub.repositories["acme/tiny"] = Repository(dict(SHARDS))
    path = fetch("hf://acme/tiny", silent, Cancel()).path
    shard = path / "model-00002-of-00002.safetensors"
    shard.unlink()
    (path / "tokenizer.json").unlink()
    (path / "model-00001-of-00002.safetensors").resolve().write_bytes(b"1" * 10)
    assert lacking(path) == ["tokenizer.json", shard.name]
    assert resolve_model("hf://acme/tiny") == path
    assert shard.read_bytes() == b"2" * 700
    assert (path / "model-00001-of-00002.safetensors").read_bytes() == b"1" * 600


def test_a_download_that_was_broken_off_is_said_and_done_again(hub: StandIn, tmp_path: Path) -> None:
    big = os.urandom(1 << 20) * 24
    hub.repositories["acme/tiny"].files["model.safetensors"] = big
    hub.held["model.safetensors"] = threading.Event()
    blobs = tmp_path / "home" / "hub" / "models--acme--tiny" / "blobs"
    with pytest.raises(Cancelled):
        fetch("hf://acme/tiny", silent, Cancel(lambda: any(one.stat().st_size > 1 << 20  # no small file before it
                                                           for one in blobs.glob("*.incomplete"))))
    assert len(list(blobs.glob("*.incomplete"))) == 1 and cached("hf://acme/tiny") is None
    hub.held.pop("model.safetensors").set()
    events: list[Event] = []
    model = fetch("hf://acme/tiny", events.append, Cancel())
    assert (model.path / "model.safetensors").read_bytes() == big
    assert "MB that a broken download left were removed" in said(events) and not list(blobs.glob("*.incomplete"))


def test_a_connection_that_breaks_is_gone_on_with(hub: StandIn) -> None:
    hub.repositories["acme/tiny"].files["model.safetensors"] = bytes(range(256)) * 40
    hub.cut["model.safetensors"] = 4000
    path = fetch("hf://acme/tiny", silent, Cancel()).path
    assert (path / "model.safetensors").read_bytes() == bytes(range(256)) * 40


@pytest.mark.parametrize(("files", "gated", "source", "told"), [
    ({name: data for name, data in WHOLE.items() if not name.endswith(".safetensors")}, False, "hf://acme/tiny",
     r"as pickle \(pytorch_model.bin\), which can run code"),
    ({"README.md": b"", "tiny-Q4_K_M.gguf": b"GGUF"}, False, "hf://acme/tiny", "holds GGUF files"),
    ({"README.md": b""}, False, "hf://acme/tiny", "holds no weights as safetensors"),
    ({name: data for name, data in SHARDS.items() if "00002-of" not in name}, False, "hf://acme/tiny",
     "lists weights that it does not hold"),
    (WHOLE, True, "hf://acme/tiny", "only to who asked them"),
    (WHOLE, False, "hf://acme/tiny@v9", "has no revision 'v9'"),
    (WHOLE, False, "hf://nobody/none", "the hub has no model nobody/none"),
])
def test_what_cannot_be_had_is_refused_by_what_it_is(hub: StandIn, files: dict[str, bytes], gated: bool, source: str,
                                                     told: str) -> None:
    hub.repositories["acme/tiny"] = Repository(dict(files), gated=gated)
    with pytest.raises(ModelFileError, match=told) as refused:
        fetch(source, silent, Cancel())
    assert refused.value.hint
    assert not any(name.endswith((".bin", ".py", ".gguf")) for name in hub.fetched())


def test_a_hub_that_nobody_reaches_is_said_with_what_is_here(hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fetch("hf://acme/tiny", silent, Cancel(), weights=False).path
    assert not (path / "model.safetensors").exists()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelFileError, match=r"a part of it is here, without model\.safetensors") as refused:
        fetch("hf://acme/tiny", silent, Cancel())
    assert "network" in refused.value.hint
    assert fetch("hf://acme/tiny", silent, Cancel(), weights=False).path == path


def test_a_user_who_forbids_the_network_is_obeyed_and_our_own_word_is_no_such_wish(
        hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCALDISTILL_WENT_OFFLINE", raising=False)
    go_offline()
    assert not is_offline_by_choice() and fetch("hf://acme/tiny", silent, Cancel()).path.is_dir()
    assert "HF_HUB_OFFLINE" not in child_environment(is_offline=False)
    assert child_environment()["HF_HUB_OFFLINE"] == "1"
    monkeypatch.delenv("LOCALDISTILL_WENT_OFFLINE")
    assert is_offline_by_choice() and child_environment(is_offline=False)["HF_HUB_OFFLINE"] == "1"
    hub.repositories["acme/other"] = Repository(dict(WHOLE))
    with pytest.raises(ModelFileError, match="HF_HUB_OFFLINE forbids"):
        fetch("hf://acme/other", silent, Cancel())


@pytest.mark.parametrize("name", ["hf://just-a-name", "hf://a/b/c", "hf://../x", "hf://a/..", "hf://a/b@",
                                  "hf://a/b@../x", "hf://a b/c", "hf:///b"])
def test_names_that_lead_elsewhere_are_none(name: str) -> None:
    with pytest.raises(ModelFileError, match="form hf://organisation/name"):
        HubName.of(name)
    assert in_hub("hf://a/b@main") and not in_hub("hf://datasets/a/b") and not in_hub("shipped:a")
