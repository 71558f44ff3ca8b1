"""NEFTune: noise on the embeddings while training (Jain et al. 2023, https://arxiv.org/abs/2310.05914)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PositiveFloat

from peftlab.core.hooks import Backward
from peftlab.core.regularizer import REGULARIZERS, Regularizer
from peftlab.regularizers._embeddings import changed_embeddings, small_noise

if TYPE_CHECKING:
    from torch import Tensor, nn


@REGULARIZERS.register("neftune")
class Neftune(Regularizer):
    """NEFTune: uniform noise is added to the embeddings of every training text."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2310.05914"

    alpha: PositiveFloat = Field(5.0, description="The noise of a text of L tokens of size d is α / √(L d) at most.")

    def around_backward(self, backward: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """One pass over noisy embeddings."""
        with changed_embeddings(model, lambda output: output + small_noise(output, batch, self.alpha)):
            return backward()
