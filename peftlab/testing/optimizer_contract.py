"""What every optimizer must keep: it obeys the loop, and goes on from a checkpoint bit for bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from peftlab.core.errors import UnsupportedError
from peftlab.core.optimizer import OPTIMIZERS, Group, OptimizerConfig
from peftlab.core.registry import Registry
from peftlab.preparation.rehearsal import rehearse_memory
from peftlab.testing.broken_contract import BrokenContractError, require
from peftlab.testing.plugin_contract import PluginContract, Section
from peftlab.testing.tiny_bases import tiny_base
from peftlab.testing.training_jobs import TASKS, check_estimate, checked, job_of
from peftlab.training.checkpoints import flatten_optimizer, restore_optimizer
from peftlab.training.optimizers import set_learning_rate

USUAL = 1e-3
"""A method's own rate, with AdamW."""
HALF = 4
"""Steps before the interruption, and behind it."""
WORDS = 20


class OptimizerContract(PluginContract):
    """The tests of an optimizer. Inherit them in a file that pytest collects, and say which optimizer they are of.

    .. code-block:: python

        from peftlab.testing import OptimizerContract


        class TestSignMomentum(OptimizerContract):
            plugin = {"type": "sign_momentum", "beta": 0.8}
    """

    registry: ClassVar[Registry[Any]] = OPTIMIZERS
    waits: ClassVar[bool] = False
    """Whether its first steps move nothing."""

    def estimated(self) -> Sequence[Section]:
        """The optimizers whose memory is compared with its estimate."""
        return self.sections()

    def parameters(self) -> Mapping[str, Sequence[Any]]:
        """Besides: ``estimated`` is each whose memory is compared with its estimate."""
        return {**super().parameters(), "estimated": self.estimated()}

    def test_it_learns_and_a_resumed_run_is_the_same(self, section: Section) -> None:
        """The loss falls, what is frozen stays, and all that an interrupted run needs is in the optimizer's state."""
        config = self.build(section)
        model, other = tiny_model(), tiny_model()
        start, rate = _copied(model), config.rate_for(USUAL)
        optimizer = self._built(config, model, rate)
        losses = take_steps(model, optimizer, rate, HALF)
        other.load_state_dict(model.state_dict())
        try:
            kept = flatten_optimizer(optimizer)
        except UnsupportedError as error:
            raise BrokenContractError(
                f"{section['type']}: {error.message}",
                hint="What it keeps in `state` must be tensors, numbers, texts, and lists of these.",
            ) from None
        again = self._built(self.build(section), other, rate)
        restore_optimizer(again, kept)
        losses += take_steps(model, optimizer, rate, HALF)
        take_steps(other, again, rate, HALF)
        after, resumed = _copied(model), _copied(other)
        require(
            all(torch.isfinite(value).all() for value in after.values()),
            f"{section['type']}: after {2 * HALF} steps the weights are not finite",
        )
        different = [name for name, value in after.items() if not torch.equal(value, resumed[name])]
        require(
            not different,
            f"{section['type']}: a run that is interrupted after {HALF} steps goes on otherwise than one that is not, "
            f"in {', '.join(different[:3])}",
            hint="What it remembers from step to step stands in `self.state[parameter]` or in a group, as torch's own "
            "optimizers have it: an attribute is in no checkpoint. What it draws comes from torch's generators.",
        )
        require(
            torch.equal(after["frozen.weight"], start["frozen.weight"]),
            f"{section['type']} changes a parameter that is frozen",
            hint="Only those in `groups` train.",
        )
        if not self.waits:
            require(
                losses[-1] < losses[0],
                f"{section['type']}: {2 * HALF} steps at its own rate, {rate:g}, do not lower the loss: "
                f"{losses[0]:.6g} → {losses[-1]:.6g}",
                hint="`default_rate` is the usual rate of its library, from which a recipe without a rate is set. If "
                "its first steps move nothing by intention: waits = True.",
            )

    def test_the_loop_sets_the_rate_of_each_step(self, section: Section) -> None:
        """``lr`` of each group, times its ``rate_factor``; each parameter has the decay that it was given."""
        config, model = self.build(section), tiny_model()
        optimizer = self._built(config, model, config.rate_for(USUAL))
        found = {id(each): group for group in optimizer.param_groups for each in group["params"]}
        for group in groups_of(model):
            for each in group["params"]:
                own = found.get(id(each))
                if own is None:
                    raise BrokenContractError(
                        f"{section['type']} leaves out parameters that it was given", hint="Each of them trains."
                    )
                hint = (
                    "Give `groups` to torch's Optimizer as they are: `super().__init__(groups, defaults)`. LoRA+, "
                    "layer-wise rates and what is not to decay are in them."
                )
                require("rate_factor" in own, f"{section['type']} loses the `rate_factor` of its groups", hint=hint)
                decay, given = own.get("weight_decay", group["weight_decay"]), group["weight_decay"]
                require(
                    decay == given,
                    f"{section['type']}: a parameter with weight_decay = {given} has {decay} in the optimizer",
                    hint=hint,
                )
        take_steps(model, optimizer, config.rate_for(USUAL), 1)
        before = _copied(model)
        take_steps(model, optimizer, 0.0, 2)
        moved = [name for name, value in _copied(model).items() if not torch.equal(value, before[name])]
        require(
            not moved,
            f"{section['type']} moves {', '.join(moved[:2])} in steps at the rate 0",
            hint='Read group["lr"] in each step: warm-up and schedules are in it. What `build` was told is the peak.',
        )

    def test_the_estimate_agrees_with_the_measurement(self, estimated: Section, tmp_path_factory: Any) -> None:
        """`peftlab estimate` takes a step on shapes alone, and so knows what the optimizer keeps."""
        self.build(estimated)
        base, task = TASKS["text_classification"]
        folder = tiny_base(base, Path(tmp_path_factory.getbasetemp()))
        training = {"batch_size": 4, "log_every_steps": 1, "regularizers": [], "optimizer": dict(estimated)}
        ready = checked(folder, task, [], method={"type": "full"}, training=training)
        job = job_of(ready)
        check_estimate(ready, job, rehearse_memory(job).peak_bytes, f"{estimated['type']} in full tuning")

    def _built(self, config: OptimizerConfig, model: nn.ModuleDict, rate: float) -> torch.optim.Optimizer:
        __tracebackhide__ = True
        optimizer = config.build(groups_of(model), rate, model)
        require(
            isinstance(optimizer, torch.optim.Optimizer),
            f"`build` of {config.registered_name} gives {type(optimizer).__name__}",
            hint="It returns an optimizer of torch's kind: a class derived from torch.optim.Optimizer.",
        )
        return optimizer


def tiny_model() -> nn.ModuleDict:
    """A table of words, two layers that train and one that is frozen; the same weights each time."""
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {
        "words": nn.Embedding(WORDS, 8),
        "frozen": nn.Linear(8, 8).requires_grad_(False),
        "first": nn.Linear(8, 16),
        "last": nn.Linear(16, 4),
    }
    return nn.ModuleDict(layers)


def groups_of(model: nn.ModuleDict) -> list[Group]:
    """Its parameters as a run parts them."""
    usual = {"rate_factor": 1.0, "weight_decay": 0.01}
    return [
        {**usual, "params": [model["words"].weight], "low_rank": False},
        {**usual, "params": [model["first"].weight, model["last"].weight], "low_rank": True},
        {
            "params": [model["first"].bias, model["last"].bias],
            "low_rank": False,
            "weight_decay": 0.0,
            "rate_factor": 2.0,
        },
    ]


def take_steps(model: nn.ModuleDict, optimizer: torch.optim.Optimizer, rate: float, count: int) -> list[float]:
    """Some steps of the loop at one rate, and the loss before each."""
    words = torch.arange(3 * WORDS) % WORDS
    losses = []
    for step in range(count):
        torch.manual_seed(step)
        set_learning_rate(optimizer, rate)
        loss = nn.functional.cross_entropy(model["last"](model["first"](model["frozen"](model["words"](words))).relu()),
                                           words % 4)  # fmt: skip
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
