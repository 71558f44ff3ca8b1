"""ONNX files take batches of every size and length, or there is no file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    MixtralConfig,
    MixtralForSequenceClassification,
)

from peftlab.core.errors import UnsupportedError
from peftlab.core.reporter import Silent
from peftlab.inference.export.export import export_run
from peftlab.inference.export.onnx import export_onnx
from peftlab.tasks.text_classification import TextClassification

pytestmark = pytest.mark.slow

SHARED = {"vocab_size": 60, "num_labels": 3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
DECODERS = {
    "gpt2": lambda: GPT2ForSequenceClassification(
        GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=64, initializer_range=0.3, **SHARED)
    ),
    "llama": lambda: LlamaForSequenceClassification(
        LlamaConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
            max_position_embeddings=64, initializer_range=0.3, **SHARED,
        )
    ),
    # Its grouped products are none of ONNX's.
    "mixtral": lambda: MixtralForSequenceClassification(
        MixtralConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24,
            max_position_embeddings=64, initializer_range=0.3, num_local_experts=4, **SHARED,
        )
    ),
}  # fmt: skip
TASK = TextClassification(max_length=64)


def batch_of(lengths: Sequence[int]) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(len(lengths))
    # Token 0 pads, and occurs in the texts too: the last token is told by the attention mask alone.
    ids = [torch.randint(0, 60, (length,), generator=generator).tolist() for length in lengths]
    return TASK.collate([{"input_ids": each, "label": 0} for each in ids], 0)


@pytest.mark.parametrize("kind", DECODERS)
def test_a_decoder_takes_every_batch(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, path = DECODERS[kind]().eval(), tmp_path / "model.onnx"
    inputs = export_onnx(model, TASK, batch_of([5, 9, 3, 7]), path, max_length=64)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for lengths in ([1], [4], [64], [2, 3], [64, 1, 30], [7] * 11, [12, 40, 3, 3, 3, 9, 11]):
        batch = batch_of(lengths)
        (found,) = session.run(["logits"], {name: batch[name].numpy() for name in inputs})
        with torch.inference_mode():
            assert torch.allclose(torch.from_numpy(found), TASK.logits(model, batch), atol=1e-4), lengths


def test_a_decoder_in_int8(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    run = tiny_run(base="gpt2", steps=160)  # what is sure of its answers keeps them when it is rounded
    check = export_run(run, "onnx-int8", tmp_path / "out", offline=True, reporter=Silent(), max_score_loss=0.05).check
    assert check.equal_predictions >= 0.95
    assert check.greatest_logit_difference > 0


class FixedBatch(TextClassification):
    """A task that makes a plain number of the batch's size, as a model may do somewhere deep inside."""

    def logits(self, model: Any, batch: Any) -> Any:
        logits = super().logits(model, batch)
        return logits[torch.arange(len(logits))]


class Sums(nn.Module):
    """The smallest model of texts: to export it takes next to no time."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Embedding(60, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=(self.values(input_ids) * attention_mask[..., None]).sum(1))


def test_what_the_exporter_fixes_is_refused(tmp_path: Path) -> None:
    batch = batch_of([5, 9, 3])
    assert export_onnx(Sums().eval(), TASK, batch, tmp_path / "x.onnx", max_length=64) == [
        "input_ids",
        "attention_mask",
    ]
    task = FixedBatch.model_construct(**TASK.model_dump())
    with pytest.raises(UnsupportedError, match=r"fixes the sizes|torch cannot export"):
        export_onnx(Sums().eval(), task, batch, tmp_path / "x.onnx", max_length=64)
