"""A key is nowhere but in the header that carries it: not in what a hostile server echoes, however it writes it, and
not where somebody typed it in place of a name."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from localdistill.cli.ending import run as command
from localdistill.core.errors import LocalDistillError, RecipeError, UsageError
from localdistill.core.events import Cancel
from localdistill.core.secrets import is_surely_key, looks_like_key, without_keys
from localdistill.engines.wire.one_by_one import single_price
from localdistill.keys.access import Key, know_keys, store_key
from localdistill.recipe import parse_recipe
from localdistill.runs.cleaned_log import CleanedLog
from localdistill.safety import journal, secrets
from localdistill.safety.frames import Reading
from localdistill.safety.secrets import Cleaner, PieceCleaner, know, without_secrets
from localdistill.store import Store
from localdistill.workspace.folder import Workspace
from localdistill.workspace.quarantine import read_quarantine
from tests.faults import FaultServer, Rule, Script, Step, bodies
from tests.faults.asking import KINDS, engine_for, one, request_for
from tests.faults.test_collect import Desk, problem

KEY = "plum/4711+kiwi_0815-quince~23"
"""Made like no issuer's keys, so that only who knows it can take it out."""
TYPED = "sk-proj-aB3dE6gH9kL2mN5pQ8sT1"
"""Made like a key, so that nobody needs to know it."""


def written() -> dict[str, str]:
    """The key in all the ways in which a server may write it."""
    data = KEY.encode()
    ways = {
        "plain": KEY,
        "json": "".join(f"\\u{ord(letter):04x}" for letter in KEY),
        "json-upper": "".join(f"\\u{ord(letter):04X}" for letter in KEY),
        "slashes": KEY.replace("/", "\\/"),
        "twice-escaped": "".join(f"\\\\u{ord(letter):04x}" for letter in KEY),
        "some-escaped": "".join(f"\\u{ord(c):04x}" if n % 3 else c for n, c in enumerate(KEY)),
        "javascript": "".join(f"\\x{ord(letter):02x}" for letter in KEY),
        "percent": quote(KEY, safe=""),
        "percent-all": "".join(f"%{ord(letter):02X}" for letter in KEY),
        "percent-twice": quote(quote(KEY, safe="")),
        "entities": html.escape("".join(f"&#{ord(letter)};" for letter in KEY), quote=False).replace("&amp;", "&"),
        "entities-hex": "".join(f"&#x{ord(letter):X};" for letter in KEY),
        "hex": data.hex(), "hex-upper": data.hex().upper(),
    }
    for before in (b"", b"a", b"Bearer ", b"id:key=", b"xy"):
        ways[f"base64-{len(before)}"] = base64.b64encode(before + data).decode()
        ways[f"base64url-{len(before)}"] = base64.urlsafe_b64encode(before + data + b"!").decode().rstrip("=")
        ways[f"base64-percent-{len(before)}"] = quote(base64.b64encode(before + data), safe="")
    return ways


WAYS = written()
MOST_LEFT = 12
"""Letters of one way to write the key that may stay: the first and last of base64 hold other bytes too."""


def shown(text: str) -> list[str]:
    """The ways in which `text` holds the key, or much of it."""
    return [name for name, way in WAYS.items()
            if any(way[start:start + MOST_LEFT] in text for start in range(len(way) - MOST_LEFT))]


@pytest.mark.parametrize("way", WAYS)
def test_a_known_key_is_taken_out_however_it_is_written(way: str) -> None:
    text = f'{{"a": "before {WAYS[way]} behind"}}'
    assert shown(text)
    clean = Cleaner(KEY).clean(text)
    assert not shown(clean) and clean.startswith('{"a": "before ') and clean.endswith(' behind"}') and "***" in clean


def test_texts_without_the_key_stay_as_they_are() -> None:
    text = '50 % of "\\u00e4\\n" &#64; \\/ and plum/4711+kiwi_0815-quince~24'
    assert Cleaner(KEY).clean(text) == text
    assert Cleaner("short").clean("short") == "short", "what is too short for a key damages nothing"


@pytest.mark.parametrize("size", [1, 2, 5, 29])
def test_a_key_in_pieces_is_shown_in_none_of_them(size: int) -> None:
    know(KEY)
    text = f"before {KEY} behind, and plum is a fruit"
    pieces, cleaner = [text[start:start + size] for start in range(0, len(text), size)], PieceCleaner()
    seen = "".join([*map(cleaner.take, pieces), cleaner.end()])
    assert seen == "before *** behind, and plum is a fruit"


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_a_log_holds_no_key_however_it_comes(tmp_path: Path, size: int) -> None:
    """Neither known ones nor what surely is one, in whole lines, in bars that never end theirs, and in last words."""
    said = f"bar {KEY} 1%\rbar 2%\r{WAYS['json']}\n\xff {TYPED} \n{'word ' * 20_000}{KEY} {'x' * 70_000}\nlast {KEY}"
    data, learned = said.encode("latin-1"), list[None]()

    def learn() -> None:
        learned.append(None)
        know(KEY)

    log = CleanedLog(tmp_path / "log.txt", learn)
    for start in range(0, len(data), size):
        log.take(data[start:start + size])
    log.end()
    kept = (tmp_path / "log.txt").read_bytes().decode("latin-1")
    assert not shown(kept) and TYPED not in kept and len(learned) == 1
    for way in (KEY, WAYS["json"], TYPED):
        said = said.replace(way, "***")
    assert kept == said


def test_keys_that_are_stored_are_known_to_who_writes_a_log(own_config: Path) -> None:
    stored, other = "pear/815-apple.4711", "fig/815-cherry.4711"
    store_key(Key(stored, "A_KEY", "127.0.0.1", "file"))
    store_key(Key(other, "B_KEY", "127.0.0.1", "file"))
    secrets._known.clear()
    know_keys(["A_KEY"])
    assert without_secrets(f"{stored} {other}") == f"*** {other}"
    (own_config / "keys.json").write_text("{")
    know_keys(["A_KEY"])


@pytest.fixture
def with_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("QUINCE_NAME", KEY)
    yield


def openai_body(text: str) -> str:
    """A whole body whose JSON holds `text` as it is."""
    return bodies.openai_body(bodies.said_to("Double 7", Step(answer="@")), Step(), 1).decode().replace("@", text)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.usefixtures("with_key")
def test_no_reply_holds_the_key(server: FaultServer, way: str) -> None:
    text = f"so {WAYS[way]} it is"
    steps = {
        "answer": Step(body=openai_body(text)), "no JSON": Step(body=f"<html>{text}"),
        "refusal": Step(status=400, body=f'{{"error": {{"message": "{text}"}}}}'),
        "broken": Step(status=500, body=text), "error in a stream": Step(
            body=f'data: {{"error": {{"message": "{text}"}}}}\n\n', content_type="text/event-stream"),
    }
    for name, step in steps.items():
        server.play(Script(default=step))
        reply = one(server, api_key_env="QUINCE_NAME", retries=0, stream="stream" in name)
        assert server.requests[-1].key.endswith(KEY), "the server had it"
        assert not shown(repr(reply)) and not shown(reply.raw + reply.answer + reply.reasoning + reply.error), name


@pytest.mark.usefixtures("with_key")
def test_no_error_about_headers_or_statuses_holds_the_key(server: FaultServer) -> None:
    for step in (Step(status=307, headers={"Location": f"http://x/{quote(KEY, safe='')}"}),
                 Step(status=401, body=json.dumps({"error": {"message": f"bad key {KEY}"}})),
                 Step(status=404, body=base64.b64encode(f"Bearer {KEY}".encode()).decode()),
                 Step(status=402, body=KEY.encode().hex())):
        server.play(Script(default=step))
        with pytest.raises(LocalDistillError) as caught:
            one(server, api_key_env="QUINCE_NAME", retries=0)
        assert not shown(f"{caught.value} {caught.value.hint} {caught.value.__dict__}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("with_key")
def test_a_key_that_is_streamed_in_pieces_is_not_shown(server: FaultServer, kind: str) -> None:
    server.play(Script(default=Step(answer=f"yes, {KEY} is it, and more words come", reasoning="", drip_bytes=40)))
    engine = engine_for(server.url, kind, api_key_env="QUINCE_NAME")
    try:
        pieces = list(engine.stream(request_for("Double 7"), Cancel()))
    finally:
        engine.close()
    assert "more words" in "".join(pieces) and not shown("".join(pieces))
    assert engine.last_reply is not None and not shown(repr(engine.last_reply))
    assert single_price(engine) is None


def everything_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file below a folder with its text; compressed journals and bodies in quarantine unpacked, the store row by
    row."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        yield path.name, path.read_bytes().decode("latin-1")
        if ".jsonl" in path.name:
            lines = journal.read_lines(path.with_name(path.name.removesuffix(".zst")), 0, Reading())
            yield path.name, b"".join(line for line, _ in lines).decode("latin-1")
        if path.name == "quarantine.jsonl":
            yield from (("a body", row.body.decode("latin-1")) for row in read_quarantine(path))
    store = Store(Workspace(folder).store_path)
    yield "the store", repr(list(store.traces())) + repr(list(store.prompts()))


LIBRARY = """import atexit, os, sys
if "localdistill.stages" in sys.orig_argv:
    key = os.environ["QUINCE_NAME"]
    os.write(2, f"a library says {key}, ".encode())
    sys.stdout.write(f"and {key[:9]}")
    sys.stdout.flush()
    print(key[9:], "too")
    atexit.register(os.write, 2, f"its last words are {key}".encode())
"""
"""What Python loads in every process; that of a stage says its key to whom it should not."""


@pytest.mark.slow
def test_a_run_with_a_server_and_a_library_that_echo_the_key_leaves_it_nowhere(
        tmp_path: Path, server: FaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUINCE_NAME", KEY)
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(LIBRARY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    rules = [Rule(Step(body=openai_body(f"see {way}")), question=f"Double {n}") for n, way in enumerate(WAYS.values())]
    count = len(rules)
    rules += [Rule(Step(body=f"<html>{KEY}"), question=f"Double {count}"),
              Rule(Step(status=400, body=f"{KEY} {WAYS['base64-7']}"), question=f"Double {count + 1}"),
              Rule(Step(answer=f"{KEY} it is", reasoning=KEY), question=f"Double {count + 2}")]
    server.play(Script(rules=tuple(rules), default=Step(reasoning=f"it is {KEY}")))
    desk = Desk(tmp_path, server.url, count + 6, lines='api_key_env = "QUINCE_NAME"\nretries = 0\nstream = false')
    desk.recipe.write_text(desk.recipe.read_text().replace("retries = 3\n", ""))
    out = desk.collect()
    assert out.returncode == 3 and f"2 of {count + 6}" in problem(out), out.stdout + out.stderr
    assert all(request.key.endswith(KEY) for request in server.requests)
    texts = [("what was printed", out.stdout + out.stderr), *everything_in(desk.workspace)]
    assert len(texts) > 10 and any("Double 3" in text for _, text in texts)
    found = {name: ways for name, text in texts if (ways := shown(text))}
    assert not found
    (log,) = [text for name, text in texts if name == "log.txt"]
    assert "a library says ***, and *** too\n" in log and log.endswith("its last words are ***")


def test_what_is_made_like_a_key_is_told_from_names() -> None:
    keys = (TYPED, "sk-ant-api03-0123456789abcdefXY", "hf_AbCdEfGhIjKlMnOpQr", "AIza" + "a1B2c3" * 6,
            "AKIAABCDEFGH12345678", "sk-0123456789abcdef0123456789abcdef", "gsk_aB3dE6gH9kL2mN5pQ8sT1vW4")
    names = ("deepseek-reasoner", "hf://Qwen/Qwen3-1.7B", "hf-internal-testing/tiny-random-LlamaForCausalLM",
             "sk-learn-digits-dataset-2024", "task-0123456789abcdef", "disk-a1b2c3d4e5f6a7b8c9",
             "gpt-4o-mini-2024-07-18", "fw-llama-v3p1-405b-instruct", "pantry-12",
             "/data/sk-models-2025/model-q4.gguf", "b2:0123456789abcdef0123")
    assert all(is_surely_key(key) and looks_like_key(key) for key in keys)
    assert not any(is_surely_key(name) or without_keys(name) != name for name in names)
    assert without_keys(f"a '{TYPED}', b={TYPED};") == "a '***', b=***;"


RECIPE = """name = "{name}"
[prompts]
files = ["q.jsonl"]
[teacher]
use = "openai_compatible"
base_url = "https://api.example.com/v1"
model = "{model}"
api_key_env = "{variable}"
"""


@pytest.mark.parametrize(("place", "key"), [("name", "name"), ("model", "model"), ("variable", "api_key_env")])
def test_a_recipe_that_holds_a_key_is_refused_and_does_not_repeat_it(place: str, key: str) -> None:
    good = {"name": "r", "model": "m", "variable": "MY_KEY"}
    parse_recipe(RECIPE.format(**good))
    with pytest.raises(RecipeError) as caught:
        parse_recipe(RECIPE.format(**{**good, place: TYPED}))
    assert key in caught.value.message and "API key" in caught.value.message and TYPED not in str(vars(caught.value))


def test_a_recipe_with_a_key_in_a_comment_or_a_setting_is_refused() -> None:
    good = RECIPE.format(name="r", model="m", variable="MY_KEY")
    with pytest.raises(RecipeError, match="line 9 holds an API key"):
        parse_recipe(f"{good}# {TYPED}\n")
    with pytest.raises(RecipeError) as caught:
        parse_recipe(good, settings=[f"teacher.model={TYPED}"])
    assert TYPED not in str(vars(caught.value))
    for name in ("0123456789abcdef0123XYZ9", "my key", "4711"):
        with pytest.raises(RecipeError) as caught:
            parse_recipe(RECIPE.format(name="r", model="m", variable=name))
        assert "never a key" in caught.value.message and name not in caught.value.message


@pytest.mark.parametrize("key", [TYPED, "0123456789abcdefghijKLMN"])
@pytest.mark.parametrize("words", [
    ("keys", "set", "@"), ("keys", "remove", "@"), ("keys", "allow", "@", "api.example.com"), ("teacher", "show", "@"),
    ("teacher", "probe", "@"), ("teacher", "probe", "deepseek", "--key-env", "@"), ("run", "@"), ("resume", "@"),
    ("export", "@"), ("show", "@", "--as", "@"), ("@",), ("keys", "@"), ("run", "--@"),
    ("recipe", "new", "x.toml", "--from=@"), ("plan", "pantry", "--set", "train.epochs=@"), ("exports", "@"),
    ("collect", "pantry", "--set", "@.x=1"),
], ids=" ".join)
def test_a_key_typed_in_place_of_a_name_is_not_printed_back(
        words: tuple[str, ...], key: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCALDISTILL_CONFIG", str(tmp_path / "config"))
    code = command([word.replace("@", key) for word in words])
    said = "".join(capsys.readouterr())
    assert code == 2 and key not in said, said
    assert key != TYPED or "API key" in said, said
    assert not any(key in path.name or key.encode() in path.read_bytes() for path in tmp_path.rglob("*")
                   if path.is_file())


def test_errors_of_the_public_api_do_not_repeat_a_key(tmp_path: Path) -> None:
    from localdistill import RunFolder, judge

    with pytest.raises(UsageError) as caught:
        RunFolder.open(tmp_path, TYPED)
    assert TYPED not in str(vars(caught.value)) and "looks like an API key" in caught.value.hint
    with pytest.raises(UsageError, match="the note holds an API key"):
        judge(Workspace(tmp_path), "b2:0", True, f"because of {TYPED}")
