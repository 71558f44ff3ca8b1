"""What the figures of an audit, or of an application, must keep."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from peftlab.core.audit import Figure, Findings, Unit
from peftlab.testing.broken_contract import BrokenContractError, require


def require_findings(findings: Any, whose: str, *, begin: Sequence[str]) -> None:
    """Refuse what no page could show.

    Args:
        findings: As a plugin gives them.
        whose: What was asked, such as ``shouting on classes``.
        begin: What the names of figures begin with.

    Raises:
        BrokenContractError: Naming the figure.
    """
    __tracebackhide__ = True
    require(
        isinstance(findings, Findings),
        f"{whose} gives {type(findings).__name__}",
        hint="It gives Findings: figures, and sentences on what could not be looked at.",
    )
    for note in findings.notes:
        require(isinstance(note, str) and note.strip(), f"{whose} has the note {note!r}", hint="A note is a sentence.")
    names = [figure.name for figure in findings.figures]
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"{whose} has two figures of the name {', '.join(twice)}", hint="One would hide the other.")
    for figure in findings.figures:
        require(
            any(figure.name.startswith(f"{each}.") for each in begin),
            f"{whose} has a figure `{figure.name}`",
            hint=f"Its name begins with {' or '.join(f'`{each}.`' for each in begin)}: files of limits use it.",
        )
        _require_figure(figure, f"{whose}: {figure.name}")


def _require_figure(figure: Figure, whose: str) -> None:
    __tracebackhide__ = True
    require(
        math.isfinite(figure.value),
        f"{whose} is {figure.value}",
        hint="Leave the figure out, and say why in a note, where there is nothing to measure.",
    )
    require(
        isinstance(figure.n, int) and figure.n > 0,
        f"{whose} has n = {figure.n!r}",
        hint="It is how many were sampled, as an int. Of nothing there is no figure, but a note.",
    )
    require(
        figure.unit in get_args(Unit), f"{whose} has the unit {figure.unit!r}", hint=f"{', '.join(get_args(Unit))}."
    )
    least = {"share": 0.0, "difference": -1.0}.get(figure.unit, -math.inf)
    most = {"share": 1.0, "difference": 1.0}.get(figure.unit, math.inf)
    require(
        least <= figure.value <= most,
        f"{whose} is {figure.value:g}, and a {figure.unit} is between {least:g} and {most:g}",
        hint='Choose another unit: "share", "difference" of two shares, "number" or "count".',
    )
    low, high = figure.low, figure.high
    require((low is None) == (high is None), f"{whose} has one end of an interval")
    require(
        low is None or high is None or low <= figure.value <= high,
        f"{whose} is {figure.value:g}, and its interval is from {low} to {high}",
    )
    require(
        figure.p_value is None or 0 <= figure.p_value <= 1,
        f"{whose} has the p-value {figure.p_value}",
        hint="It is from 0 to 1, also behind a correction: min(p * tests, 1.0).",
    )
    require(
        figure.sentence.strip() and figure.sampled.strip(),
        f"{whose} has no sentence, or does not say what n counts",
        hint="Both are read by people who know nothing of statistics.",
    )
    try:
        json.dumps([dict(example) for example in figure.examples], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BrokenContractError(
            f"{whose} has examples that JSON cannot hold: {error}",
            hint="Give plain values: .item() and .tolist() make them of arrays.",
        ) from None
    if figure.sample is not None:
        _require_sample(figure, whose)


def _require_sample(figure: Figure, whose: str) -> None:
    __tracebackhide__ = True
    sample = figure.sample
    if sample is None:
        return
    require(
        len(sample.units) == len(sample.values),
        f"{whose} has a sample of {len(sample.values)} values and {len(sample.units)} units",
    )
    first, values = sample.is_first, np.asarray(sample.values, dtype=np.float64)
    mean = values.mean() if first is None else values[first].mean() - values[~first].mean()
    require(
        math.isclose(mean, figure.value, rel_tol=1e-6, abs_tol=1e-9),
        f"{whose} is {figure.value:g}, and the mean of its sample {mean:g}",
        hint="`audit --before` compares the samples of two runs: leave it out where the figure is no mean.",
    )
