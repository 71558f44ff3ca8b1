"""Texts of like length go through the model together; the oldest always goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peftlab.serving.batch_choice import PADDING, choose_batch


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 40), st.integers(0, 2000))
def test_the_oldest_goes_and_padding_stays_within_its_bounds(lengths: list[int], most: int, free: int) -> None:
    chosen = choose_batch(lengths, most=most, free_padding=free)
    assert chosen[0] == 0
    assert len(set(chosen)) == len(chosen) <= most
    own = sum(lengths[at] for at in chosen)
    assert max(lengths[at] for at in chosen) * len(chosen) - own <= free + PADDING * own


def test_one_long_text_does_not_make_the_others_dear() -> None:
    assert choose_batch([10, 128, 11, 9, 10], most=32, free_padding=20) == [0, 4, 2, 3]
    assert choose_batch([128, 10, 11, 120], most=32, free_padding=20) == [0, 3]
    assert choose_batch([10, 128, 11], most=32, free_padding=8192) == [0, 2, 1]
    assert choose_batch([10] * 40, most=32, free_padding=0) == list(range(32))
