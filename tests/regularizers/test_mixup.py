"""Mixup: hidden states before the head are mixed, as a naive implementation does it with a hook on the head."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.testing.training_jobs import TASKS, checked, gradients_of, job_of
from peftlab.training.gradients import accumulate_gradients
from tests.regularizers.test_fgm import relative_distance


def test_the_gradient_is_that_of_mixed_hidden_states(tiny_bert: Path) -> None:
    task = TASKS["text_classification"][1]
    plain, ours = (
        job_of(checked(tiny_bert, task, [])),
        job_of(checked(tiny_bert, task, [{"type": "mixup", "alpha": 2.0}])),
    )
    batch = ours.task.collate(list(ours.split.examples), 0)
    torch.manual_seed(3)
    found_loss = accumulate_gradients(ours, [batch])
    torch.manual_seed(3)
    share = torch.distributions.Beta(2.0, 2.0).sample()
    other = torch.randperm(len(batch["labels"]))
    assert 0.05 < float(share) < 0.95

    def mix(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (share * inputs[0] + (1 - share) * inputs[0][other], *inputs[1:])

    head = plain.model.get_base_model().classifier
    handle = head.register_forward_pre_hook(mix)
    logits = plain.task.logits(plain.model, batch)
    handle.remove()
    labels = batch["labels"]
    loss = share * functional.cross_entropy(logits, labels) + (1 - share) * functional.cross_entropy(
        logits, labels[other]
    )
    loss.backward()
    torch.testing.assert_close(found_loss, loss.detach(), rtol=1e-5, atol=1e-6)
    assert relative_distance(gradients_of(ours), gradients_of(plain)) <= 1e-5


def test_one_text_at_once_has_none_to_be_mixed_with(tiny_bert: Path) -> None:
    for key, sizes in (
        ("batch_size", {"batch_size": 1}),
        ("micro_batch_size", {"batch_size": 8, "micro_batch_size": 1}),
    ):
        training = {**sizes, "regularizers": [{"type": "mixup"}]}
        with pytest.raises(ConfigError, match=rf"training\.{key}: mixup does nothing with 1 example at once"):
            checked(tiny_bert, TASKS["text_classification"][1], [], training=training)


def test_windows_are_not_mixed(tiny_bert: Path) -> None:
    """There are more of them than classes: a run broke off in its first step."""
    task = {**TASKS["text_classification"][1], "windows": {"stride": 4}}
    with pytest.raises(UnsupportedError, match="several windows"):
        checked(tiny_bert, task, [{"type": "mixup"}])


def test_tags_are_not_mixed(tiny_bert: Path) -> None:
    with pytest.raises(UnsupportedError, match="one class a text"):
        checked(tiny_bert, {"type": "token_classification", "max_length": 24}, [{"type": "mixup"}])
