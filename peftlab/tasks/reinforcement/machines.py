"""Reinforcement on Turing machines: the simulator judges what a model writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import model_validator

from peftlab.core.task import TASKS
from peftlab.tasks.reinforcement.policy_gradient import PolicyGradient
from peftlab.tasks.turing_machine.task import TuringMachine


@TASKS.register("turing_machine_reinforcement")
class TuringMachineReinforcement(PolicyGradient, TuringMachine):
    """Compute, learned by reward alone: the exact simulator says how far what the model writes is right."""

    @model_validator(mode="after")
    def _check_positions(self) -> TuringMachineReinforcement:
        if self.positions != "absolute":
            raise ValueError("text is generated with positions from 0: reinforcement needs `positions: absolute`")
        if not self.rewards and (self.addresses or not self.table):
            raise ValueError("the simulator reads tables and cells without numbers: name other `rewards`")
        return self

    def effective_rewards(self) -> Sequence[Any]:
        """Those of the recipe; without any the simulator."""
        from peftlab.core.reward import REWARDS

        if self.rewards:
            return self.rewards
        steps = self.max_steps if self.writes == "run" else 1
        return [REWARDS["turing_machine"].model_validate({"steps": steps})]
