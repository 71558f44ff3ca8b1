"""Hints for misspelt names that stay on one screen, however many names there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from peftlab.errors import did_you_mean

_FEW: Final = 12


def suggest(word: str, candidates: Iterable[str]) -> str | None:
    """The closest candidate, or the first few of them where none is close.

    Args:
        word: What the user wrote.
        candidates: What could have been meant.

    Returns:
        A sentence, or None where there are no candidates.
    """
    known = sorted(set(candidates))
    hint = did_you_mean(word, known)
    if hint and hint.startswith("Known:") and len(known) > _FEW:
        return f"Known: {', '.join(known[:_FEW])}, … ({len(known)} in all)."
    return hint
