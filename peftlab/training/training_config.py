"""The recipe's ``training`` and ``evaluation`` sections."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, SerializeAsAny, field_validator

from peftlab.core.config import Config
from peftlab.core.errors import ConfigError
from peftlab.core.regularizer import Regularizer, check_together

Tracker = Literal["tensorboard", "wandb", "mlflow"]
Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "lion_8bit", "adafactor", "galore_adamw", "sgd"]

LEARNING_RATE_FACTORS: dict[str, float] = {"lion_8bit": 0.1}
"""A method's default learning rate is meant for AdamW. Lion's steps all have the length of the rate: a rate 3 to 10
times smaller suits it (Chen et al. 2023, section 5, https://arxiv.org/abs/2302.06675)."""


class TrainingConfig(Config):
    """How the trainable parameters are optimised."""

    epochs: PositiveInt | None = Field(
        None, description="Passes over the training split; 3 where max_steps is not set either."
    )
    max_steps: PositiveInt | None = Field(None, description="Optimizer steps; with epochs, whichever ends first.")
    batch_size: PositiveInt | None = Field(
        None, description="Examples in a batch; 32 where max_tokens_per_batch is not set."
    )
    max_tokens_per_batch: PositiveInt | None = Field(
        None, description="Tokens in a batch at most, padding included; with batch_size, both limits hold."
    )
    micro_batch_size: PositiveInt | Literal["auto"] | None = Field(
        None,
        description="Examples that are computed at once; a larger batch is cut, its gradients add up to the same step. "
        "auto: as many as fit into memory; fewer where that runs out. null: whole batches.",
    )
    gradient_accumulation_steps: PositiveInt = Field(1, description="Batches whose gradients make one step.")
    optimizer: Optimizer = Field(
        "adamw",
        description="adamw; adamw_8bit, lion_8bit: states in 8 bits; paged_adamw_8bit: they move to CPU memory where "
        "the GPU's is short (on CPU the same as adamw_8bit); adafactor: a row and a column for each matrix; "
        "galore_adamw: for full tuning, states of 128 directions of each matrix; sgd.",
    )
    learning_rate: PositiveFloat | None = Field(None, description="Peak learning rate; null: the method's own default.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay; never on biases and norms.")
    schedule: Literal["constant", "linear", "cosine"] = Field("linear", description="Of the learning rate.")
    warmup_fraction: float = Field(0.06, ge=0, le=1, description="Share of the steps in which the rate rises.")
    max_gradient_norm: PositiveFloat | None = Field(1.0, description="Longer gradients are scaled to it; null: never.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Of the computation. auto: float32 on CPU, bfloat16 autocast on CUDA."
    )
    deterministic: bool = Field(
        True,
        description="Give the same bits every time. false: on a GPU, faster kernels whose sums come out in any order, "
        "so that a resumed or repeated run may differ in its last digits.",
    )
    gradient_checkpointing: bool = Field(False, description="Compute activations twice instead of keeping them.")
    checkpoint_every_steps: PositiveInt | None = Field(
        None, description="Beside the checkpoint at each evaluation, one every so many steps."
    )
    early_stopping_patience: PositiveInt | None = Field(
        None, description="Stop after so many evaluations without a better score; null: never."
    )
    regularizers: list[SerializeAsAny[Regularizer]] = Field(
        default_factory=list,
        description="What keeps the model from learning its examples by heart, one mapping with a `type` each; "
        "`peftlab ls regularizers` lists them.",
    )
    log_every_steps: PositiveInt = Field(10, description="Steps between two lines of metrics.jsonl.")
    length_window: PositiveInt = Field(
        50,
        description="Batches of similar length are made within shuffled windows of at most so many batches (fewer on "
        "small data, so that not the same texts meet in every epoch); 1: none.",
    )

    @field_validator("regularizers")
    @classmethod
    def _check_regularizers(cls, regularizers: list[Regularizer]) -> list[Regularizer]:
        try:
            check_together(regularizers)
        except ConfigError as error:
            raise ValueError(error.message) from None
        return regularizers


class EvaluationConfig(Config):
    """How the best state is chosen, and how evaluation runs."""

    metric: str | None = Field(
        None, description="Of the validation split; chooses the best evaluation. null: the task's first metric."
    )
    every: Literal["epoch"] | PositiveInt = Field("epoch", description="'epoch', or a number of steps.")
    batch_size: PositiveInt | None = Field(None, description="Examples in a batch; null: as in training.")
    test: bool = Field(True, description="Score the test split; false while settings are still being chosen.")


GUARDS: dict[str, str] = {
    "target_modules_matched": "every name in target_modules matched a module",
    "trainable_parameters": "only what the method means to train does, and the head does",
    "gradients": "every trainable tensor got a finite, non-zero gradient within the first steps, no frozen one did",
    "loss_finite": "the loss stayed finite",
    "adapter_changed": "every trainable tensor changed",
    "ranks_changed": "AdaLoRA's ranks changed",
    "base_unchanged": "the frozen base is bit-identical",
    "reload_agrees": "the reloaded model holds what was trained, bit for bit, and gives the same logits",
    "adapter_has_effect": "the reloaded adapter moves the logits of the base",
    "answers_vary": "the model does not answer every example of a split alike where the labels differ",
}
"""What each guard of every run checks; methods, tasks and regularisers add their own by `guard_names`."""
