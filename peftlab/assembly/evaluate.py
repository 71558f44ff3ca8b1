"""What an evaluation of an application leaves: ``evaluation.json`` in its folder, and lines for the terminal."""

from __future__ import annotations

import dataclasses
from typing import Any

from peftlab.core.application import Application, Workplace
from peftlab.core.audit import Figure
from peftlab.core.checked_findings import checked_findings
from peftlab.core.files import write_json

EVALUATION_NAME = "evaluation.json"


def evaluate_application(application: Application, place: Workplace) -> dict[str, Any]:
    """Score an application on its held-out data, and write the figures down.

    Returns:
        The object that is written.
    """
    found = checked_findings(application.evaluate(place), application.registered_name)
    figures = {figure.name: _plain(figure) for figure in found.figures}
    result = {
        "name": application.name,
        "type": application.registered_name,
        "figures": figures,
        "notes": list(found.notes),
    }
    write_json(place.folder / EVALUATION_NAME, result)
    return result


def summary(result: dict[str, Any]) -> str:
    """The figures for people: those of the whole first."""
    figures = sorted(result["figures"].values(), key=lambda each: not each["name"].startswith("system."))
    width = max((len(each["name"]) for each in figures), default=0)
    lines = []
    for each in figures:
        shown = f"{each['value']:.4g}"
        if each.get("low") is not None:
            shown += f" ({each['low']:.4g} to {each['high']:.4g})"
        lines += [
            f"{each['name']:<{width}}  {shown}, {each['n']} {each['sampled']}",
            f"{'':<{width}}  {each['sentence']}",
        ]
    return "\n".join([*lines, *result["notes"]])


def _plain(figure: Figure) -> dict[str, Any]:
    kept = ("name", "value", "low", "high", "n", "sampled", "unit", "higher_is_better", "sentence")
    values = dataclasses.asdict(figure)
    return {key: values[key] for key in kept}
