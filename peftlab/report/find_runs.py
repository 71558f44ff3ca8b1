"""Find the runs below some folders, and read them. What cannot be read is listed with the reason, never dropped."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftlab.core.errors import UserError
from peftlab.core.files import bring_back, is_unfinished, near_names
from peftlab.core.record import ENSEMBLE_NAME, RECIPE_NAME, RECORD_NAME, SUITE_NAME, RunRecord
from peftlab.packs.runs import find_packed, read_run_record, suite_cells
from peftlab.recipe.continuation import EARLIER, put_in_place
from peftlab.report.entry import Costs, Entry, Excluded, flatten
from peftlab.report.peft_results import looks_like_peft_result, read_peft_result
from peftlab.report.suites import SuiteInfo, read_suite, suite_folder

MISSING = "not_run"
"""The status of a planned run that has left no record."""
UNREADABLE = "unreadable"


@dataclass
class Found:
    """All that was found below some folders."""

    entries: list[Entry] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    suites: dict[Path, SuiteInfo] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    """Folders of runs whose record cannot be read, and why."""
    whole: set[Path] = field(default_factory=set)
    """Suites that were read as a whole; of others nothing says that a run which is not here was not made."""


def read_folders(directories: Sequence[Path], *, base: Path | None) -> Found:
    """Read every record below some folders.

    Args:
        directories: Folders of runs, of suites, or with such folders in them; result files of huggingface/peft.
        base: Paths below it are shown relative to it; others as they were given.

    Raises:
        UserError: A folder does not exist, or nothing in them can be read.
    """
    found = Found()
    seen: set[Path] = set()
    for directory in directories:
        bring_back(directory)
        if not directory.exists() and find_packed(directory) is None:
            raise UserError("there is no such folder", where=str(directory), hint=near_names(directory))
        for path in _candidates(directory, found, base):
            if (resolved := path.resolve()) not in seen:
                seen.add(resolved)
                _read(path, _shown(path, base), found, base)
    if not found.entries:
        reasons = "".join(f"\n  {item.path}: {item.reason}" for item in found.excluded[:8])
        raise UserError(
            "there is no readable record here" + reasons,
            where=", ".join(map(str, directories)),
            hint="A report reads folders of finished runs, folders of suites, and result files of huggingface/peft's "
            "method_comparison.",
        )
    found.entries.sort(key=lambda entry: _place_in_plan(entry, found))
    return found


def run_statuses(suite: SuiteInfo, found: Found) -> dict[tuple[str, int], str]:
    """The status of each run of a suite that has left something, by cell and seed."""
    statuses: dict[tuple[str, int], str] = {}
    for path in found.unreadable:
        cell, _, seed = path.name.rpartition("--seed")
        if path.parent.parent == suite.folder and seed.isdigit():
            is_unfinished_run = path.is_dir() and not (path / RECORD_NAME).exists()
            statuses[cell, int(seed)] = "not finished" if is_unfinished_run else UNREADABLE
    for entry in found.entries:
        if entry.suite == suite.folder:
            statuses[entry.name, entry.seed] = entry.status
    return statuses


def _place_in_plan(entry: Entry, found: Found) -> int:
    """Cells come in the order of their suite; other runs before them, as they were found."""
    if entry.suite is None:
        return -1
    run, planned = (entry.name, entry.seed), found.suites[entry.suite].planned
    return planned.index(run) if run in planned else len(planned)


def _candidates(directory: Path, found: Found, base: Path | None) -> Iterator[Path]:
    """Folders of runs, packed runs, and JSON files that look like peft's results."""
    if directory.is_file():
        yield directory.parent if directory.name == RECORD_NAME else directory
        return
    if not directory.exists():
        yield directory
        return
    for root, folders, files in os.walk(directory, onerror=lambda error: _no_way(error, found, base)):
        folder = Path(root)
        if RECORD_NAME in files or RECIPE_NAME in files:
            folders.clear()
            yield folder
            continue
        if ENSEMBLE_NAME in files:
            folders.clear()
            reason = "it is an ensemble: its scores, against those of its runs, are in its ensemble.json"
            found.excluded.append(Excluded(_shown(folder, base), reason))
            continue
        if SUITE_NAME in files:
            # The trials of the tuning are runs too, but they are no results: they have seen less data.
            folders.clear()
            found.whole.add(folder)
            try:
                yield from suite_cells(folder)
            except UserError as error:
                found.excluded.append(Excluded(_shown(folder, base), str(error)))
            continue
        folders[:] = sorted(name for name in folders if not is_unfinished(Path(name)))
        for name in sorted(files):
            if name.endswith(".json") and looks_like_peft_result(folder / name):
                yield folder / name


def _no_way(error: OSError, found: Found, base: Path | None) -> None:
    found.excluded.append(Excluded(_shown(Path(error.filename), base), f"it cannot be read: {error.strerror}"))


def _shown(path: Path, base: Path | None) -> str:
    if base is not None:
        resolved, root = path.resolve(), base.resolve()
        path = resolved.relative_to(root) if resolved.is_relative_to(root) else path
    # The name of a folder may be bytes that are no text.
    return path.as_posix().encode("utf-8", "backslashreplace").decode("utf-8")


def _read(path: Path, shown: str, found: Found, base: Path | None) -> None:
    try:
        if path.is_file():
            found.entries.append(read_peft_result(path, shown))
            return
        suite = suite_folder(path)
        if suite is not None and suite not in found.suites:
            info = read_suite(suite, _shown(suite, base))
            found.suites[suite] = info
            found.excluded.extend(info.problems)
        if path.is_dir() and not (path / RECORD_NAME).exists():
            raise UserError("it has no record.json: the run has not finished")
        found.entries.append(entry_of(read_run_record(path), path, shown, suite))
    except UserError as error:
        found.excluded.append(Excluded(shown, error.message))
        found.unreadable[path] = error.message
    except OSError as error:
        found.excluded.append(Excluded(shown, f"it cannot be read: {error.strerror}"))
        found.unreadable[path] = str(error.strerror)


def entry_of(record: RunRecord, folder: Path, shown_path: str, suite: Path | None) -> Entry:
    """A record as a report sees it."""
    recipe = record.recipe
    run = _get(recipe, "continues", "run")
    # Each seed of a suite has a folder of its own to go on from: that is no difference of settings.
    alike = put_in_place(recipe, run, EARLIER) if suite is not None and run else recipe
    return Entry(
        name=record.name,
        seed=recipe.get("seed") or 0,
        path=folder,
        shown_path=shown_path,
        status=record.status,
        error=record.error,
        task=str(_get(recipe, "task", "type")),
        model=_model(recipe),
        data=_data(recipe),
        fingerprint=record.data.fingerprint if record.data else "",
        metric=str(_get(recipe, "evaluation", "metric") or ""),
        scores=record.scores,
        rows=record.data.rows if record.data else {},
        settings=_settings(alike, of_a_suite=suite is not None),
        draw_seed=drawn if isinstance(drawn := _get(recipe, "data", "draw_seed"), int) else None,
        costs=_costs(record),
        memory=record.memory,
        labels=record.labels or (),
        guards=record.guards,
        environment=_environment(record.environment),
        started_at=record.started_at,
        suite=suite,
        earlier=record.earlier,
        routed=record.routed,
        command=f"peftlab reproduce {shlex.quote(shown_path)}",
    )


def _settings(recipe: Mapping[str, Any], *, of_a_suite: bool) -> dict[str, Any]:
    """What a run was asked for. Where each seed has training rows of its own, that is no difference of settings."""
    found = flatten({key: value for key, value in recipe.items() if key not in ("name", "seed")})
    rows = ("data.train_rows", "data.draw_seed")
    return {key: value for key, value in found.items() if not (of_a_suite and key.startswith(rows))}


def _get(values: Any, *keys: str) -> Any:
    for key in keys:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _model(recipe: dict[str, Any]) -> str:
    path, revision = _get(recipe, "model", "path"), _get(recipe, "model", "revision")
    if not path and (new := _get(recipe, "model", "from_config", "model_type")):
        return f"a new {new}"
    return f"{path}@{revision}" if revision else str(path)


def _data(recipe: dict[str, Any]) -> str:
    source, subset = _get(recipe, "data", "source"), _get(recipe, "data", "subset")
    if source is None:
        return "data that the task makes"
    if isinstance(source, dict):
        source = source.get("train")
    name = str(source).rstrip("/").rpartition("/")[2]
    return f"{name} {subset}" if subset else name


def _costs(record: RunRecord) -> Costs:
    train = record.phases.get("train")
    peak = train.peak_memory_bytes if train else None
    if peak is None and record.memory:
        peak = record.memory.peak_bytes
    return Costs(
        peak_memory_bytes=peak,
        tokens_per_second=record.throughput.tokens_per_second if record.throughput else None,
        train_seconds=train.seconds if train else None,
        total_seconds=record.seconds,
        trainable_parameters=record.parameters.trainable if record.parameters else None,
        artifact_bytes=record.artifact_bytes,
    )


def _environment(values: dict[str, Any]) -> dict[str, str]:
    flat = {key.removeprefix("versions."): value for key, value in flatten(values).items()}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in flat.items()}
