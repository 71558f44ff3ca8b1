"""The head over the vocabulary, computed only where there is something to predict.

In a batch of the language tasks ``labels`` (batch × length) holds, at each position, the token that the hidden state
*there* is to predict, or ``IGNORED``. With an encoder–decoder the positions are the decoder's (batch × target length).
The head's matrix has tens of thousands of rows, so most of the memory and a good part of the time of tuning a small
language model go into logits that nobody asked for, of the prompt's tokens. Here the hidden states are picked before
the head, and the loss is taken in chunks whose logits are freed at once (as in Liger, https://arxiv.org/abs/2410.10989).
The sums are the same.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from peftlab.tasks.text_inputs import model_inputs

if TYPE_CHECKING:
    from torch import Tensor, nn

CHUNK_ELEMENTS = 1 << 23
"""Logits that are held at once on CPU: 32 MiB in float32."""
LABEL_WEIGHTS = "label_weights"
"""A key of batches with more places for labels than labels: what each counts, 1 or 0; labels."""
SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
"""Settings of models that change the logits after the head: there the whole head is left to the model."""


def language_inputs(model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """The part of a batch that the model takes.

    A row of several examples comes without an attention mask: transformers then draws their borders from position ids
    that start anew, if there is no cache. FlashAttention alone is told the borders in words: it would look for them in
    batches of one row only. So do texts that are read from left to right come without a mask: what they are padded
    with stands to their right, where no token looks, and without a mask attention is computed faster and takes less
    memory. A cache is of no use in training and only holds copies of keys and values.
    """
    from peftlab.acceleration.texts import TEXTS
    from peftlab.acceleration.unpadding import takes_texts

    inputs: dict[str, Any] = model_inputs(batch)
    inner = language_model(model)
    if is_encoder_decoder(inner):
        inputs["decoder_input_ids"] = inner.prepare_decoder_input_ids_from_labels(labels=batch["labels"])
    elif "position_ids" in batch:
        inputs["position_ids"] = batch["position_ids"]
        if "flash" in (inner.config._attn_implementation or ""):
            inputs |= _flash_bounds(batch)
    texts = getattr(batch["attention_mask"], TEXTS, None)
    if takes_texts(inner, texts):
        inputs[TEXTS] = texts
    if "text_bounds" in batch or ("position_ids" not in batch and _reads_from_left(inner)):
        del inputs["attention_mask"]
    if "use_cache" in inspect.signature(inner.forward).parameters:
        inputs["use_cache"] = False
    return inputs


def _flash_bounds(batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """Where FlashAttention's texts begin and end, counted through all rows; a row that is not packed is one text.

    Without them it takes every step back in the positions of a lone row for the beginning of another text, and none in
    a batch of several rows. The longest text is only needed as a bound, and a row's length is known without waiting
    for the device.
    """
    import torch

    rows, length = batch["input_ids"].shape
    bounds = batch.get("text_bounds")
    if bounds is None:
        bounds = torch.arange(0, rows * length + 1, length, dtype=torch.int32, device=batch["input_ids"].device)
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": length, "max_length_k": length}


def is_encoder_decoder(model: Any) -> bool:
    """Whether a transformers model reads a prompt by an encoder of its own: then labels have rows of their own."""
    return bool(getattr(model.config, "is_encoder_decoder", False))


def _reads_from_left(model: Any) -> bool:
    if is_encoder_decoder(model):
        return False  # the encoder looks both ways
    is_decoder = (
        not type(model).__name__.endswith("ForMaskedLM") and getattr(model.config, "is_causal", None) is not False
    )
    return is_decoder and not getattr(model.config, "use_bidirectional_attention", None)


def labelled_logits(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits where there is a label: labels × vocabulary, in the order of the batch's rows."""
    with _picked_states(model, batch, keep_head=True):
        logits: Tensor = model(**language_inputs(model, batch)).logits
    return logits


def labelled_loss(model: nn.Module, batch: Mapping[str, Tensor], *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy, summed over the labels; where acceleration is not off, in chunks of which one is held."""
    from torch.nn import functional

    labels, weights = targets(batch), batch.get(LABEL_WEIGHTS)
    states, head = _states(model, batch)
    if states is None:
        logits = labelled_logits(model, batch).float()
        if weights is None:
            return functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=label_smoothing)
        each = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)
        return each @ weights
    from peftlab.tasks.language.chunked_loss import chunked_cross_entropy

    return chunked_cross_entropy(
        states, head.weight, head.bias, labels, _rows(head), label_smoothing=label_smoothing, weights=weights
    )


def label_losses(model: nn.Module, batch: Mapping[str, Tensor], *, temperature: float = 1.0) -> Tensor:
    """For every label minus its log-probability (labels), in float32; it can be differentiated.

    With a temperature it is that of the model whose logits are divided by it, as text is drawn.

    Where acceleration is not off it is computed in chunks, of which one is held. Under a head that does not train the
    gradients by the states are taken on the way; else a chunk's logits are made anew for them, since what each loss
    weighs is known only when all are.
    """
    import torch
    from torch.nn import functional
    from torch.utils.checkpoint import checkpoint

    def tempered(values: Tensor) -> Tensor:
        return values if temperature == 1 else values / temperature

    labels = targets(batch)
    states, head = _states(model, batch)
    if states is None:
        return functional.cross_entropy(tempered(labelled_logits(model, batch).float()), labels, reduction="none")

    if not (torch.is_grad_enabled() and (head.weight.requires_grad or getattr(head.bias, "requires_grad", False))):
        from peftlab.tasks.language.chunked_loss import chunked_losses

        bias = None if head.bias is None else tempered(head.bias)
        return chunked_losses(tempered(states), head.weight, bias, labels, _rows(head))

    def losses(part: Tensor, own: Tensor) -> Tensor:
        return functional.cross_entropy(tempered(head(part).float()), own, reduction="none")

    rows = _rows(head)
    pieces = zip(torch.split(states, rows), torch.split(labels, rows), strict=True)
    return torch.cat([checkpoint(losses, *piece, use_reentrant=False) for piece in pieces])


def score_labels(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """For every label: minus its log-probability, and the most likely token there; both of length labels."""
    import torch

    labels = targets(batch)
    states, head = _states(model, batch)
    if states is None:
        chunks: Any = [labelled_logits(model, batch)]
    else:
        chunks = (head(part) for part in torch.split(states, _rows(head)))
    losses, choices = [], []
    start = 0
    for logits in chunks:
        part = labels[start : start + len(logits)]
        start += len(logits)
        losses.append(torch.nn.functional.cross_entropy(logits.float(), part, reduction="none"))
        choices.append(logits.argmax(dim=-1))
    return torch.cat(losses), torch.cat(choices)


def output_head(model: nn.Module) -> Any:
    """The module that turns hidden states into logits over the vocabulary, under whatever wraps the model."""
    return language_model(model).get_output_embeddings()


def language_model(model: nn.Module) -> Any:
    """The transformers model with the head, under whatever wraps it."""
    from transformers import PreTrainedModel

    return next(module for module in model.modules() if isinstance(module, PreTrainedModel))


def _states(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor | None, Any]:
    """The hidden states that have a label, and the head; None for the states where the head must not be taken apart."""
    from torch import nn

    from peftlab.acceleration.accelerated import is_off
    from peftlab.acceleration.onednn import OneDnnLinear
    from peftlab.core.added_rows import has_rows_apart

    head = output_head(model)
    config = language_model(model).config
    is_plain = type(head) in (nn.Linear, OneDnnLinear)
    is_scaled = any(getattr(config, name, None) not in (None, 1, 1.0) for name in SCALED_LOGITS)
    is_scaled = is_scaled or getattr(language_model(model), "final_logits_bias", None) is not None
    if has_rows_apart(head) or not is_plain or is_scaled or is_off(model):
        return None, head
    with _picked_states(model, batch, keep_head=False) as picked:
        model(**language_inputs(model, batch))
    return picked[0], head


def targets(batch: Mapping[str, Tensor]) -> Tensor:
    """The labels themselves, row by row."""
    return batch["labels"][batch["label_rows"], batch["label_columns"]]


def _rows(head: Any) -> int:
    """Rows of a chunk."""
    from peftlab.acceleration.device import card_of
    from peftlab.tasks.language.chunked_loss import elements_on_card

    card = card_of(head.weight)
    elements = elements_on_card(card.memory_bytes) if card.type == "cuda" else CHUNK_ELEMENTS
    return max(1, elements // int(head.weight.shape[0]))


@contextlib.contextmanager
def _picked_states(model: nn.Module, batch: Mapping[str, Tensor], *, keep_head: bool) -> Iterator[list[Tensor]]:
    """Give the head only the hidden states that have a label, or none at all; they are put into the list."""
    picked: list[Tensor] = []
    length, wanted = batch["labels"].shape[1], (batch["label_rows"], batch["label_columns"])

    def pick(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        states = inputs[0][:, -length:][wanted]  # virtual tokens stand before the text
        picked.append(states)
        return (states if keep_head else states[:0].detach(), *inputs[1:])

    handle = output_head(model).register_forward_pre_hook(pick)
    try:
        yield picked
    finally:
        handle.remove()
