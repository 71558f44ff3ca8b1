"""A service in a thread of this process, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from peftlab.core.address import bind
from peftlab.serving.app import build_app
from peftlab.serving.host import Host
from peftlab.serving.service import Service
from peftlab.serving.serving_config import ServingConfig
from peftlab.serving.telemetry import Telemetry
from tests.patience import PATIENCE


@dataclass
class Client:
    port: int
    service: Service
    log: io.StringIO
    server: uvicorn.Server

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = answer.headers.get("content-type", "").startswith("application/json")
            return answer.status, json.loads(text) if is_json and text else text, dict(answer.headers)
        finally:
            connection.close()

    def predict(self, texts: list[Any], adapter: str | None = None) -> tuple[int, Any]:
        status, body, _ = self.request("POST", "/v1/predict", {"texts": texts, "adapter": adapter})
        return status, body


Start = Callable[..., Client]


@pytest.fixture
def start() -> Iterator[Start]:
    """`start({"a": folder}, limits=…)` starts a service; it is stopped at the end of the test."""
    with contextlib.ExitStack() as stack:

        def begin(runs: dict[str, Path], **settings: Any) -> Client:
            limits = {"request_timeout_seconds": PATIENCE, **settings.pop("limits", {})}
            config = ServingConfig.model_validate({"limits": limits, **settings})
            host = Host(offline=True)
            for name, folder in runs.items():
                host.add(name, folder)
            log = io.StringIO()
            made: list[Service] = []
            bound = bind("127.0.0.1", 0)
            ready = threading.Event()

            def run() -> None:
                async def main() -> None:
                    # asyncio's locks belong to the loop in which the service is made.
                    made.append(Service(host, config, Telemetry(log)))
                    settings = uvicorn.Config(build_app(made[0]), log_config=None, access_log=False)
                    servers.append(uvicorn.Server(settings))
                    ready.set()
                    await servers[0].serve(sockets=[bound])

                import asyncio

                asyncio.run(main())

            servers: list[uvicorn.Server] = []
            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            assert ready.wait(PATIENCE)
            deadline = time.monotonic() + PATIENCE
            while not servers[0].started:
                assert time.monotonic() < deadline, "the service did not start"
                time.sleep(0.01)
            stack.callback(bound.close)
            stack.callback(thread.join, PATIENCE)
            stack.callback(lambda: setattr(servers[0], "should_exit", True))
            return Client(bound.getsockname()[1], made[0], log, servers[0])

        yield begin
