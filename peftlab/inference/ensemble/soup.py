"""``build_soup``: runs of one base and method become one run, whose weights are the mean of theirs.

Wortsman et al. 2022, https://arxiv.org/abs/2203.05482. A greedy soup begins with the best run and takes each next one
whose weights do not make the mean worse; that is judged on the validation split alone.
"""

from __future__ import annotations

import datetime
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from peftlab.artifact.saved_run import SavedRun
from peftlab.artifact.soup import check_soup, write_soup
from peftlab.artifact.weights import fingerprint_artifact
from peftlab.core.config import Config, replace_config
from peftlab.core.errors import UnsupportedError, UserError
from peftlab.core.files import atomic_folder, folder_bytes
from peftlab.core.greedy_choice import choose_greedily
from peftlab.core.metric import signed
from peftlab.core.record import PREDICTIONS_NAME, RECIPE_NAME, PairedTest, RunRecord, Soup, SoupPart, write_record
from peftlab.core.reporter import Reporter
from peftlab.core.splits import EncodedSplit, Split
from peftlab.inference.ensemble.earlier import ALREADY, earlier_soup
from peftlab.inference.ensemble.members import HeldOut, held_out_rows, open_members
from peftlab.inference.ensemble.scoring import (
    Said,
    ask,
    best_run,
    by_split,
    intervals_of,
    judged_by,
    notes_of,
    paired_test,
    scores_of,
    write_predictions,
)
from peftlab.inference.export.export import check_output
from peftlab.inference.load_tuned import load_run
from peftlab.inference.tuned_model import TunedModel
from peftlab.measurement.calibration import LogitCollector, calibrate
from peftlab.measurement.environment import describe_environment
from peftlab.measurement.example_intervals import ExampleIntervals, intervals_of_file
from peftlab.recipe.schema import write_recipe
from peftlab.run.card import write_card

SoupKind = Literal["uniform", "greedy"]


class SoupResult(Config):
    """A soup's record, and how it compares with the best of its runs."""

    record: RunRecord
    intervals: dict[str, dict[str, tuple[float, float] | None]]
    notes: list[str]
    comparison: PairedTest | None


def build_soup(
    folders: Sequence[Path],
    kind: SoupKind,
    output: Path,
    *,
    offline: bool,
    device: torch.device | None = None,
    reporter: Reporter,
) -> SoupResult:
    """Make one run of several, and score it as a run is scored.

    Args:
        folders: Of two runs or more.
        kind: ``uniform``: all of them; ``greedy``: those that do no harm on the validation split.
        output: The folder to make.
        offline: Allow no network.
        device: Where the models compute; None: CUDA where it is there.
        reporter: Tells a person.

    Raises:
        UserError: The runs do not go together, or the folder is in use.
    """
    started_at, started = datetime.datetime.now(datetime.UTC), time.monotonic()
    runs = open_members(folders)
    if (earlier := earlier_soup(runs, kind, output)) is not None:
        reporter.say(ALREADY.format(output))
        return _result(earlier)
    check_output(output, folders)
    check_soup(runs)
    _check_learned(runs)
    held = held_out_rows(runs, offline=offline, report=reporter.say)
    if kind == "greedy" and "validation" not in held.splits:
        raise UserError(
            "a greedy soup is chosen on validation rows, and the runs have none in common",
            where="--soup",
            hint="Choose --soup uniform.",
        )
    cook = _Cook(runs[0], offline, device, reporter)
    each = [cook.ask(run.folder, held.splits) for run in runs]
    own = [scores_of(said, runs[0].recipe, runs[0].labels) for said in each]
    metric = judged_by(runs[0].recipe)
    best, chosen_on = best_run(own, metric)
    kept = list(range(len(runs)))
    if kind == "greedy":
        kept = choose_greedily(
            [signed(metric, scores["validation"][metric]) for scores in own],
            lambda part: signed(metric, cook.validate([runs[at] for at in part], held.splits, metric)),
        )
    parts = [
        SoupPart(
            run=run.name,
            seed=run.recipe.seed,
            origin=str(run.folder),
            kept=at in kept,
            scores=own[at],
            weights_fingerprint=run.record.weights_fingerprint,
        )
        for at, run in enumerate(runs)
    ]
    with atomic_folder(output) as partial:
        record, said = cook.finish([runs[at] for at in kept], Soup(kind=kind, parts=parts), partial, output, held)
        artifact = partial / runs[0].artifact.name
        comparison = paired_test(said, each[best], metric, best=runs[best].folder, chosen_on=chosen_on)
        record = record.model_copy(
            update={
                "soup": Soup(kind=kind, parts=parts, comparison=comparison),
                "started_at": started_at.isoformat(timespec="seconds"),
                "seconds": time.monotonic() - started,
                "artifact_bytes": folder_bytes(artifact),
                "weights_fingerprint": fingerprint_artifact(artifact, is_whole=runs[0].is_whole),
            }
        )
        write_record(record, partial)
        intervals = intervals_of(said, record.scores)
        _write_card(record, artifact, runs[0], intervals)
    return SoupResult(record=record, intervals=by_split(intervals), notes=notes_of(intervals), comparison=comparison)


def _result(run: SavedRun) -> SoupResult:
    """Of a soup that is there."""
    record, file = run.record, run.folder / PREDICTIONS_NAME
    intervals = {split: intervals_of_file(file, split, scores) for split, scores in record.scores.items()}
    comparison = None if record.soup is None else record.soup.comparison
    return SoupResult(record=record, intervals=by_split(intervals), notes=notes_of(intervals), comparison=comparison)


class _Cook:
    """Makes means of runs, and asks them.

    Args:
        first: Its recipe is that of all.
        offline: Allow no network.
        device: Where the models compute.
        reporter: Tells a person.
    """

    def __init__(self, first: SavedRun, offline: bool, device: torch.device | None, reporter: Reporter) -> None:
        self._first, self._reporter = first, reporter
        self._offline, self._device = offline, device

    def ask(self, folder: Path, splits: Mapping[str, Split]) -> Said:
        """What the run in a folder says."""
        return ask(self._load(folder), splits, self._reporter, str(folder))

    def validate(self, runs: Sequence[SavedRun], splits: Mapping[str, Split], metric: str) -> float:
        """The score of the runs' mean on the validation split."""
        with tempfile.TemporaryDirectory(prefix="peftlab-soup-") as name:
            folder, unlike = Path(name), {"calibration": None, "weights_fingerprint": None}
            self._write(runs, self._first.record.model_copy(update=unlike), folder)
            said = ask(
                self._load(folder),
                {"validation": splits["validation"]},
                self._reporter,
                f"the mean of {len(runs)} runs",
            )
        scores = scores_of(said, self._first.recipe, self._first.labels)["validation"]
        return scores.get(metric, signed(metric, -math.inf))  # of weights that answer all alike, some have none

    def finish(
        self, runs: Sequence[SavedRun], soup: Soup, folder: Path, output: Path, held: HeldOut
    ) -> tuple[RunRecord, Said]:
        """Write the run that the soup is, but for its record; gives the record and what the run says."""
        chosen = self._first.recipe.task.answer_keys  # of the first run alone
        record = _blank(self._first.record, soup, output.resolve().name)
        record = record.model_copy(update={"learned": {k: v for k, v in record.learned.items() if k not in chosen}})
        self._write(runs, record, folder)
        tuned = self._load(folder)
        encoded = {name: tuned.encode(split) for name, split in held.splits.items()}
        learned = dict(record.learned)
        if tuned.task.learns_answers and "validation" in held.splits:
            learned |= tuned.task.learn_answers(tuned.predict(encoded["validation"].examples), tuned.labels)
        task = tuned.task.fitted(learned)
        kept = {name: _logits(tuned, split) for name, split in encoded.items()} if task.has_probabilities else {}
        record = record.model_copy(update={"learned": learned, "calibration": calibrate(task, kept, tuned.labels)})
        write_record(record, folder)
        said = ask(self._load(folder), held.splits, self._reporter, "the soup")
        write_predictions(folder, held.splits, said)
        rows = {name: len(split) for name, split in held.splits.items()}
        summary = record.data and record.data.model_copy(update={"rows": {**record.data.rows, **rows}})
        environment = describe_environment(tuned.module()[1].device, deterministic=tuned.recipe.training.deterministic)
        scores = scores_of(said, self._first.recipe, self._first.labels)
        return record.model_copy(update={"scores": scores, "data": summary, "environment": environment}), said

    def _write(self, runs: Sequence[SavedRun], record: RunRecord, folder: Path) -> None:
        write_soup(runs, folder)
        write_recipe(replace_config(self._first.recipe, name=record.name), folder / RECIPE_NAME)
        write_record(record, folder)

    def _load(self, folder: Path) -> TunedModel:
        return load_run(folder, offline=self._offline, device=self._device, report=self._reporter.say)


def _check_learned(runs: Sequence[SavedRun]) -> None:
    for run in runs[1:]:
        if not runs[0].recipe.task.is_learned_alike(run.recipe.task):
            raise UnsupportedError(
                f"it learned other things of its training data than {runs[0].folder}, such as another mean of the "
                "targets, so their outputs are not in one unit",
                where=str(run.folder),
                hint="Leave --soup out: then answers are averaged.",
            )


def _blank(record: RunRecord, soup: Soup, name: str) -> RunRecord:
    """A run's record without what was measured of its training."""
    return RunRecord(
        name=name,
        status="success",
        recipe={**record.recipe, "name": name},
        labels=record.labels,
        learned=record.learned,
        soup=soup,
        base_fingerprint=record.base_fingerprint,
        own_head=record.own_head,
        data=record.data,
        started_at=record.started_at,
        seconds=0.0,
    )


def _logits(tuned: TunedModel, split: EncodedSplit) -> LogitCollector:
    kept = LogitCollector()
    for positions in tuned.batches(tuned.task.lengths(split.examples)):
        batch = tuned.task.collate([split.examples[at] for at in positions], tuned.tokenizer.pad_token_id)
        kept(tuned.compute_logits(batch), batch)
    return kept


def _write_card(record: RunRecord, folder: Path, first: SavedRun, intervals: Mapping[str, ExampleIntervals]) -> None:
    soup = record.soup
    assert soup is not None  # noqa: S101 - it is one
    kept = [part for part in soup.parts if part.kept]
    write_card(
        record,
        folder,
        task=first.recipe.task,
        library="transformers" if first.is_whole else "peft",
        intervals=intervals["test" if "test" in intervals else "validation"],
        usage=first.recipe.task.usage_note(),
        export=f"The weights are the mean of {len(kept)} runs' (a {soup.kind} soup of {len(soup.parts)}): "
        + ", ".join(f"{part.run} with seed {part.seed}" for part in kept)
        + ".",
    )
