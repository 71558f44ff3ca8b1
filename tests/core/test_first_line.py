"""What is told of another library's error."""

from __future__ import annotations

import pytest

from peftlab.core.errors import first_line


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError("no space left\nat block 4"), "no space left"),
        (ValueError("\n  it ends early \n"), "it ends early"),
        (EOFError(), "EOFError"),
        (ValueError(" \n "), "ValueError"),
    ],
)
def test_the_first_line_that_says_something_is_told_or_else_the_kind(error: Exception, told: str) -> None:
    assert first_line(error) == told
