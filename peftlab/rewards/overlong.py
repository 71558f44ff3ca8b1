"""Something is taken off where a response comes near to the most tokens that it may have."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from peftlab.core.reward import REWARDS, Answer, Reward


@REWARDS.register("overlong")
class Overlong(Reward):
    """0 for short responses; from there down to -1 for one that is as long as it may be (DAPO)."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2503.14476"

    free_tokens: NonNegativeInt = Field(description="Up to so many tokens nothing is taken off.")
    most_tokens: PositiveInt = Field(
        description="From so many on the reward is -1: the task's `max_response_tokens`, or fewer."
    )

    @model_validator(mode="after")
    def _check_order(self) -> Overlong:
        if self.free_tokens >= self.most_tokens:
            raise ValueError("`free_tokens` are fewer than `most_tokens`")
        return self

    def reward(self, answer: Answer) -> float:
        """From -1 to 0, as in equation 13 of the paper; the token that ends a response counts."""
        over = (len(answer.response_ids) - self.free_tokens) / (self.most_tokens - self.free_tokens)
        return -min(1.0, max(0.0, over))
