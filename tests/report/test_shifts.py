"""Two sets of the same methods: what moved all of them is told apart from what each did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fakes import METHODS, FakeData, write_run, write_suite

from peftlab.report.document import Report, build_report, report_json
from peftlab.report.notices import _shift_notice
from peftlab.report.shifts import common_shift

FULL, LORA, ADALORA, *_ = METHODS


def shift_notices(report: Report) -> list[str]:
    return [text for text in report_json(report)["notices"] if "are both in" in text]


def test_a_common_shift_is_the_mean_and_its_interval() -> None:
    first = {"a": 0.70, "b": 0.60, "c": 0.50, "only here": 0.1}
    second = {"a": 0.69, "b": 0.58, "c": 0.47, "only there": 0.9}
    found = common_shift(first, second, ("old", "new"))
    assert found is not None
    assert (found.methods, found.mean, found.spread) == (3, pytest.approx(-0.02), pytest.approx(0.01))
    # Student's t with two degrees of freedom.
    assert found.low == pytest.approx(-0.02 - 4.3027 * 0.01 / 3**0.5, abs=1e-6)
    assert common_shift({"a": 1.0, "b": 1.0}, {"a": 0.9, "b": 0.9}, ("old", "new")) is None


def test_methods_that_all_move_alike_tell_no_interval() -> None:
    """Shares of a hundred rows often do: an interval without a width would be certain of the shift."""
    found = common_shift({"a": 0.5, "b": 0.6, "c": 0.7}, {"a": 0.51, "b": 0.61, "c": 0.71}, ("old", "new"))
    assert found is not None
    text = _shift_notice(replace(found, metric="accuracy")).text
    assert "+1.00 percentage points on average (each by the same, so without an interval)" in text
    assert "95 %" not in text


@pytest.mark.parametrize(("moved", "said"), [(-0.1, "a shift common to all"), (0.0, "no shift common to all")])
def test_two_suites_of_the_same_methods(tmp_path: Path, moved: float, said: str) -> None:
    for at, name in enumerate(("january", "july")):
        methods = [replace(method, accuracy=method.accuracy + at * moved) for method in METHODS[:5]]
        write_suite(tmp_path / name, methods=methods, seeds=(at,), examples=400)
    (text,) = shift_notices(build_report([tmp_path / "january", tmp_path / "july"]))
    assert text.startswith("5 methods are both in january and in july. In the latter they score")
    assert said in text
    assert shift_notices(build_report([tmp_path / "january"])) == []


def test_runs_that_lie_together_are_one_set(tmp_path: Path) -> None:
    for method in (FULL, LORA, ADALORA):
        for seed in (0, 1):
            write_run(tmp_path / f"{method.name}{seed}", method, seed, FakeData(100))
    assert shift_notices(build_report([tmp_path])) == []


def test_other_data_is_no_shift(tmp_path: Path) -> None:
    for at, source in enumerate(("tweets.csv", "news.csv")):
        for method in (FULL, LORA, ADALORA):
            folder = tmp_path / source / method.name
            write_run(folder, method, 0, FakeData(100, seed=at), fingerprint=f"{at}" * 64)
            record = folder / "record.json"
            record.write_text(record.read_text().replace("tweets.csv", source))
    report = build_report([tmp_path])
    assert len(report.comparisons) == 2
    assert shift_notices(report) == []
