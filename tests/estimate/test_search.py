"""The search finds what fits, with few questions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peftlab.estimate.search import MOST_QUESTIONS, largest_fitting


@given(
    st.integers(0, 10**6), st.integers(1, 10**5), st.integers(0, 10), st.integers(1, 64), st.integers(64, 4096),
    st.integers(1, 10**8), st.sampled_from([1, 8]),
)  # fmt: skip
def test_what_is_found_fits(base: int, slope: int, curve: int, start: int, limit: int, memory: int, step: int) -> None:
    asked: list[int] = []

    def peak(number: int) -> int:
        asked.append(number)
        return base + slope * number + curve * number**2

    found = largest_fitting(peak, memory, start=start, limit=limit, step=step)
    assert len(asked) == len(set(asked)) <= MOST_QUESTIONS
    if found is None:
        assert peak(1) > memory
    else:
        assert 1 <= found <= limit
        assert peak(found) <= memory


@given(st.integers(0, 10**6), st.integers(1, 10**5), st.integers(1, 64), st.integers(1, 10**8))
def test_a_straight_line_is_solved_exactly(base: int, slope: int, start: int, memory: int) -> None:
    found = largest_fitting(lambda number: base + slope * number, memory, start=start, limit=4096)
    exact = min((memory - base) // slope, 4096)
    assert found == (exact if exact >= 1 else None)
