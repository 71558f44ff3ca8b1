"""How a table is written that nobody has described: encoding, delimiter, header, and which file is which split."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftlab.core.errors import DataError, PeftlabError, SourceError
from peftlab.core.reporter import ProgressCallback
from peftlab.core.task_guess import TEXT_WORDS
from peftlab.data.data_config import SPLIT_NAMES, DataConfig
from peftlab.data.formats import ENDINGS
from peftlab.data.locations import parse_location, resolve_location
from peftlab.data.sources import load_tables
from peftlab.data.table import Table
from peftlab.data.table_files import TableFile, table_files
from peftlab.proposal.column_kinds import mean_words

SPLIT_WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
ENCODING_HEAD = 2**20
PAIR_MARKS = ("||", "|||", "###", "\t")
"""What stands between two fields in files of plain text."""
LONG_NAME = 60
WESTERN = {"cp1252": "cp1252", "latin_1": "cp1252", "mac_roman": "mac-roman"}
"""Encodings of the same alphabet, which a count of letters cannot tell apart."""

Way = tuple[dict[str, Any], dict[str, str]]
"""Keys of the section ``data``, and the reasons for some of them."""


@dataclass(frozen=True)
class Look:
    """A table as it was read.

    Args:
        keys: Of the recipe's section ``data``.
        tables: The splits that the source has; ``train`` at least.
        reasons: Why, for the keys that needed to be found out.
    """

    keys: Mapping[str, Any]
    tables: Mapping[str, Table]
    reasons: Mapping[str, str] = field(default_factory=dict)


def look_at(address: str, *, offline: bool = False, report: ProgressCallback | None = None) -> Look:
    """Read a source, and find out how it is written.

    Args:
        address: What ``data.source`` takes.
        offline: Forbid the network.
        report: Takes lines that tell a person what is going on.

    Raises:
        SourceError: It cannot be reached.
        DataError: It is no table in any way that was tried; the error is that of the plainest way.
    """
    place = resolve_location(parse_location(address), offline=offline, report=report)
    path = place if isinstance(place, Path) else None
    first: PeftlabError | None = None
    for keys, reasons in _ways(address, path):
        try:
            tables = load_tables(DataConfig.model_validate(keys), offline=offline, report=report)
        except DataError as error:
            first = first or error
            continue
        look = Look(keys, {str(split): table for split, table in tables.items()}, reasons)
        return _without_header(look, offline) if path is not None else look
    raise first or SourceError(f"{address} holds no table")


def _ways(address: str, path: Path | None) -> list[Way]:
    """Keys of the section ``data`` to try, the plainest first."""
    plain: Way = ({"source": address}, {})
    if path is None:
        return [plain]
    sources = _split_files(path) if path.is_dir() else {}
    if sources:
        why = "the files' names say which split they hold"
        own = {name: f"{address.rstrip('/')}/{file}" for name, file in sources.items()}
        ways: list[Way] = [({"source": own}, {"source": why})]
        if any(file.endswith(".txt") for file in sources.values()):
            ways.insert(0, ({"source": own, **_fields_of_text(path / sources["train"])}, {"source": why}))
        for kind in _other_formats([path / file for file in sources.values()]):
            ways.append(({"source": own, "format": kind}, {"source": why, "format": "an ending does not tell it"}))
        if not all(file.rpartition(".")[0].lower() in SPLIT_NAMES for file in sources.values()):
            return [*ways, plain]
        return [plain, *ways]
    ways = [plain]
    if path.is_file():
        fields = _fields_of_text(path)
        if fields:
            mark = "a tab" if fields["delimiter"] == "\t" else f"`{fields['delimiter']}`"
            ways.insert(0, ({"source": address, **fields}, {"delimiter": f"{mark} stands in every line"}))
        encoding = _encoding_of(path)
        if encoding is not None:
            why = "the file is not UTF-8, and reads best like this: look at letters with accents"
            ways = [({**keys, "encoding": encoding}, {**reasons, "encoding": why}) for keys, reasons in ways]
    for keys, reasons in list(ways):
        ways.append(({**keys, "quoting": False}, {**reasons, "quoting": "quotes are plain characters in this file"}))
    names = ["text", "label"]
    ways.append(({"source": address, "column_names": names}, {"column_names": "the rows are lists without names"}))
    for kind in _other_formats([path] if path.is_file() else path.iterdir()):
        ways.append(({"source": address, "format": kind}, {"format": "its ending does not tell the format"}))
    return ways


def _other_formats(files: Iterable[Path]) -> tuple[str, ...]:
    """Formats that files may have beside those of their endings, the strict ones first.

    Every text can be read as a table with one column. So what is JSON by its ending is never read as one.
    """
    by_ending = {ENDINGS.get(TableFile(file).suffix) for file in files}
    if by_ending <= {"csv", "tsv", "conll", "text", None}:
        return ("json", "jsonl", "conll", "tsv", "csv")
    return ("json", "jsonl") if by_ending <= {"json", "jsonl"} else ()


def _split_files(folder: Path) -> dict[str, str]:
    """Which of a folder's files is which split, by words in their names; empty where that does not tell."""
    found: dict[str, str] = {}
    files = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    for split, words in SPLIT_WORDS.items():
        fitting = [name for name in files if any(_has_word(name, word) for word in words)]
        if len(fitting) > 1:
            return {}
        if fitting:
            found[split] = fitting[0]
    if "train" not in found and set(found) == {"validation", "test"}:
        found["train"] = found.pop("validation")  # all there is to learn from
    return found if "train" in found and len(set(found.values())) == len(found) else {}


def _has_word(name: str, word: str) -> bool:
    """Whether a word stands in a file's name by itself: in `wnut17train.conll`, not in `latest.csv`."""
    return re.search(rf"(?<![a-z]){word}(?:set|data|split|file)?s?(?![a-z])", name.lower()) is not None


def _fields_of_text(path: Path) -> dict[str, Any]:
    """How a file of plain text with two fields a line is read; empty where its lines are no fields."""
    if path.suffix.lower() not in (".txt", ".text", ".dat"):
        return {}
    with path.open("rb") as stream:
        lines = [line for line in stream.read(ENCODING_HEAD).decode("utf-8", "replace").splitlines()[:-1] if line]
    for mark in PAIR_MARKS:
        if len(lines) > 2 and all(line.count(mark) == 1 for line in lines):
            names = ["text", "label"] if len({line.split(mark)[1] for line in lines}) < len(lines) / 5 else None
            names = names or ["source", "target"]
            return {"format": "csv", "delimiter": mark, "quoting": False, "column_names": names}
    return {}


def _encoding_of(path: Path) -> str | None:
    """The encoding of a text file that is not UTF-8, by which of its readings looks most like words."""
    files = table_files(path)
    if len(files) != 1 or files[0].suffix in (".parquet", ".arrow", ".xlsx", ".feather"):
        return None
    with files[0].open_seekable() as stream:
        head = stream.read(ENCODING_HEAD)
    if head[:4] == codecs.BOM_UTF32_LE:
        return "utf-32"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    zeros = [head[at::2].count(0) for at in range(2)]
    if min(zeros) == 0 and max(zeros) > len(head) / 4:  # without its mark: most of the letters are plain ones
        return "utf-16-le" if zeros[1] else "utf-16-be"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start > len(head) - 4:
            return None  # the head ends within a character
    else:
        return None
    from charset_normalizer import from_bytes

    lines = [line for line in head.splitlines() if not line.isascii()]
    names = ("cp1252", "mac_roman", "latin_1", "gb18030", "shift_jis", "euc_kr", "big5", "cp1251", "koi8_r", "cp1250")
    best = from_bytes(b"\n".join(lines[:2000]), cp_isolation=list(names), threshold=1.0).best()
    if best is None:
        return None
    if best.encoding in WESTERN:
        return min(WESTERN.values(), key=lambda name: _oddities(b"\n".join(lines).decode(name, "replace")))
    return str(best.encoding)


def _oddities(text: str) -> int:
    """Characters that stand where nobody writes them: symbols, and capitals behind small letters."""
    odd = 0
    for before, character in zip(" " + text, text, strict=False):
        if not character.isascii():
            is_symbol = unicodedata.category(character) in ("So", "Sm", "Sk", "Cc", "Cn", "Co", "No", "Lo")
            odd += is_symbol or (character.isupper() and before.islower())
    return odd


def _without_header(look: Look, offline: bool) -> Look:
    """The same table, its first row taken for a row where it reads like one."""
    table = look.tables["train"]
    if "header" in look.keys or "column_names" in look.keys or not _is_a_row(table):
        return look
    keys = {**look.keys, "header": False}
    try:
        tables = load_tables(DataConfig.model_validate(keys), offline=offline)
    except PeftlabError:
        return look
    return Look(
        keys,
        {str(split): table for split, table in tables.items()},
        {**look.reasons, "header": "the first row reads like the others"},
    )


def _is_a_row(table: Table) -> bool:
    """Whether the names of columns look like values."""
    if any(name.isidentifier() and _is_of_texts(table.columns[name][:2000]) for name in table.names):
        return False  # one word above texts is a name, whatever stands beside it, such as a year
    if any(len(name) > LONG_NAME or re.fullmatch(r"[-+]?\d+([.,]\d+)?", name) for name in table.names):
        return all(isinstance(value, str) for column in table.columns.values() for value in column[:1])
    for name in table.names:
        values = table.columns[name][:2000]
        strings = [value for value in values if isinstance(value, str)]
        if len(strings) > 20 and len(set(strings)) <= len(strings) / 5 and name in strings:
            return True
    return False


def _is_of_texts(values: Sequence[Any]) -> bool:
    strings = [value for value in values if isinstance(value, str)]
    return bool(strings) and mean_words(strings) > TEXT_WORDS
