"""CoNLL files: a token and its tags per line, a blank line between sentences."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.core.errors import DataError
from peftlab.data.decoding import text_lines


def parse_conll(text: str, *, column_names: Sequence[str] | None, where: str) -> dict[str, list[list[str]]]:
    """Read sentences as lists: the first column as ``tokens`` and the last as ``tags``.

    Args:
        text: The file's content. Columns are split by a tab, or by blanks in a line that has no tab.
        column_names: Names for all columns, instead of the first and the last.
        where: The file's name, for messages.

    Raises:
        DataError: Naming the line whose number of columns differs.
    """
    sentences: list[list[list[str]]] = []
    current: list[list[str]] = []
    width = len(column_names) if column_names is not None else 0
    # Not splitlines(): tokens of web text hold U+0085 and U+2028.
    for number, line in enumerate([*text_lines(text), ""], start=1):
        if not line.strip():
            if current:
                sentences.append(current)
                current = []
            continue
        fields = _fields(line)
        if fields[0] == "-DOCSTART-":
            continue
        width = width or len(fields)
        if len(fields) != width or width < 2:
            expected = f"{width} columns as in the lines before" if width > 1 else "a token and a tag"
            expected = f"{width} columns as in `data.column_names`" if column_names is not None else expected
            raise DataError(f"{len(fields)} columns where {expected} are needed", where=f"{where}, line {number}")
        current.append(fields)
    chosen = dict(enumerate(column_names)) if column_names is not None else {0: "tokens", -1: "tags"}
    return {name: [[token[at] for token in sentence] for sentence in sentences] for at, name in chosen.items()}


def _fields(line: str) -> list[str]:
    if "\t" in line:
        return [field.strip() for field in line.rstrip("\r\n").rstrip("\t").split("\t")]
    return line.split()
