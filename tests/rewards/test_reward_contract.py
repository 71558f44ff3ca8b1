"""Every reward keeps the contract that plugins keep; but for that of a run, which tests/tasks/test_reinforcement.py has."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.core.reward import REWARDS
from peftlab.testing import RewardContract
from peftlab.testing.plugin_contract import Section

KEYS = {"regular_expression": {"pattern": "[0-9]+|yes"}, "overlong": {"free_tokens": 4, "most_tokens": 12}}
OTHERS = {"reward_model", "turing_machine"}


class TestRewards(RewardContract):
    def sections(self) -> Sequence[Section]:
        return [{"type": name, **KEYS.get(name, {})} for name in REWARDS if name not in OTHERS]
