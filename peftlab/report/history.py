"""How a run learned: its metrics log."""

from __future__ import annotations

from peftlab.packs.runs import read_run_metrics
from peftlab.report.entry import Entry, History


def read_history(entry: Entry) -> History:
    """The history of a run; empty where it left none. A line that was cut short ends it."""
    if entry.history is not None:
        return entry.history
    loss: list[tuple[float, float]] = []
    validation: list[tuple[float, dict[str, float]]] = []
    for values in read_run_metrics(entry.path):
        try:
            if isinstance(values.get("loss"), int | float):  # null where it was not finite
                loss.append((values["step"], values["loss"]))
            if values.get("validation"):
                validation.append((values["step"], values["validation"]))
        except (KeyError, TypeError):
            break
    return History(loss, validation)
