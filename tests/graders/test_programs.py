"""Finding the program in an answer."""

from __future__ import annotations

import pytest

from localdistill.graders.programs import given_in, program_in

HEAD = 'from typing import List\n\ndef twice(n: int) -> int:\n    """Two times n."""\n'
BODY = "def twice(n):\n    return 2 * n"


def value(answer: str, question: str = "", names: tuple[str, ...] = ("twice",)) -> object:
    """What the program that was found makes of twice(4); None where none was."""
    found = program_in(answer, question, names)
    if found is None:
        return None
    held: dict[str, object] = {"__name__": "solution"}
    exec(found.text, held)
    assert callable(held["twice"])
    return held["twice"](4)


@pytest.mark.parametrize("answer", [
    f"```python\n{BODY}\n```",
    f"Sure!\n\n```py\n{BODY}\n```\nThat is all.",
    f"```\n{BODY}\n```",
    f"~~~python\n{BODY}\n~~~",
    f"````python\n{BODY}\n````",
    f"1. First:\n\n   ```python\n   {BODY.replace(chr(10), chr(10) + '   ')}\n   ```\n",
    f"```python\n{BODY}",
    f"```python\n{BODY}\n\nprint(twice(",
    BODY,
    f"Here it is:\n\n{BODY}\n\nIt doubles n, as asked.",
    f"```python\ndef twice(n): return 0\n```\nNo, that is wrong. Better:\n```python\n{BODY}\n```",
    f"```python\n{BODY}\n```\nUse it:\n```python\nprint(twice(3))\n```",
    f"```bash\npip install x\n```\n```python\n{BODY}\n```\n```json\n{{}}\n```",
    "```python\nimport math\ndef helper(n): return n\nprint(input())\n```\nand\n```python\n"
    "def twice(n):\n    return math.floor(2 * helper(n))\n```",
    "```python\ntwice = lambda n: 2 * n\n```",
    "```python\n>>> def twice(n):\n...     return 2 * n\n>>> twice(1)\n2\n```",
])
def test_a_program_is_found_however_it_is_wrapped(answer: str) -> None:
    assert value(answer) == 8


@pytest.mark.parametrize("answer", [
    "    return 2 * n\n",
    "    m = n\n    return m + n\n\ndef other(): return 1\n",
    "return 2 * n",
    "```python\n    return 2 * n\n```",
    "    return 2 * n\n\nThis doubles the number.",
])
def test_the_rest_of_a_function_goes_on_from_the_question(answer: str) -> None:
    assert value(answer, HEAD) == 8
    assert value(answer, f"Complete this.\n```python\n{HEAD}```") == 8


@pytest.mark.parametrize("answer", [
    "for i in range(n):\n        if i > 9:\n            return 0\n\n    return 2 * n",
    "for i in range(n):\n        if i > 9:\n            return 0\n\n    return 2 * n\n\ndef other(): return 1",
    "if n > 9:\n    return 0\nreturn 2 * n",
    "if n < 9:\n    return 2 * n",
    "m = n\nif m < 9:\n    return 2 * n",
    "m = n\n    return m + n",
    "while n > 9:\n    n = 1\nelse:\n    return 2 * n",
])
def test_blanks_that_a_first_line_has_lost_do_not_move_the_lines_behind_it(answer: str) -> None:
    assert value(answer, HEAD) == 8
    assert value(f"```python\n{answer}\n```", HEAD) == 8
    two = HEAD.replace('    """', '  """')
    assert value(answer.replace("        ", "~~").replace("    ", "  ").replace("~~", "    "), two) == 8


def test_what_the_question_gives_stands_before_the_answer() -> None:
    question = "def half(n): return n / 2\n\ndef twice(n):\n    '''Undo half.'''\n"
    assert value("```python\ndef twice(n): return half(4 * n)\n```", question) == 8
    assert given_in("Write a function that doubles n.") == ""


@pytest.mark.parametrize("answer", [
    "I cannot do that.", "42", "```python\ndef other(n): return n\n```", "```python\ndef twice(n:\n```", "```",
    "```\n```", "x\x00\ud800", "twice", "`twice(n)`", "def twice(n)", "(" * 3000, "```python\n" + "[" * 3000 + "\n```",
])
def test_where_there_is_none_none_is_found(answer: str) -> None:
    assert value(answer) is None


def test_a_script_is_the_last_block_that_can_be_read() -> None:
    answer = "```python\nprint(0)\n```\n```python\nprint(int(input()) + 1)\n```\nInput:\n```text\n3\n```"
    found = program_in(answer)
    assert found is not None and found.text.strip() == "print(int(input()) + 1)" and "block 2" in found.how


def test_the_rule_that_found_it_is_named() -> None:
    def how(answer: str, question: str = "") -> str:
        found = program_in(answer, question, ["twice"])
        assert found is not None
        return found.how

    assert how(f"```python\n{BODY}\n```") == "the block"
    assert how(f"```python\n{BODY}\n") == "the block, not closed"
    assert how(f"```python\n{BODY}\n```\n```python\ntwice(1)\n```") == "block 1 of 2"
    assert how(BODY) == "the whole answer"
    assert how(f"So:\n{BODY}\nGood.") == "between prose"
    assert how("    return 1\n", HEAD) == "the answer goes on from the question"
