"""The formats of exports: what each is, how it is told and checked, and how it is read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ExportFormat = Literal["merged", "gguf", "gguf-q8", "onnx", "onnx-int8"]


@dataclass(frozen=True)
class Format:
    """What there is to know of a format, but for how it is written.

    Args:
        told: What it is for, in a few words.
        library: What loads it, as the Hub calls it.
        file: Its one file of weights; None: a folder of transformers.
        folds: Whether it has the base's own shape, so that what was trained must fold into its weights.
        in_eight_bits: Whether its matrices are in 8 bits.
        rounding: The step from 1 to the next number where it rounds to 16 bits; a model in bfloat16 says so itself.
        computed_by: What runs it here.
    """

    told: str
    library: Literal["transformers", "gguf", "onnx"]
    file: str | None
    folds: bool
    in_eight_bits: bool = False
    rounding: float = 0.0
    computed_by: Literal["torch", "onnxruntime"] = "torch"


_GGUF, _ONNX = "model.gguf", "model.onnx"
FORMATS: Mapping[ExportFormat, Format] = {
    "merged": Format("a plain transformers model", "transformers", None, folds=True),
    "gguf": Format("for llama.cpp and Ollama, in 16 bits", "gguf", _GGUF, folds=True, rounding=2.0**-10),
    "gguf-q8": Format("the same in 8 bits", "gguf", _GGUF, folds=True, in_eight_bits=True),
    "onnx": Format("for other runtimes", "onnx", _ONNX, folds=False, computed_by="onnxruntime"),
    "onnx-int8": Format(
        "smaller and faster on CPUs", "onnx", _ONNX, folds=False, in_eight_bits=True, computed_by="onnxruntime"
    ),
}
