"""The recipe's ``training`` and ``evaluation`` sections."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, SerializeAsAny, field_validator

from peftlab.core.config import Config
from peftlab.core.errors import ConfigError
from peftlab.core.optimizer import OptimizerConfig
from peftlab.core.regularizer import Regularizer, check_together
from peftlab.core.schedule import Schedule
from peftlab.training.distillation import Distillation
from peftlab.training.optimizer_choice import checked_optimizer, checked_schedule
from peftlab.training.self_training import SelfTraining

Tracker = Literal["tensorboard", "wandb", "mlflow"]


class TrainingConfig(Config):
    """How the trainable parameters are optimised."""

    epochs: PositiveInt | None = Field(
        None, description="Passes over the training split. Default: 3, unless max_steps is set."
    )
    max_steps: NonNegativeInt | None = Field(
        None,
        description="Most optimizer steps. With epochs, the first limit ends the training. 0: the model is asked as it "
        "is, which needs a task without a new head.",
    )
    batch_size: PositiveInt | None = Field(
        None, description="Examples in a batch. Default: 32, unless max_tokens_per_batch is set."
    )
    max_tokens_per_batch: PositiveInt | None = Field(
        None, description="Most tokens in a batch, with padding. With batch_size, both limits hold."
    )
    micro_batch_size: PositiveInt | Literal["auto"] | None = Field(
        None,
        description="Examples computed at once. A larger batch is computed in parts, whose gradients add up to the "
        "same step. auto: as many as fit into memory. null: whole batches.",
    )
    gradient_accumulation_steps: PositiveInt = Field(1, description="Number of batches for one optimizer step.")
    optimizer: str | SerializeAsAny[OptimizerConfig] = Field(
        "adamw",
        description="A name, or a mapping {type: …} with keys of its own; `peftlab ls optimizers` lists them. adamw "
        "and sgd: the usual ones. adamw_8bit, lion_8bit: states in 8 bits. paged_adamw_8bit: the "
        "states move to CPU memory if the GPU's is full. adafactor: states of a row and a column for "
        "each matrix. galore_adamw: for full tuning, states of 128 directions of each matrix.",
    )
    learning_rate: PositiveFloat | None = Field(None, description="Peak learning rate. null: the method's own default.")
    weight_decay: float = Field(
        0.01,
        ge=0,
        description="Weight decay: decoupled with adamw, and with others as they have it. Biases and norms have none.",
    )
    schedule: str | SerializeAsAny[Schedule] = Field(
        "linear",
        description="What the learning rate does after the warm-up: a name, or a mapping {type: …} with keys of its "
        "own; `peftlab ls schedules` lists them.",
    )
    warmup_fraction: float = Field(0.06, ge=0, le=1, description="Share of the steps in which the rate rises.")
    max_gradient_norm: PositiveFloat | None = Field(
        1.0, description="Longer gradients are scaled down to this length. null: never."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Precision of the computation. auto: float32 on CPU, bfloat16 autocast on CUDA."
    )
    deterministic: bool = Field(
        True,
        description="Give the same bits every time. false: faster kernels on a GPU, but a resumed or repeated run "
        "may differ in its last digits.",
    )
    cuda_graphs: Literal["off", "auto", "on"] = Field(
        "auto",
        description="auto: on a GPU the steps of models of up to 500 million parameters are recorded once for each "
        "length and replayed, which spares the host a launch for every kernel. The record says why, where that could "
        "not be. on: larger models too, and where much of the model trains, whose gradients take their memory once "
        "more. off: never.",
    )
    compile: Literal["off", "blocks"] = Field(
        "off",
        description="blocks: torch compiles the model's blocks in the first step, which takes a minute and a C++ "
        "compiler. It takes the place of model.acceleration while the run trains. off: nothing is compiled.",
    )
    sharding: Literal["fsdp"] | None = Field(
        None,
        description="fsdp: of several processes each holds a part of the base, for a base that does not fit into one "
        "card's memory; full tuning's gradients and optimizer are in parts too. null: each holds the whole base.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice instead of keeping them: less memory, more time."
    )
    checkpoint_every_steps: PositiveInt | None = Field(
        None, description="Write a checkpoint every so many steps, and at each evaluation."
    )
    early_stopping_patience: PositiveInt | None = Field(
        None, description="Stop after this many evaluations without a better score. null: never."
    )
    regularizers: list[SerializeAsAny[Regularizer]] = Field(
        default_factory=list,
        description="Regularizers, which reduce overfitting: a list of mappings with a `type`. `peftlab ls "
        "regularizers` lists the types.",
    )
    self_training: SelfTraining | None = Field(
        None,
        description="Learn from data.source.unlabeled too: `{rounds: 1, share: 0.5}`. null: from labelled rows alone.",
    )
    distillation: Distillation | None = Field(
        None,
        description="Learn what finished runs say of the training rows: `{teachers: [runs/a, runs/b]}`. null: from "
        "labels alone.",
    )
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0)]] | None = Field(
        None,
        description="What the loss of each class is multiplied by while training. balanced: rare classes as much as "
        "frequent ones. Or a mapping of classes to weights; classes that it leaves out have 1.",
    )
    log_every_steps: PositiveInt = Field(10, description="Steps between two lines of metrics.jsonl.")
    length_window: PositiveInt = Field(
        50,
        description="Batches of similar length are made within shuffled windows of this many batches, or fewer on "
        "small data. 1: no windows.",
    )

    @field_validator("optimizer", mode="before")
    @classmethod
    def _check_optimizer(cls, value: Any) -> Any:
        return checked_optimizer(value)

    @field_validator("schedule", mode="before")
    @classmethod
    def _check_schedule(cls, value: Any) -> Any:
        return checked_schedule(value)

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
        None,
        description="The metric that chooses the best evaluation, on the validation split. null: the task's "
        "first metric.",
    )
    every: Literal["epoch"] | PositiveInt = Field(
        "epoch", description="When to evaluate: 'epoch', or every so many steps."
    )
    batch_size: PositiveInt | None = Field(None, description="Examples in a batch. null: as in training.")
    test: bool = Field(True, description="Score the test split. Set it to false while you are choosing settings.")


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
