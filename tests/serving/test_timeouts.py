"""A client that has waited for too long, or whose answer cannot be computed, is told so."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_service import TEXTS

from peftlab.serving.host import Host
from tests.changed_weights import change_weights, endless
from tests.patience import PATIENCE


def test_an_answer_that_does_not_come(start, tiny_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    predict, free, calls = Host.predict, threading.Event(), list[int]()

    def slowly(self: Host, items: Any) -> Any:
        calls.append(len(items))
        free.wait(PATIENCE)
        return predict(self, items)

    monkeypatch.setattr(Host, "predict", slowly)
    client = start({"first": tiny_run()}, limits={"request_timeout_seconds": 1}, batching={"max_batch": 4})
    status, body = client.predict(TEXTS[:40])
    assert (status, body["error"]) == (504, "the answer did not come in time")
    deadline = time.monotonic() + PATIENCE
    while client.service.batcher.waiting:
        assert time.monotonic() < deadline, "what nobody waits for still waits"
        time.sleep(0.02)
    free.set()  # of the batch that is in the model
    while client.predict(TEXTS[:1])[0] != 200:
        assert time.monotonic() < deadline, "it answers nobody any more"
    assert sum(size for size in calls if size > 1) < 20, "texts of the forty were computed for nobody"


def test_an_answer_that_is_no_number(start, tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_run(), tmp_path / "broken"))
    change_weights(folder, endless)
    client = start({"first": folder})
    status, body = client.predict(TEXTS[:2])
    assert (status, body["error"]) == (500, "what the model computes is no number (NaN), so it gives no answer")
    assert "float32" in body["hint"]
