"""How likely a masked language model finds the sentences of a pair: by the tokens that both have (Nangia et al. 2020).

https://arxiv.org/abs/2010.00133, equation 1, as its authors compute it: the tokens that both sentences have, in order,
are hidden one at a time, and their log-probabilities added. The words in which the two differ are only read: how
frequent they are does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from peftlab.core.errors import DataError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import Example
from peftlab.core.task import Inference
from peftlab.tasks.language.perplexity import token_losses
from peftlab.tasks.language.vocabulary_head import language_model
from peftlab.tasks.text_inputs import IGNORED

ROWS = 64
"""So many texts, each with one token hidden, are read at once."""


def pair_likelihoods(
    model: Any, pairs: Sequence[tuple[str, str]], tokenizer: Any, inference: Inference
) -> list[tuple[float, float]]:
    """The pseudo-log-likelihood of both sentences of each pair, over what they share.

    Args:
        model: A masked language model under whatever wraps it.
        pairs: Of sentences.
        tokenizer: Of the model, with a mask token.
        inference: How the model is asked.

    Raises:
        DataError: A sentence is longer than what the model reads at once.
    """
    examples: list[Example] = []
    sides: list[int] = []
    room = _room(model, inference)
    for at, pair in enumerate(pairs):
        ids = [tokenizer(text)["input_ids"] for text in pair]
        for text, own in zip(pair, ids, strict=True):
            if room is not None and len(own) > room:
                raise DataError(
                    f"a text has {len(own)} tokens, and the model reads {room}",
                    where=text[:60],
                    hint="Leave it out, or shorten it.",
                )
        special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
        for one, other in shared_places(*ids):
            if ids[0][one] in special:
                continue
            for side, place in enumerate((one, other)):
                examples.append(_hidden(ids[side], place, tokenizer.mask_token_id))
                sides.append(2 * at + side)
    sums = [0.0] * (2 * len(pairs))
    for start in range(0, len(examples), ROWS):
        part = slice(start, start + ROWS)
        losses = token_losses(model, examples[part], tokenizer.pad_token_id, inference)
        for side, own in zip(sides[part], losses, strict=True):
            sums[side] -= sum(own)
    return list(zip(sums[::2], sums[1::2], strict=True))


def shared_places(one: Sequence[int], other: Sequence[int]) -> list[tuple[int, int]]:
    """Where both rows have the same tokens in the same order, as difflib finds them."""
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return [(block.a + at, block.b + at) for block in blocks for at in range(block.size)]


def _hidden(ids: Sequence[int], place: int, mask_token_id: int) -> Example:
    """One token hidden, and asked for."""
    labels = [IGNORED] * len(ids)
    labels[place] = ids[place]
    return {"input_ids": [*ids[:place], mask_token_id, *ids[place + 1 :]], "labels": labels}


def _room(model: Any, inference: Inference) -> int | None:
    config = language_model(model).config
    longest = ModelFacts("", config.model_type, "encoder", config.to_dict()).max_length
    return None if longest is None else longest - inference.virtual_tokens
