"""Texts that were translated into another language and back (Sennrich et al. 2016; Xie et al. 2020).

https://arxiv.org/abs/1511.06709, https://arxiv.org/abs/1904.12848
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, NonNegativeFloat

from peftlab.augmentations._batches import batches_by_length, padded
from peftlab.core.augmentation import AUGMENTATIONS, LoadedModel, ModelAugmentation, NeededModel

if TYPE_CHECKING:
    from torch import Tensor

_FACTOR, _MORE = 2, 16
"""A translation has so many times the tokens of its text at most, and so many more."""


@AUGMENTATIONS.register("back_translation")
class BackTranslation(ModelAugmentation):
    """Translate a text into another language and back, by two models that are given."""

    paper: ClassVar[str] = "https://arxiv.org/abs/1904.12848"

    there: str = Field(min_length=1, description="The model that translates into another language: an address.")
    back: str = Field(min_length=1, description="The model that translates back: an address.")
    there_prefix: str = Field("", description="What is put before each text, as T5 needs it.")
    back_prefix: str = Field("", description="What is put before each translation.")
    temperature: NonNegativeFloat = Field(
        0.9, description="Words are drawn at this temperature, so that copies differ. 0: the likeliest word each time."
    )

    def needed_models(self) -> Mapping[str, NeededModel]:
        """Two encoder-decoders."""
        return {
            "there": NeededModel(self.there, "AutoModelForSeq2SeqLM"),
            "back": NeededModel(self.back, "AutoModelForSeq2SeqLM"),
        }

    def change_all(
        self, texts: Sequence[str], randoms: Sequence[Random], models: Mapping[str, LoadedModel]
    ) -> list[str]:
        """The texts, there and back; one that is not read and written whole stays as it is: its label may be lost."""
        others = self._translated([self.there_prefix + text for text in texts], randoms, models["there"])
        again = self._translated(
            [self.back_prefix + others[at] for at in others], [randoms[at] for at in others], models["back"]
        )
        back = {at: again[place] for place, at in enumerate(others) if place in again}
        return [back.get(at, text) for at, text in enumerate(texts)]

    def _translated(self, texts: Sequence[str], randoms: Sequence[Random], model: LoadedModel) -> dict[int, str]:
        """Translations by the places of their texts, in that order.

        None of a text that is longer than the model reads, or whose translation does not end or shows nothing. How long
        one may be goes by its own text, whatever texts are beside it.
        """
        import torch
        from transformers import LogitsProcessorList

        tokenizer = model.tokenizer
        ids = [tokenizer(text, split_special_tokens=True)["input_ids"] for text in texts]
        fits = [at for at, each in enumerate(ids) if model.max_length is None or len(each) <= model.max_length]
        found: dict[int, str] = {}
        for places in batches_by_length([len(ids[at]) for at in fits]):
            batch = [fits[place] for place in places]
            limits = [_limit(len(ids[at]), model.max_length) for at in batch]
            noise = [_Noise([randoms[at] for at in batch], self.temperature)] if self.temperature else []
            with torch.inference_mode():
                written = model.model.generate(
                    **padded([ids[at] for at in batch], model),
                    do_sample=False,
                    num_beams=1,
                    max_new_tokens=max(limits),
                    forced_eos_token_id=None,
                    logits_processor=LogitsProcessorList(noise),
                )
            ends = torch.isin(written[:, 1:], torch.tensor(_ends_of(model.model), device=written.device))
            said = tokenizer.batch_decode(written, skip_special_tokens=True)
            for at, limit, is_end, text in zip(batch, limits, ends, said, strict=True):
                if is_end[:limit].any() and text.strip():
                    found[at] = " ".join(text.split())
        return {at: found[at] for at in fits if at in found}


def _limit(tokens: int, max_length: int | None) -> int:
    """Tokens that the translation of a text of so many may have."""
    limit = _FACTOR * tokens + _MORE
    return limit if max_length is None else min(limit, max_length - 1)


def _ends_of(model: Any) -> list[int]:
    """The tokens that end what a model writes; the first one of all, which begins it, may be one of these too."""
    known = model.generation_config.eos_token_id
    return [known] if isinstance(known, int) else list(known or [])


class _Noise:
    """Gumbel noise on the logits: the likeliest token is then one that is drawn at the temperature, by row.

    transformers' own sampling draws a batch from one generator, so what a text gets would depend on its neighbours.

    Args:
        randoms: Of each row.
        temperature: Above 0.
    """

    def __init__(self, randoms: Sequence[Random], temperature: float) -> None:
        import torch

        self._generators = [torch.Generator().manual_seed(each.getrandbits(63)) for each in randoms]
        self._temperature = temperature

    def __call__(self, _ids: Any, scores: Tensor) -> Tensor:
        """Scores (rows × vocabulary) with noise."""
        import torch

        drawn = torch.stack([torch.rand(scores.shape[1], generator=each) for each in self._generators])
        gumbel = -torch.log(-torch.log(drawn.clamp(1e-20, 1 - 1e-7)))
        return scores.float() / self._temperature + gumbel.to(scores.device)
