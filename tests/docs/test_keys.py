"""Every key in the documentation's YAML and in its `--set` is a key of a recipe, a suite or an application."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from peftlab import TASKS
from peftlab.cli.app import app
from tests.docs.pages import PAGES, ROOT, blocks

SCHEMAS = {
    kind: json.loads((ROOT / "peftlab" / "schemas" / f"{kind}.schema.json").read_text(encoding="utf-8"))
    for kind in ("recipe", "suite", "application")
}
SETTING = re.compile(r"--set ['\"]?((?:model|task|data|method|training|evaluation|continues)\.[a-z_0-9.]+)=")
ANYTHING: dict[str, Any] = {"type": "object"}
# Keys of an optimizer are those of the installed package: the schema leaves them open.
OPEN = re.compile(r"training\.optimizer\.")


def branches(schema: dict[str, Any], node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The node and all that it may be instead."""
    if "$ref" in node:
        yield from branches(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
    for choice in (*node.get("anyOf", ()), *node.get("oneOf", ()), *([node["items"]] if "items" in node else ())):
        yield from branches(schema, choice)
    yield node


def is_known(schema: dict[str, Any], path: str) -> bool:
    """Whether a dotted key can be written somewhere in such a file."""
    nodes = list(branches(schema, schema))
    for key in path.split("."):
        found: list[dict[str, Any]] = []
        for node in nodes:
            below = node.get("properties", {}).get(key, node.get("additionalProperties"))
            is_free = below is True or (below is None and node.get("type") == "object" and "properties" not in node)
            found += [ANYTHING] if is_free else branches(schema, below) if isinstance(below, dict) else []
        nodes = found
    return bool(nodes)


def keys_of(value: Any, before: str = "") -> Iterator[str]:
    """The dotted keys of all that stands in a YAML block."""
    if isinstance(value, list):
        for item in value:
            yield from keys_of(item, before)
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{before}{key}"
            yield from keys_of(item, f"{before}{key}.")


def unknown_keys(text: str) -> list[str]:
    """The keys of a block that no file of its kind has; of other files, such as thresholds, nothing is told."""
    value = YAML(typ="safe").load(text)
    if not isinstance(value, dict) or not value.keys() & {"recipe", "type", *SCHEMAS["recipe"]["properties"]}:
        return []
    kind = "suite" if "recipe" in value else "application" if isinstance(value.get("type"), str) else "recipe"
    return [key for key in keys_of(value) if not OPEN.match(key) and not is_known(SCHEMAS[kind], key)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [key for key in SETTING.findall(text) if not is_known(SCHEMAS["recipe"], key)] == []
    assert [key for block in blocks(page, "yaml") for key in unknown_keys(block)] == []


def test_wrong_keys_are_found() -> None:
    assert unknown_keys("training: {epochs: 1, epoch: 2}") == ["training.epoch"]
    assert unknown_keys("training: {regularizers: [{type: fgm, epsilom: 1}]}") == ["training.regularizers.epsilom"]
    assert unknown_keys("type: monitor\nwatch: {sentimet: a}") == ["watch.sentimet"]
    assert unknown_keys("alarms: 0") == []


def test_the_terms_are_led_to_what_there_is() -> None:
    """Keys, tasks and verbs that the page of terms names exist, and so do the headings that it links to."""
    page = ROOT / "docs" / "terms.md"
    text = page.read_text(encoding="utf-8")
    verbs = typer.main.get_command(app).list_commands(None)
    for name in re.findall(r"`([^`]+)`", text):
        key = name.partition(":")[0]
        if key.startswith("peftlab "):
            assert key.split()[1] in verbs, name
        elif re.fullmatch(r"(model|task|data|method|training|evaluation)\.[\w.]+", key):
            assert is_known(SCHEMAS["recipe"], key), name
        elif re.fullmatch(r"[a-z]+_[a-z_]+", key):
            known = {*TASKS, "multi_label", "resample_train", "memorization", "out_of_scope"}
            assert key in known, name
    assert not [name for name in TASKS if f"`{name}`" not in text and not name.startswith("turing")]
    for target, _, anchor in re.findall(r"\]\(([\w/.]+)(#([\w-]+))?\)", text):
        headings = re.findall(r"^#+ (.*)", (page.parent / target).read_text(encoding="utf-8"), re.MULTILINE)
        anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in anchors, (target, anchor)
