"""Optuna's studies in a journal: a file of JSON lines, which no kill leaves unreadable."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

JOURNAL_NAME = "optuna.jsonl"
STARTING_TRIALS = 5
"""So many trials are drawn at random before TPE learns from them, or the median of others can end one."""


Sampler = Literal["tpe", "random"]
Pruner = Literal["median", "none"]


def open_study(journal: Path, name: str, *, maximize: bool, pruner: Pruner = "none", anew: bool = False) -> Any:
    """Open a study, or make it. Nothing else may use the journal at that time.

    Args:
        journal: The file; its folder is made.
        name: Of the study.
        maximize: Whether higher values are better.
        pruner: ``median``: a trial that is worse than the median of earlier ones at the same evaluation ends.
        anew: Forget what the journal has of the study.

    Returns:
        An :class:`optuna.Study`.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal.parent.mkdir(parents=True, exist_ok=True)
    _mend(journal)
    lock = JournalFileOpenLock(str(journal))
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
    ends = {
        "median": optuna.pruners.MedianPruner(n_startup_trials=STARTING_TRIALS),
        "none": optuna.pruners.NopPruner(),
    }[pruner]
    direction = "maximize" if maximize else "minimize"
    if anew and name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)
    return optuna.create_study(storage=storage, study_name=name, direction=direction, pruner=ends, load_if_exists=True)


def _mend(journal: Path) -> None:
    """Drop a line that a killed process has not finished, and its lock: Optuna would read no further, or wait."""
    Path(f"{journal}.lock").unlink(missing_ok=True)
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with journal.open("r+b") as file:
            file.truncate(whole)


def new_sampler(sampler: Sampler, *, seed: int, in_parallel: bool = False) -> Any:
    """A sampler for the next trial.

    Each trial has one of its own, by a seed of its own: a search that is taken up again draws what it would have drawn.

    Args:
        sampler: ``tpe`` learns from the trials so far (Bergstra et al. 2011,
            https://papers.nips.cc/paper/4443-algorithms-for-hyper-parameter-optimization); ``random`` does not.
        seed: Of this trial.
        in_parallel: Whether others are running, whose scores are not known yet.
    """
    import optuna

    if sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTING_TRIALS, constant_liar=in_parallel)


def draw(trial: Any, distributions: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's parameters: those that it has already, and new ones for the rest.

    Args:
        trial: An :class:`optuna.Trial`, new or taken up again.
        distributions: From :meth:`SearchSpace.distributions <peftlab.bench.search_space.SearchSpace.distributions>`.
    """
    from optuna.distributions import CategoricalDistribution, IntDistribution

    for key, values in distributions.items():
        if isinstance(values, CategoricalDistribution):
            trial.suggest_categorical(key, values.choices)
        elif isinstance(values, IntDistribution):
            trial.suggest_int(key, values.low, values.high, log=values.log)
        else:
            trial.suggest_float(key, values.low, values.high, log=values.log)
    return dict(trial.params)
