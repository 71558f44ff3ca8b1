"""Published results of huggingface/peft: with the intervals that their test size implies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from peftlab.report.document import build_report, report_json
from peftlab.statistics.proportions import compare_proportions, wilson_interval

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "statistics"


@pytest.fixture
def results(shared_data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    shutil.copytree(shared_data / "peft_method_comparison", folder)
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)
    return folder


def change(path: Path, *keys: str | int, value: object) -> None:
    values = json.loads(path.read_text())
    target = values
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    path.write_text(json.dumps(values))


def test_eight_published_runs_with_intervals_and_groups(results: Path) -> None:
    found = report_json(build_report([results]))
    assert len(found["methods"]) == 8
    assert len(found["comparisons"]) == 1
    lora = found["methods"]["lora--llama-3.2-3B-rank32"]
    assert lora["mean"] == pytest.approx(631 / 1319)
    assert lora["interval"] == pytest.approx(list(wilson_interval(631, 1319)))
    assert lora["cost"]["peak_memory_bytes"] == 22292725760
    assert lora["cost"]["trainable_parameters"] == 9175040
    assert lora["cost"]["train_seconds"] == pytest.approx(941.96, abs=0.01)
    together = [set(group) for group in found["groups"]]
    dora, ia3 = "lora--llama-3.2-3B-rank32-dora", "ia3--llama-3.2-3B-default"
    assert any({"lora--llama-3.2-3B-rank32", dora} <= group for group in together)
    assert not any({"lora--llama-3.2-3B-rank32", ia3} <= group for group in together)
    texts = " ".join(found["comparisons"][0]["notices"])
    assert "One seed a method" in texts
    assert "Predictions are not published" in texts


def test_tests_are_of_two_proportions(results: Path) -> None:
    comparison = build_report([results]).comparisons[0]
    at = {method.name: number for number, method in enumerate(comparison.methods)}
    lora, dora = at["lora--llama-3.2-3B-rank32"], at["lora--llama-3.2-3B-rank32-dora"]
    # One seed each: less sure than the examples alone would be.
    assert compare_proportions(631, 619, 1319) < comparison.pairs.p_value[lora, dora] < 1
    low, high = comparison.pairs.low[lora, dora], comparison.pairs.high[lora, dora]
    assert low < 0 < high
    assert low < (631 - 619) / 1319 < high


def test_results_that_cannot_be_used_are_listed_with_the_reason(results: Path) -> None:
    files = sorted(results.glob("*.json"))
    files[0].write_text(files[0].read_text()[:5000])
    change(files[1], "train_info", "status", value="failed")
    change(files[2], "train_info", "metrics", -1, "test accuracy", value=0.4)
    change(files[3], "train_info", "metrics", -1, value={"step": 5000})
    change(files[4], "meta_info", value={})
    change(files[5], "train_info", "metrics", -1, "test accuracy", value=float("nan"))
    (results / "other.json").write_text('{"settings": 1}')
    report = build_report([results])
    assert len(report.comparisons[0].methods) == 2
    found = {Path(item.path).name: item.reason for item in report.excluded}
    assert set(found) == {path.name for path in files[:6]}
    assert "damaged" in found[files[0].name]
    assert "status failed" in found[files[1].name]
    assert "no share of 1,319 examples" in found[files[2].name]
    assert "no test accuracy" in found[files[3].name]
    assert "dataset_info" in found[files[4].name]


def test_odd_results_end_in_no_traceback(results: Path) -> None:
    files = sorted(results.glob("*.json"))
    change(files[0], "train_info", "metrics", -1, "test accuracy", value=2.0)
    change(files[1], "run_info", "train_config", "seed", value="zero")
    change(files[2], "train_info", "status", value="failed")
    change(files[2], "run_info", "error_msg", value="out of memory")
    change(files[2], "train_info", "metrics", value=[])
    change(files[3], "train_info", "metrics", value=[])
    found = {Path(item.path).name: item.reason for item in build_report([results]).excluded}
    assert "no share of 1,319 examples" in found[files[0].name]
    assert "no result file as peft writes it" in found[files[1].name]
    assert found[files[2].name] == "status failed: out of memory"
    assert "no test accuracy" in found[files[3].name]


def test_another_data_set_or_model_is_another_comparison(results: Path) -> None:
    files = sorted(results.glob("*.json"))
    change(files[0], "meta_info", "dataset_info", "gsm8k", "sha", value="0" * 40)
    change(files[1], "run_info", "train_config", "model_id", value="other/model")
    assert sorted(len(c.methods) for c in build_report([results]).comparisons) == [1, 1, 6]


def test_the_same_runs_a_while_later(results: Path, tmp_path: Path) -> None:
    """Another revision of the data set: not compared, but the shift of all methods is told."""
    later = tmp_path / "later"
    shutil.copytree(results, later)
    for path in sorted(later.glob("*.json")):
        change(path, "meta_info", "dataset_info", "gsm8k", "sha", value="0" * 40)
        right = round(1319 * json.loads(path.read_text())["train_info"]["metrics"][-1]["test accuracy"])
        change(path, "train_info", "metrics", -1, "test accuracy", value=(right - 20) / 1319)
        change(path, "run_info", "created_at", value="2027-01-01T00:00:00+00:00")
    report = build_report([results, later])
    assert [comparison.title for comparison in report.comparisons] == [results.name, "later"]
    (text,) = [notice.text for notice in report.notices if "are both in" in notice.text]
    assert f"8 methods are both in {results.name} and in later (whose data has another fingerprint)" in text
    assert "−1.52 percentage points on average" in text


def test_the_committed_reruns_can_be_made_again(shared_data: Path, tmp_path: Path) -> None:
    """January's and July's published results; the table is what the script writes from them."""
    folders = [shared_data / "peft_reruns" / name for name in ("2026-01", "2026-07")]
    subprocess.run([sys.executable, BENCHMARKS / "reruns.py", *folders, "--output", tmp_path], check=True)
    for name in ("reruns.csv", "reruns.md"):
        assert (tmp_path / name).read_text() == (BENCHMARKS / name).read_text()
    text = (tmp_path / "reruns.md").read_text()
    assert "| over the examples alone, Holm-corrected | 630 | 409 | 0 |" in text
    assert "30 of 36 scores" in text
