"""The interactive documentation needs no network: every address on its pages is the service's own."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_pages_bring_their_scripts_along(page: str, start: Any, tiny_run: Callable[..., Path]) -> None:
    client = start({"first": tiny_run()})
    base = f"http://127.0.0.1:{client.port}"
    with urllib.request.urlopen(base + page) as answer:  # noqa: S310 - the service of this test
        text = answer.read().decode()
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)["']""", text)
    assert any(address.endswith(".js") for address in addresses)
    for address in addresses:
        assert address.startswith("/"), address
        with urllib.request.urlopen(base + address) as answer:  # noqa: S310
            assert answer.status == 200
            assert len(answer.read()) > 100  # the smallest is an icon
