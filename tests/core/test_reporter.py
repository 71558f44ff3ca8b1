"""Lines that tell of long work where there is no terminal."""

from __future__ import annotations

import pytest

from peftlab.core.reporter import PlainReporter


def test_work_of_which_nothing_is_done_yet_has_no_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("peftlab.core.reporter.time.monotonic", lambda: now[0])
    reporter = PlainReporter()
    reporter.start("looking", 8)
    now[0] += 30
    reporter.advance(0, "overlap")
    now[0] += 30
    reporter.advance(2, "overlap")
    assert capsys.readouterr().err.splitlines() == ["looking: 0/8 overlap", "looking: 2/8 overlap (3 min 00 s left)"]


def test_work_goes_on_under_its_own_name_after_other_work_within_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("peftlab.core.reporter.time.monotonic", lambda: now[0])
    reporter = PlainReporter()
    reporter.start("training", 4)
    reporter.advance(2)
    reporter.start("evaluating validation", 500)
    now[0] += 30
    reporter.advance(100)
    reporter.finish()
    reporter.advance(1)
    now[0] += 30
    reporter.finish()
    assert capsys.readouterr().err.splitlines() == [
        "evaluating validation: 100/500 (2 min 00 s left)",
        "evaluating validation: done in 30 s",
        "training: 3/4 (10 s left)",
        "training: done in 1 min 00 s",
    ]
