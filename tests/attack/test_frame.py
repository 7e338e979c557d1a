"""What an attack calls bad, and that one case can be done again on the same ground."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from localdistill import LocalDistillError, Workspace
from tests.attack.__main__ import cases_of
from tests.attack.ground import Place, replace_bytes
from tests.attack.judging import compared, judged, of_error, worst
from tests.attack.kinds import KINDS
from tests.attack.view import FAULT, Look, Seen, call, command
from tests.attack.worker import chance_of
from tests.helpers import REPO

SOUND = Seen('[\n "b2:1",\n "b2:2"\n]', ("0 would go",))


@pytest.mark.parametrize(("after", "how"), [
    (SOUND, "same"),
    (Seen(SOUND.shown, (*SOUND.said, "the store had lost 1 reply; it is back")), "healed"),
    (Seen('[\n "b2:1"\n]', SOUND.said), "bad"),
    (Seen('[\n "b2:1"\n]', (*SOUND.said, "r-1: 1 lines of its journal are damaged or gone")), "healed"),
    (Seen('[\n "b2:1",\n "rows.parquet is damaged"\n]', SOUND.said), "healed"),
    (Seen("", (), "error: the store is damaged", "rebuild it"), "named"),
    (Seen("", (), "error: the store is damaged"), "bad"),
    (Seen("", (), "error: [Errno 5] Input/output error", "wait"), "bad"),
    (Seen("", (), "error: KeyError: 'files'", f"this is a {FAULT}"), "bad"),
    (Seen("", (), crash="OSError: Input/output error"), "bad"),
])
def test_what_differs_in_silence_or_breaks_is_bad_and_what_is_said_is_not(after: Seen, how: str) -> None:
    assert compared("look", SOUND, after)[0] == how


def test_what_did_no_harm_may_be_shown_otherwise_but_breaks_nothing(tmp_path: Path) -> None:
    look, sound = call("look", lambda _: ([], ())), {"look": Seen("[1]")}
    crashes = Look("look", lambda _: Seen("", crash="KeyError"))
    workspace = Workspace(tmp_path)
    assert judged("teachers/a.json is gone", sound, [look], workspace).how == "same"
    assert judged("teachers/a.json is gone", sound, [crashes], workspace).how == "bad"
    assert judged("teachers/a.json is empty", sound, [look], workspace).how == "bad"


def test_an_error_of_ours_is_named_and_every_other_one_is_bad() -> None:
    assert of_error("it", LocalDistillError("it broke", "mend it"))[0] == "named"
    assert of_error("it", FileNotFoundError(2, "No such file", "/nowhere"))[0] == "named", "it is explained"
    assert of_error("it", KeyError("it broke"))[0] == "bad"
    assert worst("this", [("same", ""), ("bad", "worse"), ("named", "an error")]).said == "worse"


def test_looks_catch_what_reaches_a_person(tmp_path: Path) -> None:
    def breaks(_: Workspace) -> tuple[object, tuple[str, ...]]:
        raise KeyError("files")

    workspace = Workspace(tmp_path)
    assert "KeyError: 'files'" in call("deep", breaks).at(workspace).crash
    assert command("runs").at(workspace).said == ("no runs yet; try: localdistill run pantry",)
    wrong = command("show", "b2:none").at(workspace)
    assert wrong.error and not wrong.crash


def test_ground_is_put_right_again(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    for name in ("runs/a-1/events.jsonl", "runs/a-1/log.txt", "artifacts/dataset/0123456789abcdef0123456789abcdef/x"):
        (victim / name).parent.mkdir(parents=True, exist_ok=True)
        (victim / name).write_text(name)
    place = Place(victim, tmp_path / "copy")
    assert list(place.by_kind) == ["artifacts/dataset/*/x", "runs/*/events.jsonl"], "nobody promises anything of a log"
    root = place.fresh().root
    replace_bytes(root / "runs/a-1/events.jsonl", b"else")
    (root / "runs/a-1/log.txt").unlink()
    (root / "runs/a-1/log.txt").mkdir()
    (root / "stray").write_text("stray")
    place.fresh()
    assert {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()} == {
        name: name for name in place.files}


def test_a_worker_keeps_its_pipes_when_a_command_takes_the_standard_streams(tmp_path: Path) -> None:
    script = ("import sys; from pathlib import Path; from tests.attack.worker import _own_pipes;"
              "cases, answers = _own_pipes(Path(sys.argv[1])); first = cases.readline();"
              "from tests.attack.view import run_command; seen = run_command(['runs', '-w', sys.argv[2]]);"
              "print('a word'); answers.write(first + cases.readline() + seen.error + seen.crash + sys.stdin.read())")
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "log"), str(tmp_path)], cwd=REPO,
                          input="one\ntwo\n", capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("one\ntwo\n", "") and (tmp_path / "log").read_text() == "a word\n"


def test_the_same_seed_makes_the_same_attack() -> None:
    first, again = (cases_of(KINDS, 40, seed=3) for _ in range(2))
    assert first == again and {case.kind for case in first} == set(KINDS)
    assert chance_of(3, "bits", 7).random() == chance_of(3, "bits", 7).random() != chance_of(3, "bits", 8).random()
