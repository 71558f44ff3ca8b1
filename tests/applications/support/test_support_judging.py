"""What `app evaluate` says of intents, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from peftlab.applications.support.company import Entry
from peftlab.applications.support.judging import _intents

NAMES = ("track", "return")


@pytest.mark.parametrize(
    ("of_entries", "system"),
    [(["track", "return", None], 2 / 3), ([None, None, None], None), (["else", None, None], None)],
)
def test_the_systems_intents_are_told_where_entries_have_some(
    of_entries: list[str | None], system: float | None
) -> None:
    entries = [Entry(str(at), "q", "a", intent) for at, intent in enumerate(of_entries)]
    responder: Any = SimpleNamespace(
        searcher=SimpleNamespace(intent_names=NAMES),
        support=SimpleNamespace(out_of_scope="other"),
        company=SimpleNamespace(entries=entries),
    )
    asked: Any = [SimpleNamespace(intent=intent) for intent in ("track", "return", "return", None)]
    read: Any = SimpleNamespace(intent_logits=np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    ranked: Any = SimpleNamespace(order=np.array([[0, 1], [1, 0], [2, 0], [0, 1]]))
    found = {figure.name: figure.value for figure in _intents(responder, asked, read, ranked)}
    assert found.pop("intents.accuracy") == pytest.approx(1 / 3)
    assert found == ({} if system is None else {"system.intent_accuracy": pytest.approx(system)})
