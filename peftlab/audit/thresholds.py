"""Thresholds that a pipeline gates on: a YAML file that names figures and the worst value that each may have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from peftlab.audit.report import AuditReport, Breach, ReportedFigure
from peftlab.core.audit import AUDITS
from peftlab.core.config import Config, Document, build_config, read_yaml
from peftlab.core.errors import did_you_mean

ALARMS = "alarms"
"""The name of the number of alarms, as if it were a figure."""
WORSE = "worse"
"""The number of figures that are worse than those of the run before."""
OF_ALL_PARTS = frozenset({ALARMS, WORSE})
"""Names of numbers that no part gives by itself."""


class Threshold(Config):
    """The worst value that a figure may have, and whether its value or its whole interval is held against it."""

    at_most: float | None = None
    at_least: float | None = None
    by: Literal["value", "interval"] = "value"

    @model_validator(mode="after")
    def _one_side(self) -> Threshold:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("either `at_most` or `at_least` is needed")
        return self


@dataclass(frozen=True)
class Thresholds:
    """Thresholds by the figure's name, which may have ``*`` in it."""

    document: Document
    limits: Mapping[str, Threshold]

    def breaches(self, report: AuditReport) -> list[Breach]:
        """What is beyond its threshold.

        Raises:
            ConfigError: A name means no figure of this audit.
        """
        found: list[Breach] = []
        for name, limit in self.limits.items():
            if name == ALARMS:
                count = float(len(report.alarms))
                found += _breach(name, limit, count, count, count)
                continue
            if name == WORSE:
                if report.before is None:
                    raise self.document.error((name,), "there is no run to compare with", "Name it with --before.")
                count = float(len(report.before.worse))
                found += _breach(name, limit, count, count, count)
                continue
            meant = meant_by(name, report.figures)
            if not meant:
                part = name.partition(".")[0]
                why = report.skipped.get(part)
                near = did_you_mean(name, [own for own in report.figures if own.startswith(f"{part}.")])
                raise self.document.error(
                    (name,),
                    "the audit has no such figure",
                    f"The part {part} was left out: {why}." if why else near,
                )
            for own in meant:
                figure = report.figures[own]
                found += _breach(own, limit, figure.value, *_ends(figure))
        return found


def read_thresholds(path: Path, parts: Collection[str]) -> Thresholds:
    """Read a threshold file.

    A plain number stands for ``at_most``.

    Args:
        path: YAML: ``errors.overall: 0.1`` or ``robustness.*.flipped: {at_most: 0.05, by: interval}``; ``alarms: 0``.
        parts: Names of those that are run; a name that begins with no other can be refused before the work.

    Raises:
        ConfigError: It cannot be read, or a name begins with no part.
    """
    document = read_yaml(path)
    if not document.values:
        raise document.error((), "there is no threshold in this file", "Write such as `errors.overall: 0.1`.")
    limits = {}
    for name, value in document.values.items():
        part = str(name).partition(".")[0]
        if name not in OF_ALL_PARTS and part not in parts:
            left_out = "this part is not run" if part in AUDITS else "the audit has no such figure"
            raise document.error((name,), left_out, did_you_mean(part, [*parts, *sorted(OF_ALL_PARTS)]))
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        values = {"at_most": value} if is_number else value
        if not isinstance(values, dict):
            raise document.error((name,), f"a number, or at_most or at_least, is needed, not {value!r}")
        limits[str(name)] = build_config(Threshold, values, document=document, path=(name,))
    return Thresholds(document, limits)


def meant_by(name: str, figures: Iterable[str]) -> list[str]:
    """The figures of a name, which may have ``*`` in it. Brackets of a figure's own name are no pattern."""
    names = list(figures)
    return [name] if name in names else [own for own in names if fnmatchcase(own, name)]


def _ends(figure: ReportedFigure) -> tuple[float, float]:
    low = figure.value if figure.low is None else figure.low
    return low, figure.value if figure.high is None else figure.high


def _breach(name: str, limit: Threshold, value: float, low: float, high: float) -> list[Breach]:
    """By the interval, a figure fails only where all of it is beyond."""
    if limit.at_most is not None:
        held, bound, words = (low if limit.by == "interval" else value), limit.at_most, "at most"
        is_beyond = held > bound
    else:
        bound, words = limit.at_least or 0.0, "at least"
        held = high if limit.by == "interval" else value
        is_beyond = held < bound
    if not is_beyond:
        return []
    by = "all of its interval is beyond" if limit.by == "interval" else f"is {value:.4g}"
    return [Breach(figure=name, value=value, limit=bound, sentence=f"{name} {by}; {words} {bound:g} is allowed")]
