"""What the exact simulator says of a configuration that a model has written."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.reward import REWARDS, Answer, Reward
from peftlab.tasks.turing_machine.judge import share_of_right_steps


@REWARDS.register("turing_machine")
class TuringMachineReward(Reward):
    """The share of the steps up to the first error, by the simulator: it reads machine and tape in the prompt."""

    steps: PositiveInt = Field(
        1, description="Steps that a response should hold: 1 for `writes: step`, max_steps for whole runs."
    )
    malformed: float = Field(0.0, description="The reward of a response that is no configuration at all.")

    def reward(self, answer: Answer) -> float:
        """From 0 to 1; of a single step 1 or 0.

        Raises:
            UnsupportedError: The prompt holds no machine.
        """
        try:
            right, is_configuration = share_of_right_steps(answer.prompt, answer.response, steps=self.steps)
        except DataError as error:
            raise UnsupportedError(
                f"the simulator cannot run the prompt {answer.prompt!r:.80}: {error.message}",
                where=answer.where,
                hint="The reward turing_machine is for prompts that show a machine's table and a configuration.",
            ) from None
        return right if is_configuration else self.malformed
