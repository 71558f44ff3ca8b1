"""An export is compared with its run, example by example, before it counts as done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from peftlab.artifact.saved_export import ExportCheck
from peftlab.core.errors import RunFailedError
from peftlab.core.metric import METRICS, signed
from peftlab.core.reporter import Reporter, progress_bar
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import Prediction
from peftlab.inference.tuned_model import TunedModel


@dataclass(frozen=True)
class Limits:
    """How far an export may be from its run.

    Args:
        logit_difference: The greatest, as a share of the greatest logit of the run; None: any.
        equal_predictions: The least share of examples with the same prediction.
        score_loss: The greatest loss in the recipe's metric.
        rounding: The step from 1 to the next number of the coarsest type in which run or export compute; 0: none that
            predicted numbers show.
    """

    logit_difference: float | None
    equal_predictions: float
    score_loss: float
    rounding: float = 0.0


EXACT = Limits(logit_difference=1e-3, equal_predictions=0.999, score_loss=0.001)
"""The same weights, computed in another order."""
EIGHT_BITS = 2.0**-7
"""The rounding of bfloat16, and of int8 beside the greatest value."""
ROUNDED = Limits(logit_difference=None, equal_predictions=0.95, score_loss=0.01, rounding=EIGHT_BITS)
"""Numbers that were rounded: int8, a quantised base that was dequantised before merging, or a run that computes in half
precision, whose merged weights are rounded to it, and which ONNX computes in float32."""


NUMBER_TOLERANCE = 2e-3
"""How far two predicted numbers may lie apart and still be equal, as a share of the range of all predictions."""
MOST_TOKENS = 2048
"""Of a batch whose logits are those of a whole vocabulary: with 152,000 words they take 1.2 GB in float32."""
ROUNDING_STEPS = 8
"""By so many steps of ``Limits.rounding``, at the greatest logit, may a number be another one after many layers."""


def limits_of(rounding: float, *, in_eight_bits: bool) -> Limits:
    """The limits of an export.

    Args:
        rounding: Of the type that the run computes in; see ``Limits``.
        in_eight_bits: Whether matrices of the run or the export are in 8 bits or fewer.
    """
    if in_eight_bits:
        return ROUNDED
    return replace(ROUNDED, rounding=rounding) if rounding else EXACT


@dataclass(frozen=True)
class Answers:
    """What a model says of a split.

    Args:
        examples: How many there are.
        logits: Of every batch, without those of padding.
        predictions: Of every example, in the order of the batches; where they are numbers, such as ranks, the scores
            that these come from; of language tasks, the most likely token in every place where there is one to predict.
        scores: The task's metrics; of language tasks, the loss alone, which needs no text to be generated.
    """

    examples: int
    logits: list[Tensor]
    predictions: list[Any]
    scores: dict[str, float]


def collect_answers(tuned: TunedModel, split: EncodedSplit, reporter: Reporter, description: str) -> Answers:
    """Run a model on a split, in batches that depend on the split alone."""
    if not tuned.task.predicts_from_logits:
        return _language_answers(tuned, split, reporter, description)
    scorer = tuned.recipe.scorer(tuned.labels)
    all_logits: list[Tensor] = []
    answers: list[Prediction] = []
    with progress_bar(reporter, description, len(split)):
        for positions in tuned.batches(tuned.task.lengths(split.examples)):
            batch = tuned.task.collate([split.examples[at] for at in positions], tuned.tokenizer.pad_token_id)
            logits = tuned.compute_logits(batch)
            answers.extend(tuned.task.predict(logits, batch, tuned.labels))
            own = logits if logits.ndim == 2 else logits[batch["attention_mask"].bool()]
            all_logits.append(tuned.task.comparable(own))
            reporter.advance(len(positions))
    if tuned.task.ranks_whole_split:
        answers = list(tuned.task.rank(answers))
    scorer.add(answers)
    return Answers(len(split), all_logits, [_told(item) for item in answers], scorer.compute())


def _told(item: Prediction) -> Any:
    """What two models are compared by: of numbers the scores, which users order and cut by."""
    prediction = item.prediction
    is_number = isinstance(prediction[0] if isinstance(prediction, list) and prediction else prediction, float)
    return list(item.scores) if is_number and item.scores else prediction


def _language_answers(tuned: TunedModel, split: EncodedSplit, reporter: Reporter, description: str) -> Answers:
    """Of a vocabulary's logits only two are kept: the greatest, and that of the token that is to be predicted."""
    kept: list[Tensor] = []
    tokens: list[Any] = []
    loss, terms = 0.0, 0
    with progress_bar(reporter, description, len(split)):
        for positions in _of_few_tokens(tuned, split):
            batch = tuned.task.collate([split.examples[at] for at in positions], tuned.tokenizer.pad_token_id)
            logits = tuned.compute_logits(batch)
            loss += float(tuned.task.loss(logits, batch))
            terms += tuned.task.loss_terms(batch)
            greatest = logits.max(dim=-1)
            wanted = batch["labels"][batch["labels"] >= 0]
            kept.append(torch.stack([greatest.values, logits[torch.arange(len(wanted)), wanted]]))
            tokens.extend(greatest.indices.tolist())
            reporter.advance(len(positions))
    return Answers(len(split), kept, tokens, {"loss": loss / terms})


def _of_few_tokens(tuned: TunedModel, split: EncodedSplit) -> list[list[int]]:
    """The run's batches, cut where the logits of a whole vocabulary would take more room than the model."""
    lengths = tuned.task.lengths(split.examples)
    pieces = list[list[int]]()
    for positions in tuned.batches(lengths):
        most = max(1, MOST_TOKENS // max(lengths[at] for at in positions))
        pieces += [positions[start : start + most] for start in range(0, len(positions), most)]
    return pieces


def compare(run: Answers, export: Answers, split: str, *, rounding: float = 0.0) -> ExportCheck:
    """How far an export is from its run.

    Args:
        run: What the run says.
        export: What the export says of the same examples.
        split: Its name.
        rounding: See ``Limits``.
    """
    pairs = list(zip(run.predictions, export.predictions, strict=True))
    numbers = [
        number for one, _ in pairs for number in (one if isinstance(one, list) else [one]) if isinstance(number, float)
    ]
    tolerance = _tolerated_share(run, rounding) * (max(numbers) - min(numbers)) if numbers else 0.0
    return ExportCheck(
        split=split,
        examples=run.examples,
        greatest_logit_difference=greatest_difference(run, export),
        equal_predictions=sum(_same(a, b, tolerance) for a, b in pairs) / len(pairs),
        scores=export.scores,
        run_scores=run.scores,
    )


def _tolerated_share(run: Answers, rounding: float) -> float:
    """How far two numbers may lie apart, as a share of the range of all.

    A type rounds a number in proportion to its size, not to how far it lies from others: scores that are large and
    near each other are told apart by few of its steps. So the share is that of the rounding in the range of the logits.
    """
    if not rounding:
        return NUMBER_TOLERANCE
    highest = max(float(logits.max()) for logits in run.logits)
    lowest = min(float(logits.min()) for logits in run.logits)
    apart = ROUNDING_STEPS * rounding * max(abs(highest), abs(lowest))
    return max(NUMBER_TOLERANCE, apart / (highest - lowest)) if highest > lowest else NUMBER_TOLERANCE


def greatest_difference(one: Answers, other: Answers) -> float:
    """The greatest difference of two logits."""
    return max(float((a - b).abs().max()) for a, b in zip(one.logits, other.logits, strict=True))


def enforce(check: ExportCheck, limits: Limits, *, metric: str, largest_logit: float) -> None:
    """Refuse an export that is too far from its run.

    Raises:
        RunFailedError: With every limit that does not hold.
    """
    loss = signed(metric, check.run_scores[metric]) - signed(metric, check.scores[metric])
    if METRICS[metric].unit == "target":  # of which nobody knows how large it is: the loss counts as a share
        loss /= check.run_scores[metric] or 1.0
    failures = []
    allowed = None if limits.logit_difference is None else limits.logit_difference * max(1.0, largest_logit)
    if allowed is not None and not check.greatest_logit_difference <= allowed:
        failures.append(f"a logit differs by {check.greatest_logit_difference:.3g}; allowed is {allowed:.3g}")
    if not check.equal_predictions >= limits.equal_predictions:
        failures.append(
            f"{check.equal_predictions:.2%} of the predictions are equal; needed is {limits.equal_predictions:.2%}"
        )
    if not loss <= limits.score_loss:
        failures.append(f"{metric} is worse by {loss:.4f}; allowed is {limits.score_loss:.4f}")
    if failures:
        raise RunFailedError(
            f"the export is not the same as its run on {check.examples} {check.split} examples: {'; '.join(failures)}",
            hint="Nothing was kept. --max-score-loss allows a greater loss.",
        )


def largest_logit(answers: Answers) -> float:
    """The greatest logit by its size."""
    return max(float(logits.abs().max()) for logits in answers.logits)


def _same(one: object, other: object, tolerance: float) -> bool:
    """Equal labels; numbers that differ by so much at most."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= tolerance
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(_same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    return one == other
