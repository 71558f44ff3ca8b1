"""Integrated gradients (Sundararajan et al. 2017, https://arxiv.org/abs/1703.01365), by captum.

The path leads from a text of padding tokens, with the special tokens in their places, to the text. The attributions of
all tokens together must make up the difference of the two logits: how nearly they do is the check of completeness.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from peftlab.core.capabilities import EmbedsText
from peftlab.core.errors import UnsupportedError, UserError
from peftlab.core.splits import Split
from peftlab.core.task import Task
from peftlab.data.columns import check_columns
from peftlab.inference.explanation.written import pieces_as_written
from peftlab.inference.predict import text_row
from peftlab.inference.tuned_model import TunedModel
from peftlab.training.evaluation import to_device

STEPS = 64
CHUNK = 16
"""Steps that go through the model together."""
ONE_DECISION = "Explain a run of a task with one decision per text."


@dataclass(frozen=True)
class Explanation:
    """What each token added to the logit of the decision.

    Args:
        run: The run's name.
        prediction: The decision.
        target: The class whose logit is explained.
        tokens: As the user wrote them; those that the tokenizer put in by itself, as it writes them. Several that
            make up one character are one.
        after_blank: Of each, whether a blank stands before it.
        attributions: One a token; positive: towards the target.
        logit: Of the target, for the text.
        baseline_logit: Of the target, for padding.
        steps: Of the integral.
    """

    run: str
    prediction: Any
    target: str
    tokens: list[str]
    after_blank: list[bool]
    attributions: list[float]
    logit: float
    baseline_logit: float
    steps: int

    @property
    def completeness_gap(self) -> float:
        """The difference of the logits less the sum of the attributions; 0 for an exact integral."""
        return self.logit - self.baseline_logit - sum(self.attributions)


def _check_task(task: Task) -> None:
    """Refuse a task that takes no decision on a text from its logits."""
    if isinstance(task, EmbedsText):
        why = "gives a text a vector; there is no decision to explain"
    elif task.image_columns():
        why = "looks at images; only texts are explained, by their words"
    elif not task.predicts_from_logits:
        why = "decides on token after token; there is no one decision to explain"
    else:
        return
    raise UnsupportedError(f"a run of {task.registered_name} {why}", hint=ONE_DECISION)


def _check_logits(tuned: TunedModel, logits: Tensor, *, rows: int) -> None:
    """Refuse logits among which there is none that stands for the decision on the text."""
    name = tuned.task.registered_name
    if not tuned.task.one_row_an_example and rows > 1:
        raise UnsupportedError(
            f"the text is read in {rows} windows, and only one can be explained",
            hint=f"Give a text of {tuned.max_length} tokens at most.",
        )
    if logits.ndim != 2:
        raise UnsupportedError(
            f"{name} decides on every word apart; there is no one decision to explain", hint=ONE_DECISION
        )
    if tuned.labels and logits.shape[1] != len(tuned.labels):
        raise UnsupportedError(
            f"a run of {name} has no logit for each class; there is none to explain",
            hint="Explain a run of a task with one logit a class, such as text_classification.",
        )


def explain(tuned: TunedModel, text: str, *, target: str | None = None, steps: int = STEPS) -> Explanation:
    """Attribute a decision to the tokens of a text.

    Args:
        tuned: A model that torch runs.
        text: The text; the two of a pair have a tab between them.
        target: The class to explain; None: the predicted one.
        steps: Of the integral; more make it more exact.

    Raises:
        UnsupportedError: The model is run by onnxruntime, or the task decides on every word apart.
        UserError: There is no such class.
    """
    if not text.strip():
        raise UserError("the text is empty", hint="Give it behind the run, in quotes.")
    if tuned.computes_alone:
        tuned.module()
    if tuned.model is None or tuned.inference is None:
        raise UnsupportedError("gradients need the run itself, or a merged export", where=str(tuned.folder))
    model, inference, task = tuned.model, tuned.inference, tuned.task
    _check_task(task)
    row = text_row(text, tuned)
    split = task.tidy_rows(Split("text", [0], {column: [value] for column, value in row.items()}, "the text"))
    check_columns(split, task.text_columns(), ())
    encoded = tuned.encode(split)
    batch = task.collate(encoded.examples, tuned.tokenizer.pad_token_id)
    with torch.no_grad():
        logits = inference.compute(task.logits, model, batch).float().cpu()
    _check_logits(tuned, logits, rows=len(batch["input_ids"]))
    (prediction,) = tuned.read_logits(logits, batch)
    position = _target_position(tuned, target, logits)
    attributions, logit, baseline_logit = _integrate(tuned, to_device(batch, inference.device), position, steps)
    texts = [str(split.columns[column][0]) for column in task.text_columns()]
    pieces = pieces_as_written(tuned.tokenizer, batch["input_ids"][0].tolist(), texts)
    return Explanation(
        run=tuned.name,
        prediction=prediction.prediction,
        target=tuned.labels[position] if tuned.labels else "the number",
        tokens=[piece.text for piece in pieces],
        after_blank=[piece.after_blank for piece in pieces],
        attributions=[sum(attributions[at] for at in piece.positions) for piece in pieces],
        logit=logit,
        baseline_logit=baseline_logit,
        steps=steps,
    )


def _integrate(
    tuned: TunedModel, batch: Mapping[str, Tensor], position: int, steps: int
) -> tuple[list[float], float, float]:
    """The attribution of each token to a logit, that logit for the text, and for padding."""
    from captum.attr import LayerIntegratedGradients

    model, inference = tuned.module()
    others = {key: value for key, value in batch.items() if key != "input_ids"}

    def logit_of(input_ids: Tensor) -> Tensor:
        count = len(input_ids)
        repeated = {key: value.expand(count, *value.shape[1:]) for key, value in others.items()}
        logits = inference.compute(tuned.task.logits, model, {"input_ids": input_ids, **repeated})
        return logits[:, position].float()

    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    ids = batch["input_ids"]
    baseline = _baseline(ids, tuned.tokenizer)
    integral: Any = LayerIntegratedGradients(logit_of, embeddings)
    attributions = integral.attribute(ids, baselines=baseline, n_steps=steps, internal_batch_size=CHUNK)
    with torch.no_grad():
        logit, baseline_logit = float(logit_of(ids)[0]), float(logit_of(baseline)[0])
    return attributions[0].float().sum(dim=-1).tolist(), logit, baseline_logit


def _target_position(tuned: TunedModel, target: str | None, logits: Tensor) -> int:
    if target is None:
        return int(logits[0].argmax())
    if target not in tuned.labels:
        from peftlab.core.errors import did_you_mean

        raise UserError(f"there is no class `{target}`", where="--target", hint=did_you_mean(target, tuned.labels))
    return tuned.labels.index(target)


def _baseline(input_ids: Tensor, tokenizer: Any) -> Tensor:
    """Padding in place of every token that is none of the special ones."""
    special = torch.tensor(sorted(tokenizer.all_special_ids), device=input_ids.device)
    return torch.where(torch.isin(input_ids, special), input_ids, torch.full_like(input_ids, tokenizer.pad_token_id))
