from __future__ import annotations

from pathlib import Path

import pytest
from fakes import write_suite


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete suite of eleven methods and three seeds; only to be read."""
    figure = {"metric": "accuracy", "score": 0.99, "source": "A paper, table 2"}
    return write_suite(tmp_path_factory.mktemp("suites") / "tweets", examples=400, published={"lora": figure})
