"""From the images of a table to pixels: each is decoded once and checked, before anything is trained."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

from peftlab.core.errors import ConfigError, DataError
from peftlab.core.image_file import ImageFile
from peftlab.core.splits import Split

if TYPE_CHECKING:
    from torch import Tensor

MOST_BYTES = 1 << 30
"""Pixels of a split that are kept in memory; of a larger split, images are decoded anew for each batch."""
MOST_PIXELS = 64_000_000
"""Of one image. A small file can hold a picture that fills the memory (a decompression bomb)."""


class Pixels:
    """The pixels of one image, kept, or decoded when they are needed.

    Args:
        image: Where it is.
        reader: Of the model.
        where: The row, for messages.
    """

    def __init__(self, image: ImageFile, reader: Any, where: str) -> None:
        self._image, self._reader, self._where = image, reader, where
        self._kept: Tensor | None = None

    def read(self, *, keep: bool) -> Tensor:
        """Float32, channels × height × width.

        Raises:
            DataError: The image cannot be used.
        """
        import torch

        if self._kept is not None:
            return self._kept
        with decode(self._image.read(where=self._where), self._image, where=self._where) as image:
            try:
                values = torch.from_numpy(self._reader.pixels(image))
            except (ValueError, OSError) as error:
                raise unreadable(self._image, str(error), self._where) from None
        if keep:
            self._kept = values
        return values


class RowNumber:
    """In place of an image the number of its row: one pixel.

    Args:
        row: Which.
    """

    def __init__(self, row: int) -> None:
        self._row = row

    def read(self, *, keep: bool) -> Tensor:
        """Float32, 1 × 1 × 1."""
        import torch

        return torch.full((1, 1, 1), float(self._row))


def decode(content: bytes, name: str, *, where: str) -> Any:
    """An image of Pillow, as people see it: turned as its camera says, on white where it is transparent.

    16 bits become 8 by the range of the type; of an animation the first picture is taken.

    Raises:
        DataError: It is no image, is damaged, or has too many pixels.
    """
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about what is refused below
            image: Any = Image.open(io.BytesIO(content))
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise DataError(
                    f"the image {name!r:.80} has {width} × {height} pixels; {MOST_PIXELS:,} are allowed",
                    where=where,
                    hint="Make it smaller, or leave the row out.",
                )
            image.load()
            image = ImageOps.exif_transpose(image)
            return _without_transparency(_in_eight_bits(image))
    except Image.DecompressionBombError:
        raise DataError(
            f"the image {name!r:.80} has more than {MOST_PIXELS:,} pixels", where=where, hint="Make it smaller."
        ) from None
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError) as error:
        raise unreadable(name, str(error), where) from None


def unreadable(name: str, reason: str, where: str) -> DataError:
    """The error about an image that cannot be decoded."""
    known = "it is no image of a known kind" if "cannot identify" in reason else (reason.splitlines() or ["damaged"])[0]
    return DataError(
        f"the image {name!r:.80} cannot be read: {known}", where=where, hint="Mend it, or leave the row out."
    )


def pixels_of(split: Split, column: str, reader: Any, shape: tuple[int, int] | None) -> list[Pixels]:
    """The images of a column, each decoded once and checked.

    Args:
        split: The rows.
        column: Its values are :class:`~peftlab.core.image_file.ImageFile`.
        reader: Of the model.
        shape: Height and width that the model takes; None: any.

    Raises:
        DataError: Naming the row.
        ConfigError: The checkpoint's processor makes images of a size that the model does not take.
    """
    found, bytes_of_one = [], 0
    for row, value in enumerate(split.columns[column]):
        if not isinstance(value, ImageFile):
            raise DataError(
                f"the column `{column}` holds {value!r:.40}, and no image",
                where=split.where(row),
                hint="An image is the path of a file, or the bytes of one.",
            )
        pixels = Pixels(value, reader, split.where(row))
        values = pixels.read(keep=bytes_of_one * len(split) <= MOST_BYTES)
        bytes_of_one = values.numel() * values.element_size()
        if shape is not None and tuple(values.shape[1:]) != shape:
            made, wanted = (" × ".join(map(str, size)) for size in (values.shape[1:], shape))
            raise ConfigError(
                f"the model's image processor makes images of {made} pixels, and the model takes {wanted}",
                where="model.path",
            )
        found.append(pixels)
    return found


def _in_eight_bits(image: Any) -> Any:
    """Pillow cuts larger numbers off at 255, so that a picture of 16 bits would be white."""
    import numpy as np
    from PIL import Image

    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.asarray(image, dtype=np.float64)
        values = values if values.max(initial=0) <= 255 else values / 257
        return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    return image


def _without_transparency(image: Any) -> Any:
    """What is transparent shows white: its hidden colour is often black, and means nothing."""
    from PIL import Image

    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image)
        return ground.convert("RGB")
    return image
