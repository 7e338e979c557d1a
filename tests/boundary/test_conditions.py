"""What the machine does to a command: streams that are closed or full, locales, folders that nobody may write, files
that no program wrote. It ends with one sentence, one hint and the right code."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from localdistill import DiskFull, LocalDistillError, Workspace, explain
from localdistill.core.disk import disk_full, file_system_of
from tests.boundary.corpus import faults
from tests.boundary.running import run

DEEP = 5_000


def shell(script: str, cwd: Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """A line of shell in which `$L` is the command line."""
    return subprocess.run(["sh", "-c", script], cwd=cwd, capture_output=True, timeout=120, env={
        **os.environ, "L": f"{sys.executable} -m localdistill", **(environment or {})})


def test_a_full_disk_behind_standard_output_is_said_once(tmp_path: Path) -> None:
    for option in ("", " --json"):
        done = shell(f"$L recipe list{option} > /dev/full", tmp_path)
        assert done.returncode == 1
        assert done.stderr.count(b"error: what was to be printed could not be written: no space left on device") == 1
        assert faults(1, b"", done.stderr, False) == []


def test_a_closed_pipe_ends_quietly_as_after_sigpipe(tmp_path: Path) -> None:
    reader_gone = "($L recipe schema; echo $? >&3) 3>code | true"
    for script in ("$L recipe list >&-", "$L recipe list >&- 2>&- <&-", reader_gone):
        done = shell(script, tmp_path)
        assert done.stdout == b"" and done.stderr == b"", script
    assert shell("$L recipe list >&-", tmp_path).returncode == 141
    assert (tmp_path / "code").read_text() == "141\n"


@pytest.mark.parametrize("environment", [
    {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"TERM": "dumb", "COLUMNS": "1", "HOME": "/nowhere"}])
def test_letters_that_the_terminal_has_not_are_escaped(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "ü.toml").write_text('name = "ü"\ndescription = "…你"\n', encoding="utf-8")
    for option in ("", " --json"):
        done = shell(f"$L recipe check ü.toml{option}; $L recipe list{option} > list", tmp_path, environment)
        assert faults(2, done.stdout, done.stderr, bool(option)) == []
        assert b".toml" in done.stderr


def deep_and_long(folder: Path) -> list[Path]:
    """Recipes that no hand wrote."""
    texts = {"deep": "a = " + "[" * DEEP + "]" * DEEP, "keys": "[" + ".".join("a" * DEEP) + "]\nb = 1",
             "tables": "b = " + "{a = " * DEEP + "1" + "}" * DEEP, "digits": "[train]\nepochs = " + "9" * 6000,
             "bits": "[train]\nepochs = 0x" + "f" * 6000, "float": "[train]\nepochs = " + "9" * 6000 + ".0"}
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(f'name = "x"\n{text}\n')
    return [folder / f"{name}.toml" for name in texts]


def test_recipes_that_nest_without_end_and_numbers_without_end_are_refused(tmp_path: Path) -> None:
    for path in deep_and_long(tmp_path):
        for command in ("check", "upgrade"):
            ended = run(["recipe", command, str(path), "--json"], tmp_path)
            assert faults(ended.code, ended.out, ended.err, True) == [], path
            assert ended.code == 2 or command == "upgrade"


def test_a_file_is_no_workspace_and_looking_makes_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = run(["runs", "-w", "file"], tmp_path)
    assert refused.code == 2 and "is a file, and a workspace is a folder" in refused.text
    for command in ("runs", "status", "traces", "exports", "scores"):
        refused = run([command, "-w", "wokspace"], tmp_path)
        assert refused.code == 2 and "there is no folder" in refused.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
    with pytest.raises(LocalDistillError, match="not UTF-8"):
        Workspace.find(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))


def test_the_ui_asks_for_a_terminal(tmp_path: Path) -> None:
    refused = run(["tui"], tmp_path)
    assert refused.code == 2 and "needs a terminal" in refused.text and refused.out == b""


def test_an_interruption_is_said_in_a_sentence(tmp_path: Path) -> None:
    ended = run(["runs"], tmp_path, before="tests.boundary.conditions:interrupt_listing")
    assert ended.code == 130 and faults(130, ended.out, ended.err, False) == []


def test_a_library_that_ends_a_command_under_a_limit_is_told_and_a_killer_is_obeyed(tmp_path: Path) -> None:
    ended = run(["runs", "--json"], tmp_path, before="tests.boundary.conditions:end_listing_by_a_library")
    assert ended.code == 1 and "error: memory ran out, and a library ended the command" in ended.text
    assert "ulimit -v; it is 68.7 GB" in ended.text and faults(1, ended.out, ended.err, True) == []
    assert run(["runs"], tmp_path, before="tests.boundary.conditions:kill_listing").code == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="macOS limits no addresses")
@pytest.mark.whole
@pytest.mark.parametrize("limit_kb", [350_000, 450_000])
def test_an_import_for_which_memory_is_too_small_ends_in_a_sentence(tmp_path: Path, limit_kb: int) -> None:
    (tmp_path / "a.jsonl").write_text('{"messages": [{"role": "user", "content": "1 + 1?"}]}\n' * 3000)
    ended = shell(f"ulimit -v {limit_kb}; $L import a.jsonl", tmp_path)
    assert ended.returncode == 1 and faults(1, ended.stdout, ended.stderr, False) == []
    assert b"error: memory ran out" in ended.stderr and b"ulimit -v" in ended.stderr


@pytest.mark.parametrize(("number", "said"), [
    (errno.EACCES, "is not open to this user"), (errno.EROFS, "is mounted read-only"), (errno.ENOENT, "there is no"),
    (errno.EISDIR, "is a folder"), (errno.ENOTDIR, "not a folder"), (errno.EMFILE, "too many files"),
    (errno.ENOMEM, "memory ran out"), (errno.ENOSPC, "is full"), (errno.EDQUOT, "quota"), (errno.EFBIG, "larger"),
    (errno.EIO, "could not read or write")])
def test_what_the_system_says_becomes_a_sentence_and_a_hint(tmp_path: Path, number: int, said: str) -> None:
    told = explain(OSError(number, os.strerror(number), str(tmp_path / "x")))
    assert said in told.message and told.hint and "Errno" not in told.message


def test_a_full_disk_is_told_in_numbers(tmp_path: Path) -> None:
    found = file_system_of(tmp_path / "not" / "there")
    assert found.mount.is_mount() and found.total_bytes > found.free_bytes
    told = disk_full(tmp_path / "big.gguf", needed_bytes=found.free_bytes + 10**12)
    assert isinstance(told, DiskFull) and str(found.mount) in told.hint
    assert "big.gguf needs " in told.message and " GB, " in told.message and "are free" in told.message


def in_own_mounts(script: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """A script of shell with mounts of its own; the test is left out where this machine gives none."""
    command: Sequence[str] = ("unshare", "-rm", "sh", "-c", script)
    try:
        if subprocess.run([*command[:-1], "mount -t tmpfs x /mnt"], capture_output=True, timeout=60).returncode:
            pytest.skip("no mount of one's own here")
    except FileNotFoundError:
        pytest.skip("no unshare here")
    return subprocess.run(command, cwd=cwd, capture_output=True, timeout=240, env={
        **os.environ, "L": f"{sys.executable} -m localdistill", "PYTHONPATH": os.getcwd()})


def test_a_full_file_system_is_named_with_what_is_needed(tmp_path: Path) -> None:
    done = in_own_mounts("mount -t tmpfs -o size=64k x /mnt && head -c 60000 /dev/zero > /mnt/z;"
                         " cd /mnt && $L recipe new a.toml --from paper && $L recipe new b.toml --from paper"
                         " && $L recipe new c.toml --from paper", tmp_path)
    assert done.returncode == 1 and b"the disk at /mnt (65.5 kB) is full: " in done.stderr, done.stderr
    assert faults(1, b"", done.stderr, False) == []


@pytest.mark.slow
def test_a_workspace_on_a_read_only_disk_is_looked_at_like_any_other(tmp_path: Path) -> None:
    from tests.tui import prepared

    prepared.make(tmp_path / "w")
    mounted = f"mount --bind {tmp_path}/w /mnt && mount -o remount,bind,ro /mnt && cd /mnt"
    looking = ("status", "runs", "traces", "traces --search plums", "traces --where score=0", "selections", "datasets",
               "scores", "exports", "quarantine", "attach garden-1", "runs prune --dry-run", "plan garden.toml")
    for command in looking:
        done = in_own_mounts(f"{mounted} && $L {command}", tmp_path)
        assert done.returncode == 0, f"{command}: {done.stderr!r}"
    for command in ("run garden.toml", "judge b2:b92 right"):
        done = in_own_mounts(f"{mounted} && $L {command}", tmp_path)
        assert faults(done.returncode, done.stdout, done.stderr, False) == [] and done.returncode != 0
