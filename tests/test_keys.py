"""A canary key shows up nowhere but at its own host: not printed, not in errors, files of others, lists or JSON."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import stat
import sys
import traceback
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from localdistill.cli.keys import app
from localdistill.core.errors import DiskFull, LocalDistillError, UsageError
from localdistill.keys import storage as key_store
from localdistill.keys.access import Key, KeyEntry, allow, approvals, entries, find_key, keys_path, remove_key
from localdistill.keys.access import store_key as store
from tests.helpers import files_of_at_most

CANARY = "sk-canary-7f3a9b"


pytestmark = pytest.mark.usefixtures("own_config")


def store_key(name: str, host: str, text: str) -> KeyEntry:
    return store(Key(text, name, host, "file"))


def shown_by_a_crash(error: BaseException) -> str:
    """A crash report with the variables of every function of ours, as terminal programs print it."""
    own = str(Path(key_store.__file__).parent)
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [f"{frame.name} {frame.locals}" for frame in report.stack if frame.filename.startswith(own)]
    return "\n".join([*frames, str(error), repr(error.__dict__), repr(error.__cause__), repr(error.__context__)])


class FakeKeyring(types.ModuleType):
    """A keyring in memory; `works` false gives a backend that loses what it is given."""

    def __init__(self, priority: float = 5, works: bool = True) -> None:
        super().__init__("keyring")
        self.priority, self.works = priority, works
        self.kept: dict[tuple[str, str], str] = {}

    def get_keyring(self) -> FakeKeyring:
        return self

    def set_password(self, service: str, user: str, word: str) -> None:
        if self.works:
            self.kept[service, user] = word

    def get_password(self, service: str, user: str) -> str | None:
        return self.kept.get((service, user))

    def delete_password(self, service: str, user: str) -> None:
        del self.kept[service, user]


def test_a_key_hides_itself() -> None:
    key = Key(CANARY, "X_API_KEY", "api.example.com", "file")
    holder = {"key": key, "list": [key]}
    shown = [repr(key), str(key), f"{key}", f"{key!r:>80}", f"{key:>80}", f"{holder}", json.dumps(holder, default=str)]
    shown += [repr(copy.deepcopy(holder)), repr(copy.copy(key)), str(dir(key)), repr(getattr(key, "__dict__", ""))]
    assert not any(CANARY in text for text in shown)
    for wrong in (lambda: pickle.dumps(key), lambda: json.dumps(key), lambda: pickle.dumps(holder)):
        with pytest.raises(TypeError) as caught:
            wrong()
        assert CANARY not in str(caught.value)
    assert key.reveal() == CANARY

    @dataclasses.dataclass
    class Target:
        key: Key

    assert CANARY not in repr(dataclasses.asdict(Target(key)))


def test_a_providers_variable_goes_to_its_host_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", f" {CANARY}\n")
    found = find_key("DEEPSEEK_API_KEY", "api.deepseek.com")
    assert found is not None and found.reveal() == CANARY and found.source == "environment"
    assert find_key("DEEPSEEK_API_KEY", "https://API.deepseek.com:443/v1") is not None
    for host in ("evil.example", "api.deepseek.com.evil.example", "evil-api.deepseek.com", "127.0.0.1", "localhost",
                 "api.openai.com"):
        with pytest.raises(UsageError) as caught:
            find_key("DEEPSEEK_API_KEY", host)
        assert f"localdistill keys allow DEEPSEEK_API_KEY {host}" in caught.value.hint
        assert CANARY not in shown_by_a_crash(caught.value)


def test_any_other_variable_goes_to_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", CANARY)
    for host in ("127.0.0.1", "localhost", "[::1]:8000"):
        assert find_key("MY_SECRET", host) is not None
    for host in ("evil.example", "10.0.0.8", "localhost.evil.example"):
        with pytest.raises(UsageError, match="not sent"):
            find_key("MY_SECRET", host)
    assert find_key("MY_SECRET", "") is None and find_key("", "127.0.0.1") is None
    assert find_key("NOT_SET", "evil.example") is None


def test_the_variable_of_a_local_server_goes_to_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", CANARY)
    assert find_key("VLLM_API_KEY", "localhost") is not None
    with pytest.raises(UsageError):
        find_key("VLLM_API_KEY", "gpu.example.com")


def test_an_approval_opens_one_host_for_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("GROQ_API_KEY", CANARY)
    allow("OPENAI_API_KEY", "https://proxy.example/v1")
    allow("OPENAI_API_KEY", "proxy.example")
    assert [(a.name, a.host) for a in approvals()] == [("OPENAI_API_KEY", "proxy.example")]
    assert find_key("OPENAI_API_KEY", "proxy.example") is not None
    for name, host in (("GROQ_API_KEY", "proxy.example"), ("OPENAI_API_KEY", "other.example")):
        with pytest.raises(UsageError):
            find_key(name, host)
    remove_key("OPENAI_API_KEY")
    with pytest.raises(UsageError):
        find_key("OPENAI_API_KEY", "proxy.example")


def test_a_stored_key_is_for_its_host_alone(own_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_key("LAB_KEY", "gpu.example.com", CANARY).source == "file"
    found = find_key("LAB_KEY", "gpu.example.com")
    assert found is not None and found.reveal() == CANARY
    assert find_key("LAB_KEY", "evil.example") is None and find_key("LAB_KEY", "127.0.0.1") is None
    monkeypatch.setenv("LAB_KEY", "from-the-environment")
    found = find_key("LAB_KEY", "gpu.example.com")
    assert found is not None and found.source == "file", "the variable may not go there, the stored key may"
    found = find_key("LAB_KEY", "127.0.0.1")
    assert found is not None and found.source == "environment"


def test_the_environment_comes_before_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    store_key("GROQ_API_KEY", "api.groq.com", "stored")
    monkeypatch.setenv("GROQ_API_KEY", CANARY)
    found = find_key("GROQ_API_KEY", "api.groq.com")
    assert found is not None and found.reveal() == CANARY


def test_the_file_is_for_the_user_alone_from_the_start(own_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[int] = []
    real = key_store.publish

    def watch(partial: Path, final: Path) -> None:
        modes.append(stat.S_IMODE(partial.stat().st_mode))
        real(partial, final)

    monkeypatch.setattr(key_store, "publish", watch)
    old = os.umask(0)
    try:
        store_key("A_KEY", "a.example", CANARY)
    finally:
        os.umask(old)
    assert modes == [0o600]
    assert stat.S_IMODE(own_config.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in own_config.iterdir()} == {0o600}
    assert sorted(path.name for path in own_config.iterdir()) == ["keys.json", "keys.lock"]


def test_a_file_that_others_can_read_is_refused(own_config: Path) -> None:
    store_key("A_KEY", "a.example", CANARY)
    keys_path().chmod(0o640)
    with pytest.raises(LocalDistillError, match="may be read by others") as caught:
        find_key("A_KEY", "a.example")
    assert "chmod 600" in caught.value.hint


def test_a_write_that_fails_leaves_the_old_file(own_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store_key("A_KEY", "a.example", CANARY)
    before = keys_path().read_bytes()

    def full(partial: Path, final: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(key_store, "publish", full)
    with pytest.raises(DiskFull, match=r"keys\.json") as caught:
        store_key("B_KEY", "b.example", "other")
    assert CANARY not in shown_by_a_crash(caught.value)
    assert keys_path().read_bytes() == before
    assert sorted(path.name for path in own_config.iterdir()) == ["keys.json", "keys.lock"]


@pytest.mark.parametrize("text", ["not json", "[]", '{"keys": [{"name": "A"}], "approvals": []}', '{"keys": 3}'])
def test_a_damaged_file_is_named_and_not_shown(own_config: Path, text: str) -> None:
    store_key("A_KEY", "a.example", CANARY)
    keys_path().write_text(text + CANARY if text == "not json" else text)
    with pytest.raises(LocalDistillError, match=r"keys\.json is damaged") as caught:
        find_key("A_KEY", "a.example")
    assert CANARY not in shown_by_a_crash(caught.value)


@pytest.mark.parametrize("text", ["", "two words", f"{CANARY}\r\nX-Evil: 1", "schlüssel", "a\0b"])
def test_what_cannot_stand_in_a_header_is_no_key(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError) as caught:
        store_key("A_KEY", "a.example", text)
    assert CANARY not in shown_by_a_crash(caught.value) + caught.value.hint
    if text and "\0" not in text:
        monkeypatch.setenv("A_KEY", text)
        with pytest.raises(UsageError) as caught:
            find_key("A_KEY", "127.0.0.1")
        assert CANARY not in shown_by_a_crash(caught.value) + caught.value.hint


def test_writers_at_once_lose_nothing() -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store_key(f"KEY_{n}", "a.example", f"word-{n}"), range(24)))
    assert {entry.name for entry in entries()} == {f"KEY_{n}" for n in range(24)}


def test_a_working_keyring_keeps_the_key_and_the_file_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = FakeKeyring()
    monkeypatch.setitem(sys.modules, "keyring", ring)
    assert store_key("A_KEY", "a.example", CANARY).source == "keyring"
    assert CANARY not in keys_path().read_text() and CANARY in ring.kept.values()
    found = find_key("A_KEY", "a.example")
    assert found is not None and found.reveal() == CANARY and found.source == "keyring"
    assert find_key("A_KEY", "b.example") is None
    remove_key("A_KEY")
    assert ring.kept == {} and find_key("A_KEY", "a.example") is None


@pytest.mark.parametrize("ring", [FakeKeyring(priority=0), FakeKeyring(works=False)], ids=["no place", "forgets"])
def test_without_a_working_keyring_the_file_keeps_it(ring: FakeKeyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", ring)
    assert store_key("A_KEY", "a.example", CANARY).source == "file"
    found = find_key("A_KEY", "a.example")
    assert found is not None and found.reveal() == CANARY


def test_removing_names_what_is_gone() -> None:
    store_key("A_KEY", "a.example", "one")
    store_key("A_KEY", "b.example", "two")
    assert [entry.host for entry in remove_key("A_KEY", "a.example")] == ["a.example"]
    assert [entry.host for entry in entries()] == ["b.example"]
    with pytest.raises(UsageError, match="did you mean 'A_KEY'"):
        remove_key("A_KEYS")


def run(*words: str, stdin: str = "") -> str:
    """What a `keys` command prints, both streams; errors are raised."""
    result = CliRunner().invoke(app, list(words), input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_commands_never_show_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", CANARY)
    said = run("set", "deepseek", stdin=f"{CANARY}\n")
    assert "DEEPSEEK_API_KEY for api.deepseek.com" in said
    said += run("set", "LAB_KEY", "--host", "https://gpu.example.com:8443/v1", "--json", stdin=CANARY)
    said += run("allow", "OPENAI_API_KEY", "proxy.example") + run("list")
    listed = json.loads(run("list", "--json"))
    assert {(row["name"], row["host"], row["source"]) for row in listed["keys"]} == {
        ("DEEPSEEK_API_KEY", "api.deepseek.com", "file"), ("LAB_KEY", "gpu.example.com", "file"),
        ("MISTRAL_API_KEY", "api.mistral.ai", "environment"),
    }
    assert listed["approvals"] == [{"name": "OPENAI_API_KEY", "host": "proxy.example"}]
    said += json.dumps(listed) + run("remove", "deepseek") + run("list")
    assert CANARY not in said and "approved" in said
    assert find_key("DEEPSEEK_API_KEY", "api.deepseek.com") is None


def test_a_key_typed_as_the_name_is_not_repeated() -> None:
    for words in (["set", CANARY], ["remove", CANARY], ["allow", CANARY, "a.example"]):
        with pytest.raises(UsageError) as caught:
            run(*words)
        assert CANARY not in caught.value.message + caught.value.hint


def test_a_variable_that_no_provider_names_needs_a_host() -> None:
    with pytest.raises(UsageError, match="which host"):
        run("set", "LAB_KEY", stdin=CANARY)
    with pytest.raises(UsageError, match="needs no key"):
        run("set", "ollama", stdin=CANARY)


def test_on_a_terminal_the_key_is_typed_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    from localdistill.cli import output

    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt, stream=None: asked.append(prompt) or CANARY)
    assert output.ask_hidden("key: ") == CANARY and asked == ["key: "]


def test_keys_that_do_not_fit_on_the_disk_leave_the_old_ones(own_config: Path) -> None:
    first = store(Key("sk-canary-0123456789", "MY_KEY", "127.0.0.1", "file"))
    with files_of_at_most(10), pytest.raises(DiskFull, match=r"keys\.json would grow larger") as caught:
        store(Key("sk-canary-9876543210", "MY_KEY", "127.0.0.1", "file"))
    assert "sk-canary" not in str(vars(caught.value)) and entries() == [first]
    assert sorted(path.name for path in own_config.iterdir()) == ["keys.json", "keys.lock"]
