"""ONNX files: by torch's exporter, with batch and length left open; and their int8 version by onnxruntime."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.core.errors import UnsupportedError, first_line
from peftlab.core.task import Task

IMAGES = "pixel_values"
LARGEST_SINGLE_FILE = 1_900_000_000
"""Bytes of weights beyond which they go into a file of their own: protobuf ends at 2 GiB."""


class LogitsModule(nn.Module):
    """A model as a function from a batch's tensors to the task's logits.

    Args:
        model: In eval mode, on CPU.
        task: Knows how to get logits from it.
        inputs: The names of the tensors, in order.
    """

    def __init__(self, model: nn.Module, task: Task, inputs: list[str]) -> None:
        super().__init__()
        self.model, self.task, self.inputs = model, task, inputs

    def forward(self, *tensors: Tensor) -> Tensor:
        """The task's logits."""
        return self.task.logits(self.model, dict(zip(self.inputs, tensors, strict=True)))


def inputs_of(batch: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors in a batch that the model takes."""
    return [name for name in ("input_ids", "attention_mask", "token_type_ids", IMAGES) if name in batch]


def export_onnx(
    model: nn.Module, task: Task, batch: Mapping[str, Tensor], path: Path, *, max_length: int | None
) -> list[str]:
    """Write an ONNX file whose batch and length are open.

    Args:
        model: In eval mode, on CPU.
        task: Its logits are the output ``logits``.
        batch: Two or more examples; the inputs are those of :func:`inputs_of`.
        path: The file.
        max_length: Tokens of a text at most.

    Returns:
        The names of the inputs.

    Raises:
        UnsupportedError: torch cannot export this model.
    """
    inputs = inputs_of(batch)
    texts = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=max_length)}
    sizes = tuple({0: texts[0]} if name == IMAGES else texts for name in inputs)
    large = sum(weight.numel() * weight.element_size() for weight in model.parameters()) > LARGEST_SINGLE_FILE
    try:
        with _quiet(), _experts_by_rows(model):
            program: Any = torch.onnx.export(
                LogitsModule(model, task, inputs).eval(),
                tuple(batch[name] for name in inputs),
                dynamo=True,
                input_names=inputs,
                output_names=["logits"],
                dynamic_shapes={"tensors": sizes},
                verbose=False,
            )
            program.save(path, external_data=large)
    except Exception as error:  # the exporter's errors have no common class
        raise UnsupportedError(
            f"torch cannot export this model to ONNX: {type(error).__name__}: {_reason(error)}"
        ) from error
    _check_sizes_are_open(path)
    return inputs


def _check_sizes_are_open(path: Path) -> None:
    """The exporter may fix a size without a word, where a model makes a plain number of it (``len`` of a tensor).

    Raises:
        UnsupportedError: Batch or length are numbers.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for item in session.get_inputs():
        open_sizes = item.shape[:1] if item.name == IMAGES else item.shape  # images are all of one size
        if any(isinstance(size, int) for size in open_sizes):
            raise UnsupportedError(
                f"torch's exporter fixes the sizes of `{item.name}` to {item.shape} for this model",
                hint="Export it as `merged`.",
            )


def quantize_int8(source: Path, target: Path) -> None:
    """Weights in int8, one scale per output channel; activations are quantised as they come.

    https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True)


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return first_line(cause)


@contextlib.contextmanager
def _experts_by_rows(model: nn.Module) -> Iterator[None]:
    """Let a mixture multiply each token by the matrices of its experts: ONNX knows no grouped products."""
    from transformers import PreTrainedModel

    inner: Any = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    own = getattr(getattr(inner, "config", None), "_experts_implementation", None)
    if own != "grouped_mm":
        yield
        return
    inner.set_experts_implementation("batched_mm")
    try:
        yield
    finally:
        inner.set_experts_implementation(own)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints, warns and logs about packages that nobody needs here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
