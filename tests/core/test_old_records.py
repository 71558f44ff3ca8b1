"""Records that earlier commits wrote can still be read; so can the recipes in them."""

import json
from pathlib import Path

import pytest

import peftlab
from peftlab.core.record import parse_record

RECORDS = sorted((Path(__file__).parent / "old_records").glob("*.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_an_old_record_is_read(path):
    text = path.read_text(encoding="utf-8")
    record, written = parse_record(text, where=path.name), json.loads(text)
    assert record.status == written["status"] == "success"
    assert record.scores == written["scores"]
    assert record.environment["versions"]["peftlab"] == written["environment"]["versions"]["peftlab"]
    recipe = peftlab.Recipe.from_dict(record.recipe)
    assert recipe.method.registered_name == written["recipe"]["method"]["type"]
