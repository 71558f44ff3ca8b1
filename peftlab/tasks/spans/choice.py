"""The best span of a question's windows, by the scores of its first and last tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftlab.tasks.spans.windows import Window

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Span:
    """A piece of a passage.

    Args:
        start: Its first character.
        end: The character behind its last one.
        margin: By how much its score is above that of there being no answer.
    """

    start: int
    end: int
    margin: float


def best_span(windows: Sequence[Window], logits: Tensor, max_tokens: int) -> Span:
    """The span with the highest sum of scores in any window.

    That there is no answer is as likely as it is in the window where it is least so.

    Args:
        windows: Of one passage.
        logits: Windows × length × 2, for the first and the last token of the answer.
        max_tokens: Of an answer.
    """
    best: tuple[float, int, int] | None = None
    nowhere = float("inf")
    for window, scores in zip(windows, logits.float(), strict=True):
        start, end = scores[:, 0], scores[:, 1]
        nowhere = min(nowhere, float(start[window.nowhere] + end[window.nowhere]))
        places = [at for at, own in enumerate(window.offsets) if own is not None]
        if not places:
            continue
        both = (start[places][:, None] + end[places]).triu()
        allowed = both.new_ones(both.shape).triu().tril(max_tokens - 1).bool()
        value, flat = both.masked_fill(~allowed, -float("inf")).flatten().max(dim=0)
        first, last = divmod(int(flat), len(places))
        if best is None or float(value) > best[0]:
            begin, stop = window.offsets[places[first]], window.offsets[places[last]]
            assert begin is not None  # noqa: S101
            assert stop is not None  # noqa: S101
            best = float(value), begin[0], stop[1]
    return Span(0, 0, -float("inf")) if best is None else Span(best[1], best[2], best[0] - nowhere)
