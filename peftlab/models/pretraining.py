"""The keys of pre-training on a run's own texts before it is tuned."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from peftlab.core.config import Config

PRETRAINING = "pretraining"
"""The folder in a run's own that holds the run which pre-trains its base."""
DEFAULT_EPOCHS = 10


class Pretraining(Config):
    """Go on with the base's language modelling on the run's own texts, before it is tuned.

    Task-adaptive pre-training (Gururangan et al. 2020, https://arxiv.org/abs/2004.10964): on the training texts and
    those without labels, never on validation or test texts.
    """

    epochs: PositiveInt | None = Field(None, description="Passes over the texts. Default: 10, unless max_steps is set.")
    max_steps: PositiveInt | None = Field(None, description="Most optimizer steps.")
    batch_size: PositiveInt = Field(32, description="Blocks of text in a batch.")
    max_length: int = Field(128, ge=4, description="Tokens in a block; no more than the model has positions.")
    learning_rate: PositiveFloat = Field(1e-4, description="Peak learning rate; all weights train.")
