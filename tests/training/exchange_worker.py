"""One of two processes that exchange things; what each has found is written into a folder.

Its argument is the folder.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from peftlab.core.errors import PeftlabError, RunFailedError, UserError
from peftlab.core.splits import EncodedSplit
from peftlab.run.prepared import PREPARED, TorchUntouchedBase, prepare_splits
from peftlab.training import joining, loop, watch
from peftlab.training.evaluation import DivergedError
from peftlab.training.joining import joined_world
from peftlab.training.launch import Started
from peftlab.training.world import World


def raised(work: Callable[[], Any]) -> str:
    try:
        work()
    except RunFailedError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def diverge(item: int) -> int:
    if item == 1:
        raise DivergedError("no number")
    return item


def fail() -> None:
    raise RunFailedError("in the first")


def prepared(world: World, folder: Path) -> list[Any]:
    """What a task computes for its rows; the folder is this process's own."""
    split = EncodedSplit("train", [0, 1, 2], [{}, {}, {}])

    def prepare(_splits: Any, _base: Any) -> Any:
        return {"train": {"value": torch.tensor(list(world.map(lambda item: 2 * item, [1, 2, 3])))}}

    task = cast("Any", SimpleNamespace(prepare=prepare, registered_name="own"))
    base = cast("TorchUntouchedBase", None)
    found = prepare_splits(task, {"train": split}, base, torch.nn.Linear(2, 2), folder / PREPARED, "own", world)
    return [example["value"] for example in found["train"].examples]


@dataclass(frozen=True)
class Job:
    """What a roll-out needs of one."""

    world: World
    roll_outs: Any
    model: Any = None
    split: Any = None


def drawn_after_a_roll_out(world: World) -> float:
    """A number that is drawn after the first process has drawn some; as by an optimizer, outside of a batch."""
    torch.manual_seed(0)
    roll_outs = SimpleNamespace(of_step=lambda step, _model: (step, float(torch.rand(()))))
    loop._rolled_out(cast("Any", Job(world, roll_outs)), cast("Any", 1))
    return float(torch.rand(()))


def exchange(folder: Path, rank: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    own = folder / str(rank)
    own.mkdir()
    try:
        with joined_world("cpu", 300) as world:
            found["map"] = raised(lambda: list(world.map(diverge, [0, 1, 2])))
            found["first"] = raised(lambda: world.first(fail))
            found["drawn"] = world.gather(drawn_after_a_roll_out(world))
            torch.manual_seed(0)
            found["prepared"] = [prepared(world, own)]
            (folder / "1" / PREPARED).unlink(missing_ok=True)  # the next start of this process has another folder
            world.any(False)
            torch.manual_seed(0)
            found["prepared"].append(prepared(world, own))
            if rank == 1:
                raise world.ended_by(UserError("planned"))
            world.sum(1.0)
    except UserError as error:
        found["ended"] = error.message
    return found


def lack_a_card() -> str:
    def own_device(device: str, start: Started | None = None) -> str:
        if start is not None and start.rank == 1:
            raise UserError("there is no card for it")
        return device

    joining.own_device = own_device
    return refused()


def refused() -> str:
    try:
        with joined_world("cpu", 300):
            return "joined"
    except PeftlabError as error:
        return error.message


def share_a_card() -> str:
    joining._find_card = lambda *_: ("the only card", None)
    return refused()


def main() -> None:
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    found = exchange(folder, rank)
    os.environ["MASTER_PORT"] = os.environ["OTHER_PORT"]
    found["without_card"] = lack_a_card()
    os.environ["MASTER_PORT"] = os.environ["THIRD_PORT"]
    found["sharing"] = share_a_card()
    (folder / f"{rank}.json").write_text(json.dumps(found))


def wait_for_a_card() -> None:
    """The first process waits for its card, as for NCCL's exchange with one that has failed; it hears no signal."""
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    begin = joining.dist.init_process_group
    joining.dist.init_process_group = lambda _backend, **own: begin("gloo", **own)
    joining.dist.get_backend_config = lambda: "cpu:gloo,cuda:nccl"
    joining._find_card = lambda *_: (f"card {rank}", None)
    watch.PATIENCE = 1.0
    with joined_world("cpu", 300) as world:
        world.leave_record = lambda error: (folder / f"{rank}.record").write_text(str(error))
        world.sum(1.0)
        if rank == 1:
            world.ended_by(RunFailedError("planned"))
            world.note_record()
            time.sleep(
                4 * watch.PATIENCE
            )  # it does not wait for its card: what a program does after the run takes long
            raise RunFailedError("planned")
        os.read(os.pipe()[0], 1)
