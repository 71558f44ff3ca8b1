"""Attention masks without a look at their values.

transformers leaves out a mask that masks nothing, and looks for the borders of several texts in a row. On a card each
look makes the host wait for all that was asked of the card before. What there is to see is known on the host, where a
batch is made: whether any text is padded, and whether a batch has position ids of its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from peftlab.acceleration.texts import TEXTS, find_texts
from peftlab.acceleration.unpadding import texts_in_flight

HAS_PADDING = "has_padding"
"""An attribute of a mask, batch × length."""


class _Known(threading.local):
    """Of the forward pass that this thread is in: whether rows hold several texts; None: nothing is known."""

    is_packed: bool | None = None


_known = _Known()


def look_at(batch: Mapping[str, Tensor]) -> None:
    """Note on the mask of a batch on the host whether texts are padded, and where they are."""
    mask = batch.get("attention_mask")
    if mask is not None and not hasattr(mask, HAS_PADDING):
        setattr(mask, HAS_PADDING, not bool(mask.all()))
        setattr(mask, TEXTS, find_texts(batch))


def note_padding(on_host: Mapping[str, Tensor], on_device: Mapping[str, Tensor]) -> None:
    """Note the same on a mask on the device, from the batch on the host."""
    mask = on_host.get("attention_mask")
    if mask is None or hasattr(on_device["attention_mask"], TEXTS):
        return
    look_at(on_host)
    there, texts = on_device["attention_mask"], getattr(mask, TEXTS, None)
    setattr(there, HAS_PADDING, getattr(mask, HAS_PADDING))
    setattr(there, TEXTS, None if texts is None else texts.to(there.device))


def drop_full_mask(_model: nn.Module, arguments: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Leave out a mask that is known to mask nothing, before a model's forward pass."""
    mask = keywords.get("attention_mask")
    if mask is not None and not getattr(mask, HAS_PADDING, True):
        keywords = {key: value for key, value in keywords.items() if key != "attention_mask"}
    return arguments, keywords


@contextlib.contextmanager
def without_looking(model: nn.Module) -> Iterator[None]:
    """Let a transformers model make its masks from what is known, as long as the context lasts.

    A mask of which nothing is known is made whole, which gives the same attention. Where no mask is given none is
    needed, and transformers does not look for padding to warn of.
    """
    from transformers import PreTrainedModel, masking_utils

    inner = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None)
    names = ("find_packed_sequence_indices", "_ignore_causal_mask_sdpa", "_ignore_bidirectional_mask_sdpa")
    if inner is None or not all(hasattr(masking_utils, name) for name in names):
        yield
        return
    library: Any = masking_utils
    own_borders = library.find_packed_sequence_indices

    def borders(position_ids: Tensor) -> Tensor | None:
        if texts_in_flight() is not None:
            return None
        if _known.is_packed is None:
            found: Tensor | None = own_borders(position_ids)
            return found
        return texts_of(position_ids) if _known.is_packed else None

    def needs_no_mask(own: Any) -> Any:
        def ignore(padding_mask: Tensor | None, *arguments: Any, **keywords: Any) -> bool:
            if texts_in_flight() is not None:  # attention knows their borders, and its windows
                return True
            if padding_mask is not None and _known.is_packed is not None:
                return False
            return bool(own(padding_mask, *arguments, **keywords))

        return ignore

    own_mask = library.ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]

    def mask_in_numbers(*arguments: Any, **keywords: Any) -> Tensor | None:
        mask: Tensor | None = own_mask(*arguments, **keywords)
        return mask if mask is None or _known.is_packed is None else in_numbers(mask, keywords.get("dtype"))

    handles = [
        inner.register_forward_pre_hook(drop_full_mask, with_kwargs=True),
        inner.register_forward_pre_hook(_begin, with_kwargs=True),
        inner.register_forward_hook(_end, always_call=True),
    ]
    try:
        with (
            mock.patch.object(library, names[0], borders),
            mock.patch.object(library, names[1], needs_no_mask(getattr(library, names[1]))),
            mock.patch.object(library, names[2], needs_no_mask(getattr(library, names[2]))),
            mock.patch.dict(library.AttentionMaskInterface._global_mapping, {"sdpa": mask_in_numbers}),
            mock.patch.object(PreTrainedModel, "warn_if_padding_and_no_attention_mask", return_value=None),
        ):
            yield
    finally:
        for handle in handles:
            handle.remove()


def in_numbers(mask: Tensor, kind: torch.dtype | None) -> Tensor:
    """What attention adds to its scores: 0 or −∞, once for all layers. Each would make it of True and False by itself.

    Args:
        mask: What may be seen, batch × heads × queries × keys.
        kind: The type of the states outside of autocast.
    """
    if mask.dtype != torch.bool:
        return mask
    device = mask.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else kind or torch.float32
    return torch.zeros_like(mask, dtype=kind).masked_fill_(mask.logical_not(), -torch.inf)


def texts_of(position_ids: Tensor) -> Tensor:
    """The number of the text that each position belongs to, from 0 in each row; batch × length."""
    steps = torch.diff(position_ids, prepend=position_ids[:, :1] - 1, dim=-1)
    return (steps != 1).cumsum(-1)


def _begin(_model: nn.Module, _arguments: Any, keywords: dict[str, Any]) -> None:
    _known.is_packed = keywords.get("position_ids") is not None


def _end(_model: nn.Module, _arguments: Any, _outputs: Any) -> None:
    _known.is_packed = None
