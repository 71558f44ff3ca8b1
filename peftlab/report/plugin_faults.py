"""What a plugin has raised, as a report tells it: a metric or a task of others must not end the report of all runs."""

from __future__ import annotations

from peftlab.core.errors import first_line
from peftlab.core.plugins import fault_of


def fault_in_words(error: Exception, module: str) -> str:
    """What it was, whose, and where.

    Args:
        error: As it was caught.
        module: The module that was called, which is named where no package is known.
    """
    fault = fault_of(error)
    whose, place = (module, "") if fault is None else (fault.package, f", {fault.place}")
    return f"The plugin {whose} has failed ({type(error).__name__}: {first_line(error)}{place})."
