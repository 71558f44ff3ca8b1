"""Reward models: a number for each response to a prompt, learned from pairs of which one response is preferred.

The loss is that of Bradley and Terry (1952), as Ouyang et al. 2022 use it (https://arxiv.org/abs/2203.02155), with the
margins of Touvron et al. 2023 (https://arxiv.org/abs/2307.09288, equation 2) where rows have some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from peftlab.core.capabilities import JudgesResponses
from peftlab.core.errors import UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Prediction
from peftlab.tasks.preference.compared_responses import ComparedResponses
from peftlab.tasks.preference.encoding import encode_preferences, text_of
from peftlab.tasks.preference.rows import CHOSEN, MARGIN, REJECTED, arrange_inputs, arrange_pairs
from peftlab.tasks.text_inputs import check_length, pad, sequence_logits

if TYPE_CHECKING:
    from torch import Tensor, nn


@TASKS.register("reward_model")
class RewardModel(ComparedResponses):
    """Learn a reward for responses from pairs of them (Bradley–Terry); reinforcement can use the run."""

    peft_task_type: ClassVar[str] = "SEQ_CLS"
    why_not_augmented: ClassVar[str] = "it compares responses to a prompt, which answer just that prompt"
    collates_ahead: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("reward_accuracy", "reward_margin")
    capabilities: ClassVar[tuple[type, ...]] = (JudgesResponses,)

    response: str = Field("response", description="The column of a response that a tuned model is to judge.")
    margin: str | None = Field(
        None, description="A column that says by how much the chosen response is better. null: there is none."
    )
    centering: float = Field(
        0.0, ge=0, description="Weight of a term that keeps the sum of a pair's rewards near 0 (0.01 is usual)."
    )

    @model_validator(mode="after")
    def _columns_differ(self) -> RewardModel:
        if len({*self.source_columns()}) < len(self.source_columns()):
            raise ValueError("prompt, responses and margin must be different columns")
        return self

    # --- rows -------------------------------------------------------------------------------------------------------

    def label_columns(self) -> tuple[str, ...]:
        """Both responses, and the margin."""
        return (CHOSEN, REJECTED, *((MARGIN,) if self.margin is not None else ()))

    def source_columns(self) -> tuple[str, ...]:
        """The columns as the recipe names them."""
        return (self.prompt, self.chosen, self.rejected, *((self.margin,) if self.margin is not None else ()))

    def number_columns(self) -> tuple[str, ...]:
        """The margin."""
        return () if self.margin is None else (self.margin,)

    def arrange(self, split: Split) -> Split:
        """A context and its responses for each row."""
        return arrange_pairs(split, prompt=self.prompt, chosen=self.chosen, rejected=self.rejected, margin=self.margin)

    def check(self, facts: ModelFacts) -> None:
        """Refuse models that do not read from left to right, as those that write the responses do."""
        if facts.family in {"encoder", "encoder_decoder"}:
            raise UnsupportedError(
                f"{facts.path} ({facts.model_type}) does not read text from left to right",
                hint="Choose a GPT-like model.",
            )
        check_length(self.max_length, facts)

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """Two texts of like length."""
        return {"input_ids": [0] * length, "lengths": [length - length // 2, length // 2], "prompt_length": 1}

    def input_columns(self) -> tuple[str, ...]:
        """A prompt and one response."""
        return (self.prompt, self.response)

    def encode_inputs(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """One text a row."""
        arranged = arrange_inputs(split, prompt=self.prompt, response=self.response)
        renderer = self.renderer(tokenizer)
        return encode_preferences(
            arranged, renderer, max_length=self.max_length, drop_too_long=False, with_others=False
        )

    def response_examples(self, texts: Sequence[Sequence[int]]) -> list[Example]:
        """One text an example; those that are too long lose their beginning."""
        cut = [list(text[-self.max_length :]) for text in texts]
        return [{"input_ids": ids, "lengths": [len(ids)], "prompt_length": 1} for ids in cut]

    def response_rewards(self, logits: Tensor) -> Tensor:
        """The logits themselves."""
        return logits.float().flatten()

    # --- objective --------------------------------------------------------------------------------------------------

    def head(self, labels: tuple[str, ...]) -> Head:
        """A new one with one output; how high rewards are, only ``centering`` asks."""
        return Head("AutoModelForSequenceClassification", {"num_labels": 1}, bias_trains=self.centering > 0)

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """All first texts, then all second ones where there are some; ``margins`` (examples)."""
        import torch

        sides = len(examples[0]["lengths"])
        rows = [{"input_ids": text_of(each, side)["input_ids"]} for side in range(sides) for each in examples]
        margins = torch.tensor([float(example.get(MARGIN, 0.0)) for example in examples])
        return {**pad(rows, pad_token_id), "margins": margins}

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The reward of each text (texts × 1)."""
        return sequence_logits(model, batch)

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """−log σ(r(chosen) − r(rejected) − margin), summed over the pairs."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = logits.float().view(2, -1)
        losses = -logsigmoid(chosen - rejected - batch["margins"])
        total: Tensor = (losses + self.centering * (chosen + rejected).square()).sum()
        return total

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a pair."""
        return len(batch["margins"])

    # --- answers ----------------------------------------------------------------------------------------------------

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The difference of a pair's rewards, with both as scores; of a lone response its reward."""
        rewards = logits.float().view(-1, len(batch["margins"])).T.tolist()
        return [Prediction(True, own[0] - own[1] if len(own) > 1 else own[0], own) for own in rewards]

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The reward."""
        return {"prediction": prediction.prediction}

    def usage_note(self) -> str:
        """What the output means."""
        return (
            "The output is a reward: only differences between responses to one prompt mean something. It is read at "
            "the token that ends the response. Where the tokenizer pads with that token, transformers takes it for "
            "padding, and reads the one before: set `model.config.pad_token_id = None`, and give one text at a time."
        )
