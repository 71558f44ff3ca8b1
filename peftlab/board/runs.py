"""The runs below a folder, as the board lists them: found by their names alone, read only when they are shown."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlab.core.errors import PeftlabError, UserError
from peftlab.core.metric import METRICS, signed
from peftlab.core.record import ENSEMBLE_NAME, METRICS_NAME, RECIPE_NAME, RECORD_NAME, RunRecord, read_record
from peftlab.run.at_work import LOCK_NAME, AtWork, at_work

QUIET_SECONDS = 600.0
"""A run that has written nothing for so long counts as stopped, where its lock does not tell."""
CAN_BE_RESUMED = ("cancelled", "stopped", "failed", "out_of_memory")


@dataclass(frozen=True)
class Row:
    """A run as the list shows it.

    Args:
        key: Its folder below the board's, in ``/``; what addresses it.
        status: As the record says; ``going`` or ``stopped`` where there is none, ``unreadable`` where it is damaged.
        sign: When its folder was last written to, in seconds since 1970.
        name: Of the recipe.
        task: Its type.
        method: Its type.
        metric: What the run is judged by.
        score: On the test split, else on the validation split.
        seconds: That the run took.
        problem: Why there is no record, or what it says went wrong.
        process: Of this machine, that works on it now, where that is known.
    """

    key: str
    status: str
    sign: float
    name: str = ""
    task: str = ""
    method: str = ""
    metric: str = ""
    score: float | None = None
    seconds: float | None = None
    problem: str = ""
    process: int | None = None

    @property
    def place(self) -> tuple[bool, str, float]:
        """Where it stands among others by its score: those of a metric together, the best first, those without last."""
        if self.score is None:
            return True, self.metric, 0.0
        return False, self.metric, -(signed(self.metric, self.score) if self.metric in METRICS else self.score)

    @property
    def can_be_resumed(self) -> bool:
        """Whether it has ended before its time."""
        return self.status in CAN_BE_RESUMED

    def matches(self, words: str) -> bool:
        """Whether each word is somewhere in what is shown."""
        shown = " ".join((self.key, self.status, self.name, self.task, self.method)).lower()
        return all(word in shown for word in words.lower().split())


class RunIndex:
    """Finds runs, and keeps what it has read until a file changes.

    A run is only ever looked up among those that were found: no request can name a path of its own.

    Args:
        root: The folder of the board.

    Raises:
        UserError: There is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            told = "this is a file" if root.is_file() else "there is no such folder"
            raise UserError(told, where=str(root), hint="Give the folder that your runs are in.")
        self.root = root.resolve()
        if next(_runs_below(self.root), None) == self.root:
            around = shlex.quote(str(self.root.parent))
            raise UserError(
                "this is the folder of one run; the board shows a folder of runs",
                where=str(root),
                hint=f"`peftlab board {around}` shows this one too.",
            )
        self._read: dict[str, tuple[tuple[float, ...], Row]] = {}

    def keys(self) -> list[tuple[str, float]]:
        """Every run and its last sign, newest first. Nothing is read but names and times.

        A folder whose name is no text, as of another file system, has no address and is left out.
        """
        names = ((folder.relative_to(self.root).as_posix(), folder) for folder in _runs_below(self.root))
        found = [(name, _sign(folder)) for name, folder in names if _is_text(name)]
        return sorted(found, key=lambda each: (-each[1], each[0]))

    def folder(self, key: str) -> Path | None:
        """The folder of a run; None where none of this name was found."""
        return next((self.root / found for found, _ in self.keys() if found == key), None)

    def row(self, key: str) -> Row:
        """What the list shows of a run that ``keys`` has given."""
        folder = self.root / key
        times = (_changed(folder / RECORD_NAME), _sign(folder), _changed(folder / LOCK_NAME))
        known = self._read.get(key)
        if known is None or known[0] != times or known[1].status == "going":
            known = self._read[key] = (times, _row(key, folder, *times[:2]))
        return known[1]


def _runs_below(folder: Path) -> Iterator[Path]:
    """Folders with a recipe or a record. Links are not followed: they may lead out of the board's folder."""
    stack = [str(folder)]
    while stack:
        here = stack.pop()
        try:
            with os.scandir(here) as entries:
                items = list(entries)
        except OSError:  # not ours to read, or gone by now
            continue
        names = {item.name for item in items if item.is_file(follow_symlinks=False)}
        if RECORD_NAME in names or {RECIPE_NAME, METRICS_NAME} <= names:
            yield Path(here)
            continue
        if ENSEMBLE_NAME in names:  # what is in it are copies
            continue
        stack += [item.path for item in items if item.is_dir(follow_symlinks=False) and not item.name.startswith(".")]


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _sign(folder: Path) -> float:
    return max(_changed(folder / name) for name in (RECORD_NAME, METRICS_NAME, RECIPE_NAME))


def _row(key: str, folder: Path, recorded: float, sign: float) -> Row:
    name, working = key.rsplit("/", 1)[-1], at_work(folder)
    if not recorded:
        goes_on = _goes_on(working, sign, recorded)
        problem = "" if goes_on else "it has left no record: it was killed, or goes on without a word"
        if working.is_known and not goes_on:
            problem = "it has left no record: its process has ended without one"
        return Row(key, "going" if goes_on else "stopped", sign, name, problem=problem, process=working.process)
    try:
        record = read_record(folder)
    except PeftlabError as error:
        return Row(key, "unreadable", sign, name, problem=error.message)
    except OSError as error:
        return Row(key, "unreadable", sign, name, problem=str(error))
    metric, score = main_score(record)
    goes_on = _goes_on(working, sign, recorded)  # a run that was taken up again; its record tells of the time before
    return Row(
        key,
        "going" if goes_on else record.status,
        sign,
        record.name,
        _type(record.recipe.get("task")),
        _type(record.recipe.get("method")),
        metric,
        score,
        record.seconds,
        "" if goes_on else record.error or "",
        working.process,
    )


def _goes_on(working: AtWork, sign: float, recorded: float) -> bool:
    if working.is_known:
        return working.process is not None
    return time.time() - sign < QUIET_SECONDS and (not recorded or sign > recorded + 1)


def main_score(record: RunRecord) -> tuple[str, float | None]:
    """The metric that a run is judged by, and its score on the test split, else on the validation split."""
    metric = str((record.recipe.get("evaluation") or {}).get("metric") or "")
    for split in ("test", "validation"):
        scores = record.scores.get(split, {})
        metric = metric or next(iter(scores), "")
        if metric in scores:
            return metric, scores[metric]
    return metric, None


def _type(part: Any) -> str:
    return str(part.get("type", "")) if isinstance(part, dict) else str(part or "")
