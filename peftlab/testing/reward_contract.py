"""What every reward must keep: a finite number for whatever a model writes, whoever is judged beside it."""

from __future__ import annotations

import random
import reprlib
from collections.abc import Sequence
from typing import Any, ClassVar

from peftlab.core.errors import PeftlabError
from peftlab.core.registry import Registry
from peftlab.core.reward import REWARDS, Answer, Reward, ask_rewards
from peftlab.testing.broken_contract import BrokenContractError, require
from peftlab.testing.chance import asked_twice
from peftlab.testing.plugin_contract import PluginContract, Section

RESPONSES = (
    "yes, it is",
    "Yes",
    "42",
    "",
    " ",
    "\n\n",
    "…",
    "好",
    "نعم",
    "#### 12",
    "no " * 300,
    "(((a+)+)+",
    "👍🏽",
    "NaN",
)
"""What untrained models write too."""


class RewardContract(PluginContract):
    """The tests of a reward. Inherit them in a file that pytest collects, and say which reward they are of.

    .. code-block:: python

        from peftlab.testing import RewardContract


        class TestContains(RewardContract):
            plugin = {"type": "contains", "word": "yes"}
    """

    registry: ClassVar[Registry[Any]] = REWARDS
    prompt: ClassVar[str] = "Is it?"
    """What the model was to answer."""
    expected: ClassVar[Sequence[str]] = ("yes", "")
    """The right answer, and none."""
    responses: ClassVar[Sequence[str]] = RESPONSES
    """What it may write; the reward must tell some of them apart."""
    tokenizer: ClassVar[Any] = None
    """What ``begin`` is given."""

    def ready(self, section: Section) -> Reward:
        """The reward, made anew, before its first answer."""
        reward: Reward = self.build(section)
        reward.begin(self.tokenizer)
        return reward

    def answers(self) -> list[Answer]:
        """Everything that it is to judge."""
        pairs = [(said, expected) for expected in self.expected for said in self.responses]
        return [
            Answer(self.prompt, said, expected, f"row {at}", list(self.prompt.encode()), list(said.encode()))
            for at, (said, expected) in enumerate(pairs, 1)
        ]

    def test_whatever_is_written_has_a_number(self, section: Section) -> None:
        """Empty, endless, of another script: one response without a number ends the run."""
        reward = self.ready(section)
        found = [self._asked(reward, [answer])[0] for answer in self.answers()]
        require(
            len(set(found)) > 1,
            f"{section['type']} gives {found[0]:g} to each of {len(found)} answers: such a reward teaches nothing",
            hint="If it is for other ones: prompt, expected and responses in the class of the tests.",
        )

    def test_an_answer_is_worth_the_same_whoever_is_beside_it(self, section: Section) -> None:
        """A step may be computed in parts, and a resumed run must be the same bit for bit."""
        answers = self.answers()
        alone = asked_twice(
            section["type"],
            lambda: [self._asked(self.ready(section), [answer])[0] for answer in answers],
            source="the answer: a reward draws nothing",
        )
        order = list(range(len(answers)))
        random.Random(0).shuffle(order)  # noqa: S311 - no secrets
        together = self._asked(self.ready(section), [answers[at] for at in order])
        for at, value in zip(order, together, strict=True):
            require(
                abs(value - alone[at]) <= 1e-5 * max(1.0, abs(value)),
                f"{section['type']} gives {alone[at]:.6g} for the response {reprlib.repr(answers[at].response)}, and "
                f"{value:.6g} where others are judged with it",
                hint="`rewards` judges each answer by itself, in the order that they are given; peftlab compares the "
                "answers of a group. Nothing is remembered between calls.",
            )

    def _asked(self, reward: Reward, answers: Sequence[Answer]) -> list[float]:
        __tracebackhide__ = True
        try:
            return ask_rewards(reward, answers)
        except PeftlabError as error:
            raise BrokenContractError(
                str(error), hint="A model that has not learned yet writes anything: give it a number too, such as 0."
            ) from error
