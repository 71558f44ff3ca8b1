"""What a model writes to a prompt, several times, and what rewards say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveFloat, PositiveInt, PrivateAttr

from peftlab.core.reward import Answer, AnyReward, ask_rewards
from peftlab.core.splits import Example
from peftlab.core.task import Policy
from peftlab.tasks.language.decoder import DecoderTask
from peftlab.tasks.language.generation import generate_tokens, response_ends
from peftlab.tasks.reinforcement.rolled_out import HAS_NO_ANSWER, answer_of, prompt_of

if TYPE_CHECKING:
    from torch import nn

CUT_FOR_REWARD = "cut_for_reward"
"""A figure of a roll-out: the share of responses that were too long for a reward."""
CUT = "cut_responses"
"""A figure of a roll-out: the share of responses that did not end by themselves."""


@dataclass(frozen=True)
class Group:
    """The responses to one prompt.

    Args:
        example: Holds the prompt.
        responses: Tokens of each, with the one that ended it.
        is_cut: Whether each was cut before it ended by itself.
        answers: What the rewards were shown.
        by_name: What each reward said of each response, by the reward's name; not weighted.
        rewards: Of each response, all rewards together.
    """

    example: Example
    responses: list[list[int]]
    is_cut: list[bool]
    answers: Sequence[Answer]
    by_name: dict[str, list[float]]
    rewards: list[float]

    @property
    def is_equal(self) -> bool:
        """Whether all responses have one reward."""
        return max(self.rewards) == min(self.rewards)


class JudgedResponses(DecoderTask):
    """A language task whose model writes groups of responses, which rewards judge."""

    rewards: list[AnyReward] = Field(
        default_factory=list, description="What a response is worth: the sum of these, each with its weight."
    )
    group_size: int = Field(8, ge=2, description="Responses to each prompt.")
    temperature: PositiveFloat = Field(
        1.0, description="At which responses are drawn; the gradient is of the model at this temperature."
    )
    max_response_tokens: PositiveInt = Field(64, description="Where a response is cut that does not end by itself.")
    roll_out_batch_size: PositiveInt = Field(256, description="Responses that are written at once.")

    _begun: set[int] = PrivateAttr(default_factory=set)

    def new_tokens(self) -> int:
        """As many as in training."""
        return self.max_response_tokens

    def effective_rewards(self) -> Sequence[Any]:
        """Those of the recipe."""
        return self.rewards

    def draw_groups(self, policy: Policy, examples: Sequence[Example], where: Sequence[str]) -> list[Group]:
        """A group of responses to each prompt, and their rewards."""
        size, tokenizer = self.group_size, policy.inference.tokenizer
        ends = response_ends(self.renderer(tokenizer), policy.model)
        prompts = [prompt_of(example) for example in examples]
        responses = self._write(policy, prompts, ends)
        rows = [place for place in range(len(prompts)) for _ in range(size)]
        answers = self.answers_of(
            [examples[place] for place in rows],
            [prompts[place] for place in rows],
            responses,
            ends,
            tokenizer,
            [where[place] for place in rows],
        )
        by_name, totals = self.judge(answers, tokenizer, policy.model)
        groups = []
        for place, example in enumerate(examples):
            own = slice(place * size, (place + 1) * size)
            groups.append(
                Group(
                    example=example,
                    responses=responses[own],
                    is_cut=[not ids or ids[-1] not in ends for ids in responses[own]],
                    answers=answers[own],
                    by_name={name: values[own] for name, values in by_name.items()},
                    rewards=totals[own],
                )
            )
        return groups

    def _write(self, policy: Policy, prompts: Sequence[Sequence[int]], ends: Sequence[int]) -> list[list[int]]:
        """A group of responses to each prompt, each with its end token; prompts of like length share a batch."""
        written: dict[int, list[list[int]]] = {}
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        size = max(1, self.roll_out_batch_size // self.group_size)
        for start in range(0, len(order), size):
            places = order[start : start + size]
            made = generate_tokens(
                policy.model,
                [prompts[place] for place in places],
                policy.inference,
                max_new_tokens=self._room(len(prompts[places[0]])),
                ends=ends,
                temperature=self.temperature,
                keep_ends=True,
                copies=self.group_size,
            )
            for at, place in enumerate(places):
                own = made[at * self.group_size : (at + 1) * self.group_size]
                written[place] = [ids[: self._room(len(prompts[place]))] for ids in own]
        return [ids for place in range(len(prompts)) for ids in written[place]]

    def _room(self, prompt: int) -> int:
        """Tokens of a response to a prompt of so many."""
        longest = int(getattr(self, "max_length"))  # noqa: B009 - every task that this is mixed into has it
        return max(1, min(self.max_response_tokens, longest - prompt))

    def answers_of(
        self,
        examples: Sequence[Example],
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        ends: Sequence[int],
        tokenizer: Any,
        where: Sequence[str] | None = None,
    ) -> list[Answer]:
        """What rewards are shown of each response to the prompt of its example; all lists are as long."""

        def text(ids: Sequence[int]) -> str:
            return self.written_text([token for token in ids if token not in ends], tokenizer)

        def expected(example: Example) -> str:
            return "" if example.get(HAS_NO_ANSWER) else text(answer_of(example))

        places = where if where is not None else [f"response {at + 1}" for at in range(len(examples))]
        return [
            Answer(text(prompt), text(response), expected(example), place, prompt, response)
            for example, prompt, response, place in zip(examples, prompts, responses, places, strict=True)
        ]

    def judge(
        self, answers: Sequence[Answer], tokenizer: Any, model: nn.Module
    ) -> tuple[dict[str, list[float]], list[float]]:
        """What each reward says of answers that a model has written, by the rewards' names; and their weighted sum."""
        found: dict[str, list[float]] = {}
        weights = []
        for at, reward in enumerate(self.effective_rewards()):
            if at not in self._begun:
                reward.use_device(next(model.parameters()).device)
                reward.begin(tokenizer)
                self._begun.add(at)
            name = reward.registered_name
            found[name if name not in found else f"{name}_{at + 1}"] = ask_rewards(reward, answers)
            weights.append(reward.weight)
        totals = [
            sum(weight * value for weight, value in zip(weights, own, strict=True))
            for own in zip(*found.values(), strict=True)
        ]
        return found, totals

    def figures_of(self, groups: Sequence[Group]) -> dict[str, float]:
        """What the metrics log shows of groups: means of rewards and tokens, and shares of what is worth knowing."""
        rewards, answers, each = list[float](), list[Answer](), dict[str, list[float]]()
        for group in groups:
            rewards += group.rewards
            answers += group.answers
            for name, values in group.by_name.items():
                each.setdefault(name, []).extend(values)
        is_cut = [cut for group in groups for cut in group.is_cut]
        unread = max(reward.count_cut(answers) for reward in self.effective_rewards())
        tokens = sum(len(ids) for group in groups for ids in group.responses)
        return {
            "reward": sum(rewards) / len(rewards),
            **({f"reward/{name}": sum(own) / len(own) for name, own in each.items()} if len(each) > 1 else {}),
            **({CUT_FOR_REWARD: unread / len(answers)} if unread else {}),
            "groups_of_equal_rewards": sum(group.is_equal for group in groups) / len(groups),
            "response_tokens": tokens / len(answers),
            CUT: sum(is_cut) / len(is_cut),
        }
