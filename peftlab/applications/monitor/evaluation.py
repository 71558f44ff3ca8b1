"""The whole monitor on the held-out texts: both adapters, what the detector finds, and how fast texts are read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from peftlab.applications.monitor.baseline import DAY
from peftlab.applications.monitor.building import open_reader
from peftlab.applications.monitor.posts import Labelled, read_labelled
from peftlab.applications.monitor.times import hour_of, shown_hour
from peftlab.applications.monitor.trial import FACTOR, LEAST, Trial, Watched, try_on
from peftlab.applications.monitor.voices import are_copies
from peftlab.applications.monitor.watcher import LEAST_HISTORY
from peftlab.core.application import Workplace
from peftlab.core.audit import Figure, Findings
from peftlab.measurement.example_intervals import example_intervals
from peftlab.statistics import pseudo_values
from peftlab.statistics.proportions import wilson_interval

if TYPE_CHECKING:
    from peftlab.applications.monitor.application import Monitor


def evaluate(monitor: Monitor, place: Workplace) -> Findings:
    """Figures of the adapters (``sentiment.*``, ``topic.*``), of the detector on what is right, and of the whole."""
    reader = open_reader(place)
    held_out, learned = read_labelled(place, "held_out"), read_labelled(place, "learned")
    place.reporter.say(f"reading {len(held_out)} held-out texts")
    began = time.perf_counter()
    readings = reader.read([row.text for row in held_out])
    seconds = time.perf_counter() - began
    sentiment, topic = (
        _classes(part, [(of, said) for of, said in zip(labels, answers, strict=True) if of])
        for part, labels, answers in (
            ("sentiment", [row.sentiment for row in held_out], [said.sentiment for said in readings]),
            ("topic", [row.topic for row in held_out], [said.topic for said in readings]),
        )
    )
    figures = [
        *sentiment.figures,
        *topic.figures,
        Figure(
            "system.texts_per_second", len(held_out) / seconds, len(held_out),
            "Texts that both adapters read in a second, nothing stored.", unit="number", higher_is_better=True,
        ),
    ]  # fmt: skip
    notes = [*sentiment.notes, *topic.notes]
    if monitor.posts.time is None:
        notes.append("The times of the table were made, so nothing was looked at that needs times.")
        return Findings(figures, notes)
    watched = monitor.watch.sentiment
    right = [row.sentiment == watched for row in held_out]
    said = [reading.sentiment == watched for reading in readings]
    for name, chosen in (("detector", right), ("system", said)):
        place.reporter.say(f"planting surges: {name}")
        streams = watched_hours(learned, held_out, chosen, watched)
        if not streams:
            notes.append(f"No stream has {LEAST_HISTORY} hours of history and held-out hours: no surges were planted.")
            break
        trial = try_on(streams, monitor.watch, monitor.seed)
        figures += _surges(name, trial, "by their labels" if name == "detector" else "as the adapter reads them")
        alarms = [f"{stream} {shown_hour(hour)} ({voices})" for stream, hour, voices in trial.alarms]
        notes.append(f"Alarms, {name}, with the voices of their first hour: {', '.join(alarms) or 'none'}.")
    return Findings(figures, notes)


def _classes(part: str, pairs: Sequence[tuple[str, str]]) -> Findings:
    """None where no text has a label of this kind."""
    if not pairs:
        return Findings([])
    labels, predictions = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    hits = sum(label == said for label, said in pairs)
    low, high = wilson_interval(hits, len(pairs))
    values = pseudo_values.of_confusion(pseudo_values.macro_f1, labels, predictions)
    intervals = example_intervals(["macro_f1"], labels, predictions, where=f"the held-out texts with a {part}")
    low_f1, high_f1 = intervals.by_metric["macro_f1"] or (None, None)
    most = max(labels.count(label) for label in set(labels)) / len(labels)
    figures = [
        Figure(
            f"{part}.accuracy", hits / len(pairs), len(pairs),
            f"Share of texts whose {part} is right; always saying the most frequent one is right for {most:.1%}.",
            low=low, high=high, higher_is_better=True,
        )
    ]  # fmt: skip
    if values is not None:
        figures.append(
            Figure(
                f"{part}.macro_f1", float(values.mean()), len(pairs), "F1, each class alike.", low=low_f1, high=high_f1,
                unit="number", higher_is_better=True,
            )
        )  # fmt: skip
    return Findings(figures, list(intervals.notes))


def watched_hours(
    learned: Sequence[Labelled], held_out: Sequence[Labelled], chosen: Sequence[bool], watched: str
) -> dict[str, Watched]:
    """Voices of each stream by hour: history by the labels, then the held-out texts that were chosen.

    As for the watcher, a stream begins with its first text of all, and is judged once it is old enough.
    """
    known_end = hour_of(min(row.time for row in held_out)) // DAY * DAY
    last = hour_of(max(row.time for row in held_out))  # the last hour is not over
    posts = [row for row in learned if row.sentiment == watched]
    posts += [row for row, is_chosen in zip(held_out, chosen, strict=True) if is_chosen]
    found: dict[str, Watched] = {}
    for stream in sorted({row.stream for row in posts}):
        own = sorted((row for row in posts if row.stream == stream), key=lambda row: row.time)
        start = -(-hour_of(own[0].time) // DAY) * DAY
        counts = np.zeros((1, max(last - start, 0)))
        hours = [hour_of(row.time) for row in own]
        for hour, is_copy in zip(hours, are_copies([row.text for row in own], hours), strict=True):
            if not is_copy and 0 <= hour - start < counts.shape[1]:
                counts[0, hour - start] += 1
        known = known_end - start
        if known >= LEAST_HISTORY and counts.shape[1] > known:
            found[stream] = Watched(start, known, counts)
    return found


def _surges(name: str, trial: Trial, counted: str) -> list[Figure]:
    figures = []
    for hours, hits in (("one_hour", trial.within_one), ("two_hours", trial.within_two)):
        if hits:
            low, high = wilson_interval(sum(hits), len(hits))
            figures.append(
                Figure(
                    f"{name}.surges_within_{hours}", sum(hits) / len(hits), len(hits),
                    f"Planted surges ({FACTOR} times for two hours, of {LEAST} voices at least, {counted}) that raised "
                    f"an alarm within {hours.replace('_', ' ')}. The interval takes them as independent.",
                    sampled="surges", low=low, high=high, higher_is_better=True,
                )
            )  # fmt: skip
    low, high = poisson_interval(len(trial.alarms))
    weeks = trial.hours / (7 * DAY)
    figures.append(
        Figure(
            f"{name}.alarms_a_week", trial.alarms_a_week, len(trial.alarms),
            f"Alarms of a stream in a week of the held-out days as they are ({weeks:.1f} weeks of streams). True "
            "events are among them: nobody has marked these.",
            sampled="alarms", low=low / weeks, high=high / weeks, unit="number",
        )
    )  # fmt: skip
    return figures


def poisson_interval(count: int) -> tuple[float, float]:
    """The exact 95 % interval of a Poisson mean (Garwood, Biometrika 28, 1936)."""
    from scipy.stats import chi2

    low = 0.0 if count == 0 else float(chi2.ppf(0.025, 2 * count)) / 2
    return low, float(chi2.ppf(0.975, 2 * count + 2)) / 2
