"""Layer-wise decay of the learning rate (Howard and Ruder 2018, https://arxiv.org/abs/1801.06146).

The default is that of Zhang et al. 2021 (https://arxiv.org/abs/2006.05987).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from peftlab.core.errors import UnsupportedError
from peftlab.core.input_embeddings import input_embeddings
from peftlab.core.regularizer import REGULARIZERS, Regularizer

if TYPE_CHECKING:
    from torch import nn

LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")
EMBEDDINGS = re.compile(r"embed|\bw[tp]e\b")


@REGULARIZERS.register("layer_wise_decay")
class LayerWiseDecay(Regularizer):
    """Layer-wise decay: each layer learns a little slower than the one above it, the embeddings slowest."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1801.06146"

    decay: float = Field(0.95, gt=0, lt=1, description="A layer's rate, divided by that of the layer above it.")

    def rate_factors(self, model: nn.Module) -> dict[str, float]:
        """Decay to the power of the layers above; what stands above all layers, such as the head, keeps its rate."""
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        layer_of = {name: int(found[1]) for name in trained if (found := LAYER.search(name))}
        if len(set(layer_of.values())) < 2:
            raise UnsupportedError(
                "layer_wise_decay needs trained parameters in two layers or more, and this method has none",
                where="training.regularizers",
                hint="Leave it out, or choose a method that trains in every layer, such as lora or full.",
            )
        top, head = max(layer_of.values()), _names_of_output(model)
        below = {name: -1 for name in trained if name not in {*layer_of, *head} and EMBEDDINGS.search(name)}
        return {name: self.decay ** (top + 1 - layer) for name, layer in {**layer_of, **below}.items()}


def _names_of_output(model: Any) -> set[str]:
    """The parameters of a language model's head, which GPT-NeoX calls ``embed_out``; none that embeds tokens too."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    if output is None:
        return set()
    own = {id(each) for each in output.parameters()} - {id(each) for each in input_embeddings(model).parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in own}
