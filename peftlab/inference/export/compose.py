"""A weighted merge of several runs of one base, whose scores are measured on the data of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from peftlab.artifact.compose import check_combinable, compose
from peftlab.artifact.export_formats import ExportFormat
from peftlab.artifact.saved_export import ComposedPart, ExportDescription
from peftlab.artifact.saved_run import SavedRun, refuse_twice
from peftlab.core.errors import UserError
from peftlab.core.reporter import Reporter
from peftlab.inference.export.check import collect_answers
from peftlab.inference.export.earlier import ALREADY, earlier_export, made_of
from peftlab.inference.export.export import check_output, check_path, export_tuned
from peftlab.inference.load_tuned import load_run
from peftlab.inference.reference import load_held_out
from peftlab.inference.tuned_model import TunedModel, torch_logits


@dataclass(frozen=True)
class Composition:
    """How runs are combined.

    Args:
        combination: ``linear``, ``ties`` or ``dare``.
        weights: One a run; empty: equal shares.
        density: The share of an update's values that ties and dare keep.
        seed: Of the values that dare drops.
    """

    combination: Literal["linear", "ties", "dare"]
    weights: tuple[float, ...] = ()
    density: float = 0.5
    seed: int = 0


def export_composition(
    runs: Sequence[Path],
    composition: Composition,
    kind: ExportFormat,
    output: Path | str,
    *,
    offline: bool,
    device: torch.device | None = None,
    reporter: Reporter,
    max_score_loss: float | None = None,
) -> ExportDescription:
    """Combine LoRA runs, measure the result on the held-out data of each, and export it.

    Args:
        runs: Folders of two or more runs.
        composition: How they are combined.
        kind: What to make.
        output: The folder to make.
        offline: Allow no network.
        device: Where all are compared; None: CUDA where it is there.
        reporter: Tells a person.
        max_score_loss: As for ``export_run``; of the export against the combined model.

    Raises:
        UserError: The runs do not go together.
    """
    output = Path(output)
    saved = [SavedRun.open(run) for run in runs]
    weights = composition.weights or tuple(1 / len(runs) for _ in runs)
    if len(weights) != len(runs) or not 0 < sum(weights) < math.inf:  # nor is a sum that is no number
        raise UserError(f"{len(weights)} weights for {len(runs)} runs; one each is needed, with a finite sum above 0")
    source = made_of(
        saved,
        combination=composition.combination,
        weights=list(composition.weights),
        density=composition.density,
        max_score_loss=max_score_loss,
    )
    if (earlier := earlier_export(output, kind, source)) is not None:
        reporter.say(ALREADY.format(output))
        return earlier
    check_output(output, runs)
    refuse_twice(saved, hint="Name each run once; --weights says how much each counts.")
    for run in saved if kind != "merged" else ():  # which methods can be combined, compose says better
        check_path(run, kind)
    parts = [load_run(run, offline=offline, device=device, report=reporter.say) for run in saved]
    _check_parts(parts)
    splits = [load_held_out(part, offline=offline, report=reporter.say) for part in parts]
    own = [
        collect_answers(part, split, reporter, f"{part.folder.name} on {split.name}").scores
        for part, split in zip(parts, splits, strict=True)
    ]
    combined = _combine(parts, weights, composition)
    answers = [collect_answers(combined, split, reporter, f"the merge on {split.name}") for split in splits]
    composed_of = [
        ComposedPart(
            run=part.name,
            folder=part.folder.name,
            weight=weight,
            combination=composition.combination,
            density=None if composition.combination == "linear" else composition.density,
            split=split.name,
            run_scores=before,
            scores=after.scores,
        )
        for part, weight, split, before, after in zip(parts, weights, splits, own, answers, strict=True)
    ]
    return export_tuned(
        combined,
        answers[0],
        splits[0],
        kind,
        output,
        offline=offline,
        device=device,
        reporter=reporter,
        max_score_loss=max_score_loss,
        composed_of=composed_of,
        source=source,
    )


def _combine(parts: Sequence[TunedModel], weights: Sequence[float], composition: Composition) -> TunedModel:
    """The merge as a model; the first part's weights are changed in place."""
    model = compose(
        [part.model for part in parts],
        weights,
        composition.combination,
        density=composition.density,
        seed=composition.seed,
    ).eval()
    _, inference = parts[0].module()
    return replace(
        parts[0],
        name="-".join(dict.fromkeys(part.name for part in parts)) + f"-{composition.combination}",
        model=model,
        temperature=1.0,  # that of no part is fitted to the merge
        compute_logits=torch_logits(
            model, parts[0].task, device=inference.device, autocast_dtype=inference.autocast_dtype
        ),
    )


def _check_parts(parts: Sequence[TunedModel]) -> None:
    first = parts[0]
    for part in parts[1:]:
        if part.recipe.model != first.recipe.model:
            raise UserError(
                f"it was tuned from another base: {part.recipe.model.path}, not {first.recipe.model.path}",
                where=str(part.folder),
            )
        if part.labels != first.labels or part.task.registered_name != first.task.registered_name:
            raise UserError("it has another task or other classes than the first run", where=str(part.folder))
        if not first.task.is_learned_alike(part.task):
            raise UserError(
                "it learned from other data than the first run, by which its outputs are read differently: "
                f"{dict(part.task.learned)}, not {dict(first.task.learned)}",
                where=str(part.folder),
            )
    if first.recipe.model.quantization is not None:
        raise UserError("runs of a quantised base cannot be combined", where=str(first.folder))
    if not all(isinstance(part.model, torch.nn.Module) for part in parts):
        raise UserError("runs are combined, not exports")
    for part in parts:
        check_combinable(part.model, where=str(part.folder))
