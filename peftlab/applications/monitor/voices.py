"""A copied post is one voice: texts that are nearly the same as an earlier one are folded into it."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Sequence

from peftlab.applications.monitor.baseline import DAY
from peftlab.data.near_duplicates import first_alike

COPY_HOURS = 48
"""A copy may come so much later."""
_FORWARDED = re.compile(r"^\s*rt\b[\s:]*(@\w+[:\s]*)?|https?://\S+|[“”\"]", re.IGNORECASE)
"""What a copy adds: the mark of a repost, another short link, quotation marks."""


def fold(known: Sequence[str], texts: Sequence[str]) -> list[int | None]:
    """For each text the earlier one that it copies.

    Args:
        known: Texts that came before.
        texts: New ones.

    Returns:
        Its position, counted through the known ones and then the new ones; None: it is a voice of its own.
    """
    return first_alike([(_plain(text),) for text in known], [(_plain(text),) for text in texts])


def are_copies(texts: Sequence[str], hours: Sequence[int]) -> list[bool]:
    """Of each text whether it copies another one, as the watcher sees them who judges a day at once.

    Args:
        texts: In the order of time.
        hours: Of each text.
    """
    found = [False] * len(texts)
    for day, places in itertools.groupby(range(len(texts)), lambda at: hours[at] // DAY):
        own = list(places)
        first = bisect.bisect_left(hours, day * DAY - COPY_HOURS)
        known = [at for at in range(first, own[0]) if not found[at]]
        for at, original in zip(own, fold([texts[at] for at in known], [texts[at] for at in own]), strict=True):
            found[at] = original is not None
    return found


def _plain(text: str) -> str:
    return _FORWARDED.sub(" ", text).strip() or text
