"""How a file is written, by what the recipe says, by its ending, and by what its first bytes are."""

from __future__ import annotations

from typing import get_args

from peftlab.core.errors import DataError
from peftlab.data.data_config import DataConfig, TableFormat
from peftlab.data.file_types import COMPRESSED, TABLES, hint_for_type, type_of_file
from peftlab.data.table_files import TableFile

ENDINGS: dict[str, TableFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".xlsx": "xlsx",
    ".xlsm": "xlsx",
    ".conll": "conll",
    ".iob": "conll",
    ".bio": "conll",
    ".txt": "text",
    ".yml": "yaml",
    ".yaml": "yaml",
}


def format_of(file: TableFile, config: DataConfig) -> TableFormat:
    """How a file is written: what the config says, else what its ending says, else what its first bytes are.

    Raises:
        DataError: Nothing tells, or the bytes are those of another type of file.
    """
    found = ENDINGS.get(file.suffix) if config.format == "auto" else config.format
    is_of = type_of_file(file.path) if file.member is None and file.path.stat().st_size else None
    is_of = None if is_of in COMPRESSED or is_of == "zip" else is_of
    if is_of is not None and found is None and is_of in TABLES:
        return TABLES[is_of]
    if is_of is not None and (found is None or found != TABLES.get(is_of)):
        meant = f"not {found}" if found else "not a table"
        raise DataError(f"this is a file of the type {is_of}, {meant}", where=file.name, hint=hint_for_type(is_of))
    if found is None:
        known = ", ".join(get_args(TableFormat))
        raise DataError(
            f"the ending {file.suffix or 'of the name'} does not tell the format",
            where=file.name,
            hint=f"Set `data.format` to one of {known}.",
        )
    return found


def usual_delimiter(kind: str) -> str:
    """What stands between the fields of a file whose format says so much."""
    return "\t" if kind == "tsv" else ","
