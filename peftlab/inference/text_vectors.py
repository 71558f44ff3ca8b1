"""A vector for each text: the mean of a model's last hidden states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from peftlab.tasks.text_inputs import model_inputs, token_mean


def mean_states(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """The mean of the last hidden states over a text's tokens (texts × width), in float32.

    Args:
        model: A transformers model.
        batch: Collated by the task, on the model's device.
    """
    with torch.inference_mode():
        states = model(**model_inputs(batch), output_hidden_states=True).hidden_states[-1]
    return token_mean(states, batch)
