"""Reinforcement from prompts, with answers that rewards may look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import model_validator

from peftlab.core.errors import DataError
from peftlab.core.metric_scorer import MetricScorer
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Inference, Prediction, Scorer
from peftlab.tasks.instruction_tuning import InstructionTuning
from peftlab.tasks.language.conversations import RESPONSES, parsed_messages
from peftlab.tasks.language.generation import generate_tokens, response_ends
from peftlab.tasks.language.vocabulary_head import label_losses
from peftlab.tasks.reinforcement.policy_gradient import IS_PROMPT, PolicyGradient
from peftlab.tasks.reinforcement.rolled_out import HAS_NO_ANSWER

if TYPE_CHECKING:
    from torch import nn


NO_ANSWER = "\N{SYMBOL FOR NULL}"
"""Stands where a table of prompts alone has no answers: a sign that is no answer of anybody's, and takes few tokens."""


def has_no_answers(split: Split) -> bool:
    """Whether the rows, which are arranged, hold prompts alone."""
    return len(split) > 0 and all(list(answers) == [NO_ANSWER] for answers in split.columns[RESPONSES])


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

    def optional_columns(self) -> tuple[str, ...]:
        """The answers too, where the recipe names no column for them: some rewards need none."""
        is_named = self.message_column is not None or self.columns[1] != type(self).model_fields["response"].default
        return (*super().optional_columns(), *(() if is_named else (self.response,)))

    def arrange(self, split: Split) -> Split:
        """Contexts, each with its answers; prompts alone are given one that stands for none."""
        column = self.message_column
        if column is not None:
            chats = [parsed_messages(value, split.where(row)) for row, value in enumerate(split.columns[column])]
            if all(chat[-1]["role"] != "assistant" for chat in chats):
                none = {"role": "assistant", "content": NO_ANSWER}
                split = replace(split, columns={**split.columns, column: [[*chat, none] for chat in chats]})
        elif self.response in self.optional_columns():
            answers = split.columns.get(self.response, ())
            if all(answer in (None, "") for answer in answers):
                split = replace(split, columns={**split.columns, self.response: [NO_ANSWER] * len(split)})
        return super().arrange(split)

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Answers are there where a reward compares with them.

        Raises:
            DataError: They are not.
        """
        comparing = [each.registered_name for each in self.rewards if each.needs_expected]
        if comparing and has_no_answers(split):
            raise DataError(
                f"the rows hold no answers, and the reward `{comparing[0]}` compares with them",
                where=split.source,
                hint="They stand in the column `task.response`, or end the chats. Or choose other rewards.",
            )

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """Without answers none is exact."""
        return "the rows hold no answers" if metric == "exact_match" and has_no_answers(split) else None

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """As chats with answers; without these, no references."""
        encoded = super().encode(split, tokenizer, labels)
        if not has_no_answers(split):
            return encoded
        own = {"references": [], HAS_NO_ANSWER: True}
        return replace(encoded, examples=[{**example, **own} for example in encoded.examples])

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
        self._matches.add([item for item in predictions if item.label])
        self._scores += [item.scores for item in predictions]

    def compute(self) -> dict[str, float]:
        """All metrics."""
        count = max(1, len(self._scores))
        rewards, tokens = (sum(own[at] for own in self._scores) / count for at in (0, 1))
        return {"mean_reward": rewards, **self._matches.compute(), "response_tokens": tokens}
