"""What a suite's folder says beside its cells: the plan, the tuning, the overhead."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftlab.core.config import read_yaml
from peftlab.core.errors import UserError
from peftlab.core.record import CELLS, SUITE_NAME
from peftlab.core.selection import labels_name
from peftlab.packs.layout import PackIndex, is_pack
from peftlab.packs.read_pack import open_pack
from peftlab.report.entry import Excluded


@dataclass(frozen=True)
class Trial:
    """One setting that was tried: its score on the validation split, None where the trial failed."""

    number: int
    parameters: Mapping[str, Any]
    score: float | None
    status: str


@dataclass(frozen=True)
class Rung:
    """Trials at one amount of training data; the next rung has fewer of them and more data."""

    train_examples: int | None
    trials: Sequence[Trial]


@dataclass(frozen=True)
class TuningResult:
    """How one cell was tuned."""

    cell: str
    metric: str
    higher_is_better: bool
    rungs: Sequence[Rung]
    chosen: Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """A figure of a paper."""

    metric: str
    score: float
    source: str


@dataclass(frozen=True)
class SuiteInfo:
    """A suite as its folder tells it.

    Args:
        folder: Of the suite.
        name: Of the suite.
        planned: Name of the cell and seed of every run that the suite wants.
        sequence: The tasks in a row, in their order; none where it has no sequence.
        labels: Of a label curve, the numbers of labelled rows; none where it is no such suite.
        strategies: Of a label curve, the type of each method's strategy.
        resamples_train: Whether each seed draws training rows of its own.
        tuning: Trials and range of the learning rate; None: tuning is off.
        results: How the cells were tuned, by the cell's name.
        published: Figures of papers, by the cell's name.
        overhead_seconds_per_run: What the suite adds to its runs; None where it did not write it down.
        problems: Parts of the folder that cannot be read.
        is_known: Whether its ``suite.yaml`` could be read; else there is neither plan nor tuning here.
    """

    folder: Path
    name: str
    planned: Sequence[tuple[str, int]] = ()
    sequence: Sequence[str] = ()
    labels: Sequence[int] = ()
    strategies: Mapping[str, str] = field(default_factory=dict)
    resamples_train: bool = False
    tuning: Mapping[str, Any] | None = None
    results: Mapping[str, TuningResult] = field(default_factory=dict)
    published: Mapping[str, Published] = field(default_factory=dict)
    overhead_seconds_per_run: float | None = None
    problems: Sequence[Excluded] = ()
    is_known: bool = True


def suite_folder(run_folder: Path) -> Path | None:
    """The folder of the suite that a run's folder is a cell of."""
    cells = run_folder.parent
    return cells.parent if cells.name == CELLS and (cells.parent / SUITE_NAME).is_file() else None


def read_suite(folder: Path, shown_path: str) -> SuiteInfo:
    """Read what there is; what cannot be read becomes a problem, not an error."""
    problems: list[Excluded] = []
    values: dict[str, Any] = {}
    try:
        values = read_yaml(folder / SUITE_NAME).values
        planned: dict[str, Any] = {
            "planned": _plan(values),
            "sequence": list(values.get("sequence") or {}),
            "labels": list(values.get("labels") or []),
            "strategies": _strategies(values),
            "resamples_train": values.get("resample_train") is True,
            "tuning": _tuning(values.get("tuning")),
            "published": {name: _published(**figure) for name, figure in (values.get("published") or {}).items()},
        }
    except UserError as error:
        problems.append(Excluded(f"{shown_path}/{SUITE_NAME}", error.message))
        planned = {"is_known": False}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        problems.append(Excluded(f"{shown_path}/{SUITE_NAME}", f"it is no suite: {error}"))
        planned = {"is_known": False}
    results: dict[str, TuningResult] = {}
    packed = _index(folder)
    texts = {path.stem: path.read_bytes() for path in (folder / "tuning").glob("*.json")}
    for cell, found in sorted((packed.tuning | texts).items() if packed else texts.items()):
        try:
            result = _tuning_result(json.loads(found) if isinstance(found, bytes) else found)
            results[result.cell] = result
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(Excluded(f"{shown_path}/tuning/{cell}.json", f"the tuning's result is damaged: {error!r}"))
    return SuiteInfo(
        folder=folder,
        name=str(values.get("name", folder.name)),
        results=results,
        overhead_seconds_per_run=_overhead(folder, packed),
        problems=problems,
        **planned,
    )


def _tuning(values: Any) -> dict[str, Any] | None:
    if values is None:
        return None
    least, most = (float(rate) for rate in values["learning_rate"])
    if not 0 < least <= most < math.inf:
        raise ValueError(f"learning rates from {least} to {most}")
    return {**values, "learning_rate": [least, most]}


def _published(metric: str, score: float, source: str) -> Published:
    if not math.isfinite(score):
        raise ValueError(f"a published score of {score}")
    return Published(str(metric), float(score), str(source))


def _plan(values: Mapping[str, Any]) -> list[tuple[str, int]]:
    methods = [_name(entry) for entry in values["methods"]]
    axes = [*(values.get("axes") or {}).values(), *([values["sequence"]] if values.get("sequence") else [])]
    axes += [[labels_name(labels) for labels in values["labels"]]] if values.get("labels") else []
    combinations = list(itertools.product(*axes))
    cells = ["--".join([method, *names]) for names in combinations for method in methods]
    return [(cell, seed) for cell in cells for seed in map(int, values["seeds"])]


def _strategies(values: Mapping[str, Any]) -> dict[str, str]:
    return {_name(entry): str(entry["select"].get("type")) for entry in values["methods"] if "select" in entry}


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("name", entry.get("type")))


def _index(folder: Path) -> PackIndex | None:
    """Of the pack, where there is one that can be read; what is wrong with another is told of its cells."""
    try:
        return open_pack(folder).index if is_pack(folder) else None
    except UserError:
        return None


def _tuning_result(values: Any) -> TuningResult:
    rungs = [
        Rung(
            rung.get("train_examples"),
            [
                Trial(
                    trial["number"],
                    dict(trial["parameters"]),
                    None if trial.get("score") is None else float(trial["score"]),
                    str(trial.get("status", "success")),
                )
                for trial in rung["trials"]
            ],
        )
        for rung in values["rungs"]
    ]
    return TuningResult(
        cell=str(values["method"]),
        metric=str(values["metric"]),
        higher_is_better=values.get("higher_is_better", True) is not False,
        rungs=rungs,
        chosen=dict(values.get("chosen") or {}),
    )


def _overhead(folder: Path, packed: PackIndex | None) -> float | None:
    path = folder / "suite_seconds.json"
    try:
        values: Any = packed.suite_seconds if packed else None
        if path.exists():
            values = json.loads(path.read_text(encoding="utf-8"))
        return float(values["overhead_seconds_per_run"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
