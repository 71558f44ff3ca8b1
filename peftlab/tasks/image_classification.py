"""Image classification: one class of an image, or any number of labels, by a ViT-like model.

Labels are those of text classification in every way: spelling, several at once, weights, metrics.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from peftlab.core.image_file import contents_of, image_of
from peftlab.core.model_facts import Family, ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task import TASKS, Head, Prediction, Scorer, Task
from peftlab.tasks.images.pixels import Pixels, RowNumber, pixels_of
from peftlab.tasks.images.shapes import USUAL_PATCHES, fixed_size, image_facts, image_shape
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.text_inputs import with_columns

if TYPE_CHECKING:
    from torch import Tensor, nn


@TASKS.register("image_classification")
class ImageClassification(Task):
    """Choose one class of an image, or any number of labels."""

    compared_by: ClassVar[str] = "image"
    families: ClassVar[Collection[Family]] = frozenset({"image"})
    pools_answers: ClassVar[bool] = True
    peft_task_type: ClassVar[str] = ""  # peft's own types of tasks are of texts
    collates_ahead: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = TextClassification.metrics
    has_probabilities: ClassVar[bool] = True
    why_not_augmented: ClassVar[str] = "its rows hold images, and what there is changes texts"

    image: str = Field(
        "image",
        description="The column of the image: the path of a file below the table's folder, its bytes, or what "
        "`datasets.Image` makes of both. A folder of images for each class has it too.",
    )
    label: str | list[str] = Field(
        "label", description="The column of the class. A list of columns with 0 and 1 makes the task multi-label."
    )
    multi_label: bool = Field(
        False, description="The label column holds several labels: a list, or a separated string."
    )
    label_separator: str = Field(",", min_length=1, description="The separator between several labels in one string.")

    @property
    def _classes(self) -> TextClassification:
        """The same labels, of texts."""
        task = TextClassification(
            text=self.image, label=self.label, multi_label=self.multi_label, label_separator=self.label_separator
        )
        return task.with_label_smoothing(self.label_smoothing).with_class_weights(self.class_weights)

    # --- rows -------------------------------------------------------------------------------------------------------

    def text_columns(self) -> tuple[str, ...]:
        """The column of the image."""
        return (self.image,)

    def image_columns(self) -> tuple[str, ...]:
        """The same."""
        return (self.image,)

    def label_columns(self) -> tuple[str, ...]:
        """The column of the class, or the columns of the labels."""
        return self._classes.label_columns()

    def nullable_columns(self) -> tuple[str, ...]:
        """As for texts."""
        return self._classes.nullable_columns()

    def tidy_rows(self, split: Split) -> Split:
        """Bytes are images; labels as for texts."""
        return with_columns(self._classes.tidy_rows(split), (self.image,), lambda value: image_of(value, None))

    def compared_texts(self, split: Split) -> list[Sequence[Any]]:
        """Images are equal when their files are, whatever they are called."""
        return [(content,) for content in contents_of(split, self.image)]

    def classes(self, split: Split) -> Collection[str]:
        """The classes, or the labels."""
        return self._classes.classes(split)

    def notices(self, splits: Mapping[str, Split], labels: tuple[str, ...]) -> dict[str, str]:
        """As for texts."""
        return self._classes.notices(splits, labels)

    def why_not_measured(self, metric: str, split: Split, labels: tuple[str, ...]) -> str | None:
        """As for texts."""
        return self._classes.why_not_measured(metric, split, labels)

    def strata(self, split: Split) -> list[str] | None:
        """The class of each row."""
        return self._classes.strata(split)

    def learn_labels(self, train: Split) -> tuple[str, ...]:
        """The names of the classes in the training split."""
        return self._classes.learn_labels(train)

    def learn_model(self, facts: ModelFacts) -> dict[str, Any]:
        """The images that the model takes, and how many patches it makes of one."""
        return image_facts(facts.config)

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:
        """Every label must be one of those seen in training."""
        self._classes.check_split(split, labels)

    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Pixels, and ``label``: a class's position, or a 0/1 vector of labels."""
        images = pixels_of(split, self.image, tokenizer, fixed_size(self.learned))
        targets = self._classes.targets(split, labels)
        examples = [self._example(*row) for row in zip(images, targets, strict=True)]
        return EncodedSplit(split.name, split.index, examples)

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """An empty image of the first class, or without a label."""
        return {"pixels": None, "tokens": length, "label": self._classes.placeholder(length, labels)["label"]}

    def placeholder_labels(self, split: Split, labels: tuple[str, ...]) -> Mapping[str, Sequence[Any]]:
        """No label at all, or the first class where there must be one."""
        return self._classes.placeholder_labels(split, labels)

    # --- objective --------------------------------------------------------------------------------------------------

    @property
    def supports_virtual_tokens(self) -> bool:
        """They stand before a text."""
        return False

    def head(self, labels: tuple[str, ...]) -> Head:
        """A linear layer over one vector per image."""
        return replace(self._classes.head(labels), auto_class="AutoModelForImageClassification")

    def length(self, example: Example) -> int:
        """Patches."""
        return int(example["tokens"])

    def longest(self) -> int:
        """Every image has as many patches."""
        return int(self.learned.get("tokens", USUAL_PATCHES))

    def padded_tokens(self, batch: Mapping[str, Tensor]) -> int:
        """There is no padding."""
        return len(batch["labels"]) * self.longest()

    def by_row(self, example: Example, row: int) -> Example | None:
        """An image of one pixel, which is the number."""
        return {**example, "pixels": RowNumber(row)}

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
        """``pixel_values`` (batch × channels × height × width), and ``labels``: batch, or batch × labels."""
        import torch

        images = [
            torch.zeros(image_shape(self.learned)) if example["pixels"] is None else example["pixels"].read(keep=False)
            for example in examples
        ]
        return {
            "pixel_values": torch.stack(images),
            "labels": torch.tensor([example["label"] for example in examples]),
        }

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits, batch × classes."""
        output: Tensor = model(pixel_values=batch["pixel_values"]).logits
        return output

    def loss(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """As for texts, summed over the images."""
        return self._classes.loss(logits, batch)

    @property
    def has_class_targets(self) -> bool:
        """Not where any number of labels may apply."""
        return self._classes.has_class_targets

    def class_terms(self, logits: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One term an image."""
        return self._classes.class_terms(logits, batch)

    @property
    def takes_class_weights(self) -> bool:
        """As it has class targets."""
        return self.has_class_targets

    def class_indices(self, example: Example) -> Sequence[int]:
        """The one class."""
        return self._classes.class_indices(example)

    def loss_terms(self, batch: Mapping[str, Tensor]) -> int:
        """One term an image."""
        return len(batch["labels"])

    # --- answers ----------------------------------------------------------------------------------------------------

    def predict(self, logits: Tensor, batch: Mapping[str, Tensor], labels: tuple[str, ...]) -> list[Prediction]:
        """The most likely class with every class's probability; or the labels that are more likely than not."""
        return self._classes.predict(logits, batch, labels)

    def pool(self, said: Sequence[Prediction], labels: tuple[str, ...]) -> Prediction:
        """The mean of the probabilities."""
        return self._classes.pool(said, labels)

    def scorer(self, labels: tuple[str, ...]) -> Scorer:
        """Metrics for one label, or for several."""
        return self._classes.scorer(labels)

    def answer(self, prediction: Prediction, inputs: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
        """The class with its probability, or the labels; and the probability of each."""
        return self._classes.answer(prediction, inputs, labels)

    def confidences(self, prediction: Prediction, labels: tuple[str, ...]) -> list[tuple[float, bool]]:
        """Of the chosen class; or of the decision on every label."""
        return self._classes.confidences(prediction, labels)

    def _example(self, pixels: Pixels, target: Any) -> Example:
        return {"pixels": pixels, "tokens": self.longest(), "label": target}
