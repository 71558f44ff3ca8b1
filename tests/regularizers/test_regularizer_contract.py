"""Every regulariser of peftlab keeps the contract that plugins keep. A new one is covered without a new test."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from peftlab.core.regularizer import REGULARIZERS
from peftlab.testing.plugin_contract import Section
from peftlab.testing.regularizer_contract import RegularizerContract
from peftlab.testing.training_jobs import TASKS

pytestmark = pytest.mark.slow

REFUSED: dict[str, Collection[str]] = {
    **dict.fromkeys(("ewc", "router_balance"), tuple(TASKS)),
    **dict.fromkeys(("debiasing", "fixmatch", "mixup", "uda"), ("instruction_tuning",)),
}


class TestRegularizers(RegularizerContract):
    def sections(self) -> Sequence[Section]:
        return [{"type": name} for name in REGULARIZERS]

    def refused_by(self, section: Section) -> Collection[str]:
        return REFUSED.get(section["type"], ())
