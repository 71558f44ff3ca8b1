"""Where a service listens: names that no machine has are told as such."""

from __future__ import annotations

import pytest

from peftlab.core.address import bind, url_of
from peftlab.core.errors import UserError


@pytest.mark.parametrize("address", ["\U0001f600.example", "x" * 300, "a b", "no-such-host.invalid"])
def test_an_address_that_there_is_not(address: str) -> None:
    with pytest.raises(UserError, match="--host: there is no address"):
        bind(address, 0)


def test_a_port_in_use() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = int(url_of("127.0.0.1", taken).rpartition(":")[2])
        with pytest.raises(UserError, match=f"--port: cannot listen on 127.0.0.1, port {port}"):
            bind("127.0.0.1", port)
