"""transformers without its own lines: peftlab says itself what a person has to know."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars, load reports or advice of transformers within the block.

    Set ``PEFTLAB_VERBOSE=1`` to have them.
    """
    from transformers import modeling_gguf_pytorch_utils
    from transformers.utils import logging as transformers_logging

    if os.environ.get("PEFTLAB_VERBOSE"):
        yield
        return
    level, had_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    bar = modeling_gguf_pytorch_utils.tqdm
    # The bar of GGUF files is none of those that the library can turn off.
    modeling_gguf_pytorch_utils.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        modeling_gguf_pytorch_utils.tqdm = bar
        transformers_logging.set_verbosity(level)
        if had_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
