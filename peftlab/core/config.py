"""The strict base of everything that a recipe can hold; validation errors become messages with file, line and key."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args

import pydantic
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler

from peftlab.core.document import Document, Key, KeyPath, parse_yaml, parse_yaml_value, read_yaml, whole_characters
from peftlab.core.errors import ConfigError, did_you_mean


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


class WrongSettingsError(ConfigError, ValueError):
    """What a program gives to a registered class is refused, in the words that a recipe's writer gets."""


class RegisteredConfig(Config):
    """A configuration that a registry files under a name, which recipes write as ``type``."""

    if not TYPE_CHECKING:  # the fields are the parameters

        def __init__(self, /, **keys: Any) -> None:
            """Build it in Python: ``METHODS["lora"](rank=4)``.

            Raises:
                WrongSettingsError: With key, mistake and way out.
            """
            try:
                super().__init__(**keys)
            except pydantic.ValidationError as error:
                cls = type(self)
                told = _config_error(error, cls, Document(cls.registered_name or cls.__name__, keys), (), None)
                raise WrongSettingsError(told.message, where=told.where) from None

        # Without it pydantic would also build sections of a document by this, and lose their lines.
        __init__.__pydantic_base_init__ = True

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
    "WrongSettingsError",
    "build_config",
    "check_unused",
    "parse_yaml",
    "parse_yaml_value",
    "read_yaml",
    "refuse_unused",
    "replace_config",
    "whole_characters",
]
