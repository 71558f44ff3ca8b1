"""Blanks beside Chinese characters go, however many there are."""

from __future__ import annotations

import time

from peftlab.audit.perturbations.negation_removed import PATTERN
from peftlab.core.words import without_blanks


def test_blanks_beside_signs_go() -> None:
    assert without_blanks("中 \n 文 and  words 字") == "中文and  words字"


def test_long_runs_of_blanks_are_gone_through_once() -> None:
    long = " " * 200_000
    began = time.process_time()
    assert without_blanks(f"字{long}中a{long}b") == f"字中a{long}b"
    assert PATTERN.sub("", f"a{long}not b{long}c") == f"a b{long}c"
    assert time.process_time() - began < 10
