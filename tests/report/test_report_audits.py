"""`audit: true` of a suite: which cells are audited, what is kept, and how the report compares the methods by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from peftlab.bench.audits import audit_cells
from peftlab.core.errors import UserError
from peftlab.core.record import read_record, write_record
from peftlab.core.reporter import Silent
from peftlab.packs.audits import AUDITS_NAME, read_audits
from peftlab.packs.write_pack import pack_suite
from peftlab.report.audits import MEASURES
from peftlab.report.document import Report, build_report, report_json
from peftlab.report.markdown import render_markdown
from peftlab.report.page import render_html
from peftlab.statistics.intervals import seeds_interval
from tests.report.fakes import METHODS, write_suite


def fake_audit(cell: Path) -> dict[str, Any]:
    """What an audit prints, with figures that depend on the seed."""
    seed = int(cell.name[-1])

    def figure(value: float, unit: str = "share") -> dict[str, Any]:
        keys = {"value": value, "low": value, "high": value, "n": 100, "sampled": "texts", "unit": unit}
        return {**keys, "higher_is_better": False, "sentence": "…", "examples": [{"text": "private"}]}

    figures = {
        "errors.overall": figure(0.2 + 0.02 * seed),
        "robustness.typos.loss": figure(0.05, "difference"),
        "robustness.typos.flipped": figure(0.1),
        "robustness.case.loss": figure(0.0, "difference"),
        "robustness.case.flipped": figure(0.3),
        "robustness.negation_added.loss": figure(0.4, "difference"),
        "robustness.negation_added.flipped": figure(0.9) | {"higher_is_better": None},  # it should move: no fault
        "robustness.worst_case.flipped": figure(0.5),  # a search, and a column of its own
        "fairness.gender.female.good": figure(-0.07, "difference"),
        "calibration.error": figure(0.04),
    }
    return {"rows": 100, "alarms": ["robustness.typos.loss"] * seed, "figures": figures}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_suite(tmp_path_factory.mktemp("audits") / "suite", METHODS[:2], (0, 1), examples=100, tuning=False)
    for cell in (folder / "cells").iterdir():
        (cell / "adapter").mkdir()
    return folder


def test_cells_are_audited_once(suite: Path) -> None:
    asked: list[str] = []

    def audit(cell: Path) -> dict[str, Any]:
        asked.append(cell.name)
        if len(asked) == 2:
            raise UserError("the rows have no column `text`")
        return fake_audit(cell)

    failed = audit_cells(suite, audit, Silent())
    assert len(asked) == 4
    assert failed == {asked[1]: "the rows have no column `text`"}
    assert audit_cells(suite, audit, Silent()) == {}
    assert asked[4:] == [asked[1]]  # what failed is tried again, nothing else
    record = read_record(suite / "cells" / asked[0])
    write_record(record.model_copy(update={"started_at": "2030-01-01T00:00:00+00:00"}), suite / "cells" / asked[0])
    assert audit_cells(suite, audit, Silent()) == {}
    assert asked[5:] == [asked[0]]  # it is another run now
    assert "private" not in (suite / AUDITS_NAME).read_text()


def test_the_report_compares_by_audits(suite: Path, tmp_path: Path) -> None:
    audit_cells(suite, fake_audit, Silent())
    report = build_report([suite])
    (comparison,) = report_json(report)["comparisons"]
    assert comparison["audits"].keys() == {method.name for method in METHODS[:2]}
    means = comparison["audits"][METHODS[0].name]
    assert means["error"] == pytest.approx(0.21)
    assert means["answers changed by changed texts"] == pytest.approx(0.2)
    assert means["by another name"] is None
    assert means["largest gap between groups"] == pytest.approx(0.07)
    assert means["alarms"] == 0.5
    for text in (render_markdown(report), render_html(report)):
        assert "Where each method can be trusted" in text
        assert "21.0 % (8.3 to 33.7)" in text.replace(
            "\N{NO-BREAK SPACE}", " "
        )  # two seeds, Student's t with one degree of freedom
    packed = pack_suite(suite, lambda folder: None, output=tmp_path / "pack")
    assert {each.cell for each in read_audits(packed.folder)} == {each.cell for each in read_audits(suite)}
    assert report_json(build_report([tmp_path / "pack"]))["comparisons"][0]["audits"] == comparison["audits"]


def test_methods_are_told_apart_by_what_their_audits_found(tmp_path: Path) -> None:
    """Paired by seed: what a seed does to both methods cancels out. Holds against Student's interval by hand."""
    folder = write_suite(tmp_path / "suite", METHODS[:2], (0, 1, 2), examples=100, tuning=False)
    for cell in (folder / "cells").iterdir():
        (cell / "adapter").mkdir()

    def audit(cell: Path) -> dict[str, Any]:
        found, seed = fake_audit(cell), int(cell.name[-1])
        if cell.name.startswith(METHODS[1].name):
            found["figures"]["errors.overall"]["value"] += 0.1 + 0.001 * seed
            found["figures"]["calibration.error"]["value"] += 0.1 * (seed - 0.9)
        return found

    audit_cells(folder, audit, Silent())
    report = build_report([folder])
    (comparison,) = report_json(report)["comparisons"]
    first, second = (comparison["audit_differences"][method.name] for method in METHODS[:2])
    assert first["error"] == {"against": METHODS[0].name, "mean": 0.0, "low": None, "high": None}
    expected = seeds_interval([0.1, 0.101, 0.102], 1 - 0.05 / len(MEASURES))
    assert second["error"]["mean"] == pytest.approx(expected.mean)
    assert (second["error"]["low"], second["error"]["high"]) == pytest.approx((expected.low, expected.high))
    assert second["calibration error"]["low"] < 0 < second["calibration error"]["high"]
    page = render_html(report).replace("\N{NO-BREAK SPACE}", " ")
    assert '<span class="bad">+10.1 (9.' in page
    assert '<span class="muted">least</span>' in page
    assert "(0.0 to" in page  # no share is below zero


def audited(folder: Path, audit: Callable[[Path], dict[str, Any]], methods: int, seeds: Sequence[int]) -> Report:
    write_suite(folder, METHODS[:methods], seeds, examples=100, tuning=False)
    for cell in (folder / "cells").iterdir():
        (cell / "adapter").mkdir()
    audit_cells(folder, audit, Silent())
    return build_report([folder])


def test_numbers_are_not_shown_as_shares(tmp_path: Path) -> None:
    """Of a regression the error is a distance, in the unit of its targets."""

    def audit(cell: Path) -> dict[str, Any]:
        found, more = fake_audit(cell), 1.0 if cell.name.startswith(METHODS[1].name) else 0.0
        for name in ("errors.overall", "fairness.names.changed"):
            value = 3.25 + more + 0.01 * int(cell.name[-1])
            found["figures"][name] = found["figures"]["calibration.error"] | {"value": value, "unit": "number"}
        return found

    text = render_markdown(audited(tmp_path / "suite", audit, 2, (0, 1, 2)))
    assert "3.26 (3.24 to 3.28)" in text
    assert "326" not in text
    assert "+1 (1 to 1)" not in text
    assert "shares in points, all else in its own unit" in text


def test_an_audit_of_another_run_counts_for_nothing(tmp_path: Path) -> None:
    """A cell that was run again, and not audited again yet."""
    audited(tmp_path / "suite", fake_audit, 2, (0, 1))
    cell = tmp_path / "suite" / "cells" / f"{METHODS[0].name}--seed1"
    write_record(read_record(cell).model_copy(update={"started_at": "2030-01-01T00:00:00+00:00"}), cell)
    (comparison,) = report_json(build_report([tmp_path / "suite"]))["comparisons"]
    assert comparison["audits"][METHODS[0].name]["error"] == pytest.approx(0.2)  # of seed 0 alone
    assert comparison["audits"][METHODS[1].name]["error"] == pytest.approx(0.21)


def test_two_equal_differences_are_no_proof(tmp_path: Path) -> None:
    """Counts of alarms often differ by the same number for two seeds: that has no spread to judge it by."""

    def audit(cell: Path) -> dict[str, Any]:
        found = fake_audit(cell)
        found["alarms"] = ["x"] * (2 if cell.name.startswith(METHODS[1].name) else 1)
        return found

    report = audited(tmp_path / "suite", audit, 2, (0, 1))
    (comparison,) = report_json(report)["comparisons"]
    of_alarms = comparison["audit_differences"][METHODS[1].name]["alarms"]
    assert of_alarms == {"against": METHODS[0].name, "mean": 1.0, "low": None, "high": None}
    assert '<span class="bad">+1.0' not in render_html(report)


def test_all_pairs_of_methods_are_corrected_for(tmp_path: Path) -> None:
    """The figures say which method has the least mean, so every pair might have been the one that is shown."""

    def audit(cell: Path) -> dict[str, Any]:
        found, seed = fake_audit(cell), int(cell.name[-1])
        number = [method.name for method in METHODS].index(cell.name.partition("--")[0])
        found["figures"]["errors.overall"]["value"] = 0.2 + 0.1 * number + 0.01 * ((seed * (number + 1)) % 3)
        return found

    (comparison,) = report_json(audited(tmp_path / "suite", audit, 4, (0, 1, 2)))["comparisons"]
    last = comparison["audit_differences"][METHODS[3].name]["error"]
    expected = seeds_interval([0.3 + 0.01 * ((seed * 4) % 3 - seed % 3) for seed in range(3)], 0.95)
    assert last["mean"] == pytest.approx(expected.mean)
    second = comparison["audit_differences"][METHODS[1].name]["error"]
    gaps = [0.1 + 0.01 * ((seed * 2) % 3 - seed % 3) for seed in range(3)]
    wanted = seeds_interval(gaps, 1 - 0.05 / (len(MEASURES) * 6))
    assert (second["low"], second["high"]) == pytest.approx((wanted.low, wanted.high))


def test_damaged_audits_are_said(suite: Path, tmp_path: Path) -> None:
    (tmp_path / AUDITS_NAME).write_text('{"cell": 3}\n')
    with pytest.raises(UserError, match="the audits are damaged"):
        read_audits(tmp_path)
    assert read_audits(tmp_path / "nowhere") == []
