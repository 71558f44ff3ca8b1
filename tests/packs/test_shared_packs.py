"""The packs that this repository shares: what they hold means the same on every machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from peftlab.core.record import RECORDS_NAME
from peftlab.packs.layout import TRIALS_NAME

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
PACKS = sorted(path.parent for path in RESULTS.glob(f"*/{RECORDS_NAME}"))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


@pytest.mark.parametrize("pack", PACKS, ids=[pack.name for pack in PACKS])
def test_no_record_names_a_place_on_the_machine_that_made_it(pack: Path) -> None:
    records = (pack / RECORDS_NAME).read_text().splitlines()
    if (pack / TRIALS_NAME).exists():
        records += pq.read_table(pack / TRIALS_NAME)["record"].to_pylist()
    assert records
    recipes = [json.loads(record)["recipe"] for record in records]
    assert [text for recipe in recipes for text in _texts(recipe) if Path(text).is_absolute()] == []
