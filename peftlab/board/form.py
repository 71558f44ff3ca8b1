"""The form of a recipe, made from its schema: which fields there are, and what was typed as the settings of a run."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from peftlab.core.config import parse_yaml_value
from peftlab.core.errors import ConfigError, UserError, did_you_mean
from peftlab.recipe.json_schema import recipe_schema

LEFT_OUT = ("model.trust_remote_code",)
"""No page lets code of others run."""
OFTEN = (
    "name", "seed", "model.path", "data.source", "training.epochs", "training.batch_size", "training.learning_rate",
)  # fmt: skip
"""Fields that are open from the start, with those of the task and the method; the others are folded in."""
CHOSEN = ("task", "method")


@dataclass(frozen=True)
class Field:
    """A key of the recipe as a form shows it.

    Args:
        key: ``training.epochs``.
        kind: ``text``, ``number``, ``choice``, or ``yaml``: anything that YAML writes on a line.
        description: What it means.
        default: What holds where nothing is typed, as the form shows it.
        choices: Of ``choice``.
        needed: Whether something must be typed.
        takes_text: Whether what is typed may be a plain text; of ``yaml``.
    """

    key: str
    kind: str
    description: str
    default: str
    choices: tuple[str, ...] = ()
    needed: bool = False
    takes_text: bool = False

    def setting(self, typed: str) -> str:
        """``key=value``, the value in YAML, as ``--set`` takes it."""
        if self.kind == "text" or (self.takes_text and not _is_list_or_mapping(typed)):
            return f"{self.key}={json.dumps(typed, ensure_ascii=False)}"
        return f"{self.key}={' '.join(typed.split())}"


@dataclass(frozen=True)
class Section:
    """A part of the form: fields that are open, and fields that are folded in."""

    name: str
    open: tuple[Field, ...]
    folded: tuple[Field, ...]


def choices_of(part: str) -> list[str]:
    """The types that a task or a method can be."""
    return sorted(name.partition(".")[2] for name in _schema()["$defs"] if name.startswith(f"{part}."))


def sections_of(task: str, method: str) -> list[Section]:
    """The form for a task and a method.

    Raises:
        UserError: There is no such task or method.
    """
    for part, name in zip(CHOSEN, (task, method), strict=True):
        if name not in choices_of(part):
            raise UserError(f"there is no {part} `{name}`", hint=did_you_mean(name, choices_of(part)))
    fields: dict[str, list[Field]] = {}
    for field in _fields({"task": task, "method": method}):
        fields.setdefault(field.key.partition(".")[0] if "." in field.key else "run", []).append(field)
    order = ("model", "task", "data", "method", "training", "evaluation", "run")
    return [_section(name, fields[name]) for name in order if name in fields]


def settings_of(answers: Mapping[str, str], task: str, method: str) -> list[str]:
    """What was typed, as the ``--set`` options of a run; what is empty stands at its default.

    Raises:
        UserError: A field is none of the form's.
    """
    known = {field.key: field for section in sections_of(task, method) for field in (*section.open, *section.folded)}
    unknown = [key for key in answers if key not in known and key not in CHOSEN]
    if unknown:
        raise UserError(f"`{unknown[0]}` is no field of this form", hint=did_you_mean(unknown[0], known))
    typed = [known[key].setting(value.strip()) for key, value in answers.items() if key in known and value.strip()]
    return [f"task.type={task}", f"method.type={method}", *typed]


def answers_of(recipe: Mapping[str, Any]) -> dict[str, str]:
    """What would have to be typed for a recipe; what stands at its default is left empty."""
    answers = {}
    for part in CHOSEN:
        answers[part] = str((recipe.get(part) or {}).get("type", ""))
    for field in _fields(answers):
        *sections, name = field.key.split(".")
        holder: Any = recipe
        for section in sections:
            holder = holder.get(section) or {}
        if name not in holder or (holder[name] in ([], {}) and not field.default):
            continue
        shown = ("null" if field.default else "") if holder[name] is None else _typed(holder[name])
        if shown != field.default:
            answers[field.key] = shown
    return answers


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@functools.cache
def _schema() -> dict[str, Any]:
    return recipe_schema()


def _section(name: str, fields: list[Field]) -> Section:
    is_open = [field.needed or field.key in OFTEN or name in CHOSEN for field in fields]
    return Section(
        name,
        tuple(field for field, now in zip(fields, is_open, strict=True) if now),
        tuple(field for field, now in zip(fields, is_open, strict=True) if not now),
    )


def _fields(chosen: Mapping[str, str]) -> Iterator[Field]:
    schema = _schema()
    for name, prop in schema["properties"].items():
        part = schema["$defs"].get(f"{name}.{chosen[name]}") if name in CHOSEN else _section_schema(prop)
        if part is None:
            if name not in CHOSEN:
                yield _field(name, prop, needed=False)
            continue
        for key, each in part["properties"].items():
            dotted = f"{name}.{key}"
            if key != "type" and dotted not in LEFT_OUT:
                yield _field(dotted, each, needed=key in part.get("required", ()) and name != "data")


def _section_schema(prop: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema of a section such as ``training``; None where the key holds a plain value."""
    for each in (prop, *prop.get("anyOf", ())):
        if "$ref" in each:
            found: Mapping[str, Any] = _schema()["$defs"][each["$ref"].rpartition("/")[2]]
            return found
    return None


def _field(key: str, prop: Mapping[str, Any], *, needed: bool) -> Field:
    ways = [each for each in prop.get("anyOf") or prop.get("oneOf") or (prop,) if each.get("type") != "null"]
    types = {"string" if "enum" in each or "const" in each else each.get("type", "other") for each in ways}
    default = prop.get("default")
    shown = "" if default is None else _typed(default)
    choices = [str(value) for each in ways for value in each.get("enum", (each["const"],) if "const" in each else ())]
    if types == {"boolean"}:
        choices = ["true", "false"]
    if choices and all("enum" in each or "const" in each or each.get("type") == "boolean" for each in ways):
        kind = "choice"
    elif types <= {"integer", "number"} and not (shown and len(ways) < len(prop.get("anyOf", ()))):
        kind = "number"  # but where null means another thing than nothing typed, it can be typed
    else:
        kind = "text" if types == {"string"} else "yaml"
    takes_text = "string" in types and not types & {"integer", "number"}
    return Field(key, kind, str(prop.get("description", "")), shown, tuple(choices), needed, takes_text)


def _is_list_or_mapping(typed: str) -> bool:
    if typed[:1] not in "[{":
        return False
    try:
        return isinstance(parse_yaml_value(typed), list | dict)
    except ConfigError:
        return False
