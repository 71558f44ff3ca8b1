"""The record of a run: what was asked, what came out, what it cost, and whether the guards passed.

This module never imports torch: reports read thousands of records. Units are in the names. A figure that was not
measured is null; nothing here is an estimate.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from peftlab.core.config import Config, first_mistake
from peftlab.core.errors import UserError
from peftlab.core.files import is_unfinished, near_names, path_of, write_json

SCHEMA_VERSION: Literal[1] = 1
RECORD_NAME, RECIPE_NAME, METRICS_NAME = "record.json", "recipe.yaml", "metrics.jsonl"
PREDICTIONS_NAME, CHECKPOINTS = "predictions.parquet", "checkpoints"
"""In the folder of a run."""
SUITE_NAME, CELLS = "suite.yaml", "cells"
"""In the folder of a suite."""
PACK_INDEX_NAME, RECORDS_NAME = "pack.json", "records.jsonl"
"""In the folder of a pack, which holds the records of a whole suite."""
ENSEMBLE_NAME = "ensemble.json"
"""In the folder of an ensemble, which holds copies of its runs."""
ADAPTER, MODEL = PARTS = ("adapter", "model")
"""Folders of a run that hold its weights."""
WEIGHTS = ("adapter_config.json", "peftlab_adapter.json", "model.safetensors", "model.safetensors.index.json")

Status = Literal["success", "diverged", "out_of_memory", "cancelled", "failed"]
GuardStatus = Literal["passed", "failed", "not_applicable"]


class Guard(Config):
    """The outcome of one check on a run."""

    status: GuardStatus
    detail: str = Field(default="", description="What was seen, in one sentence.")
    waived: bool = Field(default=False, description="The recipe accepts a failure of this guard.")

    @classmethod
    def check(cls, passed: bool, detail: str) -> Guard:
        """A guard that passed or failed."""
        return cls(status="passed" if passed else "failed", detail=detail)

    @classmethod
    def not_applicable(cls, reason: str) -> Guard:
        """A guard that has nothing to look at in this run."""
        return cls(status="not_applicable", detail=reason)


class Phase(Config):
    """The cost of one phase of a run."""

    seconds: float
    peak_memory_bytes: int | None = Field(description="Null where the phase did not reach the point of measurement.")


class Memory(Config):
    """Memory of training, by category. On CPU from untimed steps on the longest batch, on CUDA from the allocator."""

    parameters_bytes: int
    quantization_bytes: int = Field(0, description="Scales and code books of quantised parameters.")
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int = Field(description="The peak less the others: activations and temporary buffers.")
    peak_bytes: int


class Throughput(Config):
    """Speed of the timed training steps; the first ones and all evaluation are left out."""

    tokens_per_second: float = Field(description="Tokens that are not padding.")
    examples_per_second: float
    padding_fraction: float = Field(description="Padding tokens as a share of all tokens that the model was given.")
    flops_utilization: float | None = Field(
        description="FLOPs due for the tokens that are not padding ÷ (seconds × measured matmul FLOP/s)."
    )
    timed_steps: int
    matmul_flops_per_second: float | None = Field(description="Measured on this device just before training.")


class Parameters(Config):
    """How many parameters there are, and how many of them train."""

    total: int
    trainable: int


class DataSummary(Config):
    """The data that a run saw."""

    fingerprint: str = Field(description="SHA-256 over every split's rows: equal for equal data, and only then.")
    added_rows_fingerprint: str | None = Field(
        None, description="SHA-256 over the rows that data.augmentation has added to the training split."
    )
    rows: dict[str, int]
    notes: dict[str, Any] = Field(
        default_factory=dict, description="Duplicates removed, conflicting labels, and so on."
    )


class CalibrationError(Config):
    """The expected calibration error of one split (15 bins), as the model scores, and with the temperature."""

    uncalibrated: float
    calibrated: float


class Calibration(Config):
    """How far scores can be taken for probabilities."""

    temperature: float = Field(description="Logits are divided by it; fitted on the validation split, where it can be.")
    not_fitted: str | None = Field(None, description="Why there is no temperature (it is 1 then); null: it was fitted.")
    expected_calibration_error: dict[str, CalibrationError] = Field(
        description="By split. That of the validation split is of the data on which the temperature was fitted."
    )


class PairedTest(Config):
    """A comparison with the best run on the same examples, by one metric."""

    best: str = Field(description="The run's folder in members/, or the folder that it was taken from.")
    chosen_on: str = Field(description="The split on which this run is the best.")
    split: str
    metric: str
    difference: float = Field(description="How much better the combination is than the run.")
    low: float = Field(description="Lower end of its 95 % interval, over the examples.")
    high: float
    p_value: float


class SoupPart(Config):
    """One of the runs whose weights were looked at for a soup."""

    run: str
    seed: int
    origin: str = Field(description="The folder that it was taken from.")
    kept: bool = Field(description="Whether its weights are in the mean.")
    scores: dict[str, dict[str, float]] = Field(
        description="Of the run itself, on the soup's rows; split, then metric."
    )
    weights_fingerprint: str | None = Field(None, description="Of the run's weights, where its record has it.")


class Soup(Config):
    """How a model came about that was not trained, but is the mean of runs."""

    kind: Literal["uniform", "greedy"]
    parts: list[SoupPart]
    comparison: PairedTest | None = Field(
        None, description="With the best of the runs; null where the metric has no contribution per example."
    )


class Earlier(Config):
    """The run that another one went on from."""

    run: str = Field(description="Its name.")
    folder: str
    started_at: str
    weights_sha256: str = Field(description="Of its files of weights, which tells whether they are still the same.")
    fingerprint: str = Field(description="Of its data.")
    scores: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="Of the earlier run on this run's test rows, new and earlier: split, metric."
    )
    start_scores: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="Of the model before its first step, where it began with the base's weights."
    )


class Gate(Config):
    """Whether a run that went on from another one may take its place."""

    accepted: bool
    worse: list[str] = Field(description="Where it is worse, in sentences.")


class Routed(Config):
    """A run and those before it, each with what it learned alone: a router chooses which of them answers a row."""

    scores: dict[str, dict[str, float]] = Field(description="On this run's test rows, new and earlier: split, metric.")
    before: dict[str, float] = Field(description="On the new test rows, of the runs before alone: metric.")
    right: dict[str, float] = Field(description="By split the share of rows that went to the run of their own task.")


class RunRecord(Config):
    """Everything that a run leaves behind about itself."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: str
    status: Status
    error: str | None = None
    recipe: dict[str, Any]
    scores: dict[str, dict[str, float]] = Field(default_factory=dict, description="Split, then metric.")
    labels: list[str] | None = None
    learned: dict[str, Any] = Field(
        default_factory=dict, description="What the task learned of the training split beside the classes."
    )
    calibration: Calibration | None = None
    soup: Soup | None = Field(None, description="Of a mean of several runs' weights; null: the run was trained.")
    earlier: Earlier | None = Field(None, description="The run that this one went on from; null: it began with a base.")
    routed: Routed | None = Field(
        None, description="Of a suite's method with `router: true`, beside the runs before it; null: it has none."
    )
    gate: Gate | None = Field(None, description="Of `peftlab continue --fail-under`; null: it was not asked for.")
    best_step: int | None = None
    tied_steps: list[int] = Field(
        default_factory=list,
        description="Steps whose validation score equals that of the best step, which has the least validation loss.",
    )
    steps: int = 0
    stopped_by: str | None = Field(None, description="The callback that ended the training early; null: none did.")
    acceleration: dict[str, int | str] | None = Field(
        None,
        description="How many parts of the model were computed in fewer operations while training, by kind, or why "
        "none was; empty: none, null: not known.",
    )
    micro_batch_size: int | None = Field(
        None, description="Examples that were computed at once, at the end of the run; null: whole batches."
    )
    phases: dict[str, Phase] = Field(default_factory=dict)
    memory: Memory | None = None
    throughput: Throughput | None = None
    parameters: Parameters | None = None
    artifact_bytes: int | None = None
    weights_fingerprint: str | None = Field(
        None,
        description="SHA-256 of the adapter that the run left; of a whole model, of evenly spread pieces of its "
        "weights. The run is not used with others. Null: it left none, or nobody looked.",
    )
    initial_adapter_sha256: str | None = None
    base_fingerprint: str | None = Field(
        None,
        description="SHA-256 over names, shapes and evenly spread pieces of the weights that the base was loaded from: "
        "the run is not loaded over others. Null: the model started from nothing, or nobody looked.",
    )
    own_head: str | None = Field(
        None, description="What became of the head that the base brought; null where it has none."
    )
    guards: dict[str, Guard] = Field(default_factory=dict)
    data: DataSummary | None = None
    environment: dict[str, Any] = Field(default_factory=dict)
    resumed: int = Field(0, description="How many times the run was taken up again.")
    started_at: str
    seconds: float

    @pydantic.field_validator("recipe")
    @classmethod
    def _has_the_parts_of_a_recipe(cls, recipe: dict[str, Any]) -> dict[str, Any]:
        """What reads records takes these for granted, of thousands of them at once."""
        for name in ("model", "task", "data", "method", "training", "evaluation"):
            if not isinstance(recipe.get(name), dict | None):
                raise ValueError(f"{name} is no mapping")
        if not isinstance(recipe.get("seed"), int | None):
            raise ValueError("seed is no whole number")
        return recipe

    @property
    def failed_guards(self) -> list[str]:
        """The names of the guards that failed and are not waived."""
        return failed_guards(self.guards)


def failed_guards(guards: Mapping[str, Guard]) -> list[str]:
    """The names of those that failed and are not waived."""
    return [name for name, guard in guards.items() if guard.status == "failed" and not guard.waived]


def write_record(record: RunRecord, folder: Path) -> Path:
    """Write ``record.json`` into a run's folder, whole or not at all."""
    path = folder / RECORD_NAME
    write_json(path, record.model_dump(mode="json"))
    return path


def run_of(folder: Path | str) -> Path:
    """The folder of the run that this is, or whose ``adapter/``, ``model/`` or record this is; else the path itself."""
    folder = Path(folder)
    if folder.name == RECORD_NAME and folder.is_file():
        return folder.parent
    is_part = folder.name in PARTS or folder.resolve().name in PARTS
    if is_part and not (folder / RECORD_NAME).exists() and (folder / ".." / RECORD_NAME).is_file():
        return folder.parent if folder.name in PARTS else folder.resolve().parent
    return folder


def no_folder(path: Path) -> UserError:
    """The error of a file where the folder of a run is needed."""
    is_yaml = path.suffix in {".yaml", ".yml"}
    return UserError(
        "this is a file; the folder of a run is needed",
        where=str(path),
        hint=f"If this is a recipe, `peftlab run {shlex.quote(str(path))}` makes a run of it." if is_yaml else None,
    )


def _way_to_a_run(folder: Path) -> str:
    if (folder / RECIPE_NAME).is_file() and any((folder / name).exists() for name in (".lock", METRICS_NAME)):
        recipe, place = shlex.quote(str(folder / RECIPE_NAME)), shlex.quote(str(folder))
        return f"Go on with the interrupted run by `peftlab run {recipe} --output-dir {place} --resume`."
    found = (record.parent for depth in ("*", "*/*") for record in folder.glob(f"{depth}/{RECORD_NAME}"))
    below = sorted(path for path in found if not is_unfinished(path))
    return f"Did you mean `{below[0]}`?" if below else "Give the folder that `peftlab run` names when it ends."


def read_record(path: Path | str) -> RunRecord:
    """Read a record.

    Args:
        path: A ``record.json``, or the folder of a run.

    Raises:
        UserError: There is none, it is cut short, or it is of another schema version.
    """
    path = path_of(path, "the folder of a run", where="path")
    if path.is_file() and path.suffix != Path(RECORD_NAME).suffix:
        raise no_folder(path)
    file = path / RECORD_NAME if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        if not path.exists():
            raise UserError("no such folder", where=str(path), hint=near_names(path)) from None
        if any((path / name).is_file() for name in WEIGHTS):
            raise UserError(
                "these are weights without their run: there is no record.json",
                where=str(path),
                hint="Give the folder of the run, which holds recipe.yaml, record.json and this folder. Without a run, "
                "plain peft or transformers load weights.",
            ) from None
        raise UserError(
            "this is not the folder of a finished run: it has no record.json", where=str(path), hint=_way_to_a_run(path)
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"the record is damaged: {error}", where=str(file)) from None
    except IsADirectoryError:
        raise UserError("the record is damaged: it is a folder", where=str(file)) from None
    return parse_record(text, where=str(file))


def parse_record(text: str, *, where: str) -> RunRecord:
    """A record from its JSON.

    Args:
        text: What ``record.json`` holds, or a line of a pack's ``records.jsonl``.
        where: The place, for messages.

    Raises:
        UserError: It is cut short, or it is of another schema version.
    """
    try:
        values = json.loads(text)
        if "\\ud" in text.lower():  # halves of characters, which no page or file can hold
            json.dumps(values, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:  # numbers or brackets without end
        raise UserError(f"the record is damaged: {error}", where=where) from None
    version = values.get("schema_version") if isinstance(values, Mapping) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"the record has schema version {version!r}; this peftlab reads version {SCHEMA_VERSION}",
            where=where,
            hint="Read it with the peftlab that wrote it (see its `environment`), or run the recipe again.",
        )
    try:
        return RunRecord.model_validate(values)
    except pydantic.ValidationError as error:
        raise UserError(f"the record is damaged: {first_mistake(error)}", where=where) from None
