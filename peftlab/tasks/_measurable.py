"""Which metrics of classes say something on a split."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def why_not_measured(
    metric: str, rows: Sequence[Collection[str | None]], labels: Sequence[str], *, is_multi_label: bool
) -> str | None:
    """Why a metric would be constant, or not defined, whatever a model says; None: it is not.

    Args:
        metric: Its name.
        rows: The labels of each example.
        labels: All labels.
        is_multi_label: Whether an example can carry any number of them.
    """
    if metric == ("matthews" if is_multi_label else "micro_f1"):
        return f"it is not one of {'several labels' if is_multi_label else 'one class'} per text"
    found = set[str | None]().union(*rows)
    if is_multi_label:
        if metric == "auroc" and not any(0 < sum(name in row for row in rows) < len(rows) for name in labels):
            return "no label has both examples that carry it and examples that do not"
        return "no example carries any label" if metric.endswith("_f1") and not found else None
    if metric == "auroc" and len(found) < len(labels):
        missing = [name for name in labels if name not in found]
        return f"it needs examples of every class, and there are none of {', '.join(map(repr, missing[:5]))}"
    return f"every example is of the class {found.pop()!r}" if metric == "matthews" and len(found) == 1 else None
