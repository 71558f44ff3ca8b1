"""Words that a masked language model puts in their places (Kobayashi 2018; Wu et al. 2019).

https://arxiv.org/abs/1805.06201, https://arxiv.org/abs/1812.06705
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field, PositiveInt

from peftlab.augmentations._batches import batches_by_length, padded
from peftlab.core.augmentation import AUGMENTATIONS, LoadedModel, ModelAugmentation, NeededModel
from peftlab.core.words import UNSPACED

if TYPE_CHECKING:
    from torch import Tensor

_WORD = re.compile(rf"[{UNSPACED}]|[^\W\d_{UNSPACED}]+(?:['’][^\W\d_{UNSPACED}]+)*")
_MARKERS = ("Ġ", "▁")
"""What tokenizers put before a token that begins a word; those that have none mark the others, by ``##``."""
_MARGIN = 4
"""Tokens of the model's length that are left to what a tokenizer puts around a text."""


@AUGMENTATIONS.register("synonyms")
class Synonyms(ModelAugmentation):
    """Put other words in, which a masked language model finds likely there; its own base's, or another one's."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1805.06201"

    probability: float = Field(0.15, gt=0, lt=1, description="Of each word: that another one takes its place.")
    candidates: PositiveInt = Field(10, description="The likeliest words from which one is drawn, by its probability.")
    model: str | None = Field(
        None,
        min_length=1,
        description="A model that fills masks: an address as in model.path. null: the recipe's own base, which needs "
        "the head of a masked language model.",
    )

    def needed_models(self) -> Mapping[str, NeededModel]:
        """One that fills masks."""
        return {"model": NeededModel(self.model, "AutoModelForMaskedLM")}

    def change_all(
        self, texts: Sequence[str], randoms: Sequence[Random], models: Mapping[str, LoadedModel]
    ) -> list[str]:
        """Texts with other words; all words of a text that change are hidden at once."""
        import torch

        model = models["model"]
        masked = [_hidden(text, random, self.probability, model) for text, random in zip(texts, randoms, strict=True)]
        words = _whole_words(model.tokenizer)
        known = torch.tensor(sorted(words), device=model.device)
        changed = list(texts)
        for batch in batches_by_length([len(each.ids) for each in masked]):
            inputs = padded([masked[at].ids for at in batch], model)
            with torch.inference_mode():
                logits = model.model(**inputs).logits.float()
            for row, at in enumerate(batch):
                places = masked[at]
                scores = logits[row, places.at].index_select(1, known).log_softmax(-1).cpu()
                new = [
                    self._drawn(texts[at][start:end], own, known, words, randoms[at])
                    for (start, end), own in zip(places.spans, scores, strict=True)
                ]
                changed[at] = _with_words(texts[at], places.spans, new)
        return changed

    def _drawn(self, old: str, scores: Tensor, known: Tensor, words: Mapping[int, str], random: Random) -> str:
        """Another word, written in capitals as the old one was; the old one where the model knows no other."""
        best = scores.topk(min(self.candidates + 1, len(scores)))
        names = [words[int(known[at])] for at in best.indices]
        found = zip(names, best.values.exp().tolist(), strict=True)
        others = [(word, score) for word, score in found if word.casefold() != old.casefold()][: self.candidates]
        if not others:
            return old
        sums = list(accumulate(score for _, score in others))
        drawn = random.random() * sums[-1]
        word = next((word for (word, _), until in zip(others, sums, strict=True) if drawn < until), others[-1][0])
        if len(old) > 1 and old.isupper():
            return word.upper()
        return word[:1].upper() + word[1:] if old[:1].isupper() else word


class _Masked(NamedTuple):
    """A text of which some words are hidden.

    Args:
        ids: Its tokens, with a mask for each of these words.
        at: Positions of the masks.
        spans: Begin and end of the words in the text.
    """

    ids: list[int]
    at: list[int]
    spans: list[tuple[int, int]]


def _hidden(text: str, random: Random, probability: float, model: LoadedModel) -> _Masked:
    """The text with a mask for each word that is drawn; what lies beyond the model's length stays as it is."""
    tokenizer = model.tokenizer
    drawn = [found.span() for found in _WORD.finditer(text) if random.random() < probability]
    first = [] if tokenizer.cls_token_id is None else [tokenizer.cls_token_id]
    last = [] if tokenizer.sep_token_id is None else [tokenizer.sep_token_id]
    room = None if model.max_length is None else model.max_length - _MARGIN
    ids, at, spans, end = list(first), list[int](), list[tuple[int, int]](), 0
    for start, stop in drawn:
        ids += _tokens(tokenizer, text[end:start])
        if room is not None and len(ids) >= room:
            break
        at.append(len(ids))
        spans.append((start, stop))
        ids.append(tokenizer.mask_token_id)
        end = stop
    ids += _tokens(tokenizer, text[end:])
    return _Masked([*ids[:room], *last], at, spans)


def _tokens(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a piece of text; what looks like a control token in it is text."""
    if not text.strip():
        return []
    return list(tokenizer(text.rstrip(), add_special_tokens=False, split_special_tokens=True)["input_ids"])


def _whole_words(tokenizer: Any) -> dict[int, str]:
    """The tokens that are a word by themselves, of letters alone."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    marker = next((each for each in _MARKERS if sum(token.startswith(each) for token in vocabulary) > 1), "")
    special = set(tokenizer.all_special_ids)
    words: dict[int, str] = {}
    for token, at in vocabulary.items():
        if at in special or not token.startswith(marker):
            continue
        word = str(tokenizer.convert_tokens_to_string([token])).strip() if marker else token
        if word.isalpha():
            words[at] = word
    return words


def _with_words(text: str, spans: Sequence[tuple[int, int]], words: Sequence[str]) -> str:
    for (start, end), word in list(zip(spans, words, strict=True))[::-1]:
        text = text[:start] + word + text[end:]
    return text
