"""What a person asks of `export_data`: the rows, what is said of them, and files that are whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localdistill import DataChoice, Workspace, data_layouts, data_tools, export_data, import_file
from localdistill.core.errors import InputError, UsageError
from localdistill.core.records import Fact, Message, Prompt, Trace, Usage
from localdistill.interchange.files import read_file
from localdistill.store import Store
from localdistill.store.taking_out import FEWEST


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two prompts, four answers of an API: right, wrong, right and cut off, undecided."""
    place = Workspace(tmp_path / "ws")
    store = Store(place.store_path)
    prompts = [Prompt((Message("user", f"question {n}"),), str(n), source="mine.jsonl", licence="mit") for n in (1, 2)]
    store.add_prompts(prompts)
    traces = [Trace(f"b2:{n}", prompts[n // 2].id, "openai_compatible", f"/home/somebody/models/m{n % 2}.gguf",
                    f"think {n}", f"answer {n}", raw='{"id": 1}', usage=Usage(1, 2), trace_kind="raw",
                    status="length" if n == 2 else "complete", terms="conditional:deepseek" if n else "",
                    source="mine.jsonl")
              for n in range(4)]
    store.add_traces(traces)
    store.add_facts([Fact("b2:0", "math", value=1.0, passed=True), Fact("b2:1", "math", value=0.0, passed=False),
                     Fact("b2:2", "math", value=0.0, passed=False), Fact("b2:2", "person", kind="judgement", value=1.0,
                                                                         passed=True)])
    store.save_selection("chosen", {"filters": [{"use": "verified"}]}, ["b2:2", "b2:0"], {"verified": 2})
    return place


def rows_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_all_that_is_stored_goes_out_in_messages_with_what_is_known(workspace: Workspace, tmp_path: Path) -> None:
    done = export_data(workspace, tmp_path / "out.jsonl")
    first = rows_of(tmp_path / "out.jsonl")[0]
    assert first["messages"] == [{"role": "user", "content": "question 1"},
                                 {"role": "assistant", "content": "answer 0", "reasoning_content": "think 0"}]
    assert (first["reference"], first["source"], first["licence"], first["correct"]) == ("1", "mine.jsonl", "mit", True)
    assert (done.rows, done.traces, done.layout, done.reasoning) == (4, 4, "messages", "field")
    assert done.verdicts == {"right": 2, "wrong": 1, "undecided": 1}
    assert done.lost["how it was asked"] == done.lost["usage, cost and time"] == done.lost["the reply as it came"] == 4
    assert "the file it came from" not in done.lost
    assert done.lost["what graders, labels and people say, but for the verdict"] == 3
    assert any("1 of 4 answers are wrong" in note for note in done.notes)
    assert any("1 answers are not complete (length 1)" in note for note in done.notes)


def test_what_came_out_comes_in_again_as_it_was(workspace: Workspace, tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.jsonl.gz", "out.parquet"):
        export_data(workspace, tmp_path / name)
        other = Workspace(tmp_path / f"in-{name}")
        report = import_file(other, tmp_path / name)
        assert (report.layout, report.new_prompts, report.new_traces, report.verdicts, report.left_out) == (
            "messages", 2, 4, 3, 0)
        assert not report.unused
        there, here = Store(other.store_path), Store(workspace.store_path)
        assert list(there.prompts()) == list(here.prompts())
        assert [(t.reasoning, t.answer, t.model, t.status, t.terms) for t in there.traces()] == [
            (t.reasoning, t.answer, t.model, t.status, t.terms) for t in here.traces()]
        export_data(other, tmp_path / f"again-{name}")
        assert (tmp_path / f"again-{name}").read_bytes() == (tmp_path / name).read_bytes()


def test_a_selection_a_condition_and_a_text_choose(workspace: Workspace, tmp_path: Path) -> None:
    def answers(choice: DataChoice) -> list[str]:
        export_data(workspace, tmp_path / "out.jsonl", choice, force=True)
        return [item.trace.answer for _, item in read_file(tmp_path / "out.jsonl") if item.trace]

    assert answers(DataChoice(selection="chosen")) == ["answer 0", "answer 2"]
    assert answers(DataChoice(where="score = 0")) == ["answer 1"]
    assert answers(DataChoice(search="think 3")) == ["answer 3"]
    assert answers(DataChoice(selection="chosen", where="status = 'complete'")) == ["answer 0"]
    with pytest.raises(UsageError, match="no selection 'other'"):
        answers(DataChoice(selection="other"))
    with pytest.raises(UsageError, match="choose differently"):
        answers(DataChoice(selection="chosen", run="last"))


def test_pairs_are_a_right_and_a_wrong_answer_of_one_prompt(workspace: Workspace, tmp_path: Path) -> None:
    done = export_data(workspace, tmp_path / "out.jsonl", layout="preference", reasoning="tags")
    [row] = rows_of(tmp_path / "out.jsonl")
    assert row["chosen"] == [{"role": "assistant", "content": "<think>\nthink 0\n</think>\n\nanswer 0"}]
    assert row["rejected"] == [{"role": "assistant", "content": "<think>\nthink 1\n</think>\n\nanswer 1"}]
    assert (done.rows, done.traces) == (1, 2)
    assert sum(done.left_out.values()) == 2 and "nobody said whether it is right" in done.left_out


def test_an_answer_that_calls_tools_is_left_out_where_a_layout_has_no_place_for_them(
        workspace: Workspace, tmp_path: Path) -> None:
    store = Store(workspace.store_path)
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    store.add_traces([Trace("b2:9", next(iter(store.prompts())).id, "e", "m", "", "", tool_calls=(call,))])
    for layout in ("messages", "sharegpt", "prompt_completion"):
        done = export_data(workspace, tmp_path / f"{layout}.jsonl", layout=layout)
        assert (done.rows, dict(done.left_out)) == (5, {}) and "calls of tools" not in done.lost
        assert '"look"' in (tmp_path / f"{layout}.jsonl").read_text().replace("\\", "")
    done = export_data(workspace, tmp_path / "alpaca.jsonl", layout="alpaca")
    assert (done.rows, dict(done.left_out)) == (4, {"an alpaca row has no place for tools": 1})


def test_prompts_go_out_once(workspace: Workspace, tmp_path: Path) -> None:
    Store(workspace.store_path).add_prompts([Prompt((Message("user", "nobody answered"),))])
    assert export_data(workspace, tmp_path / "all.jsonl", layout="prompts").rows == 3
    assert export_data(workspace, tmp_path / "some.jsonl", DataChoice(where="score = 0"), "prompts").rows == 1


def test_a_file_that_is_there_stays_as_it_is(workspace: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        export_data(workspace, out)
    with pytest.raises(InputError, match="no answer is chosen"):
        export_data(workspace, out, DataChoice(where="false"), force=True)
    assert out.read_text() == "mine" and sorted(p.name for p in tmp_path.iterdir()) == ["out.jsonl", "ws"]
    assert export_data(workspace, out, force=True).rows == 4


def test_a_name_says_how_rows_are_written(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not say how rows are to be written"):
        export_data(workspace, tmp_path / "out.txt")
    (tmp_path / "folder").mkdir()
    assert export_data(workspace, tmp_path / "folder").file == tmp_path / "folder/train.jsonl"
    assert (tmp_path / "folder/README.md").is_file()


def test_the_card_says_where_it_is_from_and_names_no_place(workspace: Workspace, tmp_path: Path) -> None:
    done = export_data(workspace, tmp_path / "out.jsonl", DataChoice(selection="chosen"))
    text = done.card.read_text()
    for said in ("mine.jsonl | 2", "mit | 2", "m0.gguf | 2", "conditional", "deepseek", "| verified |", "| rows | 2 |",
                 done.sha256.removeprefix("sha256:")):
        assert said in text, said
    assert "/home" not in text and str(tmp_path) not in text


def test_a_readme_of_something_else_stays(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# mine\n")
    assert export_data(workspace, tmp_path / "out.jsonl").card.name == "out.jsonl.README.md"
    assert (tmp_path / "README.md").read_text() == "# mine\n"
    (tmp_path / "README.md").unlink()
    for _ in range(2):
        assert export_data(workspace, tmp_path / "out.jsonl", force=True).card.name == "README.md"


def test_a_tool_gets_the_layout_that_it_reads(workspace: Workspace, tmp_path: Path) -> None:
    assert {"trl", "axolotl", "llama-factory", "unsloth", "mlx-lm"} <= set(data_tools())
    assert export_data(workspace, tmp_path / "a.jsonl", tool="mlx-lm").layout == "messages"
    done = export_data(workspace, tmp_path / "b.jsonl", tool="llama-factory")
    assert (done.layout, done.reasoning) == ("sharegpt", "tags")
    with pytest.raises(UsageError, match="not known to read prompts") as caught:
        export_data(workspace, tmp_path / "c.jsonl", tool="trl", layout="prompts")
    assert "messages" in caught.value.hint
    with pytest.raises(UsageError, match="unsloth is not known to read sharegpt"):
        export_data(workspace, tmp_path / "c.jsonl", tool="unsloth", layout="sharegpt")
    with pytest.raises(UsageError, match="did you mean 'trl'"):
        export_data(workspace, tmp_path / "c.jsonl", tool="tlr")
    with pytest.raises(UsageError, match="'gsm8k' is only read"):
        export_data(workspace, tmp_path / "c.jsonl", layout="gsm8k")
    with pytest.raises(UsageError, match="alpaca cannot have reasoning as 'field'"):
        export_data(workspace, tmp_path / "c.jsonl", layout="alpaca", reasoning="field")


def test_every_layout_that_writes_takes_what_is_stored(workspace: Workspace, tmp_path: Path) -> None:
    layouts = [one for one in data_layouts() if one.name != "tokens"]
    assert len(layouts) > 4
    for one in layouts:
        for ending in ("jsonl", "parquet"):
            assert export_data(workspace, tmp_path / f"{one.name}.{ending}", layout=one.name).rows > 0


def test_more_traces_than_are_fetched_together_come_out_in_stored_order(tmp_path: Path) -> None:
    place = Workspace(tmp_path / "ws")
    store = Store(place.store_path)
    prompts = [Prompt((Message("user", f"q {n}"),)) for n in range(8 * FEWEST)]
    store.add_prompts(prompts)
    store.add_traces(Trace(f"b2:{n}", one.id, "e", "m", "", f"a {n}") for n, one in enumerate(prompts))
    export_data(place, tmp_path / "out.jsonl")
    assert [item.trace.answer for _, item in read_file(tmp_path / "out.jsonl") if item.trace] == [
        f"a {n}" for n in range(8 * FEWEST)]


def test_tools_go_out_and_come_in_again_and_files_without_them_have_no_columns_for_them(tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    call = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": '{"port": "Brest"}'}}
    asked, said = {"role": "user", "content": "High tide?"}, {"role": "assistant", "content": "Yes."}
    calling = {"role": "assistant", "content": "", "tool_calls": [call]}
    with_tools = {"messages": [asked, calling, {"role": "tool", "content": "6 m", "tool_call_id": "c1"}, said],
                  "tools": [{"type": "function", "function": {"name": "tide"}}]}
    rows = [{"messages": [asked | {"content": "Low tide?"}, said]}, with_tools, {"messages": [asked, calling]}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    place = Workspace(tmp_path / "ws")
    assert import_file(place, tmp_path / "in.jsonl").rows == 3
    stored = {prompt.id: (prompt, [*Store(place.store_path).traces()]) for prompt in Store(place.store_path).prompts()}
    for name, layout in (("out.jsonl", "messages"), ("out.parquet", "messages"), ("share.parquet", "sharegpt")):
        done = export_data(place, tmp_path / name, layout=layout)
        assert done.rows == 3 and "calls of tools" not in done.lost and "turns of the conversation" not in done.lost
        other = Workspace(tmp_path / f"again-{name}")
        import_file(other, tmp_path / name)
        assert {prompt.id for prompt in Store(other.store_path).prompts()} == set(stored)
    turn = parquet.read_schema(tmp_path / "out.parquet").field("messages").type.value_type
    assert {"tool_calls", "tool_call_id"} <= {turn.field(place).name for place in range(turn.num_fields)}
    export_data(place, tmp_path / "plain.parquet", DataChoice(search="Low tide"))
    turn = parquet.read_schema(tmp_path / "plain.parquet").field("messages").type.value_type
    assert "tool_calls" not in {turn.field(place).name for place in range(turn.num_fields)}
    assert export_data(place, tmp_path / "a.jsonl", layout="alpaca").left_out == {
        "an alpaca row has no place for tools": 2}
