"""Groups of a column: a group that is answered worse is found, and groups alike are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from peftlab.core.audit import AUDITS, Audited, Findings
from peftlab.core.errors import UserError
from peftlab.testing.audited_rows import audited

CLASSES = ("a", "b", "c")


def looked_at(seed: int, misses: float = 0.0, rows: int = 400) -> tuple[Audited, Findings]:
    """A calibrated model; in group x it gives the class c to some of the rows of class a."""
    generator = np.random.default_rng(seed)
    stated = generator.dirichlet([1, 1, 1], size=rows)
    right = [CLASSES[at] for at in (generator.random((rows, 1)) > stated.cumsum(1)).sum(1).clip(0, 2)]
    groups = generator.choice(["x", "y", "z"], size=rows, p=[0.4, 0.55, 0.05]).tolist()
    for at in range(rows):
        if groups[at] == "x" and right[at] == "a" and generator.random() < misses:
            stated[at] = [0.02, 0.02, 0.96]
    own = audited(lambda text: stated[int(text)].tolist(), [str(at) for at in range(rows)], right, CLASSES)
    own.rows.columns["group"] = groups  # type: ignore[index]
    own.rows.columns["same"] = ["one"] * rows  # type: ignore[index]
    part = AUDITS["group_fairness"].model_validate({"by": ["group"]})
    return own, part.run(own)


def test_a_group_that_is_missed() -> None:
    rows, findings = looked_at(0, misses=0.7)
    found = {figure.name: figure for figure in findings.figures}
    recall = found["group_fairness.group.x.recall.a"]
    assert recall.value < -0.2
    assert recall.p_value is not None
    assert recall.p_value < 0.001
    groups, (right, said) = np.array(rows.rows.columns["group"]), rows.classes or ([], [])
    own, others = (right == 0) & (groups == "x"), (right == 0) & (groups != "x")
    assert recall.value == pytest.approx((said[own] == 0).mean() - (said[others] == 0).mean())
    assert recall.n == (right == 0).sum()
    most = found["group_fairness.equalized_odds"]
    assert most.value == max(abs(each.value) for each in found.values() if each is not most and "over" not in each.name)
    assert found["group_fairness.group.x.overconfidence"].value > 0.05
    assert any("z: a" in note for note in findings.notes)  # 20 rows in all
    for figure in findings.figures:
        assert figure.low <= figure.value <= figure.high  # type: ignore[operator]


def test_groups_alike_give_few_alarms() -> None:
    alarms = sum(any((f.p_value or 1) <= 0.05 for f in looked_at(seed)[1].figures) for seed in range(30))
    assert alarms <= 5  # 1.5 are expected at most; binomial, p < 0.01 beyond


def test_columns_that_make_no_groups() -> None:
    rows, _ = looked_at(1)
    for keys in ({"by": ["same"]}, {"by": ["text"]}):
        with pytest.raises(UserError, match="different values"):
            AUDITS["group_fairness"].model_validate(keys).run(rows)
    part: Any = AUDITS["group_fairness"]()
    assert "group_fairness.by" in str(part.why_not(rows))
