"""The tables of one comparison."""

from __future__ import annotations

import re

import numpy as np

from peftlab.report import wording
from peftlab.report.classes import Classes, ClassScores, confusions
from peftlab.report.comparison import LEVEL, Comparison, MethodResult
from peftlab.report.disagreement import Disagreements
from peftlab.report.history import read_history
from peftlab.report.suites import Published
from peftlab.report.table import Cell, Marked, Table

MEMORY_PARTS = {
    "parameters_bytes": "parameters",
    "quantization_bytes": "quantization",
    "gradients_bytes": "gradients",
    "optimizer_bytes": "optimizer",
    "activations_bytes": "activations",
}
MATRIX_METHODS = 12
MOST_CLASSES = 12
CONFUSED = 10
MOST_ALIGNED = 16
MOST_LETTERS = 6
MOST_GROUPS = 40


def interval_text(method: MethodResult, metric: str) -> str:
    """``77.2 to 79.6``."""
    interval = method.interval
    if interval.low is None:
        return wording.NONE
    return f"{wording.score(interval.low, metric, unit=False)} to {wording.score(interval.high, metric, unit=False)}"


def ranking_table(comparison: Comparison, published: dict[str, Published]) -> Table:
    """Methods, best mean first: score, interval, groups and costs."""
    metric = comparison.metric
    columns = ["method", metric, "95 % interval", "groups", "seeds", "spread: seeds / examples"]
    columns += ["peak memory", "tokens/s", "training", "whole run", "trainable", "artifact"]
    with_published = any(method.cell in published for method in comparison.methods)
    rows = []
    for method in comparison.methods:
        costs = method.costs
        row: list[Cell] = [
            method.label,
            wording.score(method.mean, metric),
            interval_text(method, metric),
            (shortened_letters(method.letters) if len(comparison.groups) > MOST_ALIGNED else method.letters)
            or wording.NONE,
            str(len(method.scores)),
            _shares(method),
            wording.size(method.peak_memory_bytes),
            wording.rate(costs.tokens_per_second),
            wording.seconds(costs.train_seconds),
            wording.seconds(costs.total_seconds),
            wording.count(costs.trainable_parameters),
            wording.size(costs.artifact_bytes),
        ]
        if with_published:
            row.append(published_text(method, published.get(method.cell), metric))
        rows.append(row)
    note = (
        f"Sorted by mean {metric} on the {comparison.key.split} split. {_about_letters(comparison)}"
        f"{_about_single_seeds(comparison)}"
        "Costs are means over the seeds, peak memory is the greatest of them; training is the training phase alone."
    )
    words = frozenset({3, len(columns)} if with_published else {3})
    return Table("Methods", columns + ["published"] * with_published, rows, note, words)


def _about_letters(comparison: Comparison) -> str:
    if not any(method.letters for method in comparison.methods):
        return ""
    unless = "" if comparison.all_tested else ", unless no test compares them"
    return f"Methods that share a letter cannot be told apart{unless}. "


def _about_single_seeds(comparison: Comparison) -> str:
    text = ""
    if comparison.single_intervals:
        text = "The interval of a method with one seed (drawn with gaps) is over the test examples alone. "
    if comparison.single and not comparison.singles_tested and len(comparison.methods) > 1:
        text += "No test compares such methods here, so they get no letter. "
    return text


def _shares(method: MethodResult) -> str:
    """How the uncertainty of a mean is made up, in percent: ``20 / 80``."""
    interval = method.interval
    if interval.seed_share is None or interval.example_share is None:
        return wording.NONE
    return f"{100 * interval.seed_share:.0f} / {100 * interval.example_share:.0f} %"


def group_signs(comparison: Comparison) -> list[str]:
    """The letters of the groups, in the groups' order: ``a`` to ``z``, then ``a1`` and so on."""
    signs = {sign for method in comparison.methods for sign in re.findall(r"[a-z]\d*", method.letters)}
    return sorted(signs, key=lambda sign: (int(sign[1:] or 0), sign))


def aligned_letters(comparison: Comparison) -> list[str]:
    """Each method's letters, every letter in a column of its own: ``ab d``."""
    signs = group_signs(comparison)
    if len(signs) > MOST_ALIGNED:
        return [shortened_letters(method.letters) or wording.NONE for method in comparison.methods]
    aligned = ["".join(sign if sign in method.letters else " " for sign in signs) for method in comparison.methods]
    return [letters if letters.strip() else wording.NONE for letters in aligned]


def shortened_letters(letters: str) -> str:
    """A long row of letters by its ends: ``a…c2 (14)``."""
    signs = re.findall(r"[a-z]\d*", letters)
    return letters if len(signs) <= MOST_LETTERS else f"{signs[0]}…{signs[-1]} ({len(signs)})"


def group_table(comparison: Comparison) -> Table | None:
    """The groups of methods that cannot be told apart, best first; none where no test compares any."""
    signs = group_signs(comparison)
    if not signs:
        return None
    labels = {method.name: method.label for method in comparison.methods if method.letters}  # others are not tested
    groups = zip(signs, comparison.groups, strict=True)
    rows: list[list[Cell]] = [
        [sign, ", ".join(labels[name] for name in group if name in labels)] for sign, group in groups
    ]
    left = len(rows) - MOST_GROUPS
    note = f"{left} more groups of worse methods are in the JSON output." if left > 0 else ""
    return Table(
        "Groups of methods that cannot be told apart", ["group", "methods"], rows[:MOST_GROUPS], note, frozenset({1})
    )


def published_text(method: MethodResult, figure: Published | None, metric: str) -> str:
    """A figure of a paper, and whether it lies in the measured interval."""
    if figure is None:
        return wording.NONE
    text = f"{wording.score(figure.score, figure.metric)} ({figure.source})"
    if figure.metric != metric:
        return f"{text}, {figure.metric}"
    low, high = method.interval.low, method.interval.high
    if low is None or high is None:
        return text
    if low <= figure.score <= high:
        return f"{text}, inside the interval"
    return f"{text}, {'above' if figure.score > high else 'below'} the interval"


def against_best_table(comparison: Comparison) -> Table:
    """Every method against the best one."""
    pairs, metric = comparison.pairs, comparison.metric
    rows: list[list[Cell]] = []
    for at, method in enumerate(comparison.methods[1:], start=1):
        low, high = pairs.low[at, 0], pairs.high[at, 0]
        interval = (
            f"{wording.points(low, metric)} to {wording.points(high, metric)}" if np.isfinite(low) else wording.NONE
        )
        adjusted = float(pairs.adjusted[at, 0])
        rows.append(
            [
                method.label,
                wording.points(float(pairs.difference[at, 0]), metric),
                interval,
                wording.p_value(float(pairs.p_value[at, 0])),
                wording.p_value(adjusted),
                _verdict(float(pairs.p_value[at, 0]), adjusted),
            ]
        )
    return Table(
        f"Against {comparison.methods[0].label}",
        ["method", "difference", "95 % interval", "p", "p, Holm", "verdict"],
        rows,
        f"Differences in {wording.unit_of_points(metric)}. The interval is of this pair alone; the verdict is from "
        f"Holm's p over all {pairs.tested} pairs of the comparison.",
        frozenset({5}),
    )


def _verdict(p_value: float, adjusted: float) -> Cell:
    if np.isnan(adjusted):
        return Marked("no test possible", "muted")
    if adjusted < LEVEL:
        return Marked("differs", "good")
    alone = p_value < LEVEL
    return Marked(
        "not told apart: alone it would be, among all pairs it is not" if alone else "not told apart", "muted"
    )


def matrix_table(comparison: Comparison) -> Table | None:
    """Holm's p-value of every pair, for as many methods as one can read."""
    methods = comparison.methods
    if not 2 < len(methods) <= MATRIX_METHODS or not comparison.pairs.tested:
        return None
    rows: list[list[Cell]] = []
    for at, method in enumerate(methods):
        row: list[Cell] = [method.label]
        for other in range(len(methods)):
            value = float(comparison.pairs.adjusted[at, other])
            text = "" if at == other else wording.p_value(value)
            row.append(Marked(text, "good" if value < LEVEL else "muted"))
        rows.append(row)
    return Table("All pairs: p-values, Holm-corrected", ["", *(method.label for method in methods)], rows)


def history_table(comparison: Comparison, most: int) -> Table | None:
    """Where the curves end, as means over the seeds."""
    rows: list[list[Cell]] = []
    for method in comparison.methods[:most]:
        histories = [read_history(entry) for entry in method.entries]
        losses = [history.loss[-1][1] for history in histories if history.loss]
        finals = [history.validation[-1] for history in histories if history.validation]
        scores = [scores[comparison.metric] for _, scores in finals if comparison.metric in scores]
        if losses or scores:
            rows.append(
                [
                    method.label,
                    f"{np.mean(losses):.4g}" if losses else wording.NONE,
                    wording.score(float(np.mean(scores)), comparison.metric) if scores else wording.NONE,
                    f"{np.mean([step for step, _ in finals]):.0f}" if finals else wording.NONE,
                ]
            )
    if not rows:
        return None
    columns = ["method", "last training loss", f"last validation {comparison.metric}", "at step"]
    return Table("Where the curves end", columns, rows)


def memory_table(comparison: Comparison) -> Table | None:
    """Peak memory of training by category."""
    found = [(method, memory) for method in comparison.methods if (memory := method.memory)]
    if not found:
        return None
    rows: list[list[Cell]] = [
        [method.label, *(wording.size(getattr(memory, name)) for name in (*MEMORY_PARTS, "peak_bytes"))]
        for method, memory in found
    ]
    return Table("Memory of training by category", ["method", *MEMORY_PARTS.values(), "peak"], rows)


def class_table(classes: Classes) -> Table:
    """F1 of each class and method; of many classes those on which methods differ most."""
    f1 = np.array([scores.f1 for scores in classes.methods])
    shown = list(range(len(classes.names)))
    note = (
        "F1 of each class, all seeds together; the number of its test examples in brackets. – where a class is neither "
        "true nor predicted."
    )
    if len(shown) > MOST_CLASSES:
        most, least = (np.where(np.isnan(f1), end, f1) for end in (-np.inf, np.inf))
        spread = most.max(axis=0) - least.min(axis=0)
        shown = sorted(np.argsort(-spread, kind="stable")[:MOST_CLASSES].tolist())
        note += f" Of {len(classes.names)} classes, the {MOST_CLASSES} on which the methods differ most."
    heads = [f"{classes.names[at]} ({classes.support[at]:,})" for at in shown]
    rows: list[list[Cell]] = [
        [scores.method, *(wording.score(float(scores.f1[at]), "f1", unit=False) for at in shown)]
        for scores in classes.methods
    ]
    return Table("F1 by class, in percent", ["method", *heads], rows, note)


def confusion_table(classes: Classes, scores: ClassScores) -> Table | None:
    """Which classes a method takes for which."""
    if scores.confusion is None:
        return None
    if len(classes.names) > MOST_CLASSES:
        rows: list[list[Cell]] = [[a, b, wording.share(part)] for a, b, part in confusions(classes, scores, CONFUSED)]
        return Table(
            f"{scores.method}: most frequent confusions", ["true", "taken for", "share"], rows, words=frozenset({1})
        )
    rows = [
        [name, *(wording.share(float(value)) for value in scores.confusion[at])]
        for at, name in enumerate(classes.names)
    ]
    return Table(f"{scores.method}: predicted by true class", ["true ↓ predicted →", *classes.names], rows)


def disagreement_table(found: Disagreements) -> Table:
    """The examples on which methods disagree most."""
    rows: list[list[Cell]] = [
        [
            f"{example.index:,}",
            example.label,
            *(
                Marked(said, "good" if right else "bad")
                for said, right in zip(example.predictions, example.right, strict=True)
            ),
            f"{example.right_methods} of {found.compared}",
        ]
        for example in found.examples
    ]
    return Table(
        "Examples on which the methods disagree most",
        ["row", "label", *found.methods, "right"],
        rows,
        "Row of the source table, from 0; of several seeds, what most of them say. A run's folder keeps no texts.",
        frozenset(range(1, 2 + len(found.methods))),
    )


def settings_table(comparison: Comparison) -> Table:
    """What each method was run with."""
    rows: list[list[Cell]] = []
    for method in comparison.methods:
        settings = method.entries[0].settings
        own = [
            f"{key.removeprefix('method.')} {value}"
            for key, value in settings.items()
            if key.startswith("method.") and value not in (None, {}, [], False)
        ]
        rate = settings.get("training.learning_rate", settings.get("training.optimizer_kwargs.lr"))
        shown = ", ".join(own[:12]) + (", …" if len(own) > 12 else "")
        rows.append([method.label, f"{rate:.3g}" if isinstance(rate, float) else str(rate), shown])
    return Table("Settings", ["method", "learning rate", "method's settings"], rows, words=frozenset({2}))
