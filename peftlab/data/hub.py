"""Data sets of the Hugging Face Hub, through the ``datasets`` library, which keeps its own cache."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peftlab.core.errors import DataError, SourceError
from peftlab.core.files import near_file
from peftlab.core.hub import prepare_hub, why_not_reached
from peftlab.core.reporter import ProgressCallback
from peftlab.data.columnar import columns_of_dataset
from peftlab.data.data_config import DataConfig
from peftlab.data.locations import require_online
from peftlab.data.table import Table


def load_hub_tables(
    hub_id: str,
    config: DataConfig,
    *,
    keep: Collection[str] | None = None,
    offline: bool = False,
    report: ProgressCallback | None = None,
) -> dict[str, Table]:
    """Load all splits of a Hub data set.

    Class numbers become the classes' names, and hidden labels (-1) missing values.

    Args:
        hub_id: Such as ``nyu-mll/glue``; the ``datasets`` library also takes a folder's path here.
        config: Its ``subset`` and ``revision`` say which configuration and commit.
        keep: The columns to keep; None: all.
        offline: Use the local cache only.
        report: Takes lines that tell a person what is going on.

    Returns:
        A table per split, under the names that the Hub gives them.

    Raises:
        SourceError: There is no such data set, subset or revision, or it cannot be reached.
    """
    import datasets

    uses_cache = offline or not prepare_hub()
    if report:
        report(f"loading the data set {hub_id} from the {'local cache' if uses_cache else 'Hub'}")
    try:
        with _offline(uses_cache):
            loaded = datasets.load_dataset(hub_id, config.subset, revision=config.revision)
    except Exception as error:  # noqa: BLE001 - the library raises whatever its many back ends raise
        raise _explain(error, hub_id, config, offline) from None
    return {str(split): table_of_dataset(rows, f"{hub_id}: {split}", keep) for split, rows in loaded.items()}


@contextmanager
def _offline(offline: bool) -> Iterator[None]:
    """Forbid the network to both libraries: each reads its own switch, set at import, again at every request."""
    if not offline:
        yield
        return
    import datasets
    import huggingface_hub.constants as hub

    before = datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = hub.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE = before


def table_of_dataset(rows: Any, name: str, keep: Collection[str] | None) -> Table:
    """The columns of a ``datasets.Dataset``, with names for class numbers.

    Raises:
        DataError: It has no rows.
    """
    names = list(rows.column_names)
    chosen = [column for column in names if keep is None or column in keep] or names[:1]
    if len(rows) == 0:
        raise DataError("there are no rows", where=name)
    return Table(name, columns_of_dataset(rows, chosen), tuple(names))


def _no_file(hub_id: str, advice: str) -> str:
    near = near_file(Path(hub_id))
    return f"{advice} (There is no file or folder of this name either.)" if near is None else f"{near} {advice}"


def _explain(error: Exception, hub_id: str, config: DataConfig, offline: bool) -> Exception:
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, ValueError) and "config" in str(error).lower():  # a subset is missing, or unknown
        listed = " ".join(str(error).split())
        return SourceError(listed[:600], where=hub_id, hint="Set `data.subset` to one of the configurations.")
    if offline:
        try:
            require_online(hub_id)
        except SourceError as refused:
            return refused
    if isinstance(error, ConnectionError) or "connect" in type(error).__name__.lower():
        return SourceError(
            "the data set is not in the local cache, and the Hub cannot be reached",
            where=hub_id,
            hint=_no_file(hub_id, why_not_reached()),
        )
    revision = f" at revision `{config.revision}`" if config.revision else ""
    return SourceError(
        f"the data set{revision} cannot be loaded: {said}",
        where=hub_id,
        hint=_no_file(hub_id, "Check the id, and `hf auth login` if it is gated."),
    )
