"""What a model of images has in the place of a tokenizer: transformers' image processor, by Pillow and numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftlab.core.errors import UnsupportedError
from peftlab.core.model_facts import Family
from peftlab.models.facts import family_of
from peftlab.models.model_config import ModelConfig
from peftlab.models.odd_files import told_by_the_checkpoint
from peftlab.models.remote_code import leave_for_code

SETTINGS = "preprocessor_config.json"
NEW_IMAGE_SIZE = 224
"""Height and width in pixels, as ViT's config has it."""


class ImageReader:
    """Turns images into what the model takes.

    It stands where other models have a tokenizer, and so has what is asked of every tokenizer.

    Args:
        processor: An image processor of transformers.
        channels: That the model takes: 1 or 3.
    """

    pad_token_id = 0

    def __init__(self, processor: Any, channels: int = 3) -> None:
        self.processor, self.channels = processor, channels

    def pixels(self, image: Any) -> Any:
        """The pixels of one image of Pillow, as numpy float32 (channels × height × width).

        Raises:
            ValueError: The processor does not take it.
        """
        import numpy as np

        image = image.convert("L" if self.channels == 1 else "RGB")
        values = self.processor(images=[image], return_tensors="np")["pixel_values"][0]
        return np.asarray(values, dtype=np.float32)

    def get_vocab(self) -> dict[str, int]:
        """No tokens."""
        return {}

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the processor's settings."""
        self.processor.save_pretrained(folder)


def load_image_reader(source: str, config: ModelConfig, *, offline: bool) -> tuple[Family | None, ImageReader | None]:
    """The reader of a checkpoint's images, and the model's family; both None where the model reads text alone.

    Raises:
        SourceError: Its settings cannot be read.
    """
    from transformers import AutoConfig, AutoImageProcessor
    from transformers.utils.hub import cached_file

    shared: dict[str, Any] = {"revision": config.revision, "local_files_only": offline}
    found = cached_file(source, SETTINGS, _raise_exceptions_for_missing_entries=False, **_quiet(shared))
    if found is None:
        return None, None
    failed = told_by_the_checkpoint("the image processor cannot be loaded", config.path)
    with failed, leave_for_code(config) as shared["trust_remote_code"]:
        values = AutoConfig.from_pretrained(source, **shared).to_dict()
        family = family_of(values)
        if family not in ("image", "image_text"):
            return None, None
        check_pillow()
        load: Any = AutoImageProcessor.from_pretrained
        processor = load(source, backend="pil", **shared)
    of_images = values["vision_config"] if family == "image_text" else values
    return family, ImageReader(processor, int(of_images.get("num_channels") or 3))


def new_image_reader(values: Mapping[str, Any]) -> ImageReader:
    """The reader of a model that starts from nothing: images of its size, with values between -1 and 1.

    Args:
        values: The recipe's ``model.from_config``, or the part of it that is about images.
    """
    check_pillow()
    from transformers import ViTImageProcessorPil

    size, channels = values.get("image_size", NEW_IMAGE_SIZE), int(values.get("num_channels", 3))
    height, width = (size, size) if isinstance(size, int) else size
    middle = [0.5] * channels
    processor: Any = ViTImageProcessorPil
    return ImageReader(
        processor(size={"height": height, "width": width}, image_mean=middle, image_std=middle), channels
    )


def check_pillow() -> None:
    """Refuse where Pillow is not installed.

    Raises:
        UnsupportedError: With what to install.
    """
    import importlib.util

    if importlib.util.find_spec("PIL") is None:
        raise UnsupportedError("images need Pillow, which is not installed", hint="pip install 'peftlab[images]'")


def _quiet(shared: Mapping[str, Any]) -> dict[str, Any]:
    """A repository that cannot be reached has no settings either; what loads next says so."""
    return {**shared, "_raise_exceptions_for_gated_repo": False, "_raise_exceptions_for_connection_errors": False}
