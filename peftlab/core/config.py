"""The strict base of everything that a recipe can hold, and YAML that remembers its lines.

YAML is read as YAML 1.2 (``5e-4`` is a number, ``no`` is a word) into a :class:`Document`: plain values, and the line
of every key. Validation errors become messages that name file, line and key.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

import pydantic
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler
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


class WrongKeyError(ValueError):
    """What is wrong with one key, told by a validator that looks at several.

    Args:
        path: Of the key, from what is validated.
        message: What is wrong.
        hint: How to mend it.
    """

    def __init__(self, path: Sequence[str | int], message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.path = tuple(path)
        self.hint = hint


class Config(BaseModel):
    """A frozen configuration: unknown keys, wrong types and later changes are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class RegisteredConfig(Config):
    """A configuration that a registry files under a name, which recipes write as ``type``."""

    registered_name: ClassVar[str] = ""
    guard_names: ClassVar[Mapping[str, str]] = {}
    """Guards of its own: the name of each, and what it checks. A recipe may waive them."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _accept_own_type(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "type" in data and "type" not in cls.model_fields:
            if data["type"] != cls.registered_name:
                raise ValueError(f"type `{data['type']}` is not `{cls.registered_name}`")
            return {key: value for key, value in data.items() if key != "type"}
        return data

    @pydantic.model_serializer(mode="wrap")
    def _write_type(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"type": self.registered_name, **handler(self)}

    @classmethod
    def schema_with_type(cls) -> dict[str, Any]:
        """The JSON Schema of this class with its ``type`` key."""
        schema = cls.model_json_schema(mode="validation")
        schema["properties"] = {"type": {"const": cls.registered_name}, **schema.get("properties", {})}
        schema["required"] = ["type", *schema.get("required", [])]
        return schema


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


def parse_yaml_value(text: str) -> Any:
    """Parse one YAML value, as ``--set key=VALUE`` gives it: ``3``, ``5e-4``, ``[query, value]``, ``{type: full}``.

    Raises:
        ConfigError: The text is not YAML.
    """
    return parse_yaml(f"value: {text}" if "\n" not in text else text, source="--set").values.get("value")


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


ConfigT = TypeVar("ConfigT", bound=Config)


def build_config(
    cls: type[ConfigT], values: Any, *, document: Document, path: KeyPath = (), known: Iterable[str] | None = None
) -> ConfigT:
    """Validate one section of a document.

    Args:
        cls: The section's class.
        values: What the document holds there.
        document: For the line numbers of messages.
        path: Where the section stands in the document.
        known: Keys to suggest for unknown ones; the class's own where not given.

    Raises:
        ConfigError: With file, line, key and what was expected. Several mistakes are told in one message.
    """
    try:
        return cls.model_validate(values)
    except pydantic.ValidationError as error:
        raise _config_error(error, cls, document, path, known) from None


def first_mistake(error: pydantic.ValidationError) -> str:
    """Where the first mistake of values stands that no person wrote, and what it is."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(key) for key in first["loc"])
    what = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {what}" if place else what


def _config_error(
    error: pydantic.ValidationError, cls: type[Config], document: Document, path: KeyPath, known: Iterable[str] | None
) -> ConfigError:
    mistakes: dict[KeyPath, tuple[str, str | None]] = {}
    for item in error.errors(include_url=False):
        cause = item.get("ctx", {}).get("error")
        inner = cause.path if isinstance(cause, WrongKeyError) else ()
        place = _existing_place((*path, *item["loc"], *inner), document)
        message, hint = _explain(item, cls, known)
        if item["type"] == "extra_forbidden" and document.words is not None:
            hint = document.words(place) or hint
        if place in mistakes:  # the branches of a union each complain about the same value
            message = f"{mistakes[place][0]}, or {message}" if message not in mistakes[place][0] else mistakes[place][0]
        mistakes[place] = (message, hint)
    (first, (message, hint)), *others = mistakes.items()
    more = [str(document.error(place, text, way_out)) for place, (text, way_out) in others]
    return ConfigError("\n  ".join([message, *filter(None, [hint]), *more]), where=document.where(first))


def _existing_place(path: KeyPath, document: Document) -> KeyPath:
    """Drop the parts of pydantic's path that name a union's branch, not a key."""
    kept: list[Key] = []
    value: Any = document.values
    for position, key in enumerate(path):
        last = position == len(path) - 1
        if isinstance(value, Mapping) and (key in value or last):
            value = value.get(str(key)) if isinstance(key, str) else None
            kept.append(key)
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
            kept.append(key)
    return tuple(kept)


_ONE_CHOICE = re.compile(r"'[^']*'|\w+")
"""Pydantic's words for a value that a key has to have; its description says why."""


def _explain(item: Any, cls: type[Config], known: Iterable[str] | None) -> tuple[str, str | None]:
    kind, context, value = item["type"], item.get("ctx", {}), item.get("input")
    if kind == "extra_forbidden":
        fields = _fields_at(cls, item["loc"][:-1]) or known or cls.model_fields
        return "unknown key", did_you_mean(str(item["loc"][-1]), fields)
    if kind == "missing":
        return "this key is required", None
    if kind == "literal_error":
        if not _ONE_CHOICE.fullmatch(context["expected"]):
            return f"{value!r} is not one of {context['expected']}", None
        key = cls.model_fields.get(str(item["loc"][-1])) if len(item["loc"]) == 1 else None
        return f"should be {context['expected']}, not {value!r}", None if key is None else key.description
    if kind in {"value_error", "assertion_error"}:
        error = context.get("error", item["msg"])
        return str(error), error.hint if isinstance(error, WrongKeyError) else None
    if kind in {"too_short", "string_too_short"} and context["min_length"] == 1:
        return "something is needed here, and it is empty", None
    if kind in {"model_type", "dict_type"}:
        return f"a mapping of keys to values is needed, not {reprlib.repr(value)}", None
    shown = text if len(text := repr(value)) <= 60 else f"{text[:57]}…"
    message = (item["msg"][0].lower() + item["msg"][1:]).replace("input should be", "should be")
    return f"{message}, not {shown}", None


def _fields_at(cls: type[Config], loc: tuple[Key, ...]) -> list[str] | None:
    """The field names of the nested class at ``loc``, or None where it cannot be told."""
    current: Any = cls
    for key in loc:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            return None
        if key not in current.model_fields:  # it names a union's branch
            continue
        annotation = current.model_fields[str(key)].annotation
        members = [getattr(item, "__origin__", item) for item in get_args(annotation)]  # without what is noted on them
        choices = [item for item in members if isinstance(item, type) and issubclass(item, BaseModel)]
        current = choices[0] if choices else annotation  # `DataConfig | None` has the fields of `DataConfig`
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else None


def refuse_unused(config: Config, goes_with: Mapping[str, tuple[str, bool]]) -> None:
    """Refuse keys that have no effect as the others are: whoever sets them believes that they have one.

    A key that has its default is taken for one that is not set: what a run writes down has all of them.

    Args:
        config: From a validator of its class.
        goes_with: By key what it goes with, and whether that is so.

    Raises:
        WrongKeyError: With the first such key.
    """
    for key, (what, is_used) in goes_with.items():
        if not is_used and getattr(config, key) != type(config).model_fields[key].default:
            raise WrongKeyError((key,), f"`{key}` goes with `{what}`, and has no effect without it")


def check_unused(config: Config, section: str, goes_with: Mapping[str, tuple[str, bool]]) -> None:
    """The same as a :class:`ConfigError`, before a run alone: finished runs that have such keys are opened as ever."""
    try:
        refuse_unused(config, goes_with)
    except WrongKeyError as error:
        raise ConfigError(str(error), where=f"{section}.{error.path[0]}") from None


def replace_config(config: ConfigT, **changes: Any) -> ConfigT:
    """A copy with some fields changed, validated anew."""
    values = {name: getattr(config, name) for name in type(config).model_fields}
    return type(config).model_validate({**values, **changes})


__all__ = [
    "Config",
    "Document",
    "Key",
    "KeyPath",
    "RegisteredConfig",
    "WrongKeyError",
    "build_config",
    "check_unused",
    "parse_yaml",
    "parse_yaml_value",
    "read_yaml",
    "refuse_unused",
    "replace_config",
    "whole_characters",
]
