"""transformers without its own lines: peftlab says itself what a person has to know."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars, load reports or advice of transformers within the block.

    Set ``PEFTLAB_VERBOSE=1`` to have them.
    """
    from transformers.utils import logging as transformers_logging

    if os.environ.get("PEFTLAB_VERBOSE"):
        yield
        return
    level, had_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # Its name on the package is missing where the package has put another object in its own place meanwhile.
    reader: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    bar = reader.tqdm
    # The bar of GGUF files is none of those that the library can turn off.
    reader.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        reader.tqdm = bar
        transformers_logging.set_verbosity(level)
        if had_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
