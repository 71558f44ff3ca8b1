"""A folder for each class with a file for each text: ``pos/1.txt``, ``neg/1.txt``; also below folders of splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from peftlab.core.errors import DataError
from peftlab.data.decoding import read_text
from peftlab.data.table_files import TableFile
from peftlab.data.text_files import COLUMN

LABEL_COLUMN = "label"
_SPLIT_WORDS = ("train", "training", "validation", "valid", "val", "dev", "eval", "test", "testing")


def class_folders(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """The texts of each class, by split; under ``""`` where the folder holds classes and no splits.

    Returns:
        Split → class → files in order; empty where the folder is of another kind.
    """
    children = _folders(folder)
    splits = [child for child in children if child.name.lower() in _SPLIT_WORDS]
    found = {child.name: classes for child in splits if len(classes := _classes(child)) > 1}
    if found:
        return found
    classes = _classes(folder)
    return {"": classes} if len(classes) > 1 else {}


def text_rows(classes: Mapping[str, Sequence[Path]], encoding: str, root: Path) -> Iterator[tuple[str, str]]:
    """The text of each file with its class.

    Raises:
        DataError: A file is empty, or not in this encoding.
    """
    for name, files in classes.items():
        for file in files:
            try:
                yield read_text(TableFile(file), encoding).strip(), name
            except DataError as error:
                raise DataError(error.message, where=str(file.relative_to(root.parent)), hint=error.hint) from None


def columns_of_classes(classes: Mapping[str, Sequence[Path]], encoding: str, root: Path) -> dict[str, list[str]]:
    """All texts and classes as two columns."""
    rows = list(text_rows(classes, encoding, root))
    return {COLUMN: [text for text, _ in rows], LABEL_COLUMN: [name for _, name in rows]}


def _classes(folder: Path) -> dict[str, list[Path]]:
    """The files of each folder in a folder that holds nothing but texts, and is not called like a split."""
    classes: dict[str, list[Path]] = {}
    for child in (child for child in _folders(folder) if child.name.lower() not in _SPLIT_WORDS):
        files = [item for item in child.iterdir() if not item.name.startswith(".")]
        if files and all(_is_text(item) for item in files):
            classes[child.name] = sorted(files, key=_natural)
    return classes


def _folders(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))


def _is_text(path: Path) -> bool:
    """A .txt file, or one without an ending, as in the collection of newsgroups."""
    return path.is_file() and (path.suffix.lower() in {".txt", ".text", ""} or path.name.isdecimal())


def _natural(path: Path) -> tuple[int, str]:
    return (int(path.stem), path.name) if path.stem.isdecimal() else (1 << 62, path.name)
