"""Whether the Hugging Face Hub answers, asked once before its libraries ask it many times.

Without a network each of their requests is tried six times, with a growing pause and several lines each time. Where
the Hub does not answer at once, they are told to use their caches alone.
"""

from __future__ import annotations

import os
import time

SECONDS_TO_ANSWER = 5.0
SECONDS_AN_ANSWER_HOLDS = 60.0


class _Answer:
    """What the Hub said last, and when."""

    is_there: bool | None = None
    asked_at: float = 0.0


def prepare_hub() -> bool:
    """Let the Hub's libraries use the network if the Hub answers, and else only what is in their caches.

    Returns:
        Whether the Hub answers. Nothing is asked where the network is forbidden, by ``HF_HUB_OFFLINE`` or before.
    """
    import huggingface_hub.constants as hub

    was_set_here = _Answer.is_there is False
    if hub.HF_HUB_OFFLINE and not was_set_here:
        return False
    if _Answer.is_there is None or time.monotonic() - _Answer.asked_at > SECONDS_AN_ANSWER_HOLDS:
        hub.HF_HUB_OFFLINE = False
        _Answer.is_there, _Answer.asked_at = _answers(hub.ENDPOINT), time.monotonic()
    hub.HF_HUB_OFFLINE = not _Answer.is_there
    return _Answer.is_there


def why_not_reached() -> str:
    """What to look at where the Hub could not be asked."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return "--offline or the variable HF_HUB_OFFLINE forbids the network."
    return "Check the network."


def _answers(address: str) -> bool:
    """Whether a server answers, whatever it says."""
    from huggingface_hub import get_session

    try:
        get_session().head(address, timeout=SECONDS_TO_ANSWER, follow_redirects=False)
    except Exception:  # noqa: BLE001 - which library makes the request has changed before; no answer is no answer
        return False
    return True
