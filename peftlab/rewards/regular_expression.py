"""1 where a pattern is found in a response."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from peftlab.core.errors import RunFailedError
from peftlab.core.reward import REWARDS, Answer, Reward


@REWARDS.register("regular_expression")
class RegularExpression(Reward):
    """1 where a pattern is found in the response, else 0; or where what it finds is the expected answer."""

    pattern: str = Field(description="Of Python's `re`; it is searched for, and a dot takes line ends too.")
    is_expected: bool = Field(
        False, description="Whether the first group (or all that is found) must be the expected answer."
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        import regex

        try:
            re.compile(value)
            regex.compile(value)
        except (re.error, regex.error) as error:
            raise ValueError(f"this is no regular expression: {error}") from None
        return value

    @property
    def needs_expected(self) -> bool:
        """As the recipe says."""
        return self.is_expected

    def reward(self, answer: Answer) -> float:
        """1 or 0.

        Raises:
            RunFailedError: The pattern takes too long.
        """
        import regex

        # `re` cannot be ended, and lets no other thread run: a pattern such as (a|aa)+$ would stop the whole program.
        try:
            found = regex.search(self.pattern, answer.response, regex.DOTALL, timeout=self.timeout_seconds)
        except TimeoutError:
            raise RunFailedError(
                f"the pattern {self.pattern!r} was still being tried after {self.timeout_seconds:g} seconds on the "
                f"response {answer.response!r:.60}",
                where=answer.where,
                hint="Repetitions within repetitions, such as (a+)+, take that long. Write a simpler pattern.",
            ) from None
        if found is None or not self.is_expected:
            return float(found is not None)
        said = found.group(1) if found.re.groups else found.group()
        return float((said or "").strip() == answer.expected.strip())
