"""Reinforcement from prompts, with answers that rewards may look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator

from peftlab.core.metric_scorer import MetricScorer
from peftlab.core.splits import Example, Split
from peftlab.core.task import TASKS, Inference, Prediction, Scorer
from peftlab.tasks.instruction_tuning import InstructionTuning
from peftlab.tasks.language.generation import generate_tokens, response_ends
from peftlab.tasks.language.vocabulary_head import label_losses
from peftlab.tasks.reinforcement.policy_gradient import IS_PROMPT, PolicyGradient

if TYPE_CHECKING:
    from torch import nn


@TASKS.register("reinforcement")
class Reinforcement(PolicyGradient, InstructionTuning):
    """Learn from rewards for what the model writes itself (GRPO and its kin); rows are prompts with answers."""

    metrics: ClassVar[tuple[str, ...]] = ("mean_reward", "exact_match", "response_tokens")
    writes_in_training: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_rewards(self) -> Reinforcement:
        if not self.rewards:
            raise ValueError("name the `rewards`, such as [{type: exact_match}]")
        if self.packing:
            raise ValueError("reinforcement packs nothing: leave `packing` out")
        if self.max_new_tokens not in (type(self).model_fields["max_new_tokens"].default, self.max_response_tokens):
            raise ValueError("`max_response_tokens` says where every response is cut: leave `max_new_tokens` out")
        return self

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """All can be."""
        return None

    def predict_examples(
        self, model: nn.Module, examples: Sequence[Example], pad_token_id: int, inference: Inference
    ) -> list[Prediction]:
        """The most likely response to each prompt; the scores are its reward and its tokens."""
        if IS_PROMPT in examples[0]:  # an estimate's, which leaves generation out
            inference.compute(label_losses, model, self.collate(examples, pad_token_id))
            return [Prediction([""], "", [0.0, 0.0])] * len(examples)
        prompts = [example["prompt_ids"] for example in examples]
        ends = response_ends(self.renderer(inference.tokenizer), model)
        written = generate_tokens(
            model, prompts, inference, max_new_tokens=self.max_response_tokens, ends=ends, keep_ends=True
        )
        answers = self.answers_of(examples, prompts, written, ends, inference.tokenizer)
        _, rewards = self.judge(answers, inference.tokenizer, model)
        return [
            Prediction(list(example["references"]), answer.response, [reward, float(len(ids))])
            for example, answer, reward, ids in zip(examples, answers, rewards, written, strict=True)
        ]

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Rewards, lengths and exact matches."""
        return _RewardScorer()


class _RewardScorer:
    """Means of what the predictions' scores hold, and exact matches."""

    def __init__(self) -> None:
        self._matches = MetricScorer(("exact_match",))
        self._scores: list[Sequence[float]] = []

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Take in responses."""
        self._matches.add(predictions)
        self._scores += [item.scores for item in predictions]

    def compute(self) -> dict[str, float]:
        """All metrics."""
        count = max(1, len(self._scores))
        rewards, tokens = (sum(own[at] for own in self._scores) / count for at in (0, 1))
        return {"mean_reward": rewards, **self._matches.compute(), "response_tokens": tokens}
