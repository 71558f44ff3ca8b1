"""Which of the texts that wait go through the model together."""

from __future__ import annotations

from collections.abc import Sequence

PADDING = 0.05
"""Padding may be this share of a batch's own tokens."""


def choose_batch(lengths: Sequence[int], *, most: int, free_padding: int) -> list[int]:
    """The first text, and those nearest to it in length, while little of the batch is padding.

    The first one has waited longest, so nobody waits forever. A batch that takes whatever waits is padded to the
    longest of its texts, and a single long one makes all others as dear as itself.

    Args:
        lengths: Tokens of the texts that wait, the oldest first.
        most: Texts of a batch.
        free_padding: So many tokens of padding cost less than another batch does.

    Returns:
        Positions in ``lengths``, the first one's first.
    """
    others = sorted(range(1, len(lengths)), key=lambda at: (abs(lengths[at] - lengths[0]), at))
    chosen, longest, own = [0], lengths[0], lengths[0]
    for at in others:
        if len(chosen) == most:
            break
        longest_then, own_then = max(longest, lengths[at]), own + lengths[at]
        if longest_then * (len(chosen) + 1) - own_then <= free_padding + PADDING * own_then:
            chosen.append(at)
            longest, own = longest_then, own_then
    return chosen
