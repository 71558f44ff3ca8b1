"""A folder for each class with a file for each text or image (``pos/1.txt``, ``cat/1.png``); also below splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from peftlab.core.errors import DataError
from peftlab.data.decoding import read_text
from peftlab.data.images import COLUMN as IMAGE_COLUMN
from peftlab.data.images import ENDINGS as IMAGE_ENDINGS
from peftlab.data.images import image_at
from peftlab.data.table_files import TableFile, is_junk
from peftlab.data.text_files import COLUMN

LABEL_COLUMN = "label"
_SPLIT_WORDS = ("train", "training", "validation", "valid", "val", "dev", "eval", "test", "testing")


def class_folders(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """The texts or images of each class, by split; under ``""`` where the folder holds classes and no splits.

    Returns:
        Split → class → files in order; empty where the folder is of another kind.
    """
    found = {child.name: classes for child in split_folders(folder) if (classes := _classes(child))}
    if any(len(classes) > 1 for classes in found.values()):
        return found
    classes = _classes(folder)
    return {"": classes} if len(classes) > 1 else {}


def refuse_other_folders(folder: Path, classes: Mapping[str, Mapping[str, Sequence[Path]]]) -> None:
    """Refuse a folder of classes that has other ones beside them, whose texts or images would be left out.

    Args:
        folder: The folder.
        classes: As :func:`class_folders` gives them.

    Raises:
        DataError: Naming the folder, and what in it does not fit.
    """
    for split in split_folders(folder) if "" not in classes else []:
        if split.name not in classes and _files(split):
            raise DataError(
                f"the folder `{split.name}` has no folders of classes",
                where=str(folder),
                hint="Make one for each class, or name the folders that are meant: `data.source: {train: …}`.",
            )
    for name, own in classes.items():
        kind = _is_image if column_of(own) == IMAGE_COLUMN else _is_text
        for child in _folders(folder / name):
            files = [] if child.name in own or child.name.lower() in _SPLIT_WORDS else _files(child)
            if any(_is_text(file) or _is_image(file) for file in files):
                odd = next(file for file in files if not kind(file))
                raise DataError(
                    f"the folder `{child.name}` is no class like `{next(iter(own))}`, since it holds `{odd.name}`",
                    where=str(folder / name),
                    hint="A class has nothing but texts (.txt), or nothing but images. Move what is none.",
                )


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


def class_rows(classes: Mapping[str, Sequence[Path]], encoding: str, root: Path) -> Iterator[tuple[str, str]]:
    """The text, or the image, of each file with its class.

    Raises:
        DataError: A file of text is empty, or not in this encoding.
    """
    if column_of(classes) == COLUMN:
        yield from text_rows(classes, encoding, root)
    else:
        yield from ((image_at(file, root), name) for name, files in classes.items() for file in files)


def column_of(classes: Mapping[str, Sequence[Path]]) -> str:
    """The column of what the files hold: texts, or images."""
    return IMAGE_COLUMN if _is_image(next(iter(classes.values()))[0]) else COLUMN


def columns_of_classes(classes: Mapping[str, Sequence[Path]], encoding: str, root: Path) -> dict[str, list[str]]:
    """All texts, or images, and classes as two columns."""
    rows = list(class_rows(classes, encoding, root))
    return {column_of(classes): [item for item, _ in rows], LABEL_COLUMN: [name for _, name in rows]}


def _classes(folder: Path) -> dict[str, list[Path]]:
    """The files of each folder that holds nothing but texts, or nothing but images, and is not called like a split."""
    classes: dict[str, list[Path]] = {}
    kind = None
    for child in (child for child in _folders(folder) if child.name.lower() not in _SPLIT_WORDS):
        files = _files(child)
        own = next((kind for kind in (_is_text, _is_image) if files and all(map(kind, files))), None)
        if own is not None and kind in (None, own):
            kind = own
            classes[child.name] = sorted(files, key=_natural)
    return classes


def split_folders(folder: Path) -> list[Path]:
    """The folders in a folder that are called like splits."""
    return [child for child in _folders(folder) if child.name.lower() in _SPLIT_WORDS]


def _files(folder: Path) -> list[Path]:
    return [item for item in folder.iterdir() if not is_junk(item.name)]


def _folders(folder: Path) -> list[Path]:
    return sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))


def _is_text(path: Path) -> bool:
    """A .txt file, or one without an ending, as in the collection of newsgroups."""
    return path.is_file() and (path.suffix.lower() in {".txt", ".text", ""} or path.name.isdecimal())


def _is_image(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in IMAGE_ENDINGS


def _natural(path: Path) -> tuple[int, str]:
    return (int(path.stem), path.name) if path.stem.isdecimal() else (1 << 62, path.name)
