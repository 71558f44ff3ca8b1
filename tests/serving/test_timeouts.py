"""A client that has waited for too long is told so, and what it asked for is not computed any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_service import TEXTS

from peftlab.serving.host import Host


def test_an_answer_that_does_not_come(start, tiny_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    predict, slow = Host.predict, [True]

    def slowly(self: Host, items: Any) -> Any:
        if slow[0]:
            time.sleep(1.5)
        return predict(self, items)

    monkeypatch.setattr(Host, "predict", slowly)
    client = start({"first": tiny_run()}, limits={"request_timeout_seconds": 1}, batching={"max_batch": 4})
    status, body = client.predict(TEXTS[:40])
    assert (status, body["error"]) == (504, "the answer did not come in time")
    deadline = time.monotonic() + 20
    while client.service.batcher.waiting and time.monotonic() < deadline:
        time.sleep(0.02)
    assert client.service.batcher.waiting == 0
    slow[0] = False
    time.sleep(1.6)  # the batch that is in the model
    assert client.predict(TEXTS[:1])[0] == 200
