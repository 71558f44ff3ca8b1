"""Names of classes: what is one class however it is spelt, and in which order classes stand.

Tables write one label in many ways: with blanks around it, as 1 or 1.0, with an invisible byte-order mark, in another
Unicode form. Each way would make a class of its own, or an unknown one in another file.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from peftlab.core.errors import DataError, did_you_mean

_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_FILLERS = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")
"""Characters that show nothing, though Unicode files them under letters, marks and symbols."""
NOTHING = ("None", "null", "nan")
"""What stands in a list that was written out where there is no label."""
_JOINERS = frozenset("\u200c\u200d")
"""They show nothing by themselves, but change how their neighbours look."""


def is_blank(text: str) -> bool:
    """Whether a text shows nothing at all: no character, or only blank and invisible ones."""
    return not any(not character.isspace() and not _is_invisible(character) for character in text)


def tidy(value: Any) -> str:
    """The name of a class as a person would write it: without what cannot be seen, and in Unicode's usual form (NFC).

    A whole number is written without a point, as 1 for 1.0, where the table holds numbers.
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return _tidy(str(value))


def label_key(name: str) -> str:
    """Equal for spellings of one class: ``1`` and ``1.0``, ``True`` and ``true``, full and half width."""
    return _key(_tidy(name))


def class_names(values: Iterable[Any]) -> dict[str, str]:
    """The name of each class by its key; of several spellings the shortest, whatever the order they come in."""
    names: dict[str, str] = {}
    for name in {tidy(value) for value in values}:
        key = _key(name)
        names[key] = min(names.get(key, name), name, key=lambda spelling: (len(spelling), spelling))
    return names


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Classes sorted: finite numbers by size, then everything else by its letters."""
    return tuple(sorted(names, key=_natural_order))


def class_finder(labels: Sequence[str]) -> Callable[[Any], str | None]:
    """What finds the class that a value of a table means; None: it means none of them."""
    names = {label_key(label): label for label in reversed(labels)}
    exact = frozenset(labels)  # runs of earlier versions may have two classes of one key

    def find(value: Any) -> str | None:
        name = tidy(value)
        return name if name in exact else names.get(_key(name))

    return find


def one_of_each_class(given: Mapping[str, str], labels: Sequence[str], *, where: str, what: str) -> dict[str, str]:
    """What a recipe says of each class, in the order of the classes.

    Args:
        given: By class, as the recipe spells it.
        labels: The classes.
        where: The recipe's key.
        what: One of what is given: ``word``.

    Raises:
        DataError: A name is no class, or a class is not named, has a blank text, or that of another class.
    """
    find = class_finder(labels)
    if strange := next((name for name in given if find(name) is None), None):
        raise DataError(f"`{strange}` is no class of the data", where=where, hint=did_you_mean(strange, labels))
    found = {find(name): text for name, text in given.items()}
    if missing := next((name for name in labels if not found.get(name, "").strip()), None):
        raise DataError(f"the class {missing!r} has no {what}", where=where, hint="Give each class one.")
    first: dict[str, str] = {}
    for name in labels:
        if (other := first.setdefault(found[name].strip(), name)) != name:
            raise DataError(
                f"the classes {other!r} and {name!r} have the same {what}, `{found[name].strip()}`",
                where=where,
                hint="Give each class its own.",
            )
    return {name: found[name] for name in labels}


def merged_spellings(values: Iterable[Any]) -> dict[str, list[str]]:
    """The classes that are spelt in several ways, each with its spellings as the table holds them."""
    found: dict[str, set[str]] = {}
    for value in values:
        written = str(value)
        found.setdefault(label_key(tidy(value)), set()).add(written)
    names = class_names(written for spellings in found.values() for written in spellings)
    return {names[key]: sorted(spellings) for key, spellings in sorted(found.items()) if len(spellings) > 1}


def notices_of_spellings(values: Iterable[Any], labels: Sequence[str]) -> dict[str, str]:
    """Sentences on classes that are spelt in several ways, and on those that only differ in case, which stay apart."""
    notices = {}
    merged = merged_spellings(values)
    if merged:
        shown = "; ".join(f"{name}: {', '.join(map(repr, spellings))}" for name, spellings in list(merged.items())[:5])
        notices["spellings_merged"] = f"one class is spelt in several ways, which are taken for one: {shown}"
    by_case: dict[str, list[str]] = {}
    for label in labels:
        by_case.setdefault(label.casefold(), []).append(label)
    alike = [" and ".join(names) for names in by_case.values() if len(names) > 1]
    if alike:
        notices["classes_alike_but_for_case"] = f"these are classes of their own: {'; '.join(alike[:5])}"
    return notices


def split_labels(text: str, separator: str) -> list[Any]:
    """The labels of a field: parted by the separator, or a list as JSON, Python, numpy or a person writes it."""
    text = text.strip()
    found = written_list(text) if text.endswith(("]", ")", "}")) else None
    if found is None and not (text.startswith("[") and text.endswith("]")):
        return list(text.split(separator))
    if found is None:
        inner = text[1:-1]
        parts = inner.split(separator if separator in inner else ",")
        found = [part.strip().strip("'\"") for part in parts if part.strip() not in NOTHING]
    return [label for label in found if label is not None and not (isinstance(label, str) and is_blank(label))]


def notices_of_separators(labels: Sequence[str]) -> dict[str, str]:
    """Of several labels: one that may be several, separated in another way than the recipe says."""
    found = other_separator(labels)
    if found is None:
        return {}
    return {
        "labels_may_be_several": f"{found[0]!r} is one label as it stands, and its parts are labels too: if it means "
        f"several, set `task.label_separator: {found[1]!r}`"
    }


def other_separator(labels: Sequence[str]) -> tuple[str, str] | None:
    """A label that another label_separator would part into labels that are there by themselves, and that separator."""
    known = set(labels)
    for label in labels:
        for mark in (";", "|", ",", "/", " "):
            parts = [part.strip() for part in label.split(mark)]
            if len(parts) > 1 and known.issuperset(parts):
                return label, mark
    return None


def written_list(text: str) -> list[Any] | None:
    """A list, tuple or set as JSON, Python or numpy writes it, or None; numpy puts blanks where Python would join."""
    with contextlib.suppress(ValueError, RecursionError):
        read = json.loads(text)
        return read if isinstance(read, list) else None
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):  # brackets without end
        read = ast.literal_eval(re.sub(r"""(?<=['"])\s+(?=['"])""", ", ", text))  # `set()` too
        return (
            sorted(read, key=str) if isinstance(read, set) else list(read) if isinstance(read, list | tuple) else None
        )
    return None


def tidy_value(value: Any, nothing: Any) -> Any:
    """A value of a label column as it is, but for strings that show nothing, and for None: they are ``nothing``."""
    if isinstance(value, str) and is_blank(value):
        return nothing
    return nothing if value is None else value


@functools.lru_cache(maxsize=65_536)
def _tidy(name: str) -> str:
    if name.isascii() and name.isprintable():
        return " ".join(name.split())
    name = unicodedata.normalize("NFC", name)
    visible = "".join(c for c in name if c.isspace() or c in _JOINERS or not _is_invisible(c) or _is_selector(c))
    return " ".join(visible.split()).strip("".join(_JOINERS)).strip()


@functools.lru_cache(maxsize=65_536)
def _key(name: str) -> str:
    if not name.isascii():
        name = "".join(_usual_width(c) for c in name if not _is_invisible(c))
        name = " ".join(unicodedata.normalize("NFC", name).split())
    whole = _WHOLE.fullmatch(name)
    if whole:
        return whole[1]
    return name.lower() if name.lower() in {"true", "false"} else name


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in {"Cf", "Cc"} or _is_selector(character) or character in _FILLERS


def _is_selector(character: str) -> bool:
    """Whether it only chooses how the character before it is drawn, such as an emoji in colour."""
    return "\ufe00" <= character <= "\ufe0f"


def _usual_width(character: str) -> str:
    if unicodedata.decomposition(character).startswith(("<wide>", "<narrow>")):
        return unicodedata.normalize("NFKC", character)
    return character


def _natural_order(name: str) -> tuple[int, float, str]:
    try:
        number = float(name)
    except ValueError:
        return (1, 0.0, name)
    # `nan` is neither less nor greater than a number: sorted by it, the order would be that of the input.
    return (0, number, name) if math.isfinite(number) else (1, 0.0, name)
