"""The tests of a contract, called one after the other."""

from __future__ import annotations

import inspect
from types import MappingProxyType
from typing import Any

import pytest

from peftlab.testing.broken_contract import BrokenContractError
from peftlab.testing.plugin_contract import PluginContract

NAME = "planted"
Kinds = dict[type[PluginContract], tuple[Any, type[Any], dict[type[Any], str]]]
"""Of a contract: its registry, a class that keeps it, and classes that do not, each with what is told."""


def try_all(contract: type[PluginContract], registry: Any, cls: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """All its tests of a class, which is registered for as long."""
    registry.names()
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    registry.register(NAME)(cls)
    call_all(type("Tests", (contract,), {"plugin": MappingProxyType({"type": NAME})}))


def call_all(contract: type[PluginContract]) -> None:
    """All tests, as of a class of no package, but those that need folders of pytest or another process."""
    tests = type("Tests", (contract,), {"announced": False})()
    given, elsewhere = tests.parameters(), {"test_it_is_cheap_to_import"}
    names = [each for kind in contract.__mro__ for each in vars(kind) if each.startswith("test_")]
    for name in dict.fromkeys(names):
        if name in elsewhere:
            continue
        needed = inspect.signature(getattr(tests, name)).parameters
        if needed.keys() <= given.keys():
            getattr(tests, name)(**{each: given[each][0] for each in needed})


def check_mistake(kinds: Kinds, contract: type[PluginContract], mistake: type[Any], patch: pytest.MonkeyPatch) -> None:
    """A class that does not keep the contract is refused with the words that tell why."""
    registry, _, mistakes = kinds[contract]
    with pytest.raises(BrokenContractError) as caught:
        try_all(contract, registry, mistake, patch)
    assert mistakes[mistake] in str(caught.value)


def mistakes_of(kinds: Kinds) -> list[Any]:
    """A contract and a class that does not keep it, for each of them."""
    return [
        pytest.param(contract, mistake, id=mistake.__name__)
        for contract, (_, _, mistakes) in kinds.items()
        for mistake in mistakes
    ]
