"""Whether a folder of weights is whole, before anything is loaded from it.

transformers makes an empty tokenizer where its vocabulary is missing, and looks on the Hub where weights are missing:
neither says what is wrong.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from peftlab.artifact.save import DELTA_CONFIG, DELTA_WEIGHTS
from peftlab.core.errors import UserError, first_line
from peftlab.models.checkpoint_files import INDEX, WHOLE
from peftlab.models.facts import family_of

ADAPTER_CONFIGS = ("adapter_config.json", DELTA_CONFIG)
OF_OTHERS = ("XLORA", "MULTITASK_PROMPT_TUNING")
"""Types of peft whose config names further weights, on the Hub or anywhere, which peft fetches while it loads."""
VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken", "*.bpe")
"""What a tokenizer's words lie in; of these patterns one is enough."""
IMAGE_SETTINGS = "preprocessor_config.json"
"""Of a model of images: how they are read, in the place of a tokenizer."""


def check_adapter(folder: Path) -> None:
    """See that an adapter's folder holds all that it must, undamaged.

    Raises:
        UserError: With the file that is not so.
    """
    configs = [name for name in ADAPTER_CONFIGS if (folder / name).is_file()]
    if not configs:
        raise _missing(folder, ADAPTER_CONFIGS[0], "adapter")
    for name in (configs[0], "config.json"):
        _check_json(folder, name, "adapter")
    kind = json.loads((folder / configs[0]).read_text(encoding="utf-8")).get("peft_type")
    if kind in OF_OTHERS:
        raise UserError(f"the adapter is of the type {kind}, which loads other files than its own", where=str(folder))
    _check_weights(folder, DELTA_WEIGHTS, "adapter")
    _check_tokenizer(folder, "adapter")


def check_model(folder: Path) -> None:
    """See that a whole model's folder holds all that it must, undamaged.

    Raises:
        UserError: With the file that is not so.
    """
    _check_json(folder, "config.json", "model")
    if (folder / INDEX).is_file():
        _check_json(folder, INDEX, "model")
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        names = sorted(set(index["weight_map"].values()))
    else:
        names = [WHOLE]
    for name in names:
        _check_weights(folder, name, "model")
    _check_tokenizer(folder, "model")


def check_one_file(folder: Path, name: str) -> None:
    """See that an export whose model is one file holds all that it must; whether that is whole, its reader says.

    Raises:
        UserError: With the file that is not so.
    """
    if not (folder / name).is_file():
        raise _missing(folder, name, "export")
    _check_tokenizer(folder, "export")


def _check_tokenizer(folder: Path, what: str) -> None:
    if (folder / IMAGE_SETTINGS).is_file():
        _check_json(folder, IMAGE_SETTINGS, what)
        if family_of(json.loads((folder / "config.json").read_text(encoding="utf-8"))) == "image":
            return
    _check_json(folder, "tokenizer_config.json", what)
    if not any(next(folder.glob(pattern), None) for pattern in VOCABULARIES):
        raise _missing(folder, VOCABULARIES[0], what)
    if (folder / VOCABULARIES[0]).is_file():
        _check_json(folder, VOCABULARIES[0], what)


def _check_json(folder: Path, name: str, what: str) -> None:
    try:
        values = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(folder, name, what) from None
    except ValueError as error:  # of JSON, and of its characters
        raise _damaged(folder, name, what, str(error)) from None
    if not isinstance(values, dict):
        raise _damaged(folder, name, what, "it holds no object")


def _check_weights(folder: Path, name: str, what: str) -> None:
    """The header tells how long the file must be, and safetensors compares."""
    if not (folder / name).is_file():
        raise _missing(folder, name, what)
    try:
        with safe_open(folder / name, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise _damaged(folder, name, what, first_line(error)) from None


_HINT = "Copy it from where the run was made, or run the recipe again."


def _missing(folder: Path, name: str, what: str) -> UserError:
    return UserError(f"the {what} is not whole: {name} is missing", where=str(folder), hint=_HINT)


def _damaged(folder: Path, name: str, what: str, detail: str) -> UserError:
    return UserError(f"the {what} is damaged: {name}: {detail}", where=str(folder), hint=_HINT)
