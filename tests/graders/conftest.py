"""One running `math` grader for all tests of this folder."""

from collections.abc import Iterator

import pytest

from localdistill.graders.math import MathGrader


@pytest.fixture(scope="session")
def math_grader() -> Iterator[MathGrader]:
    grader = MathGrader(MathGrader.Options(children=1, timeout_s=20))
    yield grader
    grader.close()
