"""Tasks in a row in a report: the matrix of each method and the figures of the field, with intervals over the seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peftlab.core.record import Earlier, Routed, write_record
from peftlab.report.document import Report, build_report, report_json
from peftlab.report.markdown import render_markdown
from peftlab.report.page import render_html
from peftlab.statistics.intervals import differ, seeds_interval
from tests.report.fakes import METHODS, fake_record

TASKS = ("united", "delta", "films")
NOTHING = {3: [[0.90, 0.50, None], [0.70, 0.80, 0.55], [0.60, 0.75, 0.85]],
           4: [[0.80, 0.60, None], [0.70, 0.90, 0.45], [0.70, 0.65, 0.75]]}  # fmt: skip
"""By seed: on task j after task i."""
TOGETHER = {seed: [[0.90, 0.50, None], [0.88, 0.80, 0.55], [0.86, 0.78, 0.80]] for seed in (3, 4)}


def write_chain(
    suite: Path, name: str, seed: int, matrix: list[list[Any]], *, metric: str = "accuracy", **changes: Any
) -> None:
    """Runs on all tasks, with the scores of a matrix."""
    for at, task in enumerate(TASKS):
        scores = {"test": {metric: matrix[at][at]}}
        scores |= {f"test_earlier_{before + 1}": {metric: matrix[at][before]} for before in range(at)}
        record = fake_record(METHODS[1], seed, scores, name=f"{name}--{task}", fingerprint=f"{at}" * 64)
        recipe = json.loads(json.dumps(record.recipe)) | {"evaluation": {"metric": metric}}
        earlier = None
        if at:
            run = str(suite / "cells" / f"{name}--{TASKS[at - 1]}--seed{seed}")
            weights = name != "together"
            recipe["continues"] = {"run": run, "replay": 0.0 if weights else 1.0, "weights": weights}
            earlier = Earlier(
                run=name, folder=run, started_at="", weights_sha256="", fingerprint="",
                scores={"test": {metric: matrix[at - 1][at]}},
                start_scores={} if weights else {"test": {metric: 0.4}},
            )  # fmt: skip
        folder = suite / "cells" / f"{name}--{task}--seed{seed}"
        folder.mkdir(parents=True)
        write_record(record.model_copy(update={"recipe": recipe, "earlier": earlier, **changes}), folder)


def write_suite(folder: Path, methods: list[str], seeds: list[int]) -> None:
    suite = {
        "name": "continual",
        "recipe": "lora.yaml",
        "methods": [{"type": "lora", "name": name} for name in methods],
        "sequence": {task: {"data.source": task} for task in TASKS},
        "seeds": seeds,
        "tuning": None,
    }
    (folder / "suite.yaml").write_text(json.dumps(suite))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sequence") / "suite"
    for seed in (3, 4):
        write_chain(folder, "nothing", seed, NOTHING[seed])
        write_chain(folder, "together", seed, TOGETHER[seed])
    write_chain(folder, "stopped", 3, NOTHING[3])
    (folder / "cells/stopped--films--seed3/record.json").unlink()
    (folder / "cells/stopped--films--seed3/recipe.yaml").write_text("name: x\n")
    write_suite(folder, ["nothing", "together", "stopped"], [3, 4])
    return folder


@pytest.fixture(scope="module")
def report(suite: Path) -> Report:
    return build_report([suite])


def test_figures_are_those_of_the_field_over_the_seeds(report: Report) -> None:
    (found,) = report_json(report)["sequences"]
    assert (found["tasks"], found["metric"]) == (list(TASKS), "accuracy")
    assert list(found["methods"]) == ["together", "nothing"]  # best mean first
    own = found["methods"]["nothing"]
    assert own["seeds"] == [3, 4]
    assert own["matrix"] == [
        [pytest.approx(0.85), pytest.approx(0.55), None],
        [pytest.approx(0.70), pytest.approx(0.85), pytest.approx(0.50)],
        [pytest.approx(0.65), pytest.approx(0.70), pytest.approx(0.80)],
    ]
    by_hand = {
        "mean": [(0.60 + 0.75 + 0.85) / 3, (0.70 + 0.65 + 0.75) / 3],
        "forgetting": [((0.90 - 0.60) + (0.80 - 0.75)) / 2, ((0.80 - 0.70) + (0.90 - 0.65)) / 2],
        "backward": [((0.60 - 0.90) + (0.75 - 0.80)) / 2, ((0.70 - 0.80) + (0.65 - 0.90)) / 2],
        "forward": [((0.50 - 0.4) + (0.55 - 0.4)) / 2, ((0.60 - 0.4) + (0.45 - 0.4)) / 2],
        "learned": [(0.90 + 0.80 + 0.85) / 3, (0.80 + 0.90 + 0.75) / 3],
    }
    for name, values in by_hand.items():
        interval = seeds_interval(values)
        assert own["figures"][name]["mean"] == pytest.approx(interval.mean)
        if not differ(values):  # equal seeds do not say how far others would lie
            assert own["figures"][name]["interval"] == [None, None]
            continue
        low, high = interval.low, interval.high
        if name in ("mean", "learned"):  # an accuracy lies between 0 and 1
            low, high = max(low, 0.0), min(high, 1.0)
        assert own["figures"][name]["interval"] == pytest.approx([low, high])
    assert own["figures"]["learned"]["interval"][1] == 1.0
    together = (0.86 + 0.78 + 0.80) / 3
    assert own["figures"]["of_joint"]["mean"] == pytest.approx(sum(by_hand["mean"]) / 2 / together)
    assert found["missing"] == ["stopped, seed 3: the run on films has no result"]


def test_every_seed_of_a_task_is_one_method(report: Report) -> None:
    """Each seed went on from a folder of its own, which is no difference of settings."""
    for comparison in report.comparisons:
        assert {method.cell.partition("--")[0]: method.seeds for method in comparison.methods} == (
            {"nothing": [3, 4], "together": [3, 4]}
            | ({} if comparison.key.axis == "films" else {"stopped": [3]})
        )  # fmt: skip


def test_pages_show_them(report: Report) -> None:
    page, text = render_html(report), render_markdown(report)
    assert page.count('<table class="squares">') == 2
    assert 'class="learned"' in page
    assert "delta, before it is learned: 55.0 %" in page.replace("\N{NO-BREAK SPACE}", " ")
    for each in (page, text):
        assert "After 3 tasks together has the best mean accuracy" in each
        assert "What each method has kept" in each
        assert "stopped, seed 3" in each
    assert "| delta | 70.0 | 85.0 | 50.0 |" in text


def test_a_score_that_should_be_small_is_forgotten_when_it_grows(tmp_path: Path) -> None:
    matrix = [[0.2, 0.9, None], [0.3, 0.1, 0.9], [0.4, 0.2, 0.3]]
    write_chain(tmp_path / "suite", "nothing", 3, matrix, metric="mean_absolute_error")
    write_suite(tmp_path / "suite", ["nothing"], [3])
    (found,) = report_json(build_report([tmp_path / "suite"]))["sequences"]
    figures = {name: own["mean"] for name, own in found["methods"]["nothing"]["figures"].items()}
    assert figures == {
        "mean": pytest.approx(0.3),
        "forgetting": pytest.approx(((0.4 - 0.2) + (0.2 - 0.1)) / 2),
        "backward": pytest.approx(-((0.4 - 0.2) + (0.2 - 0.1)) / 2),
        "learned": pytest.approx(0.2),
    }


def test_a_routers_scores_stand_for_the_runs_own(tmp_path: Path) -> None:
    routed = Routed(
        scores={name: {"accuracy": 0.77} for name in ("test", "test_earlier_1", "test_earlier_2")},
        before={"accuracy": 0.33},
        right={"test": 0.9, "test_earlier_1": 0.8},
    )
    write_chain(tmp_path / "suite", "routed", 3, NOTHING[3], routed=routed)
    write_suite(tmp_path / "suite", ["routed"], [3])
    (found,) = report_json(build_report([tmp_path / "suite"]))["sequences"]
    own = found["methods"]["routed"]
    assert own["matrix"][2] == [0.77] * 3
    assert own["matrix"][1][2] == 0.33
    assert own["routed_right"] == pytest.approx(0.85)
