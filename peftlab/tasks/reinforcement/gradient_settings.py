"""The keys of a policy gradient: how rewards become one, and which of them contradict one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from peftlab.core.config import check_unused
from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.tasks.reinforcement.estimators import (
    CISPO_HIGH,
    ESTIMATORS,
    GSPO_CLIP,
    SAME_AT_FIRST,
    Estimator,
    Parts,
    Scale,
)
from peftlab.tasks.reinforcement.judged_responses import JudgedResponses


class GradientSettings(JudgedResponses):
    """What a recipe says of the gradient."""

    estimator: Estimator = Field(
        "grpo",
        description="How rewards become a gradient: grpo, dr_grpo (no response weighs more for its length), rloo "
        "(a response is one action, compared with the others of its group), dapo (each token of a step weighs the "
        "same), and for several steps a roll-out gspo (the ratio is of a response) and cispo (no token is left out).",
    )
    scale_rewards: Scale | None = Field(
        None,
        description="Advantages are in standard deviations of their group, or of all rewards of a roll-out (batch), "
        "or as they are (none). null: as in the estimator's paper, which is none for dr_grpo and rloo, else group.",
    )
    cut_responses: Literal["learn", "skip"] = Field(
        "learn",
        description="What becomes of responses that are cut before they end: skip leaves them out of the loss "
        "(overlong filtering of DAPO). Their rewards count in the mean of the group all the same.",
    )
    replace_groups: NonNegativeInt = Field(
        0,
        description="How often, at most, prompts whose responses all have one reward are replaced by others of the "
        "training rows (dynamic sampling of DAPO). Each time the model writes anew for those that are left.",
    )
    kl: float = Field(0.0, ge=0, description="Weight of the divergence from the untouched base.")
    unbiased_kl: bool = Field(
        False, description="Weigh the estimate of the divergence so that its gradient is unbiased (DeepSeek-V3.2)."
    )
    log_kl: bool = Field(
        False,
        description="Log the divergence and the entropy with `kl: 0` too. As with `kl`, a copy of the base lies in "
        "memory.",
    )
    clip: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="How far a probability may move from that of the model that wrote the response. Of gspo, whose "
        "ratio is a mean, 3e-4 where nothing is said, and `clip_high` 4e-4.",
    )
    clip_high: PositiveFloat | None = Field(
        None,
        description="The same upwards, such as 0.28 (DAPO), so that rare tokens can gain. null: `clip`; cispo 4, its "
        "only bound.",
    )
    steps_per_roll_out: PositiveInt = Field(
        1, description="Steps whose responses are written at once: faster, but all but the first are a little old."
    )

    @model_validator(mode="before")
    @classmethod
    def _clip_of_gspo(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("estimator") == "gspo" and "clip" not in data:
            low, high = GSPO_CLIP
            return {**data, "clip": low, "clip_high": data.get("clip_high", high)}
        return data

    @property
    def estimator_parts(self) -> Parts:
        """Of the estimator, with what the recipe says otherwise."""
        own = ESTIMATORS[self.estimator]
        return own if self.scale_rewards is None else replace(own, scale=self.scale_rewards)

    @property
    def highest(self) -> float:
        """How far a ratio may be above 1."""
        if self.clip_high is not None:
            return self.clip_high
        return CISPO_HIGH if self.estimator == "cispo" else self.clip

    @property
    def why_no_dropout(self) -> str:
        """What is drawn by dropout would count as a move of the model."""
        if self.steps_per_roll_out == 1:
            return ""
        return "`steps_per_roll_out` compares a model with what it was when it wrote, and dropout moves it at random"

    @property
    def needs_reference(self) -> bool:
        """Only for the divergence."""
        return self.kl > 0 or self.log_kl

    def roll_out_steps(self) -> int:
        """As the recipe says."""
        return self.steps_per_roll_out

    def check(self, facts: ModelFacts) -> None:
        """Refuse models whose prompt and response are read by two parts, and keys without an effect.

        With one step a roll-out the model that learns is the one that wrote.
        """
        is_old = self.steps_per_roll_out > 1
        if not is_old and (same := SAME_AT_FIRST.get(self.estimator)):
            raise ConfigError(
                f"with one step a roll-out `{self.estimator}` is `{same}`, number for number",
                where="task.estimator",
                hint=f"Set steps_per_roll_out to 2 or more, or choose {same}.",
            )
        bounds = "steps_per_roll_out: 2 or more"
        keys = {
            "clip": ("another estimator than cispo", False) if self.estimator == "cispo" else (bounds, is_old),
            "clip_high": (bounds, is_old),
            "unbiased_kl": ("kl", self.kl > 0),
        }
        check_unused(self, "task", keys)
        if self.group_size > self.roll_out_batch_size:
            raise ConfigError(
                f"{self.roll_out_batch_size} responses at once are fewer than a group of {self.group_size}",
                where="task.roll_out_batch_size",
                hint="The responses to a prompt are written together.",
            )
        if facts.family == "encoder_decoder":
            raise UnsupportedError(
                f"{facts.path} ({facts.model_type}) is an encoder-decoder model; reinforcement takes decoders",
                hint="Choose a GPT-like model.",
            )
        super().check(facts)
