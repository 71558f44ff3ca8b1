"""How a run learned: its metrics log."""

from __future__ import annotations

from peftlab.packs.log_lines import number_in, scores_in
from peftlab.packs.runs import read_run_metrics
from peftlab.report.entry import Entry, History


def read_history(entry: Entry) -> History:
    """The history of a run; empty where it left none. A line that was cut short ends it; only numbers count."""
    if entry.history is not None:
        return entry.history
    loss: list[tuple[float, float]] = []
    validation: list[tuple[float, dict[str, float]]] = []
    for line in read_run_metrics(entry.path):
        step, value, scores = number_in(line, "step"), number_in(line, "loss"), scores_in(line)
        if step is None:
            continue
        if value is not None:
            loss.append((step, value))
        if scores:
            validation.append((step, scores))
    return History(loss, validation)
