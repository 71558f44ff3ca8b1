"""What a part of an audit, or an application, has found: looked at where it arrives."""

from __future__ import annotations

import math
from typing import Any

from peftlab.core.audit import Figure, Findings
from peftlab.core.errors import PluginError
from peftlab.core.given_values import check_kind, check_plain, number_of


def checked_findings(findings: Any, whose: str) -> Findings:
    """What a plugin has found, where a report can hold it.

    Args:
        findings: As it gave them.
        whose: Its name.

    Raises:
        PluginError: They are no findings, or a figure has a value that is no finite number or an example that JSON
            cannot hold.
    """
    what = f"`{whose}`"
    check_kind(findings, Findings, what=what, hint="Return Findings([…]).")
    for figure in findings.figures:
        check_kind(figure, Figure, what=what, hint="Return Findings([Figure(…), …]).")
        if not math.isfinite(number_of(figure.value, what=f"the figure {figure.name}")):
            raise PluginError(
                f"the figure {figure.name} is {figure.value}",
                hint="Leave it out, and write a note, where it is not defined.",
            )
        check_plain(list(figure.examples), what=f"the examples of {figure.name}")
    found: Findings = findings
    return found
