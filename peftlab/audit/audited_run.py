"""A tuned model as an audit asks it; what it reads is counted, for the progress bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from peftlab.audit.word_vectors import word_vectors
from peftlab.core.audit import texts_of
from peftlab.core.splits import Example, Split
from peftlab.core.task import Prediction, Task
from peftlab.inference.tuned_model import TunedModel
from peftlab.tasks.text_inputs import model_inputs

CHUNK = 256
"""So many texts are encoded together; the bar moves after each."""


class AuditedRun:
    """A run, or an export of one.

    Args:
        tuned: The model.
        after_texts: Is told how many texts it has read.
    """

    def __init__(self, tuned: TunedModel, after_texts: Callable[[int], None] = lambda count: None) -> None:
        self.tuned = tuned
        self._after_texts = after_texts

    @property
    def name(self) -> str:
        """The run's."""
        return self.tuned.name

    @property
    def task(self) -> Task:
        """What it does."""
        return self.tuned.task

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.tuned.labels

    def predict(self, rows: Split) -> list[Prediction]:
        """What it says of each row."""
        found: list[Prediction] = []
        for part in _parts(rows):
            found += self.tuned.predict(self.tuned.encode(part).examples)
            self._after_texts(len(part))
        return found

    def logits(self, rows: Split) -> NDArray[np.float64] | None:
        """Rows × classes; None where a row has not one vector of them."""
        if not self.task.predicts_from_logits:
            return None
        return self._each(rows, lambda batch: self.tuned.compute_logits(batch), self.labels)

    def embed(self, rows: Split) -> NDArray[np.float64]:
        """The mean of each text's last hidden states; of its words, where torch does not run the model."""
        tuned = self.tuned
        if tuned.model is None or tuned.inference is None or not self.task.predicts_from_logits:
            return word_vectors(texts_of(rows, self.task))
        model, inference = tuned.module()

        def vectors(batch: Mapping[str, Tensor]) -> Tensor:
            with torch.inference_mode():
                return inference.compute(_mean_states, model, batch).float().cpu()

        found = self._each(rows, vectors, None)
        return word_vectors(texts_of(rows, self.task)) if found is None else found

    def _each(
        self, rows: Split, compute: Callable[[Mapping[str, Tensor]], Tensor], classes: tuple[str, ...] | None
    ) -> NDArray[np.float64] | None:
        """One vector a row, in the order of the rows; None where batches have another shape."""
        found: dict[int, NDArray[np.float64]] = {}
        start = 0
        for part in _parts(rows):
            examples = self.tuned.encode(part).examples
            if len(examples) != len(part):
                return None
            for positions in self.tuned.batches(self.task.lengths(examples)):
                vectors = compute(self._collated([examples[at] for at in positions]))
                if vectors.ndim != 2 or len(vectors) != len(positions):
                    return None
                if classes is not None and vectors.shape[1] != len(classes):
                    return None
                found.update(zip([start + at for at in positions], vectors.double().numpy(), strict=True))
            start += len(part)
            self._after_texts(len(part))
        return np.array([found[at] for at in range(len(rows))])

    def _collated(self, examples: list[Example]) -> Mapping[str, Any]:
        return self.task.collate(examples, self.tuned.tokenizer.pad_token_id)


def _mean_states(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    mask = batch["attention_mask"]
    states = model(**model_inputs(batch), output_hidden_states=True).hidden_states[-1]
    # What a method puts before the text is left out.
    states = states[:, -mask.shape[1] :].float()
    weights = mask.unsqueeze(-1).float()
    pooled: Tensor = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    return pooled


def _parts(rows: Split) -> list[Split]:
    found = []
    for start in range(0, len(rows), CHUNK):
        columns = {name: values[start : start + CHUNK] for name, values in rows.columns.items()}
        found.append(Split(rows.name, rows.index[start : start + CHUNK], columns, rows.source))
    return found
