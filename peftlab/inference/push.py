"""Upload a run's weights, or an export, to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peftlab.artifact.saved_ensemble import SavedEnsemble
from peftlab.artifact.saved_export import SavedExport, open_saved
from peftlab.core.errors import SourceError, UnsupportedError, UserError, first_line
from peftlab.core.reporter import ProgressCallback
from peftlab.run.card import CARD_NAME, CARD_TAG

DECIDING = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.onnx",
    "*.onnx.data",
    "adapter_config.json",
    "peftlab_adapter.json",
    "peftlab_export.json",
    "modules.json",
)
"""Files that decide what is loaded: those of an earlier upload go. transformers would take a merged model that stands
beside an older ``adapter_config.json`` for the adapter alone, and put it on the base again, without a word."""


def push_folder(
    folder: Path | str, repository: str | None = None, *, private: bool, force: bool = False, report: ProgressCallback
) -> str:
    """Upload ``adapter/`` or ``model/`` of a run, or the whole of an export.

    Data, predictions and checkpoints of a run stay here. What peftlab has uploaded there before is replaced.

    Args:
        folder: Of a finished run, or of an export.
        repository: ``owner/name``; it is made where there is none. None: the run's name, under the account that is
            logged in.
        private: Whether a new repository is private.
        force: Upload also where the repository holds what peftlab has not uploaded; there nothing is deleted.
        report: Is told what is uploaded.

    Returns:
        The repository's address.

    Raises:
        UserError: There is nothing to upload, or the repository holds somebody's other work.
        SourceError: The Hub cannot be reached, or refuses.
    """
    folder = Path(folder)
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    source = folder_to_push(folder)
    api = HfApi()
    try:
        repository = repository or f"{api.whoami()['name']}/{open_saved(folder).name}"
        is_foreign = _is_foreign(api, repository)
        if is_foreign and not force:
            raise UserError(
                "the repository holds files that peftlab has not uploaded; it would replace some of them",
                where=repository,
                hint="Choose another --repository, or add --force.",
            )
        report(f"uploading {source}")
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=source,
            commit_message=f"{folder.name}, by peftlab",
            delete_patterns=None if is_foreign else list(DECIDING),
        )
    except UserError:
        raise
    except HFValidationError as error:
        raise UserError(first_line(error), where="--repository", hint="Write OWNER/NAME.") from None
    except Exception as error:  # noqa: BLE001 - the errors of whichever HTTP library the client is built on
        raise SourceError(
            f"the Hub does not take it: {first_line(error)}",
            where=repository or str(folder),
            hint="Log in with `hf auth login`, and check the connection.",
        ) from None
    return str(address)


def _is_foreign(api: Any, repository: str) -> bool:
    """Whether there is a repository with files in it whose model card does not say that peftlab made them."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        there = api.model_info(repository)
    except RepositoryNotFoundError:
        return False
    files = {file.rfilename for file in there.siblings or []} - {".gitattributes"}
    return bool(files) and CARD_TAG not in (there.tags or [])


def folder_to_push(folder: Path) -> Path:
    """The folder that goes to the Hub.

    Raises:
        UserError: It is not there or not whole, or has no model card.
    """
    saved = open_saved(folder)
    if isinstance(saved, SavedEnsemble):
        raise UnsupportedError(
            "other tools know no ensembles",
            where=str(saved.folder),
            hint="Push its runs one by one, or a soup of them.",
        )
    source = saved.folder if isinstance(saved, SavedExport) else saved.artifact
    if not (source / CARD_NAME).is_file():
        raise UserError(
            "there is no model card (README.md) beside the weights",
            where=str(source),
            hint="The command that made the run writes it with --resume.",
        )
    _refuse_links(source)
    return source


def _refuse_links(folder: Path) -> None:
    """A run of somebody else may hold a link to a key of the user's, and its target would be uploaded."""
    root = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise UserError(
                f"this is a link to {path.resolve()}, outside of what is uploaded",
                where=str(path),
                hint="Delete it, or put a copy of the file in its place if it is part of the model.",
            )
