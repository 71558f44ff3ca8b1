"""Whether a run that went on from another one may take its place: both are audited on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from peftlab.audit.audit import audit_run
from peftlab.audit.report import AuditReport, Breach
from peftlab.audit.rows import AuditRows
from peftlab.audit.thresholds import Thresholds, meant_by
from peftlab.core.audit import Audit
from peftlab.core.errors import UserError
from peftlab.core.reporter import Reporter
from peftlab.data.augmenting import join_rows
from peftlab.inference.files import reading_config
from peftlab.inference.load_tuned import load_tuned
from peftlab.preparation.load_data import load_data

if TYPE_CHECKING:
    import torch


def audit_both(
    earlier: Path, now: Path, parts: Sequence[Audit], reporter: Reporter, *, device: torch.device, offline: bool
) -> AuditReport:
    """Audit two runs on the test rows, new and earlier, of the second one.

    Args:
        earlier: The folder of the run that the other one went on from.
        now: Of that one.
        parts: What looks, from ``choose_parts``.
        reporter: Shows the progress.
        device: Where both compute.
        offline: Allow no network.

    Returns:
        The second run's report, which compares it with the first.

    Raises:
        UserError: There are no such rows.
    """
    tuned, before = (load_tuned(each, offline=offline, device=device, report=reporter.say) for each in (now, earlier))
    data = load_data(tuned.recipe, offline=offline, report=reporter.say)
    tests = [split for name, split in data.splits.items() if name.startswith("test")]
    if not tests:
        raise UserError("the run has no test rows to audit", where=str(now), hint="Set data.test_fraction.")
    given = AuditRows(replace(join_rows(tests), name="test"), "the test rows, new and earlier", data.splits["train"])
    reading = reading_config(tuned.recipe, None, "utf-8", [])
    return audit_run(tuned, parts, reporter, reading=reading, given=given, before=before, offline=offline)


def worse_figures(report: AuditReport, thresholds: Thresholds) -> list[str]:
    """Where a run is worse than the one before it, by the figures that a threshold file names.

    A figure is worse if it is beyond a threshold that the run before has kept, or further beyond it than that run was;
    or if the comparison of the two audits calls it so.

    Raises:
        ConfigError: A name means no figure of this audit.
    """
    compared = report.before.figures if report.before is not None else {}
    sentences: dict[str, str] = {}
    for breach in thresholds.breaches(report):
        old = compared[breach.figure].before if breach.figure in compared else None
        if old is None or _is_further(breach, old):
            shown = "" if old is None else f"; the earlier run has {old:.4g}"
            sentences[breach.figure] = breach.sentence + shown
    for name in report.before.worse if report.before is not None else ():
        if name not in sentences and any(meant_by(pattern, [name]) for pattern in thresholds.limits):
            figure = compared[name]
            between = "" if figure.low is None else f" ({figure.low:+.4g} to {figure.high:+.4g})"
            sentences[name] = f"{name} went from {figure.before:.4g} to {figure.after:.4g}{between}"
    return list(sentences.values())


def _is_further(breach: Breach, old: float) -> bool:
    """Whether a figure is beyond its limit on the same side as, and further than, it was."""
    side = 1 if breach.value > breach.limit else -1
    return side * (breach.value - old) > 0
