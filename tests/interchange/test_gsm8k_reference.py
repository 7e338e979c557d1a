"""GSM8K's reference: thousands commas go, other commas are part of the answer."""

import pytest

from localdistill.interchange.gsm8k import gsm8k_prompt
from localdistill.interchange.rows import RowPlace


@pytest.mark.parametrize(("written", "reference"), [("1,200", "1200"), ("1,200,000", "1200000"), ("(1,2)", "(1,2)")])
def test_only_thousands_commas_are_removed(written: str, reference: str) -> None:
    row = {"question": "How many?", "answer": f"Counted.\n#### {written}"}
    assert gsm8k_prompt(row, RowPlace("rows.jsonl", 1)).reference == reference
