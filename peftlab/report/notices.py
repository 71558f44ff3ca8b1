"""What a reader must know before the figures: in sentences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from peftlab.core.amounts import plural
from peftlab.report import wording
from peftlab.report.budget import doubts
from peftlab.report.collapse import collapse_notices
from peftlab.report.comparison import Comparison
from peftlab.report.entry import Entry, Excluded
from peftlab.report.evidence import Basis
from peftlab.report.find_runs import MISSING, Found, run_statuses
from peftlab.report.shifts import Shift
from peftlab.report.suites import SuiteInfo
from peftlab.statistics.rare_classes import rare_class_note

LEFT_OUT = (
    "over the test examples alone: what another seed would change is left out, and what newer libraries or another "
    "machine would. Of 36 published runs that were made again half a year later, with the same seed, such intervals "
    "held 30."
)
"""Counted by ``benchmarks/statistics/reruns.py``."""
NOT_SEED_BY_SEED = "Seeds drew their own rows, and not all methods have the same: they are not compared seed by seed."
NOTHING_TO_COMPARE = "There is nothing to compare: every run is left out, for the reasons below."
MACHINE = ("device", "device.type", "device.name", "threads")


@dataclass(frozen=True)
class Notice:
    """A sentence; a warning where it limits what the figures say."""

    text: str
    warning: bool = True


def report_notices(
    found: Found, comparisons: Sequence[Comparison], excluded: Sequence[Excluded], shifts: Sequence[Shift]
) -> list[Notice]:
    """What holds for the whole report."""
    notices = [notice for suite in found.suites.values() for notice in _suite_notices(suite, found)]
    loose = [entry for entry in found.entries if entry.suite is None]
    if loose and len(found.entries) > 1:
        which = "These records are" if len(loose) == len(found.entries) else f"{plural(len(loose), 'run')} are"
        notices.append(
            Notice(
                f"{which} no suite: nothing says that the methods had the same budget for tuning. "
                "A method that looks worse may only have been tuned less."
            )
        )
    notices += [_shift_notice(shift) for shift in shifts]
    notices += _own_splits(comparisons)
    if excluded:
        notices.append(
            Notice(f"{plural(len(excluded), 'item')} left out of the comparison, listed below with the reason.")
        )
    return notices


def _suite_notices(suite: SuiteInfo, found: Found) -> list[Notice]:
    notices = [_about_tuning(suite)]
    done = {(entry.name, entry.seed) for entry in found.entries if entry.suite == suite.folder and entry.has_scores}
    missing, statuses = [run for run in suite.planned if run not in done], run_statuses(suite, found)
    if missing and suite.folder in found.whole:
        planned = plural(len(suite.planned), "planned run")
        have = "has" if len(missing) == 1 else "have"
        counts = Counter(statuses.get(run, MISSING).replace("_", " ") for run in missing)
        why = wording.listing([f"{count} {status}" for status, count in counts.items()])
        notices.append(Notice(f"{len(missing)} of {planned} of the suite {suite.name} {have} no result: {why}."))
    notices += _about_draws(suite, found)
    if suite.overhead_seconds_per_run is not None:
        text = (
            f"The suite {suite.name} added {suite.overhead_seconds_per_run:.1f} s to each run for starting its process."
        )
    else:
        text = f"The suite {suite.name} has not written down what it added to the time of its runs."
    notices.append(Notice(text, False))
    notices += [Notice(doubt) for result in suite.results.values() if (doubt := doubts(result, suite.tuning))]
    return notices


def _about_tuning(suite: SuiteInfo) -> Notice:
    if not suite.is_known:
        return Notice(f"What the suite {suite.name} planned, and how it was tuned, is not known: see what is left out.")
    if not suite.tuning:
        return Notice(
            f"Tuning is off in the suite {suite.name}: learning rates are those that it sets, or the default of "
            "each method. A method that looks worse may only suit its rate less."
        )
    trials = suite.tuning.get("trials")
    return Notice(
        f"In the suite {suite.name} every method got {trials} trials, chosen on the validation split alone.", False
    )


def _about_draws(suite: SuiteInfo, found: Found) -> list[Notice]:
    """Whether the intervals hold for other training rows."""
    if suite.resamples_train:
        text = (
            f"Each seed of the suite {suite.name} drew its own training rows: intervals hold for other draws too, and "
            "methods with the same seeds are compared seed by seed."
        )
        return [Notice(text, False)]
    if not suite.labels and any(entry.suite == suite.folder and _draws_rows(entry) for entry in found.entries):
        text = (
            f"All seeds of the suite {suite.name} learned from the same draw of training rows, so no interval says "
            "what other rows would teach (`resample_train: true` lets each seed draw its own)."
        )
        return [Notice(text, False)]
    return []


def _draws_rows(entry: Entry) -> bool:
    """Whether its recipe wants fewer training rows than there may be."""
    keys = ("data.max_train_examples", "data.max_train_examples_per_class")
    return any(entry.settings.get(key) is not None for key in keys)


def _own_splits(comparisons: Sequence[Comparison]) -> list[Notice]:
    """Runs that differ in the seed alone and yet saw different data."""
    places: dict[tuple[str, str], set[str]] = defaultdict(set)
    for comparison in comparisons:
        for entry in comparison.entries:
            if entry.settings.get("data.split_seed", 0) is None:
                settings = str(sorted((key, str(value)) for key, value in entry.settings.items()))
                places[entry.name, settings].add(comparison.key.fingerprint)
    names = list(dict.fromkeys(name for (name, _), fingerprints in places.items() if len(fingerprints) > 1))
    text = (
        f"Each seed of {wording.listing(names)} cut its own splits, so the seeds saw different data and are not "
        "taken together. Set data.split_seed to compare over seeds."
    )
    return [Notice(text)] if names else []


def comparison_notices(comparison: Comparison) -> list[Notice]:
    """What holds for one comparison."""
    return [
        Notice(text)
        for text in (
            *_evidence_notices(comparison),
            *_environment_notices(comparison.entries),
            *_settings_notices(comparison),
            *_waived_notices(comparison),
            *collapse_notices(comparison),
        )
    ]


def _evidence_notices(comparison: Comparison) -> list[str]:
    texts, methods = [], comparison.methods
    if comparison.examples.fault:
        texts.append(f"{comparison.examples.fault} So {comparison.metric} has no values per example here.")
    if comparison.key.split != "test":
        texts.append(
            f"There is no test score; the {comparison.key.split} split also chose the best state, so scores are too "
            "good."
        )
    seeds = {len(method.scores) for method in methods}
    if comparison.single:
        texts.append(_about_one_seed(comparison))
    if len(seeds) > 1:
        fewest = [method.label for method in methods if len(method.scores) < max(seeds)]
        texts.append(f"{wording.listing(fewest)} {'has' if len(fewest) == 1 else 'have'} fewer seeds than the others.")
    if any(entry.draw_seed is not None for entry in comparison.entries) and len({tuple(m.seeds) for m in methods}) > 1:
        texts.append(NOT_SEED_BY_SEED)
    texts += _about_rare_classes(comparison)
    if any(method.interval.basis is Basis.SEEDS for method in methods):
        texts.append(
            f"{comparison.metric} has no values per example here: intervals and tests are over the seeds alone, and "
            "do not say what other test examples would change."
        )
    without_examples = all(method.per_example is None for method in methods)
    if len(methods) > 1 and seeds == {1} and without_examples and comparison.pairs.tested:
        texts.append(
            "Predictions are not published with these results, so accuracies are compared as independent proportions: "
            "a test on the same examples would find more differences."
        )
    alike = [m.label for m in methods if m.interval.basis is Basis.SEEDS and m.interval.low is None]
    if alike:
        texts.append(
            f"No interval can be given for {wording.listing(alike)}: all seeds have the same score, which does not say "
            "how far another one would lie."
        )
    without = [method.label for method in methods if method.interval.basis is Basis.NOTHING]
    if without:
        texts.append(f"No interval can be given for {wording.listing(without)}: one seed, and no values per example.")
    return texts


def _about_rare_classes(comparison: Comparison) -> list[str]:
    """Where a class has so few examples that the metric's values an example do not tell how it varies."""
    table = comparison.examples
    if table.truth is None or table.numeric or all(m.per_example is None for m in comparison.methods):
        return []
    counts = {table.values[code]: count for code, count in Counter(table.truth.tolist()).items()}
    note = rare_class_note(comparison.metric, counts, f"the {comparison.key.split} split")
    return [note] if note else []


def _about_one_seed(comparison: Comparison) -> str:
    """What one seed leaves open, and what the tests take for granted instead."""
    all_of_them = 1 < len(comparison.single) == len(comparison.methods)
    which = "One seed a method" if all_of_them else f"One seed of {wording.listing(comparison.single)}"
    if comparison.singles_tested:
        left_open = (
            "nothing says how far its results would lie from those of another seed. The tests take it that seeds lie "
            "about a point apart (standard deviation), which is not known well, so that only large differences are "
            "found; where seeds lie farther apart, as when training collapses, the tests err."
        )
    elif len(comparison.methods) > 1:
        left_open = "no test compares such methods, so they get no letter."
    else:
        left_open = "nothing says how far another seed's result would lie from this one."
    if not comparison.single_intervals:
        return f"{which}: {left_open}"
    intervals = "Its interval is" if comparison.single_intervals == 1 else "Their intervals are"
    return f"{which}: {left_open} {intervals} {LEFT_OUT}"


def _shift_notice(shift: Shift) -> Notice:
    """What all methods of one set gained or lost against another: no method's own merit."""
    mean, low, high, spread = (
        wording.points(value, shift.metric) for value in (shift.mean, shift.low, shift.high, shift.spread)
    )
    data = "" if shift.same_data else " (whose data has another fingerprint)"
    between = f"95 % interval {low} to {high}" if shift.low < shift.high else "each by the same, so without an interval"
    moved = f"{mean} {wording.unit_of_points(shift.metric)} on average ({between})"
    apart = f"Apart from it a method moved by {spread.removeprefix('+')} (standard deviation)."
    both = f"{shift.methods} methods are both in {shift.first} and in {shift.second}{data}."
    if shift.low <= 0 <= shift.high:
        return Notice(f"{both} In the latter they score {moved}: no shift common to all. {apart}", False)
    return Notice(
        f"{both} In the latter they score {moved}: a shift common to all, as newer libraries, another machine or other "
        f"seeds bring it. {apart} Compare methods within one of the two."
    )


def _environment_notices(entries: Sequence[Entry]) -> list[str]:
    texts = []
    for key in MACHINE:
        values = sorted({entry.environment[key] for entry in entries if key in entry.environment})
        if len(values) > 1:
            texts.append(
                f"Costs were measured with different {key} ({wording.listing(values)}): compare them with care."
            )
    keys = {key for entry in entries for key in entry.environment} - {*MACHINE, "commit", "uncommitted_changes"}
    differing = [key for key in sorted(keys) if len({entry.environment.get(key) for entry in entries}) > 1]
    if differing:
        texts.append(f"Runs differ in {wording.listing(differing)}, by the environments in their records.")
    return texts


def _settings_notices(comparison: Comparison) -> list[str]:
    """What differs between the methods beside the method itself and what tuning chose."""
    tuned = all(entry.suite is not None for entry in comparison.entries)
    first = [method.entries[0].settings for method in comparison.methods]
    keys = dict.fromkeys(key for settings in first for key in settings if not key.startswith("method."))
    differing = [key for key in keys if len({str(settings.get(key)) for settings in first}) > 1]
    differing = [key for key in differing if not (tuned and key == "training.learning_rate")]
    return [f"The methods' recipes differ in more than the method: {wording.listing(differing)}."] if differing else []


def _waived_notices(comparison: Comparison) -> list[str]:
    waived = [
        f"{method.label} seed {entry.seed} ({wording.listing(entry.waived_guards)})"
        for method in comparison.methods
        for entry in method.entries
        if entry.waived_guards
    ]
    return (
        [f"Compared although a guard failed, since the recipe waives it: {wording.listing(waived)}."] if waived else []
    )
