"""The queue before the models goes on, whatever becomes of a client or of a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from peftlab.core.errors import UserError
from peftlab.inference.generate import GenerationOptions
from peftlab.serving.batcher import Batcher
from peftlab.serving.host import TextRequest, WorkItem
from peftlab.serving.service import Service
from peftlab.serving.serving_config import Batching, ServingConfig
from peftlab.serving.telemetry import Telemetry
from tests.patience import PATIENCE

TASK = SimpleNamespace(length=lambda _example: 1)
HOSTED: Any = SimpleNamespace(name="a", tuned=SimpleNamespace(task=TASK), group=object())


def prompt() -> WorkItem:
    return WorkItem(HOSTED, {}, TextRequest(GenerationOptions(4)))


def batcher(compute: Any = list, write: Any = None) -> Batcher:
    settings = Batching(max_wait_seconds=0.0)
    made = Batcher(compute, write, settings, max_queue=10, on_batch=lambda _texts, _seconds: None)
    made.start()
    return made


def test_a_text_that_is_given_back_after_its_client_has_gone_ends_nothing() -> None:
    """A model that nobody can join writes a batch to its end, and gives back later who left meanwhile."""
    begun, turn = asyncio.Event(), asyncio.Event()
    left: list[WorkItem] = []
    loop: Any = None

    def write(newcomers: Sequence[WorkItem]) -> list[tuple[WorkItem, Any]]:
        left.extend(newcomers)
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(turn.wait(), loop).result(PATIENCE)
        return [(left.pop(0), "text")]

    async def ask() -> list[Any]:
        nonlocal loop
        loop = asyncio.get_running_loop()
        queue = batcher(write=write)
        first, second, third = queue.submit([prompt(), prompt(), prompt()])
        await asyncio.wait_for(begun.wait(), PATIENCE)
        third.cancel()
        turn.set()
        texts = [await asyncio.wait_for(each, PATIENCE) for each in (first, second)]
        (again,) = queue.submit([prompt()])  # the third one's text comes back now
        (last,) = queue.submit([prompt()])
        found = [*texts, await asyncio.wait_for(again, PATIENCE), await asyncio.wait_for(last, PATIENCE)]
        await asyncio.wait_for(queue.close(), PATIENCE)
        return found

    assert asyncio.run(ask()) == ["text"] * 4


def test_who_has_gone_is_taken_out_at_the_very_next_step() -> None:
    """Else a token more is written, and the text is given back when nobody asks for it any more."""
    seen: list[bool] = []
    items = [prompt(), prompt()]

    def write(_newcomers: Sequence[WorkItem]) -> list[tuple[WorkItem, Any]]:
        seen.append(items[0].writing is not None and items[0].writing.abandoned.is_set())
        return [(items[1], "text")] if len(seen) > 1 else []

    async def ask() -> None:
        queue = batcher(write=write)
        gone, kept = queue.submit(items)
        while not seen:
            await asyncio.sleep(0)
        gone.cancel()
        assert await asyncio.wait_for(kept, PATIENCE) == "text"
        await asyncio.wait_for(queue.close(), PATIENCE)

    asyncio.run(ask())
    assert seen[1]


def test_a_step_that_fails_is_told_to_those_who_wait_and_the_next_one_goes_on() -> None:
    fails = True

    def write(newcomers: Sequence[WorkItem]) -> list[tuple[WorkItem, Any]]:
        if fails:
            raise RuntimeError("no memory")
        return [(item, "text") for item in newcomers]

    async def ask() -> str:
        nonlocal fails
        queue = batcher(write=write)
        (first,) = queue.submit([prompt()])
        with pytest.raises(RuntimeError, match="no memory"):
            await asyncio.wait_for(first, PATIENCE)
        fails = False
        (second,) = queue.submit([prompt()])
        found: str = await asyncio.wait_for(second, PATIENCE)
        await asyncio.wait_for(queue.close(), PATIENCE)
        return found

    assert asyncio.run(ask()) == "text"


def test_too_few_answers_are_told_to_those_who_wait() -> None:
    async def ask() -> None:
        queue = batcher(compute=lambda items: items[1:])
        (answer,) = queue.submit([WorkItem(HOSTED, {})])
        with pytest.raises(ValueError, match="shorter"):
            await asyncio.wait_for(answer, PATIENCE)
        await asyncio.wait_for(queue.close(), PATIENCE)

    asyncio.run(ask())


def test_what_was_made_for_an_adapter_that_has_gone_meanwhile_is_refused() -> None:
    """A request that awaits something between the look-up and the queue may find the adapter gone, or another one."""

    async def ask(models: dict[str, Any]) -> None:
        host: Any = SimpleNamespace(models=models, answer=list, write=None)
        await Service(host, ServingConfig(), Telemetry()).answers([WorkItem(HOSTED, {})])

    for models in ({}, {"a": SimpleNamespace(name="a")}):
        with pytest.raises(UserError, match=r"no adapter `a`|has been replaced"):
            asyncio.run(asyncio.wait_for(ask(models), PATIENCE))


def test_a_log_that_nobody_can_write_to_stops_no_request() -> None:
    class Full:
        def write(self, _text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None: ...

    telemetry = Telemetry(Full())  # type: ignore[arg-type]
    telemetry.request("/v1/predict", 200, 0.1)
    assert b'route="/v1/predict"' in telemetry.render()
