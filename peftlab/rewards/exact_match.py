"""1 where a response equals the expected answer."""

from __future__ import annotations

from pydantic import Field

from peftlab.core.reward import REWARDS, Answer, Reward


@REWARDS.register("exact_match")
class ExactMatch(Reward):
    """1 where the response is the expected answer, else 0; blanks around it do not count."""

    ignore_case: bool = Field(False, description="Whether upper and lower case are the same.")

    @property
    def needs_expected(self) -> bool:
        """It compares with it."""
        return True

    def reward(self, answer: Answer) -> float:
        """1 or 0."""
        said, expected = answer.response.strip(), answer.expected.strip()
        if self.ignore_case:
            said, expected = said.casefold(), expected.casefold()
        return float(said == expected)
