"""What a model with two towers has in the place of a tokenizer: one, and beside it what reads images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peftlab.models.image_reader import ImageReader


class ImageTextReader:
    """A tokenizer in every way, which also turns images into what the model takes.

    Args:
        tokenizer: Of transformers.
        images: Of the same model.
    """

    def __init__(self, tokenizer: Any, images: ImageReader) -> None:
        self._tokenizer, self._images = tokenizer, images

    def pixels(self, image: Any) -> Any:
        """As :meth:`ImageReader.pixels`."""
        return self._images.pixels(image)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write both, as ``transformers.AutoTokenizer`` and ``AutoImageProcessor`` read them."""
        self._tokenizer.save_pretrained(folder)
        self._images.save_pretrained(folder)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Tokenise."""
        return self._tokenizer(*arguments, **keywords)

    def __len__(self) -> int:
        """Tokens."""
        return len(self._tokenizer)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_tokenizer":  # asked for by copy and pickle, before there is one
            raise AttributeError(name)
        return getattr(self._tokenizer, name)
