"""Unsupervised data augmentation (Xie et al. 2020, https://arxiv.org/abs/1904.12848).

The loss of a text x without a label and its copy x̂ is KL(q ‖ p(x̂)), where q is p(x) at a lower temperature, taken as
given. The defaults are those of the authors' scripts for BERT on few labels. Their schedule that lets labelled examples
in slowly (training signal annealing) is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PositiveFloat

from peftlab.core.regularizer import REGULARIZERS
from peftlab.regularizers._consistency import Consistency

if TYPE_CHECKING:
    from torch import Tensor


@REGULARIZERS.register("uda")
class Uda(Consistency):
    """UDA: a text without a label and a changed copy of it shall be answered alike."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1904.12848"
    passes: ClassVar[float] = 5.5

    temperature: PositiveFloat = Field(
        0.85, description="Divides the logits of the text as it is; below 1 its answer becomes surer."
    )

    def divergence(self, known: Tensor, said: Tensor) -> Tensor:
        """KL divergence of the copy's answer from the text's own at the temperature."""
        from torch.nn import functional

        target = (known / self.temperature).log_softmax(dim=-1)
        return functional.kl_div(said.log_softmax(dim=-1), target, reduction="none", log_target=True).sum(dim=-1)
