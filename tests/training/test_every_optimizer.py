"""Every optimizer that is not refused learns, and goes on from a checkpoint with the same bits."""

import warnings
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from peftlab.core.added_rows import ADDED_ROWS, AddedRows
from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.optimizer import OPTIMIZERS
from peftlab.core.schedule import SCHEDULES
from peftlab.preparation.check_sharding import check_sharding
from peftlab.recipe.schema import Recipe
from peftlab.testing import BrokenContractError, OptimizerContract, ScheduleContract
from peftlab.testing.optimizer_contract import groups_of, take_steps, tiny_model
from peftlab.testing.plugin_contract import Section
from peftlab.training.averaged_weights import averaged_weights
from peftlab.training.checkpoints import flatten_optimizer, restore_optimizer
from peftlab.training.optimizers import build_optimizer, learning_rate_schedule, set_learning_rate
from peftlab.training.training_config import TrainingConfig

pytestmark = pytest.mark.slow

WAIT = {"adashift", "dadapt_adan", "kate", "schedule_free_radam"}
"""Do not lower the loss of so small a model within eight steps."""
USABLE = [name for name, cls in OPTIMIZERS.items() if not cls.refusal]
RECIPE = {
    "model": {"path": "x"},
    "task": {"type": "text_classification"},
    "data": {"source": "x.csv"},
    "method": {"type": "lora"},
}


def new_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"words": nn.Embedding(20, 8), "first": nn.Linear(8, 16), "last": nn.Linear(16, 4)})


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, rate: float, count: int = 2) -> float:
    words = torch.arange(60) % 20
    for step in range(count):
        torch.manual_seed(step)
        set_learning_rate(optimizer, rate)
        logits = model["last"](model["first"](model["words"](words)).relu())
        loss = nn.functional.cross_entropy(logits, words % 4)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


class TestOptimizers(OptimizerContract):
    def sections(self) -> Sequence[Section]:
        return [{"type": name} for name in ("adamw", "sgd", "lion", "muon", "prodigy", "schedule_free_adamw")]

    def estimated(self) -> Sequence[Section]:
        return [{"type": "lion"}]  # tests/estimate/test_shapes.py has others


class TestSchedules(ScheduleContract):
    def sections(self) -> Sequence[Section]:
        return [{"type": name} for name in SCHEDULES]


def test_every_usable_one_learns_and_resumes_bit_for_bit() -> None:
    warnings.filterwarnings("ignore")
    assert len(USABLE) > 100
    tests, wrong = TestOptimizers(), []
    for name in USABLE:
        tests.waits = name in WAIT
        try:
            tests.test_it_learns_and_a_resumed_run_is_the_same({"type": name})
        except BrokenContractError as error:
            wrong.append(str(error))
    assert wrong == []


def moved(model: nn.ModuleDict, optimizer: torch.optim.Optimizer, rate: float, count: int = 4) -> float:
    """How far some steps move the weights."""
    before = [parameter.detach().clone() for parameter in model.parameters()]
    take_steps(model, optimizer, rate, count)
    return sum(float((now - was).square().sum()) for now, was in zip(model.parameters(), before, strict=True)) ** 0.5


def test_what_is_said_of_steps_that_do_not_follow_the_rate_is_measured() -> None:
    """With a hundredth of the rate, at the start and after steps at the whole one: a fifteenth of the way and more."""
    warnings.filterwarnings("ignore")
    too_far = set()
    for name in USABLE:
        cls = OPTIMIZERS[name]
        rate, models = cls.rate_for(1e-3), [tiny_model() for _ in range(3)]
        whole, late, early = (cls().build(groups_of(model), rate, model) for model in models)
        at_start = moved(models[0], whole, rate)
        take_steps(models[0], whole, rate, 4)
        models[1].load_state_dict(models[0].state_dict())
        restore_optimizer(late, flatten_optimizer(whole))
        take_steps(models[1], late, rate / 100, 4)
        shares = [
            (moved(models[2], early, rate / 100), at_start),
            (moved(models[1], late, rate / 100), moved(models[0], whole, rate)),
        ]
        if any(own > wanted / 15 for own, wanted in shares):
            too_far.add(name)
    assert too_far == {name for name in USABLE if not OPTIMIZERS[name].follows_rate}


def test_keys_of_an_optimizer_reach_it() -> None:
    config = TrainingConfig(optimizer={"type": "prodigy", "d_coef": 2.0})
    optimizer = build_optimizer(new_model(), config, 1.0)
    assert {group["d_coef"] for group in optimizer.param_groups} == {2.0}
    assert config.model_dump()["optimizer"]["type"] == "prodigy"


def test_rows_of_added_tokens_are_embeddings_to_optimizers_of_matrices() -> None:
    model = new_model()
    model["words"].add_module(ADDED_ROWS, AddedRows([18, 19], model["words"].weight[18:]))
    model["words"].weight.requires_grad_(False)
    rows = model["words"].get_submodule(ADDED_ROWS).weight
    of_matrices = {
        id(parameter)
        for group in build_optimizer(model, TrainingConfig(optimizer="muon"), 1e-2).param_groups
        for parameter in group["params"]
        if group["low_rank"]
    }
    assert of_matrices == {id(model["first"].weight), id(model["last"].weight)}
    assert rows.requires_grad


def test_muon_is_for_matrices_and_adamw_has_its_own_rate() -> None:
    config = TrainingConfig(optimizer={"type": "muon", "adamw_lr": 1e-3})
    optimizer = build_optimizer(new_model(), config, 2e-2)
    set_learning_rate(optimizer, 1e-2)
    rates = {group["use_muon"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {True: pytest.approx(1e-2), False: pytest.approx(5e-4)}


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"type": "prodigy", "d_coeff": 2.0}, r"optimizer\.d_coeff: unknown key\n.*`d_coef`"),
        ({"type": "prodigy", "d_coef": "much"}, r"optimizer\.d_coef"),
        ({"type": "lino"}, r"unknown optimizer `lino`\n.*`lion`"),
        ({"type": "sophia_h"}, "needs second derivatives"),
        ("lbfgs", "several times in a step"),
        ("adam_w", "`adamw`"),
    ],
)
def test_what_cannot_be_is_told(optimizer: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recipe.from_dict({**RECIPE, "training": {"optimizer": optimizer}})


def test_one_with_keys_of_its_own_is_told_with_a_base_in_parts() -> None:
    values = {"optimizer": {"type": "prodigy", "d_coef": 2.0}, "sharding": "fsdp"}
    recipe = Recipe.from_dict({**RECIPE, "method": {"type": "full"}, "training": values})
    with pytest.raises(UnsupportedError, match="prodigy looks at whole matrices"):
        check_sharding(recipe)


def test_averages_of_a_schedule_free_optimizer_leave_its_training_as_it_is() -> None:
    model, config = new_model(), TrainingConfig(optimizer="schedule_free_adamw", schedule="constant")
    optimizer = build_optimizer(model, config, 1e-2)
    steps(model, optimizer, 1e-2)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    averages = averaged_weights(optimizer, model)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    weight = optimizer.state[model["first"].weight]["z"]
    expected = before["first.weight"].lerp(weight, 1 - 1 / 0.9)
    torch.testing.assert_close(averages["first.weight"], expected)


def test_schedules_are_those_of_transformers() -> None:
    from transformers import get_scheduler

    total, warmup = 40, 4
    theirs = {
        "linear": ("linear", {}, {}),
        "cosine": ("cosine", {}, {}),
        "cosine_with_restarts": ("cosine_with_restarts", {"num_cycles": 3}, {"num_cycles": 3}),
        "polynomial": ("polynomial", {"power": 2.0, "lr_end": 0.1}, {"power": 2.0, "end_rate": 0.1}),
        "constant": ("constant_with_warmup", {}, {}),
        "inverse_sqrt": ("inverse_sqrt", {}, {}),
        "cosine_with_min_lr": ("cosine_with_min_lr", {"min_lr_rate": 0.1}, {"min_lr_rate": 0.1}),
        "warmup_stable_decay": (
            "warmup_stable_decay",
            {"num_decay_steps": 8, "decay_type": "1-sqrt"},
            {"decay": "1-sqrt"},
        ),
    }
    assert set(SCHEDULES) == set(theirs)
    for name, (their_name, their_keys, keys) in theirs.items():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        reference = get_scheduler(their_name, optimizer, warmup, total, scheduler_specific_kwargs=their_keys)
        rate = learning_rate_schedule(
            TrainingConfig(schedule={"type": name, **keys}, warmup_fraction=warmup / total), 1.0, total
        )
        for step in range(1, total + 1):
            if step > warmup:
                assert rate(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9), (name, step)
            optimizer.step()
            reference.step()
