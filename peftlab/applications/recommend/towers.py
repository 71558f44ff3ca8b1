"""Vectors of texts: of the tuned tower, of the same model before tuning, and a mix of both.

Tuning on what users did teaches which texts go together, and blurs what else they say: for new items it can lose more
than it gains. So both vectors of a text can stand side by side, and how much the tuned one counts is chosen on the
inner split. (Of weights, in place of vectors, that is WiSE-FT, https://arxiv.org/abs/2109.01903.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftlab.applications.recommend.vectors import embed_texts, unit
from peftlab.core.application import Workplace
from peftlab.core.errors import UserError
from peftlab.core.files import atomic_file

if TYPE_CHECKING:
    from peftlab.inference.tuned_model import TunedModel

VECTORS_NAME, UNTUNED_NAME = "vectors.npy", "untuned.npy"
CENTRE_NAME, UNTUNED_CENTRE_NAME = "centre.npy", "untuned_centre.npy"
"""The mean of all items' vectors, which is taken away from each: what all texts have in common tells none apart."""
TUNED_SHARES = (1.0, 0.5, 0.3, 0.0)
"""What is tried; of equals the first."""
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class TextVectors:
    """Of all items, each of the length 1.

    Args:
        tuned: Items × size.
        untuned: The same before tuning; None where the base cannot be had any more.
    """

    tuned: Matrix
    untuned: Matrix | None

    @property
    def shares(self) -> tuple[float, ...]:
        """What the tuned vectors may count."""
        return TUNED_SHARES[:1] if self.untuned is None else TUNED_SHARES

    def mixed(self, share: float) -> Matrix:
        """Vectors whose products are the tuned ones' by ``share``, and the others' by the rest.

        Raises:
            UserError: The vectors before tuning are wanted, and not there.
        """
        if share == 1:
            return self.tuned
        if self.untuned is None:
            raise UserError("the vectors of the model before tuning are gone", hint="Build it anew in another folder.")
        return mix(self.tuned, self.untuned, share)


def mix(tuned: Matrix, untuned: Matrix, share: float) -> Matrix:
    """Both side by side, of the length 1; one alone where the other counts nothing."""
    if share in (0, 1):
        return tuned if share else untuned
    sides = [np.sqrt(np.float32(share)) * tuned, np.sqrt(np.float32(1 - share)) * untuned]
    found: Matrix = np.concatenate(sides, axis=-1, dtype=np.float32)
    return found


def make_vectors(place: Workplace, texts: Sequence[str]) -> TextVectors:
    """Embed all items by both; what is there stays."""
    tuned = _make(place, VECTORS_NAME, CENTRE_NAME, texts, tuned=True)
    try:
        return TextVectors(tuned, _make(place, UNTUNED_NAME, UNTUNED_CENTRE_NAME, texts, tuned=False))
    except UserError as error:
        place.reporter.say(f"what tuning adds will not be told: {error.message}")
        return TextVectors(tuned, None)


def load_vectors(folder: Path) -> TextVectors:
    """What :func:`make_vectors` has left."""
    untuned = folder / UNTUNED_NAME
    return TextVectors(
        np.load(folder / VECTORS_NAME, allow_pickle=False),
        np.load(untuned, allow_pickle=False) if untuned.exists() else None,
    )


class Towers:
    """Embeds new texts as the items were embedded.

    Args:
        place: The application's folder.
        share: What the tuned tower counts. What counts nothing is not loaded.
    """

    def __init__(self, place: Workplace, share: float) -> None:
        self._share = share
        names = {True: CENTRE_NAME, False: UNTUNED_CENTRE_NAME}
        self._parts = [
            (load_tower(place, tuned=tuned), np.load(place.folder / name, allow_pickle=False))
            for tuned, name in names.items()
            if (share if tuned else 1 - share)
        ]

    def embed(self, text: str) -> Matrix:
        """The vector of a text; size."""
        found = [unit(embed_texts(tower, [text]) - centre)[0] for tower, centre in self._parts]
        return mix(found[0], found[-1], self._share)


def load_tower(place: Workplace, *, tuned: bool) -> TunedModel:
    """The text tower; or its base, before tuning."""
    from peftlab.artifact.saved_run import SavedRun
    from peftlab.core.devices import choose_device
    from peftlab.inference.load_tuned import load_tuned, load_untuned

    device = None if place.device == "auto" else choose_device(place.device)
    if tuned:
        return load_tuned(place.runs["text"], offline=place.offline, device=device, report=place.reporter.say)
    return load_untuned(SavedRun.open(place.runs["text"]), offline=place.offline, device=device)


def _make(place: Workplace, name: str, centre_name: str, texts: Sequence[str], *, tuned: bool) -> Matrix:
    path, centre_path = place.folder / name, place.folder / centre_name
    if path.exists() and centre_path.exists():
        found: Matrix = np.load(path, allow_pickle=False)
        return found
    place.reporter.say(f"vectors of {len(texts)} items{'' if tuned else ', by the model as it was before tuning'}")
    found = embed_texts(load_tower(place, tuned=tuned), texts)
    centre = found.mean(axis=0)
    found = unit(found - centre)
    _write(path, found)
    _write(centre_path, centre)
    return found


def _write(path: Path, values: Matrix) -> None:
    with atomic_file(path) as partial, partial.open("wb") as file:
        np.save(file, values)
