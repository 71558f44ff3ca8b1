"""Both adapters on one base: each text is in the batch twice, once for each adapter, in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from peftlab.core.errors import UserError
from peftlab.core.splits import Split
from peftlab.core.task import Prediction
from peftlab.recipe.schema import Recipe
from peftlab.serving.host import Host, Hosted, WorkItem, why_apart

PARTS = ("sentiment", "topic")
BATCH = 32
"""Texts; a batch has twice as many rows."""


@dataclass(frozen=True)
class Reading:
    """What the adapters say of a text, each with its calibrated probability."""

    sentiment: str
    sentiment_score: float
    topic: str
    topic_score: float


def check_shared(recipes: Mapping[str, Recipe]) -> None:
    """See that two adapters can share a batch, before they are tuned.

    Args:
        recipes: Of the parts ``sentiment`` and ``topic``.

    Raises:
        UserError: They cannot.
    """
    reason = why_apart(recipes["sentiment"], recipes["topic"])
    if reason is not None:
        raise UserError(
            f"the adapters `sentiment` and `topic` will not share a batch: {reason}",
            hint="Give both recipes the same sections `model` and `method`, of type lora, and the same kind of task.",
        )


class Reader:
    """The two adapters, loaded.

    Args:
        runs: Of the parts ``sentiment`` and ``topic``.
        offline: Use no network.
        device: Where they compute; None: CUDA where it is there.

    Raises:
        UserError: The two are not of one base, or not such as can share a batch.
    """

    def __init__(self, runs: dict[str, Path], *, offline: bool = False, device: torch.device | None = None) -> None:
        self._host = Host(offline=offline, device=device)
        self._hosted: dict[str, Hosted] = {name: self._host.add(name, runs[name]) for name in PARTS}
        if self._hosted["sentiment"].group is not self._hosted["topic"].group:
            raise UserError(
                "the two adapters cannot share a batch: their methods differ, or are no LoRA",
                where=str(runs["topic"]),
                hint="Give both recipes the same section `method`, of type lora.",
            )

    def labels(self, part: str) -> tuple[str, ...]:
        """The classes that a part knows."""
        return self._hosted[part].tuned.labels

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """What is said of each text; those of similar length share a batch."""
        examples = {name: self._encode(hosted, texts) for name, hosted in self._hosted.items()}
        found: dict[int, Reading] = {}
        order = sorted(range(len(texts)), key=lambda at: len(examples["sentiment"][at].example["input_ids"]))
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            items = [examples[name][at] for name in PARTS for at in places]
            said = self._host.predict(items)
            for row, at in enumerate(places):
                first, second = said[row], said[row + len(places)]
                found[at] = Reading(str(first.prediction), _sureness(first), str(second.prediction), _sureness(second))
        return [found[at] for at in range(len(texts))]

    @staticmethod
    def _encode(hosted: Hosted, texts: Sequence[str]) -> list[WorkItem]:
        task = hosted.tuned.task
        # A text of blanks only is no error here: the tokenizer's own marks are what is read then.
        shown = [text if text.strip() else "." for text in texts]
        split = Split("texts", range(len(texts)), dict.fromkeys(task.text_columns(), shown), "texts")
        return [WorkItem(hosted, example) for example in hosted.tuned.encode(split).examples]


def _sureness(prediction: Prediction) -> float:
    return float(max(prediction.scores))
