"""The command line as a newcomer meets it: exit codes, data on stdout, talk on stderr, JSON, and hints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import collecting_recipe, counting_server, write_questions


def run(*args: str, cwd: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    script = "import sys; from localdistill.cli import main; sys.argv[0] = 'localdistill'; main()"
    return subprocess.run(
        [sys.executable, "-c", script, *args], capture_output=True, text=True, cwd=cwd, input=text, timeout=120
    )


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n} + 1?"},
                {"role": "assistant", "content": f"<think>\nadd one\n</think>\n\nThe answer is {n + 1}."},
            ]
        }
        for n in range(5)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_no_arguments_and_unknown_commands_are_usage_errors(tmp_path: Path) -> None:
    assert "Commands:" in run("--help", cwd=tmp_path).stdout
    assert run("trian", cwd=tmp_path).returncode == 2


def test_version(tmp_path: Path) -> None:
    import localdistill

    assert run("--version", cwd=tmp_path).stdout.strip() == localdistill.__version__


def test_a_recipe_with_problems_ends_with_2_and_names_file_key_and_nearest(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[tracs]\nfiles = ["a"]\n')
    out = run("recipe", "check", str(path), cwd=tmp_path)
    assert out.returncode == 2 and out.stdout == ""
    assert f"{path}: tracs: unknown key; did you mean 'traces'?" in out.stderr
    shown = run("recipe", "check", str(path), "--json", cwd=tmp_path)
    assert json.loads(shown.stdout)["exit_code"] == 2


def test_recipe_list_new_check_schema(tmp_path: Path) -> None:
    names = [row["name"] for row in json.loads(run("recipe", "list", "--json", cwd=tmp_path).stdout)]
    assert "pantry" in names and "gsm8k-traces" in names
    assert run("recipe", "new", "mine.toml", cwd=tmp_path).returncode == 0
    again = run("recipe", "new", "mine.toml", cwd=tmp_path)
    assert again.returncode == 2 and "exists already" in again.stderr
    assert "fine" in run("recipe", "check", "mine.toml", cwd=tmp_path).stdout
    assert "properties" in json.loads(run("recipe", "schema", cwd=tmp_path).stdout)
    assert "did you mean 'pantry'?" in run("recipe", "check", "pantri", cwd=tmp_path).stderr


def test_import_shows_rows_stores_them_and_traces_lists_them(tmp_path: Path, rows: Path) -> None:
    out = run("import", str(rows), cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    assert "layout messages" in out.stderr and "What is 2 + 1?" in out.stderr and "What is 3 + 1?" not in out.stderr
    listed = json.loads(run("traces", "--json", cwd=tmp_path).stdout)
    assert len(listed) == 5
    found = json.loads(run("traces", "--where", "question like '%4 + 1%'", "--json", cwd=tmp_path).stdout)
    assert [row["question"] for row in found] == ["What is 4 + 1?"]
    refused = run("traces", "--where", "questoin = 'x'", "--json", cwd=tmp_path)
    assert refused.returncode == 2 and "questoin" in json.loads(refused.stdout)["error"]
    shown = run("show", listed[0]["trace_id"][:12], cwd=tmp_path)
    assert "[reasoning]\nadd one" in shown.stdout
    assert run("show", "b2:ffff", cwd=tmp_path).returncode == 2


def test_import_says_which_marks_nobody_knows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    texts = ["<|musing|>Hm.<|/musing|>It is 6."] * 2 + ["It is 6.", "<div>It is 6.</div>"]
    rows = [{"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": text}]}
            for n, text in enumerate(texts)]
    path.write_text("\n".join(map(json.dumps, rows)))
    out = run("import", str(path), cwd=tmp_path)
    assert out.returncode == 0 and "4 rows" in out.stderr and "text_marks" in out.stderr
    assert "2 hold what looks like a mark of reasoning" in out.stderr and "2 x <|musing|>" in out.stderr
    [report] = json.loads(run("import", str(path), "--json", cwd=tmp_path).stdout)
    assert report["unknown_marks"] == {"<|musing|>": 2}
    looked = run("import", str(path), "--preview", cwd=tmp_path)
    assert "<|musing|> looks like a mark of reasoning" in looked.stderr


def test_a_row_that_cannot_be_used_is_named_and_the_rest_comes_in(tmp_path: Path, rows: Path) -> None:
    bad = {"messages": [{"role": "assistant", "content": "hello"}], "idx": 1}
    rows.write_text(rows.read_text() + json.dumps(bad) + "\n" + json.dumps(bad) + "\n")
    out = run("import", str(rows), cwd=tmp_path)
    assert out.returncode == 0 and "2 rows left out:\n    2 x " in out.stderr and "row 6" in out.stderr
    assert len(json.loads(run("traces", "--json", cwd=tmp_path).stdout)) == 5
    rows.write_text(json.dumps(bad) + "\n")
    refused = run("import", str(rows), cwd=tmp_path)
    assert refused.returncode == 2 and "no row can be used" in refused.stderr and "row 1" in refused.stderr


def test_a_guess_of_what_columns_hold_is_taken_only_when_somebody_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"question": "1 + 1?", "answer": "2", "mood": "fine"}) + "\n")
    refused = run("import", str(path), cwd=tmp_path)
    assert refused.returncode == 2 and "--map question=question reference=answer" in refused.stderr
    taken = run("import", str(path), "--yes", cwd=tmp_path)
    assert taken.returncode == 0 and "1 new prompts" in taken.stderr and "columns not used: mood (1)" in taken.stderr
    named = run("import", str(path), "--map", "question=question answer=answer", "--json", cwd=tmp_path)
    [report] = json.loads(named.stdout)
    assert report["new_traces"] == 1 and report["unused"] == {"mood": 1}
    wrong = run("import", str(path), "--map", "qestion=question", cwd=tmp_path)
    assert wrong.returncode == 2 and "did you mean 'question'?" in wrong.stderr


def test_hostile_text_never_reaches_the_terminal_raw(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    evil = "\x1b]52;c;aGVsbG8=\x07 \x9b31m \u202e reversed"
    path.write_text(
        json.dumps({"messages": [{"role": "user", "content": evil}, {"role": "assistant", "content": evil}]}) + "\n"
    )
    out = run("import", str(path), cwd=tmp_path)
    listed = run("traces", cwd=tmp_path)
    for text in (out.stderr, listed.stdout):
        assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e"}


def test_a_run_from_the_command_line(tmp_path: Path) -> None:
    with counting_server() as server:
        recipe = tmp_path / "mine.toml"
        recipe.write_text(collecting_recipe(write_questions(tmp_path / "q.jsonl", 4), server.url))
        planned = run("plan", str(recipe), cwd=tmp_path)
        assert "4 x 1 = 4 calls" in planned.stdout and "unknown: no document" in planned.stdout
        assert not server.asked
        out = run("run", str(recipe), cwd=tmp_path)
        assert out.returncode == 0, out.stderr
        assert "run finished" in out.stderr and "exact@3: right 4" in out.stderr
    listed = json.loads(run("runs", "--json", cwd=tmp_path).stdout)
    assert [(row["run"], row["state"]) for row in listed] == [("collecting-1", "finished")]
    followed = [json.loads(line) for line in run("attach", "--json", cwd=tmp_path).stdout.splitlines()]
    assert followed[0]["kind"] == "run_started" and followed[-1]["kind"] == "run_finished"
    pruned = json.loads(run("runs", "prune", "--dry-run", "--json", cwd=tmp_path).stdout)
    assert pruned[0]["name"] == "collecting-1" and "younger" in pruned[0]["kept_by"]


def test_a_missing_teacher_file_is_named(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'name = "mine"\n[prompts]\nfiles = ["q.jsonl"]\n[teacher]\nuse = "llama_cpp"\nmodel = "no.gguf"\n'
    )
    write_questions(tmp_path / "q.jsonl", 2)
    out = run("run", str(recipe), cwd=tmp_path)
    assert out.returncode == 2 and "engine.teacher.model" in out.stderr and "no.gguf" in out.stderr
    assert not (tmp_path / "runs").exists()


def test_a_run_whose_ledger_is_gone_stops_until_it_is_said_what_was_spent(tmp_path: Path) -> None:
    with counting_server() as server:
        server.usage = {"prompt_tokens": 10, "completion_tokens": 50}
        prices = "usd_per_million_input = 1.0\nusd_per_million_output = 100.0\n[collect]\nmax_tokens = 50"
        text = collecting_recipe(write_questions(tmp_path / "q.jsonl", 30), server.url, extra=prices)
        (tmp_path / "mine.toml").write_text("max_usd = 0.08\n" + text)
        assert run("collect", "mine.toml", cwd=tmp_path).returncode == 4
        asked, folder = sum(server.asked.values()), tmp_path / "runs" / "collecting-1"
        refused = run("resume", "--spent", "0", cwd=tmp_path)
        assert refused.returncode == 2 and "is whole" in refused.stderr
        (folder / "calls.jsonl").unlink()
        stopped = run("resume", "--max-usd", "5", cwd=tmp_path)
        assert stopped.returncode == 4 and "resume collecting-1 --spent USD" in stopped.stderr
        assert sum(server.asked.values()) == asked
        assert "--spent" in run("status", cwd=tmp_path).stdout
        went_on = run("resume", "collecting-1", "--spent", "0.08", cwd=tmp_path)
        assert went_on.returncode == 0, went_on.stderr
    assert sum(server.asked.values()) == 30
    assert '"stated":80000000' in (folder / "calls.jsonl").read_text()
