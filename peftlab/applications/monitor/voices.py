"""A copied post is one voice: texts that are nearly the same as an earlier one are folded into it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from peftlab.data.near_duplicates import first_alike

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


def _plain(text: str) -> str:
    return _FORWARDED.sub(" ", text).strip() or text
