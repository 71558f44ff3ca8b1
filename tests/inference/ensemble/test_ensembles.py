"""`peftlab ensemble`: the mean of runs' answers, the mean of their weights, and what bad input gets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import peftlab
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.errors import UserError
from peftlab.core.greedy_choice import choose_greedily
from peftlab.core.splits import Split
from peftlab.core.task import TASKS, Prediction
from peftlab.data.duplicates import text_key
from peftlab.inference.ensemble.scoring import best_run
from peftlab.inference.load_tuned import load_run, load_tuned
from peftlab.preparation.load_data import load_data
from peftlab.serving.host import Host, WorkItem
from tests.conftest import sentences

pytestmark = pytest.mark.slow

TEXTS = [text for text, _ in sentences(12, seed=5)]


@pytest.fixture(scope="module")
def runs(tiny_run: Callable[..., Path]) -> list[Path]:
    """Two methods on one split, and another split of the same table."""
    return [tiny_run(), tiny_run("{type: bitfit}"), tiny_run(seed=1)]


def test_a_metric_that_is_not_defined_names_no_best_run() -> None:
    scores = [{"validation": {"accuracy": 0.5, "auroc": 0.7}}, {"validation": {"accuracy": 0.6}}]
    assert best_run(scores, "accuracy") == (1, "validation")
    with pytest.raises(UserError, match="run 2 has no auroc on the validation rows"):
        best_run(scores, "auroc")


def test_an_ensemble_is_the_mean_of_its_runs(command, runs: list[Path], tmp_path: Path) -> None:
    done = command("ensemble", *runs[:2], "--output", "both", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["rows"], found["rows_left_out"]) == ({"validation": 38, "test": 48}, {"validation": 0, "test": 0})
    shutil.move(tmp_path / "both", tmp_path / "moved")

    together, each = peftlab.load("moved"), [peftlab.load(run) for run in runs[:2]]
    said, own = together.predict(TEXTS), [run.predict(TEXTS) for run in each]
    for at, row in enumerate(said):
        for name, score in row["scores"].items():
            assert score == pytest.approx(np.mean([answers[at]["scores"][name] for answers in own]), abs=2e-6)
        assert row["prediction"] == max(row["scores"], key=row["scores"].__getitem__)
    assert any(row["scores"] != answer["scores"] for row, answer in zip(said, own[0], strict=True))

    Path("pool.csv").write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
    for settings in ([], ["--set", "candidates=1"]):
        refused = command("select", "moved", "--pool", "pool.csv", "--count", 1, "--strategy", "entropy", *settings)
        assert refused.returncode == 2
        assert "a single model is needed here" in refused.stderr

    stored = [row for row in pq.read_table("moved/predictions.parquet").to_pylist() if row["split"] == "test"]
    right = np.array([row["label"] == row["prediction"] for row in stored])
    assert found["scores"]["test"]["accuracy"] == pytest.approx(right.mean())
    low, high = found["intervals"]["test"]["accuracy"]
    assert low <= right.mean() <= high
    alone = SavedRun.open(runs[1]).record.scores
    assert found["members"][1]["scores"]["test"]["accuracy"] == pytest.approx(alone["test"]["accuracy"])
    assert found["comparison"]["metric"] == "accuracy"
    assert found["comparison"]["low"] <= found["comparison"]["difference"] <= found["comparison"]["high"]

    again = command("ensemble", *runs[:2], "--output", "moved", "--json")  # as after a kill at its very end
    assert json.loads(again.stdout) == {**found, "output": "moved"}
    assert "nothing is left to do" in again.stderr
    assert "not empty" in command("ensemble", *runs[1:], "--output", "moved").stderr

    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"{text},good\n" for text in TEXTS))
    scored = json.loads(command("evaluate", "moved", "--data", "rows.csv", "--json").stdout)
    assert scored["scores"]["accuracy"] == pytest.approx(np.mean([row["prediction"] == "good" for row in said]))

    host = Host(offline=True)
    host.add("single", runs[0])
    hosted = host.add("both", Path("moved"))
    examples = hosted.tuned.encode(Split("request", range(12), {"text": TEXTS})).examples
    served = host.answer([WorkItem(hosted, example) for example in examples])
    assert [answer.prediction for answer in served] == [row["prediction"] for row in said]

    for words in (["explain", "moved", "good"], ["export", "moved", "--format", "merged", "--output", "merged"]):
        refused = command(*words)
        assert refused.returncode == 2
        assert "ensemble" in refused.stderr
        assert "moved/members" in refused.stderr
    assert "it is an ensemble" in command("report", ".").stderr


def test_a_base_that_a_run_has_pre_trained_goes_with_it(command, tiny_bert: Path, reviews: Path) -> None:
    for seed in (1, 2):
        Path(f"{seed}.yaml").write_text(
            f"name: own-base\nseed: {seed}\nmodel: {{path: {tiny_bert}, pretrain: {{max_steps: 2, max_length: 16}}}}\n"
            "task: {type: text_classification, max_length: 16}\nmethod: {type: lora}\nmeasure: false\n"
            f"data: {{source: {reviews}, validation_fraction: 0.2, split_seed: 0}}\n"
            "training: {max_steps: 2, batch_size: 8}\nwaive_guards: [answers_vary]\n"
        )
        assert command("run", f"{seed}.yaml", "--output-dir", f"run-{seed}").returncode == 0
    assert command("ensemble", "run-1", "run-2", "--output", "both").returncode == 0
    said = peftlab.load("both").predict(TEXTS)
    card = Path("run-1/adapter/README.md").read_text()
    assert "the folder `pretraining/model` of the run, which is not here" in card
    for seed in (1, 2):
        shutil.rmtree(f"run-{seed}")
    shutil.move("both", "moved")
    assert peftlab.load("moved").predict(TEXTS) == said


def test_rows_that_another_run_has_seen_are_left_out(command, runs: list[Path]) -> None:
    done = command("ensemble", runs[0], runs[2], "--output", "seeds", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    splits = [load_data(SavedRun.open(run).recipe, offline=True, report=lambda line: None).splits for run in runs]
    known = {text_key([text]) for name in ("train", "validation") for text in splits[2][name].columns["text"]}
    test = splits[0]["test"]
    fresh = [i for i, text in zip(test.index, test.columns["text"], strict=True) if text_key([text]) not in known]
    stored = pq.read_table("seeds/predictions.parquet").to_pylist()
    assert [row["index"] for row in stored if row["split"] == "test"] == fresh
    assert found["rows_left_out"]["test"] == len(test) - len(fresh) > 0
    assert "test rows are left out" in done.stderr
    said = command("ensemble", runs[0], runs[2], "--output", "again").stdout
    assert f"run 2 {runs[2]}" in said
    assert "next        peftlab predict again --input" in said
    described = json.loads(Path("again/ensemble.json").read_text())
    assert described["notes"] == found["notes"]
    assert any("of a class, intervals of macro_f1 are too narrow" in note for note in found["notes"])
    assert [line[8:] for line in said.splitlines() if line.startswith("  Note: ")] == found["notes"]


def _update(run: Path) -> dict[str, torch.Tensor]:
    """What LoRA adds to each matrix, and the head, by peft's own arithmetic."""
    model = load_run(run, offline=True).model
    return {name: tensor.clone() for name, tensor in model.merge_and_unload().state_dict().items()}


def test_a_soup_is_the_mean_of_the_weights(command, runs: list[Path], tiny_run: Callable[..., Path]) -> None:
    done = command("ensemble", runs[0], runs[2], "--soup", "uniform", "--output", "soup")
    assert done.returncode == 0, done.stderr
    assert "soup: a uniform soup of 2 of 2 runs" in done.stdout
    merged, each = _update(Path("soup")), [_update(run) for run in (runs[0], runs[2])]
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, (each[0][name] + each[1][name]) / 2, atol=1e-5, rtol=1e-5)
    record = peftlab.load("soup").record
    again = command("ensemble", runs[0], runs[2], "--soup", "uniform", "--output", "soup")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "not empty" in command("ensemble", runs[0], runs[2], "--soup", "greedy", "--output", "soup").stderr
    assert [part.kept for part in record.soup.parts] == [True, True]
    assert record.calibration.temperature != 1
    for words in (
        ["predict", "soup", TEXTS[0]],
        ["export", "soup", "--format", "merged", "--output", "merged"],
        ["report", runs[0], "soup", "--json"],
    ):
        used = command(*words)
        assert used.returncode == 0, used.stderr
    again = command("reproduce", "soup")
    assert again.returncode == 2
    assert "mean of other runs' weights" in again.stderr

    other = tiny_run("{type: bitfit}", steps=20)
    greedy = command("ensemble", runs[1], other, "--soup", "greedy", "--output", "greedy", "--json")
    assert greedy.returncode == 0, greedy.stderr
    found = json.loads(greedy.stdout)["record"]
    best = max(part["scores"]["validation"]["accuracy"] for part in found["soup"]["parts"])
    assert found["scores"]["validation"]["accuracy"] >= best


def test_a_greedy_soup_takes_what_does_no_harm() -> None:
    gains = {0: 0.0, 1: 0.5, 2: -0.1, 3: 0.0}
    asked = []

    def score_of(part):
        asked.append(list(part))
        return sum(gains[at] for at in part)

    assert choose_greedily([0.1, 0.5, 0.4, 0.3], score_of) == [0, 1, 3]
    assert asked == [[1, 2], [1, 3], [1, 3, 0]]
    assert choose_greedily([-0.1, -0.5], lambda part: -0.2) == [0]


def test_what_several_models_say_together() -> None:
    def said(scores):
        return [Prediction("a", None, own) for own in scores]

    many = TASKS["text_classification"](multi_label=True).fitted({"thresholds": {"a": 0.3, "b": 0.5}})
    assert many.pool(said([[0.2, 0.4], [0.5, 0.4]]), ("a", "b")).prediction == ["a"]
    ordered = TASKS["ordinal_classification"]()
    # The likeliest class is the first, but most of the probability lies above it.
    assert ordered.pool(said([[0.4, 0.3, 0.3], [0.4, 0.3, 0.3]]), ("1", "2", "3")).prediction == "2"
    numbers = TASKS["text_regression"]()
    assert numbers.pool([Prediction(1.0, value, [value]) for value in (1.0, 4.0)], ()).prediction == 2.5


def test_bad_input_gets_a_message(command, runs: list[Path], tiny_run: Callable[..., Path], entities: Path) -> None:
    tags = tiny_run(task="{type: token_classification, max_length: 32}", data=entities, steps=2)
    three = tiny_run("{type: lora, rank: 2}", steps=2)
    for words, expected in (
        ([runs[0]], "two runs or more"),
        ([runs[0], runs[0]], "named twice"),
        ([tags, tags.parent / "run" / "adapter"], "named twice"),
        ([tags, runs[0]], "answers of runs of token_classification have no mean"),
        ([runs[0], tags], "its task is token_classification"),
        ([runs[0], three, "--soup", "uniform"], "rank is 2, not 4"),
        ([runs[0], runs[1], "--soup", "greedy"], 'have no mean: type is "bitfit", not "lora"\n'),
        ([runs[0], Path("nothing")], "no such folder"),
    ):
        done = command("ensemble", *words, "--output", "bad")
        assert done.returncode == 2, (words, done.stderr)
        assert expected in done.stderr
        assert not Path("bad").exists()


def test_damaged_ensembles(command, runs: list[Path]) -> None:
    command("ensemble", *runs[:2], "--output", "whole")
    described = json.loads(Path("whole/ensemble.json").read_text())
    described["members"][0]["folder"] = "../../elsewhere"
    Path("whole/ensemble.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="damaged"):
        load_tuned("whole")
    described["members"][0]["folder"] = "7"
    Path("whole/ensemble.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="no such folder"):
        load_tuned("whole")
