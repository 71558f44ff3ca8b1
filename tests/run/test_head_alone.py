"""A head that trains alone on a frozen base: the base reads each example once, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sklearn.datasets import load_digits
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoTokenizer

import peftlab
from peftlab.core.callback import Callback
from peftlab.core.errors import RunFailedError
from peftlab.core.record import RunRecord
from peftlab.run.run import RunResult
from peftlab.run.training_stage import TrainingStage
from peftlab.training.batches_ahead import BatchesAhead
from peftlab.training.known_base import KnownBase
from peftlab.training.metrics_log import MetricsLog
from tests.training.recorded import TapeRecorder, with_graphs

pytestmark = pytest.mark.slow

ONCE = "computed once: "


def run(
    folder: Path, model: Any, data: Any, *, callbacks: tuple[Callback, ...] = (), reporter: Any = None, **keys: Any
) -> RunResult:
    recipe = peftlab.Recipe.from_dict(
        {
            "name": "probe",
            "model": {"path": str(model)} if isinstance(model, Path) else model,
            "task": keys.pop("task", {"type": "text_classification", "max_length": 32}),
            "data": {"source": data, "test_fraction": 0.2, "validation_fraction": 0.2, "max_train_examples": 60},
            "method": keys.pop("method", {"type": "linear_probe"}),
            "training": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, **keys.pop("training", {})},
            "waive_guards": ["answers_vary"],
            "measure": False,
            **keys,
        }
    )
    return peftlab.run_recipe(recipe, output_dir=folder, callbacks=callbacks, resume=folder.exists(), reporter=reporter)


def told(record: RunRecord) -> str:
    return str((record.acceleration or {}).get("frozen_base", ""))


def losses(folder: Path) -> list[float]:
    return [row["loss"] for row in MetricsLog(folder / "metrics.jsonl").read() if "loss" in row]


def digits() -> list[dict[str, Any]]:
    from io import BytesIO

    from PIL import Image

    images, classes = load_digits(n_class=2, return_X_y=True)
    rows = []
    for image, label in zip(images[:90].reshape(-1, 8, 8), classes[:90], strict=True):
        Image.fromarray((image * 15).astype("uint8")).save(content := BytesIO(), format="PNG")
        rows.append({"image": content.getvalue(), "label": ["zero", "one"][label]})
    return rows


def of_architecture(folder: Path, vocabulary: Path, values: dict[str, Any]) -> Path:
    """A checkpoint with random weights, and the words of another."""
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    AutoModel.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(vocabulary).save_pretrained(folder)
    return folder


TEXTS = {"type": "text_classification", "max_length": 32}
DISTILBERT = {"model_type": "distilbert", "dim": 32, "hidden_dim": 48, "n_layers": 1, "n_heads": 2, "vocab_size": 200}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "a pooler in the base": ("tiny_bert", TEXTS),
    "the mean of the states": ("tiny_bert", {**TEXTS, "pooling": "mean"}),
    "a head of several layers": (DISTILBERT, TEXTS),
    "the last token of a decoder": ("tiny_gpt2", TEXTS),
    "images": ("tiny_vit", {"type": "image_classification"}),
}


@pytest.mark.parametrize(("model", "task"), CASES.values(), ids=CASES)
def test_losses_and_scores_are_those_of_the_whole_model(
    model: Any, task: dict[str, Any], reviews: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if isinstance(model, str):
        base: Path = request.getfixturevalue(model)
    else:
        base = of_architecture(tmp_path / "base", request.getfixturevalue("tiny_bert"), dict(model))
    data = digits() if task.get("type") == "image_classification" else str(reviews)
    quick = run(tmp_path / "quick", base, data, task=task)
    slow = run(tmp_path / "slow", {"path": str(base), "acceleration": "off"}, data, task=task)
    assert quick.record.status == slow.record.status == "success", quick.record.error
    assert told(quick.record).startswith(ONCE)
    assert not told(slow.record)
    assert losses(quick.folder) == pytest.approx(losses(slow.folder), rel=1e-4)
    assert quick.record.scores["test"] == pytest.approx(slow.record.scores["test"], abs=5e-3)  # ranks of ties
    failed = [name for name, guard in quick.record.guards.items() if guard.status == "failed"]
    assert not [name for name in failed if name != "answers_vary"]


class Fails(Callback):
    """In the second epoch."""

    def on_step(self, step: int, loss: float) -> None:
        if step == 11:
            raise ValueError("no thanks")


def test_a_run_that_was_stopped_ends_the_same_bit_for_bit(tiny_bert: Path, reviews: Path, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"training": {"checkpoint_every_steps": 5, "log_every_steps": 1}}
    whole = run(tmp_path / "whole", tiny_bert, str(reviews), **keys)
    stopped = run(tmp_path / "stopped", tiny_bert, str(reviews), callbacks=(Fails(),), **keys)
    assert stopped.record.status == "failed"
    again = run(tmp_path / "stopped", tiny_bert, str(reviews), **keys)
    assert (again.record.status, again.record.resumed) == ("success", 1)
    assert told(again.record).startswith(ONCE)
    assert again.record.scores == whole.record.scores
    assert losses(again.folder) == losses(whole.folder)


def test_what_computed_faster_is_told_where_no_step_is_left(
    tiny_bert: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That attention has its own dropout is known with the first batch, and the resumed run has none."""
    model = {"path": str(of_architecture(tmp_path / "base", tiny_bert, dict(DISTILBERT))), "dropout": 0.1}
    keys: dict[str, Any] = {"method": {"type": "bitfit"}, "training": {"max_steps": 2}}

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStage, "_tell_ties", stop)
        assert run(tmp_path / "run", model, str(reviews), **keys).record.status == "cancelled"
    again = run(tmp_path / "run", model, str(reviews), **keys).record
    assert (again.status, again.resumed, again.steps) == ("success", 1, 2)
    assert again.acceleration is not None
    assert again.acceleration["attention_dropout"] == DISTILBERT["n_layers"]


def test_batches_that_are_made_ahead_hold_the_same_rows(
    tiny_bert: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    forward = KnownBase.forward

    def watched(self: KnownBase, *arguments: Tensor, **keywords: Any) -> Any:
        seen.append((arguments[0] if arguments else keywords["input_ids"])[:, 0].tolist())
        return forward(self, *arguments, **keywords)

    monkeypatch.setattr(KnownBase, "forward", watched)
    plain = run(tmp_path / "plain", tiny_bert, str(reviews))
    rows = list(seen)
    seen.clear()
    # As on a card.
    monkeypatch.setattr(TrainingStage, "_made_ahead", lambda self, job: replace(job, ahead=BatchesAhead(pin=False)))
    ahead = run(tmp_path / "ahead", tiny_bert, str(reviews))
    assert told(ahead.record).startswith(ONCE)
    assert seen == rows
    assert losses(ahead.folder) == losses(plain.folder)


def test_graphs_of_a_card_leave_the_head_alone(
    tiny_bert: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(tmp_path / "plain", tiny_bert, str(reviews))
    monkeypatch.setattr(TrainingStage, "_with_graphs", lambda self, job: with_graphs(job, TapeRecorder()))
    done = run(tmp_path / "graphs", tiny_bert, str(reviews))
    assert told(done.record).startswith(ONCE)
    assert (done.record.acceleration or {})["cuda_graphs"] == "the head computes alone in a step"
    assert losses(done.folder) == losses(plain.folder)


def test_what_fails_before_the_first_step_is_what_is_told(
    tiny_bert: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not that no progress was shown yet."""

    def fail(*_: Any) -> None:
        raise RunFailedError("the base cannot be read")

    monkeypatch.setattr("peftlab.run.training_stage.head_alone", fail)
    record = run(tmp_path / "run", tiny_bert, str(reviews), reporter=peftlab.PlainReporter()).record
    assert (record.status, record.error) == ("failed", "the base cannot be read")


def test_the_record_counts_what_the_base_has_read(tiny_bert: Path, reviews: Path, tmp_path: Path) -> None:
    quick = run(tmp_path / "quick", tiny_bert, str(reviews), measure=True).record
    slow = run(tmp_path / "slow", {"path": str(tiny_bert), "acceleration": "off"}, str(reviews), measure=True).record
    assert quick.throughput is not None
    assert slow.throughput is not None
    assert quick.throughput.timed_steps == slow.throughput.timed_steps
    # Examples of all epochs against tokens that were read once: fewer tokens an example than in the other run.
    per_example = [each.tokens_per_second / each.examples_per_second for each in (quick.throughput, slow.throughput)]
    assert per_example[0] < per_example[1]
    assert 0 < (quick.throughput.flops_utilization or 0) < 1


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"task": {**TEXTS, "windows": {"stride": 4}}}, "the task needs more of it than one vector"),
        ({"training": {"regularizers": [{"type": "fgm"}]}}, "`fgm` may change what the base computes"),
        ({"model": {"dropout": 0.2}}, "it computes otherwise in training, as with dropout"),
        ({"training": {"epochs": None, "max_steps": 5}}, ""),
    ],
)
def test_where_it_cannot_be_done_the_base_computes_in_every_step(
    keys: dict[str, Any], reason: str, tiny_bert: Path, reviews: Path, tmp_path: Path
) -> None:
    model = {"path": str(tiny_bert), **keys.pop("model", {})} if "model" in keys else tiny_bert
    done = run(tmp_path / "run", model, str(reviews), **keys)
    assert done.record.status == "success", done.record.error
    wanted = f"computed in every step: {reason}" if reason else ""
    assert told(done.record)[: len(wanted) or None] == wanted
