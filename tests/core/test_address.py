"""Where a service listens: names that no machine has are told as such."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from peftlab.core.address import bind, url_of
from peftlab.core.errors import UserError
from tests.patience import PATIENCE


@pytest.mark.parametrize("address", ["\U0001f600.example", "x" * 300, "a b", "no-such-host.invalid"])
def test_an_address_that_there_is_not(address: str) -> None:
    with pytest.raises(UserError, match="--host: there is no address"):
        bind(address, 0)


def test_a_port_in_use() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = int(url_of("127.0.0.1", taken).rpartition(":")[2])
        with pytest.raises(UserError, match=f"--port: cannot listen on 127.0.0.1, port {port}"):
            bind("127.0.0.1", port)


ENDLESS = """
import asyncio, sys
from starlette.routing import Router
from peftlab.core.address import answer, bind

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await Router()(scope, receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await asyncio.sleep(600)

bound = bind("127.0.0.1", 0)
print(bound.getsockname()[1], flush=True)
answer(app, bound, grace_seconds=int(sys.argv[1]))
"""


def wait_until_closed(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    with contextlib.suppress(ConnectionError):
        while True:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
            assert time.monotonic() < deadline, "it still listens"
            time.sleep(0.02)


@pytest.mark.parametrize(("grace_seconds", "is_hurried"), [(1, False), (50, True)])
def test_an_answer_that_goes_on_when_the_service_ends_is_no_fault(grace_seconds: int, is_hurried: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(grace_seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as customer:
                customer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b"200" in customer.recv(1000)
                process.terminate()
                if is_hurried:  # a second Ctrl-C, once the first is heard: nobody is let in any more
                    wait_until_closed(port)
                    process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0, told
    assert "Traceback" not in told
    assert ("Cancel 1 running task" in told) is not is_hurried
