"""Rows that a program gives instead of an address: a list of dicts, a pandas frame, an Arrow table, a ``Dataset``.

They are copied into plain columns when a recipe is made, so that what runs is what was given, whatever happens to the
object later. In a recipe that is written down an address stands for them, which says how many rows there were and
their SHA-256: ``python:rows=1200#sha256=…``. Nobody can read them from there; the same rows can be given again.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticKnownError, PydanticOmit, core_schema

from peftlab.core.errors import ConfigError, DataError
from peftlab.data.columnar import column_values, columns_of_dataset, different_names
from peftlab.data.json_tables import columns_of_json

SCHEME = "python:"
GIVEN_MODEL = "python:model"
"""Stands in ``model.path`` for a model that a program gives beside the recipe."""
KINDS = "a list of dicts, a pandas DataFrame, a pyarrow Table, a datasets.Dataset or DatasetDict"

Columns = dict[str, list[Any]]
Split = tuple[str, Mapping[str, Sequence[Any]]]
"""A split's name, and its columns."""


@dataclass(frozen=True, eq=False, repr=False)
class GivenRows:
    """Rows that a program has given.

    Args:
        kind: What they were, for messages: ``list of dicts``.
        tables: The columns of each split, under the names that the object gives them; of a single table under ``""``.
    """

    kind: str
    tables: Mapping[str, Columns]
    address: str = field(init=False)
    """What stands for them in a recipe that is written down."""

    def __post_init__(self) -> None:
        rows = {name or "rows": len(next(iter(columns.values()))) for name, columns in self.tables.items()}
        shown = ",".join(f"{name}={count}" for name, count in rows.items())
        object.__setattr__(self, "address", f"{SCHEME}{shown}#sha256={_fingerprint(self.tables)}")

    def __repr__(self) -> str:
        return f"<{self.kind}: {self.address}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GivenRows) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def check(value: Any) -> GivenRows:
            if not isinstance(value, cls):
                raise PydanticKnownError("string_type")  # to a reader of YAML an address is what is wanted
            return value

        return core_schema.no_info_plain_validator_function(
            check, serialization=core_schema.plain_serializer_function_ser_schema(lambda rows: rows.address)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        raise PydanticOmit  # no YAML can hold them


def is_given(address: str) -> bool:
    """Whether an address stands for rows, or a model, that a program gave."""
    return address.startswith(SCHEME)


def given_rows(value: Any, *, where: str, else_wanted: str = "an address") -> GivenRows:
    """Take an object that holds rows.

    Args:
        value: A list of dicts, a frame, an Arrow table, a ``Dataset``, or a ``DatasetDict``.
        where: The key, for messages.
        else_wanted: What might stand there instead of rows.

    Raises:
        ConfigError: It is something else.
        DataError: It has no rows, or a row is no mapping.
    """
    for kind, is_kind, tables_of in _READERS:
        if is_kind(value):
            tables = {name: _plain_columns(columns) for name, columns in tables_of(value, where)}
            for name, columns in tables.items():
                if not any(columns.values()):
                    raise DataError(f"there are no rows{f' in the split {name}' if name else ''}", where=where)
            if not tables:
                raise DataError("there are no splits", where=where)
            return GivenRows(kind, tables)
    is_another_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    raise ConfigError(
        f"{else_wanted} or rows are needed, not {reprlib.repr(value)}",
        where=where,
        hint="Make it a list: list(…)." if is_another_list else f"Rows are {KINDS}.",
    )


def _is_of(package: str, *names: str) -> Callable[[Any], bool]:
    """Whether a value's class is one of a package, which need not be there."""

    def check(value: Any) -> bool:
        return any(cls.__module__.partition(".")[0] == package and cls.__name__ in names for cls in type(value).__mro__)

    return check


def _of_list(rows: list[Any], where: str) -> Iterator[Split]:
    odd = next((at for at, row in enumerate(rows) if not isinstance(row, Mapping)), None)
    if odd is not None:
        raise DataError(
            f"row {odd + 1} is {reprlib.repr(rows[odd])}; a row is a dict of columns",
            where=where,
            hint="As in [{'text': 'a fine day', 'label': 'good'}, …].",
        )
    yield "", columns_of_json(rows, column_names=None, where=where)


def _of_frame(frame: Any, where: str) -> Iterator[Split]:
    names = different_names([str(name) for name in frame.columns], where=where)
    yield "", {name: frame.iloc[:, at].astype(object).tolist() for at, name in enumerate(names)}


def _of_arrow(table: Any, where: str) -> Iterator[Split]:
    names = different_names(table.column_names, where=where)
    yield "", {name: column_values(table.column(name)) for name in names}


def _of_dataset(rows: Any, _where: str) -> Iterator[Split]:
    yield "", columns_of_dataset(rows, rows.column_names)


def _of_datasets(splits: Any, _where: str) -> Iterator[Split]:
    for name, rows in splits.items():
        yield str(name), columns_of_dataset(rows, rows.column_names)


_READERS: tuple[tuple[str, Callable[[Any], bool], Callable[[Any, str], Iterator[Split]]], ...] = (
    ("list of dicts", lambda value: isinstance(value, list), _of_list),
    ("pandas DataFrame", _is_of("pandas", "DataFrame"), _of_frame),
    ("pyarrow Table", _is_of("pyarrow", "Table"), _of_arrow),
    ("Dataset", _is_of("datasets", "Dataset"), _of_dataset),
    ("DatasetDict", _is_of("datasets", "DatasetDict"), _of_datasets),
)


def _plain_columns(columns: Mapping[str, Any]) -> Columns:
    return {str(name): [_plain_cell(value) for value in values] for name, values in columns.items()}


def _plain_cell(value: Any) -> Any:
    """A cell as a JSON file would hold it; NaN, NaT and NA are missing values, as in files."""
    if value is None or type(value) in (str, int, bool, bytes):
        return value
    if type(value).__module__.partition(".")[0] == "PIL" and hasattr(value, "save"):
        return _image_bytes(value)
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return _plain_cell(value.tolist())
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, list | tuple):
        return [_plain_cell(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain_cell(item) for key, item in value.items()}
    return value


def _image_bytes(image: Any) -> bytes:
    """An image of Pillow as a PNG file, which loses nothing."""
    if image.mode not in ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"):
        image = image.convert("RGB")
    with io.BytesIO() as file:
        image.save(file, format="PNG")
        return file.getvalue()


def _fingerprint(tables: Mapping[str, Columns]) -> str:
    """SHA-256 over names and values: equal for equal rows, whatever object they came in."""
    digest = hashlib.sha256()
    for name in sorted(tables):
        for column in sorted(tables[name]):
            digest.update(
                json.dumps([name, column, tables[name][column]], default=str, sort_keys=True).encode() + b"\n"
            )
    return digest.hexdigest()


__all__ = ["KINDS", "SCHEME", "GivenRows", "given_rows", "is_given"]
