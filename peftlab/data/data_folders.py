"""Where public data sets lie that recipes name, and that do not come along with peftlab."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "PEFTLAB_DATA"
"""Names the folder of a user's data sets."""
IN_WORKING_DIRECTORY = "data"
_CHECKOUT = Path(__file__).resolve().parents[2]


def data_folders() -> tuple[Path, ...]:
    """The folders in which a data set is looked for that is neither beside its recipe nor in the working directory.

    The one that ``$PEFTLAB_DATA`` names; else ``data`` in the working directory and, for those who develop peftlab,
    ``shared/data`` beside their checkout.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return (Path(chosen).expanduser(),)
    folders = [Path(IN_WORKING_DIRECTORY)]
    if (_CHECKOUT / "pyproject.toml").is_file():
        folders.append(_CHECKOUT.parent / "shared" / "data")
    return tuple(folders)
