"""Processes that find each other: a launcher has started them, and each knows its number and where the first one is."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from peftlab.core.devices import choose_device
from peftlab.core.errors import RunFailedError, UserError, first_line
from peftlab.training.launch import LAUNCHER, STORE_FILE, Started, find_start
from peftlab.training.processes import Processes
from peftlab.training.sealing import unseal
from peftlab.training.watch import Watch, packed
from peftlab.training.world import World

TIMEOUT = 120.0
"""Seconds that processes wait for one that does not come, or is silent."""
LONG = datetime.timedelta(days=7)
"""For what one process does while the others wait, such as saving; that it is alive they hear."""
REFUSED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}

_joined: World | None = None
_held: dict[tuple[str, int], Any] = {}
"""The store that this process holds, for its next run too: torch keeps a sharded model's groups, and they keep it."""
_times_joined = 0


class NoFirstProcessError(RunFailedError):
    """The first process, which tells the user of errors, is not there."""

    is_told_by_any = True


@contextlib.contextmanager
def joined_world(device: str, timeout: float = TIMEOUT) -> Iterator[World]:
    """The world that this process is in, as long as the block lasts; within such a block the same one.

    An error that leaves the block ends all processes.

    Args:
        device: As for :func:`peftlab.core.devices.choose_device`.
        timeout: Seconds that processes wait for one that does not come, or is silent.

    Raises:
        UserError: The launcher's variables say nothing that can be, a port is in use, or there is no such device.
        RunFailedError: A process does not come.
    """
    global _joined
    start = None if _joined is not None else find_start()
    if start is None:
        yield _joined or World()
        return
    with _joined_to(start, device, timeout) as _joined:
        try:
            yield _joined
        except BaseException as error:
            _end(_joined, error)
            raise
        finally:
            _joined = None


def own_device(device: str, start: Started | None = None) -> str:
    """The device of this process: of several on one machine, each has a card of its own.

    A process that sees one card has that one, whatever its number is: launchers such as srun can give each its own.
    That no two have the same one is seen when they meet.

    Raises:
        UserError: There are more processes than cards, or all would have the same one.
    """
    start = start or find_start()
    if start is None or device == "cpu" or not torch.cuda.is_available():
        return device
    if ":" in device:
        raise UserError(
            f"{start.size} processes cannot share one card", where=f"--device {device}", hint="Write cuda, or cpu."
        )
    cards = torch.cuda.device_count()
    if start.local_rank >= cards > 1:
        raise _too_few_cards(start.local_rank + 1, cards)
    return f"cuda:{start.local_rank if cards > 1 else 0}"


def _too_few_cards(processes: int, cards: int) -> UserError:
    return UserError(
        f"there are more processes than devices: {processes} or more, and {cards} card{'s' if cards > 1 else ''}",
        where="--processes",
        hint=f"Start {cards} on this machine; CUDA_VISIBLE_DEVICES may hide cards. Or write --device cpu.",
    )


@contextlib.contextmanager
def _joined_to(start: Started, device: str, timeout: float) -> Iterator[Processes]:
    from torch._C._distributed_c10d import PrefixStore  # not in a PyTorch without torch.distributed

    global _times_joined
    for name, what in REFUSED.items():
        if os.environ.get(name, "").lower() == "true":
            raise UserError(f"accelerate's configuration asks for {what}, and peftlab does not use it", where=name)
    _times_joined += 1
    waiting = datetime.timedelta(seconds=timeout)
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = PrefixStore(f"peftlab/{restarts}/{_times_joined}", _open_store(start, waiting))
    # accelerate goes by these, whoever has started the processes.
    os.environ |= {"RANK": str(start.rank), "WORLD_SIZE": str(start.size), "LOCAL_RANK": str(start.local_rank)}
    launcher = os.environ.get(LAUNCHER)
    watch = Watch(store, start.rank, start.size, timeout=timeout, launcher=int(launcher) if launcher else None)
    card, problem = _find_card(device, start)
    store.set(f"card/{start.rank}", card)
    watch.announce(problem)
    if problem is not None and start.rank != 0:
        raise problem  # the first one reads it, and tells
    _wait_for_all(store, start, timeout)
    watch.start()
    try:  # a thread that still speaks when the interpreter ends takes the process down with SIGABRT
        _choose_interface(start.address)
        if card:
            from peftlab.training.accelerator import spare_nccl_missing_ways

            spare_nccl_missing_ways()
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if card else "gloo",
            store=PrefixStore("group", store),
            rank=start.rank,
            world_size=start.size,
            timeout=waiting,
        )
        dist.distributed_c10d._set_pg_timeout(LONG)
        world = Processes(start.rank, start.size, watch)
        yield world
        if not world.is_over:
            world.any(False)  # nobody leaves before all are done: the first one holds the store
            watch.stop()
            dist.destroy_process_group()
    finally:
        watch.stop()


def _find_card(device: str, start: Started) -> tuple[str, UserError | None]:
    """What tells the card of this process from all others, and why it has none that it should have.

    The first is empty on a CPU. A process may be the only one that lacks its card.
    """
    try:
        own = choose_device(own_device(device, start))
    except UserError as error:
        return "", error
    return str(torch.cuda.get_device_properties(own).uuid) if own.type == "cuda" else "", None


def _sharing(store: Any, size: int) -> UserError | None:
    """What is wrong where two processes have the same card."""
    seen: dict[bytes, int] = {}
    for rank in range(size):
        card = store.get(f"card/{rank}")
        if card and card in seen:
            error = _too_few_cards(2, 1)
            error.message += f", which the processes {seen[card]} and {rank} both have"
            return error
        seen[card] = rank
    return None


def _end(world: World, error: BaseException) -> None:
    """Tell the others; the error of another process takes the place of one that follows from it."""
    cause = world.ended_by(error)
    if cause is not error:
        raise cause from None


def _open_store(start: Started, timeout: datetime.timedelta) -> Any:
    """The store of all processes: the first one holds it, or torchrun's agent does."""
    from torch._C._distributed_c10d import TCPStore

    is_agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE", "").lower() == "true"
    holds = start.rank == 0 and not is_agents
    listening = os.environ.pop(STORE_FILE, None)
    if holds and (start.address, start.port) in _held:
        return _held[start.address, start.port]
    options: dict[str, Any] = {"master_listen_fd": int(listening)} if listening and holds else {}
    try:
        store = TCPStore(
            start.address,
            start.port,
            start.size,
            is_master=holds,
            timeout=timeout,
            wait_for_workers=False,
            **options,
        )
        if holds:
            _held[start.address, start.port] = store
        return store
    except RuntimeError as error:
        place = f"{start.address}:{start.port}"
        if holds and ("EADDRINUSE" in str(error) or os.strerror(errno.EADDRINUSE) in str(error)):
            raise UserError(
                f"port {start.port} is in use", where="MASTER_PORT", hint="Give another one to the launcher."
            ) from None
        if holds:
            raise UserError(
                f"the first process cannot listen at {place}: {first_line(error)}",
                where="MASTER_ADDR",
                hint="It must be an address of the machine that process 0 runs on.",
            ) from None
        raise NoFirstProcessError(
            f"process 0 does not answer at {place} within {timeout.total_seconds():g} s; this is process {start.rank}"
        ) from None


def _wait_for_all(store: Any, start: Started, timeout: float) -> None:
    """Wait until every process has announced itself.

    Raises:
        RunFailedError: One has not come; the first process says which.
        UserError: One cannot take part.
    """
    if start.rank != 0:
        try:
            store.wait(["all"], datetime.timedelta(seconds=timeout + 5))
            problem: bytes = store.get("all")
        except RuntimeError:
            raise RunFailedError("a process has not come") from None
        if problem:
            raise unseal(problem)
        return
    missing, deadline = list(range(1, start.size)), time.monotonic() + timeout
    while missing := [rank for rank in missing if not store.check([f"alive/{rank}"])]:
        if time.monotonic() > deadline:
            who = f"process {missing[0]} has" if len(missing) == 1 else f"processes {', '.join(map(str, missing))} have"
            error = RunFailedError(
                f"{who} not come within {timeout:g} s; there are to be {start.size}, numbered from 0",
                hint="Give all the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE, on machines that reach this one.",
            )
            store.set("all", packed(error, 0))
            raise error
        time.sleep(0.05)
    problem = next(filter(None, (store.get(f"end/{rank}") for rank in range(start.size))), b"")
    if not problem and (sharing := _sharing(store, start.size)) is not None:
        problem = packed(sharing, 0)
    store.set("all", problem)
    if problem:
        raise unseal(problem)


def _choose_interface(address: str) -> None:
    """Let gloo use the network that leads to the first process; by itself it takes the one of the host's name."""
    if os.environ.get("GLOO_SOCKET_IFNAME"):
        return
    try:
        family, _, _, _, place = socket.getaddrinfo(address, 1, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(place)  # sends nothing: it only looks up the way
            own = probe.getsockname()[0]
        found = next((name for _, name in socket.if_nameindex() if _address_of(name) == own), None)
    except OSError:
        return  # gloo finds its own, or says why not
    if found is not None:
        os.environ["GLOO_SOCKET_IFNAME"] = found


def _address_of(interface: str) -> str | None:
    """The IPv4 address of a network interface."""
    try:
        import fcntl
    except ImportError:
        return None  # not on this system
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("256s", interface.encode()[:15])
        try:
            return socket.inet_ntoa(fcntl.ioctl(any_socket.fileno(), 0x8915, request)[20:24])  # SIOCGIFADDR
        except OSError:
            return None
