"""Image–text embedding: an image and the text that describes it get vectors that lie near each other, as CLIP's do.

Two towers, one for images and one for texts, learn from pairs alone: of a batch, each other text is a wrong one for an
image, and each other image for a text (CLIP, https://arxiv.org/abs/2103.00020). So a batch cannot be cut; its work can.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt, model_validator

from peftlab.core.capabilities import EmbedsText
from peftlab.core.image_file import contents_of, image_of
from peftlab.core.model_facts import Family, ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Prediction, Task
from peftlab.core.words import comparable
from peftlab.tasks._embedding_losses import info_nce
from peftlab.tasks._hard_negatives import ranks_in_corpus
from peftlab.tasks._pair_rows import comparable_texts, refuse_one_value, why_ranks_say_nothing
from peftlab.tasks._tokenizers import byte_pair_tokenizer
from peftlab.tasks.images.pixels import pixels_of
from peftlab.tasks.images.shapes import USUAL_PATCHES, fixed_size, image_facts, image_shape
from peftlab.tasks.text_inputs import check_length, pad, tokens_of, with_columns, without_blank_texts

if TYPE_CHECKING:
    from torch import Tensor, nn

CLIP_POSITIONS = 77


@TASKS.register("image_text_embedding")
class ImageTextEmbedding(Task):
    """Embed images and texts so that an image lies nearest to the text that describes it, by a model like CLIP."""

    compared_by: ClassVar[str] = "image"
    families: ClassVar[Collection[Family]] = frozenset({"image_text"})
    peft_task_type: ClassVar[str] = ""  # peft's own types of tasks are of texts
    why_not_augmented: ClassVar[str] = "a changed copy would be a wrong answer to its own original in a batch"
    why_not_onnx: ClassVar[str] = "its vectors come from two towers, of which an image or a text needs one"
    metrics: ClassVar[tuple[str, ...]] = (
        "two_way_mrr",
        *(f"{way}_recall_at_{depth}" for way in ("image_to_text", "text_to_image") for depth in (1, 5, 10)),
    )
    divisible: ClassVar[bool] = False
    caches_gradients: ClassVar[bool] = True
    collates_ahead: ClassVar[bool] = True
    ranks_whole_split: ClassVar[bool] = True
    capabilities: ClassVar[tuple[type, ...]] = (EmbedsText,)

    image: str = Field(
        "image",
        description="The column of the image: the path of a file below the table's folder, its bytes, or what "
        "`datasets.Image` makes of both.",
    )
    text: str = Field("text", description="The column of the text that describes it.")
    max_length: PositiveInt = Field(CLIP_POSITIONS, description="Longer texts are cut to this many tokens.")

    @model_validator(mode="after")
    def _check_columns(self) -> ImageTextEmbedding:
        if self.image == self.text:
            raise ValueError("`image` and `text` must name different columns")
        return self

    # --- rows -------------------------------------------------------------------------------------------------------

    def text_columns(self) -> tuple[str, ...]:
        """The image and its text."""
        return (self.image, self.text)

    def image_columns(self) -> tuple[str, ...]:
        """The image."""
        return (self.image,)

    def input_columns(self) -> tuple[str, ...]:
        """A text that stands alone gets its vector."""
        return (self.text,)

    def input_choices(self) -> tuple[tuple[str, ...], ...]:
        """Pairs get their cosine, and images alone vectors, as texts do."""
        return (self.text_columns(), (self.image,), (self.text,))

    def tidy_rows(self, split: Split) -> Split:
        """Bytes are images; blank texts are missing."""
        split = with_columns(split, (self.image,), lambda value: image_of(value, None))
        return without_blank_texts(split, (self.text,))

    def told_apart_by(self) -> tuple[str, ...]:
        """An image may have several texts."""
        return (self.text,)

    def compared_texts(self, split: Split) -> list[Sequence[Any]]:
        """Rows are compared by their image, whatever its file is called: no image is in two splits.

        A text that stands alone is compared as it is.
        """
        column = self.image if self.image in split.columns else self.text
        return [(content,) for content in contents_of(split, column)]

    def learn(self, train: Split) -> dict[str, Any]:
        """Nothing, but texts and images must differ."""
        refuse_one_value(train, self.image, contents_of(train, self.image))
        refuse_one_value(train, self.text, comparable_texts(train.columns[self.text]))
        return {}

    def check(self, facts: ModelFacts) -> None:
        """Refuse lengths beyond the positions of the tower for texts."""
        check_length(self.max_length, facts)

    def learn_model(self, facts: ModelFacts) -> dict[str, Any]:
        """The images that the model takes, and how many patches it makes of one."""
        return image_facts(facts.config["vision_config"])

    def build_tokenizer(self, train: Split, vocabulary_size: int) -> Any:
        """Byte-level BPE, trained on the training texts, with the end token that CLIP looks for."""
        return byte_pair_tokenizer(train.columns[self.text], vocabulary_size, ends=True)

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Pixels, the text's tokens, and ``keys``: equal for equal images, and for equal texts."""
        images, texts = self._images(split, tokenizer), self._texts(split.columns[self.text], tokenizer)
        numbers: dict[Any, int] = {}
        pairs = zip(contents_of(split, self.image), split.columns[self.text], strict=True)
        keys = [
            [numbers.setdefault(key, len(numbers)) for key in ((self.image, file), (self.text, comparable(str(text))))]
            for file, text in pairs
        ]
        examples = [{**image, **text, "keys": own} for image, text, own in zip(images, texts, keys, strict=True)]
        cut = sum(bool(example["truncated"]) for example in examples)
        different = {name: len({own[at] for own in keys}) for at, name in enumerate(("images", "texts"))}
        return EncodedSplit(split.name, split.index, examples, {"texts_cut": cut, **different})

    def encode_inputs(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Images alone, or texts alone."""
        if self.text in split.columns:
            examples = self._texts(split.columns[self.text], tokenizer)
        else:
            examples = self._images(split, tokenizer)
        return EncodedSplit(split.name, split.index, examples)

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """An empty image with an empty text."""
        patches = min(self._patches, length - 1)
        return {"pixels": None, "patches": patches, "input_ids": [0] * (length - patches), "keys": [0, 1]}

    def longest(self) -> int:
        """Patches, and a text as long as it may be."""
        return self._patches + self.max_length

    # --- objective --------------------------------------------------------------------------------------------------

    @property
    def supports_virtual_tokens(self) -> bool:
        """They stand before the one text of a model."""
        return False

    def length(self, example: Example) -> int:
        """Patches and tokens."""
        return int(example.get("patches", 0)) + len(example.get("input_ids", ()))

    def padded_tokens(self, batch: Mapping[str, Tensor]) -> int:
        """Patches have no padding."""
        texts = batch["attention_mask"].numel() if "attention_mask" in batch else 0
        return texts + self._patches * len(batch.get("pixel_values", ()))

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """``pixel_values`` (batch × channels × height × width), tokens, ``keys`` (batch × 2); or one of the first."""
        import torch

        batch: dict[str, Tensor] = {}
        if "pixels" in examples[0]:
            empty = torch.zeros(image_shape(self.learned))
            images = [example["pixels"].read(keep=False) if example["pixels"] else empty for example in examples]
            batch["pixel_values"] = torch.stack(images)
        if "input_ids" in examples[0]:
            batch |= pad(examples, pad_token_id)
        if "keys" in examples[0]:
            batch["keys"] = torch.tensor([example["keys"] for example in examples])
        return batch

    def parts(self, batch: Mapping[str, Tensor], size: int) -> list[dict[str, Tensor]]:
        """So many pairs at once, without the padding that only longer texts need."""
        parts = []
        for start in range(0, len(batch["keys"]), size):
            part = {key: values[start : start + size] for key, values in batch.items()}
            longest = int(part["attention_mask"].sum(dim=1).max())
            parts.append(part | {key: part[key][:, :longest] for key in ("input_ids", "attention_mask")})
        return parts

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """One vector of the length 1 (batch × size); of pairs both, one behind the other (batch × 2 · size).

        Of pairs, the images' vectors are as long as the model's scale, which learns where the method trains it: so
        their products with the texts' are CLIP's logits, and no value but these is needed for the loss.
        """
        import torch
        from torch.nn import functional

        asked: Any = model
        if "pixel_values" not in batch:
            texts = asked.get_text_features(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            return functional.normalize(_vectors(texts).float(), dim=-1)
        if "input_ids" not in batch:
            images = asked.get_image_features(pixel_values=batch["pixel_values"])
            return functional.normalize(_vectors(images).float(), dim=-1)
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "pixel_values")}
        output = asked(**inputs)
        scale = _scale_of(model).float().exp()
        return torch.cat([output.image_embeds.float() * scale, output.text_embeds.float()], dim=1)

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """CLIP's loss, summed over the pairs; equal texts, and texts of an equal image, are no wrong answers."""
        import torch

        images, texts = logits.chunk(2, dim=1)
        return info_nce(torch.cat([images, texts]), batch["keys"], temperature=1, symmetric=True)

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term a pair."""
        return len(batch["keys"])

    # --- answers ----------------------------------------------------------------------------------------------------

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The vector of an image or a text that stands alone; of a pair both, for ``rank``."""
        import torch
        from torch.nn import functional

        if "keys" not in batch:
            return [Prediction(1.0, vector.tolist(), []) for vector in logits.float()]
        images, texts = (functional.normalize(side, dim=-1) for side in logits.float().chunk(2, dim=1))
        pairs = zip(torch.unbind(images), torch.unbind(texts), torch.unbind(batch["keys"]), strict=True)
        return [Prediction([1.0, 1.0], pair, []) for pair in pairs]

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """Ranks need wrong texts and images."""
        return why_ranks_say_nothing(contents_of(split, self.image), comparable_texts(split.columns[self.text]))

    def rank(self, predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        """The rank of each image's text among all texts of the split, and of each text's image among all images.

        The scores are the cosine of the pair, of the image with the nearest other text, and of the text with the
        nearest other image.
        """
        import torch

        images, texts, keys = (
            torch.stack(each) for each in zip(*(item.prediction for item in predictions), strict=True)
        )
        of_texts = ranks_in_corpus(images, texts, keys)
        of_images = ranks_in_corpus(texts, images, keys.flip(1))
        return [
            Prediction([1.0, 1.0], [float(text), float(image)], [cosine, other_text, other_image])
            for (text, cosine, other_text), (image, _, other_image) in zip(of_texts, of_images, strict=True)
        ]

    def decisions(self, prediction: Prediction) -> list[tuple[Any, Any]]:
        """None: a rank is no answer."""
        return []

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The vector of an image or of a text; of a pair the cosine of both."""
        if isinstance(prediction.prediction, tuple):
            image, text, _ = prediction.prediction
            return {"prediction": float(image @ text)}
        return {"prediction": prediction.prediction}

    def usage_note(self) -> str:
        """How the vectors are made."""
        return (
            "`get_image_features` and `get_text_features`, each divided by its length, give the vectors; their product "
            "is the cosine."
        )

    def embedding_examples(self, texts: Sequence[str], tokenizer: Any) -> list[Example]:
        """An example for each text."""
        return self._texts(texts, tokenizer)

    def embeddings(self, logits: Tensor) -> Tensor:
        """The vectors, of the length 1."""
        return logits

    @property
    def _patches(self) -> int:
        return int(self.learned.get("tokens", USUAL_PATCHES))

    def _images(self, split: Split, tokenizer: Any) -> list[Example]:
        pixels = pixels_of(split, self.image, tokenizer, fixed_size(self.learned))
        return [{"pixels": own, "patches": self._patches} for own in pixels]

    def _texts(self, texts: Sequence[str], tokenizer: Any) -> list[Example]:
        return tokens_of(tokenizer, [str(text) for text in texts], self.max_length)


def _vectors(output: Any) -> Tensor:
    """What transformers gives as features: a tensor in some versions, and in others an output that holds it."""
    found: Tensor = getattr(output, "pooler_output", output)
    return found


def _scale_of(model: nn.Module) -> Tensor:
    """CLIP's ``logit_scale``, under whatever wraps the model: the logarithm of 1 ÷ the temperature."""
    return next(value for name, value in model.named_parameters() if name.rpartition(".")[2] == "logit_scale")
