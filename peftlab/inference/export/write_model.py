"""What an export consists of: weights in its format, and the tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peftlab.artifact.export_formats import FORMATS, ExportFormat
from peftlab.artifact.save import write_companions
from peftlab.core.capabilities import GeneratesText
from peftlab.core.reporter import Reporter
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Task
from peftlab.inference.export.gguf import write_gguf
from peftlab.inference.export.onnx import export_onnx, inputs_of, quantize_int8
from peftlab.inference.tuned_model import TunedModel
from peftlab.tasks.language.generation import response_ends

SAMPLE = 8
"""Examples with which torch traces a model."""


def write_model(
    model: Any, tuned: TunedModel, split: EncodedSplit, kind: ExportFormat, folder: Path, reporter: Reporter
) -> tuple[Task, list[str]]:
    """Write weights and tokenizer into an export's folder.

    Args:
        model: What the run has made, merged where the format asks for it.
        tuned: Where it comes from.
        split: Of its examples some are what torch traces a model with.
        kind: The format.
        folder: Empty.
        reporter: Tells a person.

    Returns:
        The task that goes with the weights, and the names of the model's inputs.
    """
    model = model.cpu().eval()
    form = FORMATS[kind]
    task = tuned.task.complete(model, may_add=not form.folds)
    tuned.tokenizer.save_pretrained(folder)
    batch = tuned.task.collate(_sample(tuned.task, split), tuned.tokenizer.pad_token_id)
    if form.file is None:
        reporter.say("writing the merged model")
        model.save_pretrained(folder)
        write_companions(task.companion_files(model.config), folder)
        return task, inputs_of(batch)
    path = folder / form.file
    if form.library == "gguf":
        reporter.say("writing the GGUF file")
        model.config.save_pretrained(folder)
        ends = list[int]()
        if isinstance(tuned.task, GeneratesText):
            ends = response_ends(tuned.task.renderer(tuned.tokenizer), model)
        write_gguf(model, tuned.tokenizer, path, name=tuned.name, in_eight_bits=form.in_eight_bits, ends=ends)
        return task, inputs_of(batch)
    reporter.say("exporting to ONNX")
    model = model.float()  # onnxruntime computes in float32 on CPUs
    model.config.save_pretrained(folder)
    inputs = export_onnx(model, tuned.task, batch, path, max_length=tuned.max_length)
    if form.in_eight_bits:
        full = folder / "float32.onnx"
        path.rename(full)
        quantize_int8(full, path)
        for leftover in folder.glob("float32.onnx*"):
            leftover.unlink()
    return task, inputs


def _sample(task: Task, split: EncodedSplit) -> list[dict[str, Any]]:
    """Examples of different lengths: torch takes a size of 1 for a constant."""
    order = sorted(range(len(split)), key=lambda at: -task.length(split.examples[at]))
    return [split.examples[at] for at in (order * 2)[:: max(1, len(order) // SAMPLE)][: max(2, SAMPLE)]]
