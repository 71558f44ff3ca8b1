"""What the Hub's library says of a model that cannot be had, as errors for a person.

Its first line is `401 Client Error.` and the number of a request, whatever is wrong.
"""

from __future__ import annotations

from pathlib import Path

from peftlab.core.errors import SourceError, first_line
from peftlab.core.files import near_file
from peftlab.core.hub import why_not_reached


def taken_for_hub_id(path: str) -> str:
    """The hint for a ``model.path`` that is no folder, and maybe no model of the Hub either."""
    near = near_file(Path(path))
    taken = "There is no such folder beside the recipe or here, so this was taken for an id of the Hub."
    return taken if near is None else f"{near} {taken}"


def not_reached(hub_id: str) -> SourceError:
    """The error of a model that is not in the cache, where the Hub does not answer."""
    return SourceError(
        "the model is not in the local cache, and the Hugging Face Hub cannot be reached",
        where=hub_id,
        hint=f"{taken_for_hub_id(hub_id)} If it is one: {why_not_reached()}",
    )


def of_the_hub(error: Exception, hub_id: str, revision: str | None) -> SourceError:
    """The error of a model whose config could not be fetched.

    Args:
        error: As it was raised.
        hub_id: Of the model.
        revision: Of the recipe.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, LocalEntryNotFoundError | ConnectionError):
        return not_reached(hub_id)
    if isinstance(error, GatedRepoError):
        message = "the model is gated: its owners give it to those who have accepted their terms"
        hint = f"Accept them at {constants.ENDPOINT}/{hub_id}, and log in here: hf auth login (or set HF_TOKEN)."
    elif isinstance(error, RevisionNotFoundError):
        message = f"the repository has no revision `{revision}`"
        hint = "Set model.revision to a branch, tag or commit that it has, or leave it out."
    elif isinstance(error, RemoteEntryNotFoundError):
        message = "the repository has no config.json, so it is no transformers model"
        hint = (
            "It may hold an adapter, whose base is the model to tune, or GGUF files: download one, and give its path."
        )
    elif isinstance(error, RepositoryNotFoundError):
        message = "the Hub has no such model, or shows it only to those who may read it"
        hint = f"{taken_for_hub_id(hub_id)} If it is a private one, log in: hf auth login (or set HF_TOKEN)."
    else:
        message, hint = first_line(error), taken_for_hub_id(hub_id)
    return SourceError(message, where=hub_id, hint=hint)
