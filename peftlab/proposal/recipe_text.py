"""A proposed recipe as YAML, with the reason for each choice behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from peftlab.proposal.propose import Proposal

NOT_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"})
"""Words that some readers of YAML take for something else."""


def recipe_text(proposal: Proposal, *, command: str) -> str:
    """The recipe's file.

    Args:
        proposal: From :func:`peftlab.proposal.propose.propose`.
        command: That has written it, for the first line.
    """
    lines = [f"# Written by `{_one_line(command)}`. Look at each line: it was told from the table alone."]
    lines += [f"# {_one_line(note)}" for note in proposal.notes]
    _write(proposal.values, proposal.reasons, "", 0, lines)
    return "\n".join(lines) + "\n"


def _write(values: Mapping[str, Any], reasons: Mapping[str, str], path: str, depth: int, lines: list[str]) -> None:
    for key, value in values.items():
        dotted = f"{path}.{key}" if path else key
        reason = f"   # {_one_line(reasons[dotted])}" if dotted in reasons else ""
        if isinstance(value, Mapping):
            lines.append(f"{'  ' * depth}{key}:{reason}")
            _write(value, reasons, dotted, depth + 1, lines)
        else:
            lines.append(f"{'  ' * depth}{key}: {_value(value)}{reason}")


def _value(value: Any) -> str:
    """JSON is YAML too; plain words need no quotes."""
    if isinstance(value, str) and value.replace("_", "a").replace("-", "a").isidentifier() and value.isascii():
        return f'"{value}"' if value.lower() in NOT_WORDS else value
    return json.dumps(value, ensure_ascii=False)


def _one_line(text: str) -> str:
    return " ".join(text.split())
