"""Python code that comes with a model: by whose word it runs, and what of it has run here before.

A recipe that a person gives to ``peftlab run`` is their own word. The recipe in the folder of a finished run, an export
or a pack is the word of whoever made it. So it is read with ``known`` in the place of ``true``: code runs only if the
same files, byte for byte, have run on this machine before by the word of the same user. What has run is kept as empty
files in the user's own state folder, named by the SHA-256 of the code; never in the cache, which others may share.

transformers brings the files of such code into a folder of its own, and then runs them in one function. That is where
they are looked at, so that it does not matter where they come from: a folder, the Hub, or another model's repository.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import platformdirs

from peftlab.core.errors import SourceError
from peftlab.models.model_config import KNOWN, ModelConfig

VARIABLE = "PEFTLAB_TRUST_REMOTE_CODE"
"""Set to 1, it is the user's word for the code of one command."""

_leave: ContextVar[ModelConfig | None] = ContextVar("leave_for_code", default=None)


def state_folder() -> Path:
    """Where a user's word is kept."""
    return Path(platformdirs.user_state_dir("peftlab", appauthor=False)) / "remote_code"


def of_another_hand(values: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of a recipe that nobody has given to this command as their own word.

    Args:
        values: As a run, an export or a record holds them.
    """
    model = values.get("model")
    if not isinstance(model, Mapping) or not model.get("trust_remote_code"):
        return dict(values)
    return {**values, "model": {**model, "trust_remote_code": KNOWN}}


@contextlib.contextmanager
def leave_for_code(config: ModelConfig) -> Iterator[bool]:
    """Within the block, code of a model runs as far as the recipe's section allows.

    Yields:
        What transformers is told: whether code may run at all.

    Raises:
        SourceError: Code would run that has not run here before, and the section allows no other.
    """
    if not config.trust_remote_code:  # transformers refuses by itself
        yield False
        return
    _watch()
    token = _leave.set(config)
    try:
        yield True
    finally:
        _leave.reset(token)


def is_remote(model: object) -> bool:
    """Whether a model's class is one of code that came with it."""
    return type(model).__module__.partition(".")[0] == "transformers_modules"


def _watch() -> None:
    """Let transformers ask before it runs a file; what a program loads by transformers itself is not asked about."""
    from transformers import dynamic_module_utils
    from transformers.generation import utils as generation

    run: Any = dynamic_module_utils.get_class_in_module
    if getattr(run, "asks_peftlab", False):
        return
    asking = _asking(run)
    dynamic_module_utils.get_class_in_module = asking
    generation.get_class_in_module = asking  # type: ignore[attr-defined]  # it has the function by a name of its own


def _asking(run: Callable[..., Any]) -> Callable[..., Any]:
    def ask_and_run(class_name: str, module_path: str | os.PathLike[str], **options: Any) -> Any:
        config = _leave.get()
        if config is not None:
            _check(Path(module_path), config)
        return run(class_name, module_path, **options)

    ask_and_run.asks_peftlab = True  # type: ignore[attr-defined]
    return ask_and_run


def _check(module: Path, config: ModelConfig) -> None:
    from transformers.dynamic_module_utils import get_relative_import_files
    from transformers.utils.hub import HF_MODULES_CACHE

    first = Path(HF_MODULES_CACHE) / module
    files = [first, *sorted(map(Path, get_relative_import_files(first)))]
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{os.path.relpath(file, first.parent)} {len(content)}\n".encode())
        digest.update(content)
    mark = state_folder() / digest.hexdigest()
    if config.trust_remote_code is True or os.environ.get(VARIABLE) == "1":
        with contextlib.suppress(OSError):  # a home that cannot be written to: then it is asked for again
            mark.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            mark.touch(mode=0o600)
    elif not mark.exists():
        raise SourceError(
            "Python code that comes with the model would run, and you have not let it run on this machine before",
            where=config.path or str(config.tokenizer),
            hint=f"Read it: {', '.join(map(str, files))}. If you trust it, set {VARIABLE}=1 for this command; the same "
            "code is then allowed from now on.",
        )
