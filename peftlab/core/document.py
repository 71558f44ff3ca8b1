"""YAML that remembers its lines.

It is read as YAML 1.2 (``5e-4`` is a number, ``no`` is a word) into a :class:`Document`: plain values, and the line of
every key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from peftlab.core.errors import ConfigError, did_you_mean, first_line

Key = str | int
KeyPath = tuple[Key, ...]
MOST_VALUES = 500_000
"""Of a file. A few lines of aliases of aliases would fill the memory."""
_IN_WORDS: dict[type, str] = {str: "text", list: "a list", bool: "one word", int: "a number", float: "a number"}
"""What a file can hold in the place of keys and values."""


@dataclass(frozen=True)
class Document:
    """What a YAML file says, and where it says it.

    Args:
        source: The file's name, or another word for where the values come from.
        values: Plain dicts, lists and scalars.
        places: For every key path that is not at its place in ``source``: the words that name its place.
        lines: The line, from 1, of every key path.
        folder: Relative paths in the file start here first.
        notes: What a person should know of how the values came about.
        words: Says where a key belongs, by the path at which it is not known; None: nobody knows.
    """

    source: str
    values: dict[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    places: Mapping[KeyPath, str] = field(default_factory=dict)
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    words: Callable[[KeyPath], str | None] | None = None

    def where(self, path: Sequence[Key]) -> str:
        """The place of a key: ``recipe.yaml:14: method.rank``; the nearest parent's line where the key has none."""
        dotted = ".".join(str(key) for key in path)
        for length in range(len(path), 0, -1):
            start = tuple(path[:length])
            if start in self.places:
                return f"{self.places[start]}: {dotted}"
            if start in self.lines:
                return f"{self.source}:{self.lines[start]}: {dotted}"
        return f"{self.source}: {dotted}" if dotted else self.source

    def error(self, path: Sequence[Key], message: str, hint: str | None = None) -> ConfigError:
        """An error about a key of this document."""
        return ConfigError(message, where=self.where(path), hint=hint)


def read_yaml(path: Path | str) -> Document:
    """Read a YAML 1.2 mapping, safely: no tags, no objects, no duplicate keys.

    Raises:
        ConfigError: The file is missing, is not UTF-8, is not YAML, or is not a mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), hint=_near_files(path)) from None
    except IsADirectoryError:
        raise ConfigError("this is a folder; a YAML file is needed", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the byte at offset {error.start} is not UTF-8", where=str(path), hint="Save the file as UTF-8."
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return parse_yaml(text, source=str(path), folder=path.resolve().parent)


def parse_yaml(text: str, *, source: str, folder: Path | None = None) -> Document:
    """Parse the text of a YAML mapping.

    Raises:
        ConfigError: The text is not YAML or not a mapping.
    """
    lines: dict[KeyPath, int] = {}
    try:
        node = YAML(typ="safe", pure=True).compose(text)
        values = _construct(node, (), lines) if node is not None else None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{source}:{mark.line + 1}" if mark else source
        raise ConfigError(f"not YAML: {error.problem or error.context}", where=place) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"not YAML: {first_line(error)}", where=source) from None
    if not isinstance(values, dict):
        found = next((word for kind, word in _IN_WORDS.items() if isinstance(values, kind)), "nothing")
        raise ConfigError(f"a mapping of keys to values is needed, but the file holds {found}", where=source)
    return Document(source=source, values=values, lines=lines, folder=folder)


def parse_yaml_value(text: str, *, source: str = "--set") -> Any:
    """Parse one YAML value, as ``--set key=VALUE`` gives it: ``3``, ``5e-4``, ``[query, value]``, ``{type: full}``.

    Args:
        text: The value.
        source: Where it stands, for messages.

    Raises:
        ConfigError: The text is not YAML.
    """
    return parse_yaml(f"value: {text}" if "\n" not in text else text, source=source).values.get("value")


def _construct(node: Node, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    """Turn a node into plain values, filling ``lines``; anything but plain YAML is an error."""
    if path not in lines:
        lines[path] = node.start_mark.line + 1
    if len(lines) > MOST_VALUES:
        problem = f"it holds more than {MOST_VALUES:,} values, or aliases unfold to that many"
        raise MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    if not isinstance(node, ScalarNode) and str(node.tag) not in _COLLECTIONS:
        raise MarkedYAMLError(problem=f"the tag `{node.tag}` is not allowed", problem_mark=node.start_mark)
    if isinstance(node, MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _construct_text(key_node) if isinstance(key_node, ScalarNode) else None
            if key is None:
                raise MarkedYAMLError(problem="a key must be a plain word", problem_mark=key_node.start_mark)
            if key in mapping:
                raise MarkedYAMLError(problem=f"the key `{key}` is written twice", problem_mark=key_node.start_mark)
            lines[(*path, key)] = key_node.start_mark.line + 1
            mapping[key] = _construct(value_node, (*path, key), lines)
        return mapping
    if isinstance(node, SequenceNode):
        return [_construct(item, (*path, index), lines) for index, item in enumerate(node.value)]
    return _construct_scalar(node)


def _construct_text(node: Node) -> str:
    """The text of a node. JSON, which is YAML, writes an emoji as two escapes, and these are one character."""
    text = str(node.value)
    try:
        return whole_characters(text)
    except UnicodeError:
        problem = f"{text!a} holds half a character: an escape of a pair without the other one"
        raise MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


def whole_characters(text: str) -> str:
    """A text whose surrogate pairs are the characters that they stand for.

    Raises:
        UnicodeError: It holds half a pair, which no file can.
    """
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")


_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_SCALARS = YAML(typ="safe", pure=True)


def _construct_scalar(node: Node) -> Any:
    tag = str(node.tag).rpartition(":")[2]
    if tag == "str" or tag == "timestamp":
        return _construct_text(node)
    if tag in {"int", "float", "bool", "null"}:
        constructor = _SCALARS.constructor
        return getattr(constructor, f"construct_yaml_{tag}")(node)
    raise MarkedYAMLError(problem=f"the tag `{node.tag}` is not allowed", problem_mark=node.start_mark)


def _near_files(path: Path) -> str | None:
    folder = path.parent
    if not folder.is_dir():
        return f"The folder {folder} does not exist either."
    return did_you_mean(path.name, [item.name for item in folder.glob("*.y*ml")])
