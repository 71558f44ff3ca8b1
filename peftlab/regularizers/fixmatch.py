"""FixMatch (Sohn et al. 2020, https://arxiv.org/abs/2001.07685): the class of a text is the label of its changed copy.

The paper changes images weakly for the label too; here the text stays as it is, since a text has no weak change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PositiveInt

from peftlab.core.regularizer import REGULARIZERS
from peftlab.regularizers._consistency import Consistency

if TYPE_CHECKING:
    from torch import Tensor


@REGULARIZERS.register("fixmatch")
class FixMatch(Consistency):
    """FixMatch: where the model is sure of a text without a label, its changed copy shall get the same class."""

    paper: ClassVar[str] = "https://arxiv.org/abs/2001.07685"
    passes: ClassVar[float] = 11.5

    ratio: PositiveInt = Field(7, description="Texts without labels for each labelled one of a batch.")
    confidence: float = Field(
        0.95, ge=0, lt=1, description="A text counts where its likeliest class has this probability at least."
    )

    def divergence(self, known: Tensor, said: Tensor) -> Tensor:
        """Cross-entropy of the copy's answer with the likeliest class of the text."""
        from torch.nn import functional

        return functional.cross_entropy(said, known.argmax(dim=-1), reduction="none")
