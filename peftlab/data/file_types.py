"""What a file is by its first bytes, whatever its name says."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

HEAD_BYTES = 512
COMPRESSED = frozenset({"gzip", "bzip2", "xz", "Zstandard"})
TABLES: dict[str, Literal["parquet", "arrow", "xlsx"]] = {"Parquet": "parquet", "Arrow": "arrow", "Excel": "xlsx"}
"""Types that hold a table, with their ``data.format``."""

_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PAR1", "Parquet"),
    (b"ARROW1", "Arrow"),
    (b"FEA1", "Arrow"),
    (b"\xff\xff\xff\xff", "Arrow"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Office (.xls, .doc)"),
    (b"%PDF-", "PDF"),
    (b"SQLite format 3\x00", "SQLite"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x93NUMPY", "NumPy"),
    (b"Obj\x01", "Avro"),
    (b"GGUF", "GGUF"),
    (b"\x89PNG\r\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"\x7fELF", "ELF"),
    (b"\x80\x02", "pickle"),
    (b"\x80\x03", "pickle"),
    (b"\x80\x04", "pickle"),
    (b"\x80\x05", "pickle"),
    (b"{\\rtf", "RTF"),
)
_HINTS = {
    "old Office (.xls, .doc)": "Save it as .xlsx or as CSV.",
    "OpenDocument": "Save it as .xlsx or as CSV.",
    "PDF": "Give the texts as a table, such as CSV.",
    "pickle": "peftlab never loads pickle files. Save the table as CSV or Parquet.",
}


def type_of_bytes(head: bytes) -> str | None:
    """The type of a file that begins so; None where it may be text. A tar archive is known by byte 257.

    Args:
        head: The first ``HEAD_BYTES``.
    """
    if head[257:262] == b"ustar":
        return "tar"
    found = next(((start, name) for start, name in _BEGINNINGS if head.startswith(start)), None)
    if found is None:
        return None
    # A text may begin with the letters of a type, such as a header with the column PAR1; a binary file has more.
    start, name = found
    is_binary = not start.isascii() or min(start) < 32 or name in {"PDF", "RTF"} or any(byte < 9 for byte in head)
    return name if is_binary else None


def type_of_file(path: Path) -> str | None:
    """The type of a file on disk; of zip archives, whether it is an Excel or another document."""
    with path.open("rb") as file:
        found = type_of_bytes(file.read(HEAD_BYTES))
    return _type_of_zip(path) if found == "zip" else found


def hint_for_type(name: str) -> str:
    """What to do with a file of a type that cannot be read as what it was meant to be."""
    if name in TABLES:
        return f"Set `data.format: {TABLES[name]}`."
    return _HINTS.get(name, "Unpack it, or save the table as CSV, JSON Lines or Parquet.")


def _type_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return "zip"
    if "xl/workbook.xml" in names or "xl/workbook.bin" in names:
        return "Excel"
    if "word/document.xml" in names or "ppt/presentation.xml" in names:
        return "Office"
    if "META-INF/manifest.xml" in names and "mimetype" in names:
        return "OpenDocument"
    return "NumPy" if names and all(name.endswith(".npy") for name in names) else "zip"
