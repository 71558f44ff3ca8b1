"""Without a network: one short message, at once, and nothing on standard error from the libraries."""

import socket
import time
from pathlib import Path

import huggingface_hub.constants as hub
import pytest

import peftlab.core.hub
from peftlab.core.errors import SourceError
from peftlab.data.data_config import DataConfig
from peftlab.data.hub import load_hub_tables
from peftlab.models.facts import read_model_facts


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """No network; the requests that were tried."""
    tried: list[str] = []

    def refuse(*address: object, **_: object) -> None:
        tried.append(str(address[0]))
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(peftlab.core.hub._Answer, "is_there", None)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return tried


@pytest.mark.parametrize("kind", ["model", "data"])
def test_an_unreachable_hub_is_asked_once(
    kind: str, asked: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/tweets.csv").touch()
    read = {
        "model": lambda name: read_model_facts(name, path=name),
        "data": lambda name: load_hub_tables(name, DataConfig(source=name)),
    }
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    for _ in range(3):
        with pytest.raises(SourceError) as caught:
            read[kind]("mine/twets.cvs")
        assert "is not in the local cache, and the" in caught.value.message
        assert "Did you mean `mine/tweets.csv`?" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 2
    assert len(asked) <= 2  # of one try: two families of addresses
    assert sum(slept) < 10
    assert capfd.readouterr() == ("", "")


def test_a_hub_that_answers_again_is_used_again(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert peftlab.core.hub.prepare_hub() is False
    assert hub.HF_HUB_OFFLINE is True
    monkeypatch.setattr(peftlab.core.hub, "SECONDS_AN_ANSWER_HOLDS", 0.0)
    monkeypatch.setattr(peftlab.core.hub, "_answers", lambda address: True)
    assert peftlab.core.hub.prepare_hub() is True
    assert hub.HF_HUB_OFFLINE is False


def test_a_network_that_is_forbidden_is_not_asked(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    assert peftlab.core.hub.prepare_hub() is False
    assert asked == []
