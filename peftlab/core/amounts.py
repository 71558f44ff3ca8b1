"""Sizes and durations for people: one spelling for the command line, messages, cards and reports.

Sizes are humanize's. Durations are ours: ``humanize.precisedelta`` writes ``1 minute and 35 seconds``, leaves out units
that are zero, and turning that into ``1 min 35 s`` takes more code than writing it.
"""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes in powers of ten, with one decimal: ``311.0 MB``."""
    return _size(count, "%.1f")


def short_size(count: float) -> str:
    """Bytes in powers of ten, with three digits: ``311 MB``, ``1.24 GB``."""
    return _size(count, "%.3g")


def _size(count: float, digits: str) -> str:
    from humanize.filesize import naturalsize

    return naturalsize(count, format=digits).replace("Byte", "byte")


def duration(seconds: float) -> str:
    """Seconds as ``4.2 s``, ``42 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def plural(number: int, noun: str) -> str:
    """``1 run``, ``3 runs``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
