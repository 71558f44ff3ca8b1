"""Files of a checkpoint that are JSON, but hold something else than what is read out of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peftlab.core.errors import PeftlabError, SourceError, first_line


@contextmanager
def told_by_the_checkpoint(problem: str, where: str) -> Iterator[None]:
    """Whatever is raised while a checkpoint's small files are read, as an error of the checkpoint.

    transformers and tokenizers take such files for right: a text in the place of a number raises what Python raises
    where it is used, and tokenizers have no class of their own.

    Args:
        problem: Such as ``the tokenizer cannot be loaded``.
        where: The checkpoint, as the user names it.

    Raises:
        SourceError: In the place of any other error. A missing package and a lack of memory stay what they are.
    """
    try:
        yield
    except (PeftlabError, ImportError, MemoryError):
        raise
    except Exception as error:
        raise SourceError(f"{problem}: {first_line(error)}", where=where) from error
