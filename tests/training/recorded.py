"""Recorded passes without a card: a tape in a graph's place, and steps whose losses and weights are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from peftlab.acceleration.accelerated import accelerated
from peftlab.training.graphs import StepGraphs, build_graphs
from peftlab.training.job import TrainingJob
from peftlab.training.loop import optimizer_step
from peftlab.training.steps import StepPlan


class Tape(TorchDispatchMode):
    """Stands in for a CUDA graph: notes operations once, undoes what they did, and does them again when asked."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[tuple[Any, Any, Any, list[Any]]] = []
        self.made: set[int] = set()
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for argument, value in zip(function._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in tree_leaves(value):
                    if id(tensor) not in self.made and id(tensor) not in self.before:
                        self.before[id(tensor)] = (tensor, tensor.clone())
        results = function(*args, **kwargs)
        self.notes.append((function, args, kwargs, tree_leaves(results)))
        self.made |= {id(value) for value in tree_leaves(results) if id(value) not in self.before}
        return results

    def replay(self) -> None:
        there: dict[int, Any] = {}

        def now(value: Any) -> Any:
            return there.get(id(value), value) if isinstance(value, torch.Tensor) else value

        with torch.no_grad():
            for function, args, kwargs, results in self.notes:
                found = tree_leaves(function(*tree_map(now, args), **tree_map(now, kwargs)))
                there.update({id(old): new for old, new in zip(results, found, strict=True) if id(old) in self.made})


class TapeRecorder:
    """Records onto tapes."""

    def __init__(self) -> None:
        self.recorded = 0

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        state, tape = torch.get_rng_state(), Tape()
        with tape:
            work()
        torch.set_rng_state(state)
        with torch.no_grad():
            for tensor, before in tape.before.values():
                tensor.copy_(before)
        self.recorded += 1
        return tape.replay


def with_graphs(job: TrainingJob, recorder: Any) -> TrainingJob:
    job = replace(job, config=job.config.model_copy(update={"cuda_graphs": "on"}))
    graphs = build_graphs(job, recorder)
    assert isinstance(graphs, StepGraphs), graphs
    return replace(job, graphs=graphs)


def rotating() -> StepPlan:
    """Steps of a batch of four and one of three, of other examples each time."""
    return StepPlan(lambda _: [[(3 * n + k) % 7 for k in range(4 - n % 2)] for n in range(12)], 2, 1, None)


def losses_of(job: TrainingJob, steps: int = 6) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Of some steps of two batches each, and the weights that they lead to."""
    torch.manual_seed(7)
    found = []
    with accelerated(job.model):
        for step in list(rotating().steps())[:steps]:
            found.append(optimizer_step(job, step)[0].clone())
    return found, {name: value.detach().clone() for name, value in job.model.named_parameters() if value.requires_grad}


def assert_equal(found: Any, wanted: Any) -> None:
    assert [float(loss) for loss in found[0]] == [float(loss) for loss in wanted[0]]
    for name, value in wanted[1].items():
        assert torch.equal(found[1][name], value), name
