"""The largest number that still fits: a search that asks as seldom as it can, since each answer costs a second."""

from __future__ import annotations

from collections.abc import Callable

MOST_QUESTIONS = 8


def largest_fitting(peak: Callable[[int], int], memory: int, *, start: int, limit: int, step: int = 1) -> int | None:
    """The largest multiple of ``step`` whose peak is within the memory, or nearly so.

    A peak grows with the batch along a straight line, and with the length along a curve; so the next question is put
    where the line through two known answers meets the memory. After eight questions the best answer so far is given.

    Args:
        peak: Bytes for a number; never falls as the number grows.
        memory: Bytes that there are.
        start: Where to begin; between 1 and ``limit``.
        limit: Nothing beyond is asked.
        step: Only multiples of it are asked, and ``start`` and 1.

    Returns:
        A number whose peak was asked for and fits, or None where not even the smallest fits.
    """
    known: dict[int, int] = {}

    def ask(number: int) -> bool:
        if number not in known:
            known[number] = peak(number)
        return known[number] <= memory

    low, high = (start, limit + 1) if ask(start) else (0, start)
    if low == 0 and not ask(1):
        return None
    low = max(low, 1)
    while high - low > step and len(known) < MOST_QUESTIONS:
        guess = _where_the_line_meets(known, memory, low, high)
        guess = min(max(guess // step * step, low + step), max(high - 1, low + step))
        if guess >= high or guess <= low:
            break
        low, high = (guess, high) if ask(guess) else (low, guess)
    return low


def _where_the_line_meets(known: dict[int, int], memory: int, low: int, high: int) -> int:
    """Where the line through the two answers nearest to the border reaches the memory."""
    if len(known) == 1:
        return 2 * low
    left, right = (low, high) if high in known else sorted(known)[-2:]
    if known[right] <= known[left]:
        return (low + high) // 2
    return int(left + (memory - known[left]) * (right - left) / (known[right] - known[left]))
