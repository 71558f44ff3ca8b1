"""FGM: adversarial training by one step along the gradient (Miyato et al. 2017, https://arxiv.org/abs/1605.07725)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from peftlab.core.hooks import Backward
from peftlab.core.regularizer import REGULARIZERS, Regularizer
from peftlab.regularizers._embeddings import Epsilon, Probe, changed_embeddings

if TYPE_CHECKING:
    from torch import Tensor, nn


@REGULARIZERS.register("fgm")
class Fgm(Regularizer):
    """FGM: each text is learned a second time, its embeddings moved to where its loss rises fastest."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1605.07725"
    passes: ClassVar[float] = 2.0
    memory: ClassVar[str] = "one copy of what trains, and at most five times the embeddings' output"

    epsilon: Epsilon = None

    def around_backward(self, backward: Backward, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The gradients of the texts as they are, and those of the moved ones added to them."""
        probe = Probe()
        with changed_embeddings(model, probe):
            loss = backward()
        with changed_embeddings(model, Probe(probe.steps(batch, self.epsilon), learns=False)):
            backward()
        return loss
