"""Layer-wise decay of the learning rate (Howard and Ruder 2018, https://arxiv.org/abs/1801.06146).

The default is that of Zhang et al. 2021 (https://arxiv.org/abs/2006.05987).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from peftlab.core.errors import UnsupportedError
from peftlab.core.input_embeddings import input_embeddings
from peftlab.core.regularizer import REGULARIZERS, Regularizer

if TYPE_CHECKING:
    from torch import nn

LAYER = re.compile(r"\.(?:stages?|layers?|h|blocks?)\.(\d+)\.")
EMBEDDINGS = re.compile(r"embed|\bw[tp]e\b")


@REGULARIZERS.register("layer_wise_decay")
class LayerWiseDecay(Regularizer):
    """Layer-wise decay: each layer learns a little slower than the one above it, the embeddings slowest."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1801.06146"

    decay: float = Field(0.95, gt=0, lt=1, description="A layer's rate, divided by that of the layer above it.")

    def rate_factors(self, model: nn.Module) -> dict[str, float]:
        """Decay to the power of the layers above; what stands above all layers, such as the head, keeps its rate.

        An encoder, a decoder and each tower of a model with two count their layers from their own top.
        """
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        layer_of = {name: (name[: found.start()], int(found[1])) for name in trained if (found := LAYER.search(name))}
        if len(set(layer_of.values())) < 2:
            raise UnsupportedError(
                "layer_wise_decay needs trained parameters in two layers or more, and this method has none",
                where="training.regularizers",
                hint="Leave it out, or choose a method that trains in every layer, such as lora or full.",
            )
        tops: dict[str, int] = {}
        for stack, layer in layer_of.values():
            tops[stack] = max(layer, tops.get(stack, 0))
        head, shared = _names_of_output(model), _names_of_shared(model)
        tables = {name for name in trained if name in shared or EMBEDDINGS.search(name)} - {*layer_of, *head}
        below = {name: (_stack_above(name, tops), -1) for name in tables}
        return {name: self.decay ** (tops[stack] + 1 - layer) for name, (stack, layer) in {**layer_of, **below}.items()}


def _stack_above(name: str, tops: Mapping[str, int]) -> str:
    """The stack of layers that embeddings are read by: that of their own tower; of several the one with most layers."""

    def words_alike(stack: str) -> int:
        pairs = zip(name.split("."), stack.split("."), strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

    return max(tops, key=lambda stack: (words_alike(stack), tops[stack]))


def _names_of_shared(model: Any) -> set[str]:
    """The parameters that embed tokens, whatever they are called: T5's and BART's stand above both of their stacks."""
    try:
        own = {id(each) for each in input_embeddings(model).parameters()}
    except NotImplementedError:  # transformers knows of none, in models of convolutions
        return set()
    return {name for name, parameter in model.named_parameters() if id(parameter) in own}


def _names_of_output(model: Any) -> set[str]:
    """The parameters of a language model's head, which GPT-NeoX calls ``embed_out``; none that embeds tokens too."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
    if output is None:
        return set()
    own = {id(each) for each in output.parameters()} - {id(each) for each in input_embeddings(model).parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in own}
