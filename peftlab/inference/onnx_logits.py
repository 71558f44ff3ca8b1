"""Logits from an ONNX export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from peftlab.core.errors import UserError, first_line
from peftlab.inference.tuned_model import ComputeLogits

SLOWER_FUSIONS = ("SkipLayerNormFusion",)
"""onnxruntime's CPU kernel of the fused form takes about six times as long as its addition and its layer norm apart."""


def onnx_logits(path: Path, inputs: list[str]) -> ComputeLogits:
    """Logits from an ONNX file, on as many threads as torch uses.

    Raises:
        UserError: onnxruntime is not installed, or cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError("onnxruntime is not installed", hint="pip install 'peftlab[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(SLOWER_FUSIONS)
        )
    except Exception as error:  # noqa: BLE001 - its errors have no base class of their own
        raise UserError(f"the ONNX file cannot be read: {first_line(error)}", where=str(path)) from None

    def compute(batch: Mapping[str, Tensor]) -> Tensor:
        (logits,) = session.run(["logits"], {name: batch[name].numpy() for name in inputs})
        return torch.from_numpy(logits)

    return compute
