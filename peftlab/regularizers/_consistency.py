"""What the regularisers have in common that learn from texts without labels: a text and its copy get one answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt, PrivateAttr

from peftlab.core.errors import UnsupportedError
from peftlab.core.hooks import Backward, TextPairs
from peftlab.core.regularizer import TrainingSetup, in_passes
from peftlab.regularizers._classes import NeedsClasses

if TYPE_CHECKING:
    from torch import Tensor, nn


class Consistency(NeedsClasses):
    """Compares what a model says of a text without a label, without a gradient, with what it says of the copy.

    With each batch of n labelled examples come ``ratio`` · n texts. Their loss is the mean over all of them, also over
    those of which the model is not sure enough, which count 0.
    """

    needs_unlabeled: ClassVar[bool] = True
    memory: ClassVar[str] = "as much as a batch of ratio times the size"
    replaces_loss: ClassVar[bool] = True
    not_with: ClassVar[tuple[str, ...]] = ("fgm", "freelb", "neftune", "pgd")

    weight: PositiveFloat = Field(1.0, description="Of the loss of the texts without labels.")
    ratio: PositiveInt = Field(3, description="Texts without labels for each labelled one of a batch.")
    confidence: float = Field(
        0.0, ge=0, lt=1, description="A text counts where its likeliest class has this probability at least."
    )

    _pairs: TextPairs | None = PrivateAttr(None)

    def check(self, setup: TrainingSetup) -> None:
        """Refuse tasks in which a text does not have one class."""
        super().check(setup)
        if not setup.task.has_class_probabilities:
            raise UnsupportedError(
                f"{self.registered_name} compares the classes of texts, and a row of "
                f"{setup.task.registered_name} does not have just one",
                hint="Choose a task such as text_classification, with one label a text.",
            )

    def passes_of(self, *, trains_base: bool) -> float:
        """The labelled batch, and for each text without a label a forward pass, and a whole pass of its copy."""
        whole = 1 + self.ratio
        return in_passes(forward=whole + self.ratio, backward=whole, weights=whole, trains_base=trains_base)

    def take_pairs(self, pairs: TextPairs) -> None:
        """Texts to draw from."""
        self._pairs = pairs

    def around_backward(self, backward: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The labelled batch, then texts without labels; the loss that is told is that of the labelled ones."""
        import torch

        task, pairs = backward.task, self._pairs
        assert pairs is not None  # noqa: S101 - whoever trains has given them
        labelled = backward()
        examples = task.loss_terms(batch)
        texts, copies = pairs.draw(self.ratio * examples)

        def loss(prepared: Any, _batch: Mapping[str, Tensor]) -> Tensor:
            with torch.no_grad():
                known = task.class_terms(task.logits(prepared, texts), texts)[0]
            said = task.class_terms(task.logits(prepared, copies), copies)[0]
            counts = (known.softmax(dim=-1).amax(dim=-1) >= self.confidence).float()
            return self.weight / self.ratio * (self.divergence(known, said) * counts).sum()

        backward(loss)
        return labelled

    def divergence(self, known: Tensor, said: Tensor) -> Tensor:
        """What each text adds to the loss (texts).

        Args:
            known: The logits of the texts, without a gradient (texts × classes).
            said: Those of the copies.
        """
        raise NotImplementedError
