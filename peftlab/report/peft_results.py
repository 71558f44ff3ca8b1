"""Result files of huggingface/peft's ``method_comparison``: one run each, one seed, without predictions.

The files of the MetaMathQA comparison are read
(https://github.com/huggingface/peft/tree/main/method_comparison/MetaMathQA). They hold the accuracy on the test split
of GSM8K, which has 1,319 examples (https://github.com/openai/grade-school-math); the interval follows from that number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftlab.core.errors import UserError
from peftlab.report.entry import Costs, Entry, History, flatten

TEST_EXAMPLES = 1319
ORIGIN = "huggingface/peft method_comparison"
SECTIONS = ("run_info", "train_info", "meta_info")
METRIC = "accuracy"


def looks_like_peft_result(path: Path) -> bool:
    """Whether a JSON file begins like one of peft's results; a truncated one does too, and one that nobody may read."""
    if not path.is_file():  # a link to nowhere, or a pipe
        return False
    try:
        with path.open("rb") as file:
            return b'"run_info"' in file.read(512)
    except OSError:  # is told when it is read
        return True


def read_peft_result(path: Path, shown_path: str) -> Entry:
    """Read one result file.

    Raises:
        UserError: It is damaged, or of a comparison that has no test accuracy.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"the result file is damaged: {error}", where=shown_path) from None
    try:
        run, train, meta = (values[section] for section in SECTIONS)
        return _entry(path, shown_path, run, train, meta)
    except KeyError as error:
        raise UserError(f"the result file lacks {error}", where=shown_path) from None
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"this is no result file as peft writes it: {error}", where=shown_path) from None


def _entry(path: Path, shown_path: str, run: Any, train: Any, meta: Any) -> Entry:
    config, experiment = run["train_config"], run["experiment_name"]
    data_sets = {name: str(info["sha"]) for name, info in sorted(meta["dataset_info"].items())}
    status = str(train["status"])
    return Entry(
        name=path.stem,
        seed=int(config["seed"]),
        path=path,
        shown_path=shown_path,
        status=status,
        error=run.get("error_msg") or None,
        task="text generation, exact answer",
        model=str(config["model_id"]),
        data=" + ".join(data_sets),
        fingerprint=" ".join(f"{name}@{sha}" for name, sha in data_sets.items()),
        metric=METRIC,
        scores=_scores(train["metrics"], shown_path) if status == "success" else {},
        rows={"test": TEST_EXAMPLES},
        settings=flatten({"training": config, "method": run["peft_config"]}),
        costs=_costs(run, train),
        environment=_environment(meta),
        started_at=str(run["created_at"]),
        history=_history(train["metrics"]),
        command=f"python run.py -v experiments/{experiment}",
        origin=ORIGIN,
    )


def _scores(metrics: list[dict[str, Any]], where: str) -> dict[str, dict[str, float]]:
    last = metrics[-1] if metrics else {}
    if "test accuracy" not in last:
        raise UserError("its last metrics hold no test accuracy; only the MetaMathQA comparison is read", where=where)
    accuracy = float(last["test accuracy"])
    right = accuracy * TEST_EXAMPLES
    if not 0 <= accuracy <= 1 or abs(right - round(right)) > 1e-6:
        raise UserError(
            f"a test accuracy of {accuracy} is no share of {TEST_EXAMPLES:,} examples, so no interval follows from it",
            where=where,
        )
    return {"test": {METRIC: accuracy}}


def _costs(run: Mapping[str, Any], train: Mapping[str, Any]) -> Costs:
    last = train["metrics"][-1] if train["metrics"] else {}  # a run that failed early has none
    tokens, seconds = last.get("train total tokens"), train["train_time"]
    return Costs(
        peak_memory_bytes=train["accelerator_memory_max"],
        tokens_per_second=tokens / seconds if tokens and seconds else None,
        train_seconds=seconds,
        total_seconds=run["total_time"],
        trainable_parameters=train["num_trainable_params"],
        artifact_bytes=train["file_size"],
    )


def _history(metrics: list[dict[str, Any]]) -> History:
    loss = [(line["step"], line["train loss"]) for line in metrics if "train loss" in line]
    valid = [(line["step"], {METRIC: line["valid accuracy"]}) for line in metrics if "valid accuracy" in line]
    return History(loss, valid)


def _environment(meta: Mapping[str, Any]) -> dict[str, str]:
    packages = {name.removesuffix("-version"): value for name, value in meta["package_info"].items() if value}
    versions = {name: str(value) for name, value in packages.items() if not name.endswith("-hash")}
    system = meta["system_info"]
    return {"device": str(system.get("accelerator", "")), "platform": str(system.get("system", "")), **versions}
