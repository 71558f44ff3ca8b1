"""Sizes and durations as people read them."""

from __future__ import annotations

import pytest

from peftlab.core.amounts import duration, short_size, size


@pytest.mark.parametrize(
    ("count", "long", "short"),
    [
        (0, "0 bytes", "0 bytes"),
        (1, "1 byte", "1 byte"),
        (999, "999 bytes", "999 bytes"),
        (1_240, "1.2 kB", "1.24 kB"),
        (311_040_000, "311.0 MB", "311 MB"),
        (999_960_000, "1.0 GB", "1 GB"),
        (24e9, "24.0 GB", "24 GB"),
    ],
)
def test_sizes(count: float, long: str, short: str) -> None:
    assert (size(count), short_size(count)) == (long, short)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (42.4, "42 s"),
        (59.6, "1 min 00 s"),
        (95, "1 min 35 s"),
        (7_800, "2 h 10 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
