"""The JSON Schemas of registered classes, side by side in one schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peftlab.core.config import RegisteredConfig

DEFINITIONS = "#/$defs/"


def define(name: str, cls: type[RegisteredConfig], definitions: dict[str, Any]) -> dict[str, Any]:
    """Put a class's schema, with its ``type``, among the definitions of a larger one.

    A plugin's own nested classes may be called like others: they get a longer name, and never take the place of these.

    Args:
        name: In the definitions.
        cls: A registered class.
        definitions: Of the larger schema; they grow.

    Returns:
        The reference to it.
    """
    own = cls.schema_with_type()
    nested = own.pop("$defs", {})
    longer = {each: f"{each}.{name}" for each in nested if definitions.get(each, nested[each]) != nested[each]}
    leads = {f"{DEFINITIONS}{old}": f"{DEFINITIONS}{new}" for old, new in longer.items()}
    definitions.update({longer.get(each, each): _led(nested[each], leads) for each in nested})
    definitions[name] = _led(own, leads)
    return {"$ref": f"{DEFINITIONS}{name}"}


def _led(schema: Any, leads: Mapping[str, str]) -> Any:
    """A schema whose references lead elsewhere."""
    if isinstance(schema, dict):
        return {
            key: leads.get(value, value) if key == "$ref" and isinstance(value, str) else _led(value, leads)
            for key, value in schema.items()
        }
    return [_led(each, leads) for each in schema] if isinstance(schema, list) else schema
