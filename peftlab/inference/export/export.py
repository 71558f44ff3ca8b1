"""``export_run``: a run becomes a folder that other tools use without peftlab."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.artifact.export_formats import FORMATS, ExportFormat
from peftlab.artifact.saved_export import (
    ComposedPart,
    ExportCheck,
    ExportDescription,
    MadeOf,
    inputs_of_saved,
    write_export,
)
from peftlab.artifact.saved_run import SavedRun
from peftlab.core.destination import check_folder
from peftlab.core.errors import UnsupportedError, UserError
from peftlab.core.files import atomic_folder
from peftlab.core.installed import check_installed
from peftlab.core.plugins import plugin_versions
from peftlab.core.reporter import Reporter
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Task
from peftlab.inference.export.check import (
    Answers,
    Limits,
    collect_answers,
    compare,
    enforce,
    greatest_difference,
    largest_logit,
    limits_of,
)
from peftlab.inference.export.earlier import ALREADY, earlier_export, made_of
from peftlab.inference.export.write_model import write_model
from peftlab.inference.free_memory import let_go
from peftlab.inference.load_tuned import load_export, load_run
from peftlab.inference.reference import load_held_out
from peftlab.inference.tuned_model import TunedModel
from peftlab.measurement.example_intervals import intervals_of_file
from peftlab.run.card import NO_INTERVALS, write_card
from peftlab.run.run_folder import RunFolder

if TYPE_CHECKING:
    import torch


def export_run(
    run: Path | str,
    kind: ExportFormat,
    output: Path | str,
    *,
    offline: bool,
    device: torch.device | None = None,
    reporter: Reporter,
    max_score_loss: float | None = None,
) -> ExportDescription:
    """Export a run and check the export against it.

    Args:
        run: The run's folder.
        kind: What to make.
        output: The folder to make; it appears once the check has passed.
        offline: Allow no network.
        device: Where run and export are compared; None: CUDA where it is there.
        reporter: Tells a person.
        max_score_loss: The greatest loss in the recipe's metric; None: that of the format.

    Raises:
        UserError: There is no path from this run to this format, or the folder is in use.
        RunFailedError: The export is not the same as its run; nothing was kept.
    """
    saved, output = SavedRun.open(run), Path(output)
    check_path(saved, kind)
    source = made_of([saved], max_score_loss=max_score_loss)
    if (earlier := earlier_export(output, kind, source)) is not None:
        reporter.say(ALREADY.format(output))
        return earlier
    check_output(output, [saved.folder])
    reporter.say(f"loading {saved.folder}")
    tuned = load_run(saved, offline=offline, device=device, report=reporter.say)
    split = load_held_out(tuned, offline=offline, report=reporter.say)
    reference = collect_answers(tuned, split, reporter, f"the run on {split.name}")
    return export_tuned(
        tuned,
        reference,
        split,
        kind,
        output,
        offline=offline,
        device=device,
        reporter=reporter,
        max_score_loss=max_score_loss,
        source=source,
    )


def check_path(run: SavedRun, kind: ExportFormat) -> None:
    """Refuse a run that there is no path from to a format, before anything is loaded.

    Raises:
        UserError: Its method or task has no such export, or packages are missing.
    """
    try:
        _check_path(run, kind)
    except UnsupportedError as error:
        error.hint = " ".join(filter(None, [_other_formats(run, kind), error.hint]))
        raise


def _other_formats(run: SavedRun, refused: ExportFormat) -> str:
    """What a run that is refused as one format can be exported as."""
    found = []
    for kind in FORMATS:
        if kind != refused:
            with contextlib.suppress(UserError):
                _check_path(run, kind)
                found.append(f"`{kind}`")
    if not found:
        return "No format takes such a run. `peftlab serve` and `peftlab predict` use it as it is."
    return f"Export it as {' or '.join(filter(None, [', '.join(found[:-1]), found[-1]]))}."


def _check_path(run: SavedRun, kind: ExportFormat) -> None:
    from peftlab.artifact.merge import check_mergeable

    recipe = run.recipe
    if FORMATS[kind].folds:
        check_mergeable(recipe.method)
        if FORMATS[kind].library == "gguf":
            _check_gguf(run)
        return
    if not recipe.task.predicts_from_logits:
        raise UnsupportedError(
            f"runs of the task {recipe.task.registered_name} are not exported as {kind}: what they answer "
            "takes more than logits, such as a loop that writes text, labels to compute a loss with, or a passage",
            where=str(run.folder),
        )
    if recipe.task.why_not_onnx:
        raise UnsupportedError(
            f"runs of the task {recipe.task.registered_name} are not exported as {kind}: {recipe.task.why_not_onnx}",
            where=str(run.folder),
        )
    check_installed(("onnx", "onnxscript", "onnxruntime"), "ONNX exports need", extra="onnx")


def _check_gguf(run: SavedRun) -> None:
    import transformers

    from peftlab.inference.export.gguf import check_gguf

    if run.recipe.task.head(run.labels).auto_class != "AutoModelForCausalLM":
        raise UnsupportedError(
            "GGUF files are of language models that write from left to right, and this run's model is none",
            where=str(run.folder),
        )
    config = transformers.AutoConfig.from_pretrained(run.artifact, local_files_only=True, trust_remote_code=False)
    check_gguf(next(iter(config.architectures or ()), "no class that is known"), config, run.tokenizer)


def export_tuned(
    tuned: TunedModel,
    reference: Answers,
    split: EncodedSplit,
    kind: ExportFormat,
    output: Path | str,
    *,
    offline: bool,
    device: torch.device | None,
    reporter: Reporter,
    max_score_loss: float | None,
    composed_of: Sequence[ComposedPart] = (),
    source: MadeOf | None = None,
) -> ExportDescription:
    """Export a loaded model and check the export against what the model itself said.

    Args:
        tuned: The model; it cannot be used afterwards, since no two have to be in memory.
        reference: What it says of ``split``.
        split: Held-out data.
        kind: What to make.
        output: The folder to make.
        offline: Allow no network.
        device: Where run and export are compared; None: CUDA where it is there.
        reporter: Tells a person.
        max_score_loss: The greatest loss in the recipe's metric; None: that of the format.
        composed_of: The runs that were merged into this model.
        source: What it is made of; a later call for the same finds it.
    """
    output = Path(output)
    # Importing peft takes seconds, and a wrong output folder is told before.
    from peftlab.artifact.merge import merge

    form = FORMATS[kind]
    method, quantized = tuned.recipe.method, tuned.recipe.model.quantization is not None
    drift = None
    assert tuned.model is not None  # noqa: S101 - runs are loaded by torch
    if quantized and (method.mergeable or not form.folds):
        let_go(tuned.model)  # what it says of the data is known, and a large base is not held twice
        plain = load_run(tuned.folder, offline=offline, device=device, report=reporter.say, dequantize=True)
        answers = collect_answers(plain, split, reporter, f"the dequantised base on {split.name}")
        drift = greatest_difference(reference, answers)
        reporter.say(f"dequantising the base moves a logit by {drift:.4g} at most")
        tuned = plain
        assert tuned.model is not None  # noqa: S101
    model: Any = merge(tuned.model, method) if method.mergeable or form.folds else tuned.model
    with atomic_folder(output) as partial:
        task, inputs = write_model(model, tuned, split, kind, partial, reporter)
        let_go(model)
        description = ExportDescription(
            format=kind,
            name=tuned.name,
            recipe=tuned.recipe.model_dump(mode="json"),
            labels=list(tuned.labels),
            learned=dict(task.learned),
            temperature=tuned.temperature,
            inputs=inputs,
            plugins=plugin_versions(),
            composed_of=list(composed_of),
            made_of=source,
        )
        write_export(description, partial)
        exported = collect_answers(load_export(partial, device=device), split, reporter, f"the export on {split.name}")
        limits = limits_of(max(tuned.rounding, form.rounding), in_eight_bits=quantized or form.in_eight_bits)
        check = compare(reference, exported, split.name, rounding=limits.rounding)
        check = check.model_copy(update={"logit_drift_of_dequantization": drift})
        _enforce(check, limits, max_score_loss, tuned, reference)
        description = description.model_copy(update={"check": check})
        write_export(description, partial)
        _write_card(partial, tuned, description, task)
    return description


def check_output(output: Path | str, runs: Sequence[Path]) -> None:
    """Refuse a folder that holds something, or must not be where it is wanted.

    Raises:
        UserError: The path is a file, a folder that is not empty, lies in what is read or cannot be made.
    """
    output = Path(output)
    inputs = [item for run in runs for item in inputs_of_saved(run)]
    check_folder(output, option="--output", inputs=inputs, as_a_whole=True)
    if output.exists() and not output.is_dir():
        raise UserError(
            "this is a file, and a folder is to be made", where=f"--output {output}", hint="Choose another."
        )
    if output.exists() and any(output.iterdir()):
        raise UserError(
            "the folder exists and is not empty; nothing in it is overwritten",
            where=str(output),
            hint="Choose another --output.",
        )


def _enforce(check: Any, limits: Limits, max_score_loss: float | None, tuned: TunedModel, reference: Answers) -> None:
    if max_score_loss is not None:
        limits = dataclasses.replace(limits, score_loss=max_score_loss)
    metric = tuned.recipe.evaluation.metric or tuned.task.metrics[0]
    if metric not in check.scores:  # of generated text, which takes too long: what is compared then is the loss
        metric = next(iter(check.scores))
    enforce(check, limits, metric=metric, largest_logit=largest_logit(reference))


def _write_card(folder: Path, tuned: TunedModel, description: ExportDescription, task: Task) -> None:
    check = description.check
    record = tuned.record
    assert check is not None and record is not None  # noqa: S101, PT018 - a run's card comes after the check
    split = "test" if "test" in record.scores else "validation"
    intervals = intervals_of_file(RunFolder(tuned.folder).predictions, split, record.scores.get(split, {}))
    if description.composed_of:  # the card is about the merge, of which only this is known
        first = description.composed_of[0]
        record = record.model_copy(
            update={"name": tuned.name, "scores": {first.split: first.scores}, "calibration": None, "throughput": None}
        )
        intervals = NO_INTERVALS
    scores = ", ".join(
        f"{name} {value:.4f} (the run: {check.run_scores[name]:.4f})" for name, value in check.scores.items()
    )
    write_card(
        record,
        folder,
        task=tuned.task,
        library=FORMATS[description.format].library,
        intervals=intervals,
        usage=task.usage_note(),
        export=_composition_text(description)
        + (
            f"Exported as `{description.format}` and compared with the run on {check.examples} {check.split} examples: "
            f"{check.equal_predictions:.2%} of the predictions are equal, a logit differs by "
            f"{check.greatest_logit_difference:.3g} at most; {scores}."
        )
        + _dequantization_text(tuned, check),
    )


def _dequantization_text(tuned: TunedModel, check: ExportCheck) -> str:
    """What became of a quantised base."""
    if check.logit_drift_of_dequantization is None:
        return ""
    return (
        f" The run's base is quantised ({tuned.recipe.model.quantization}); here it is dequantised, which by itself "
        f"moves a logit by {check.logit_drift_of_dequantization:.3g} at most."
    )


def _composition_text(description: ExportDescription) -> str:
    """What was merged, and the scores of each run and of the merge on that run's data."""
    if not description.composed_of:
        return ""
    lines = [f"- {part.run} ({part.folder}), weight {part.weight:.3g}; on its {part.split} split: "
        + ", ".join(f"{name} {part.run_scores[name]:.4f} → {value:.4f}" for name, value in part.scores.items())
        for part in description.composed_of]  # fmt: skip
    how = description.composed_of[0].combination
    return f"A {how} merge of {len(lines)} runs; scores of each run → of the merge:\n\n" + "\n".join(lines) + "\n\n"
