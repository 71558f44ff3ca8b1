"""Writes scikit-learn's digits (https://archive.ics.uci.edu/dataset/80, CC BY 4.0) as a folder of PNG files a class.

``python benchmarks/images/write_digits.py FOLDER``; nothing is downloaded.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits


def write_digits(folder: Path) -> int:
    """Write 1797 images of 8 × 8 pixels; gives how many."""
    images, digits = load_digits(return_X_y=True)
    for at, (image, digit) in enumerate(zip(images.reshape(-1, 8, 8), digits, strict=True)):
        path = folder / str(digit) / f"{at:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).round().astype("uint8")).save(path)
    return len(images)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{write_digits(Path(sys.argv[1]))} images: {sys.argv[1]}")
