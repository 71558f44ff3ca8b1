"""The rehearsal is of no particular step, and leaves no trace."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from peftlab.core.config import Document
from peftlab.core.errors import UserError
from peftlab.core.generators import generator_states
from peftlab.core.method import MethodContext
from peftlab.estimate.bare_job import bare_job, placeholder_batch
from peftlab.models.base_model import load_base_model
from peftlab.preparation.check import check_model
from peftlab.preparation.rehearsal import rehearse_flops, rehearse_memory
from peftlab.recipe.schema import build_recipe
from peftlab.training.accelerator import build_accelerator
from peftlab.training.checkpoints import CheckpointFolder
from peftlab.training.interrupts import CancelledError, Interrupts
from peftlab.training.job import TrainingJob
from peftlab.training.loop import optimizer_step, train
from peftlab.training.metrics_log import MetricsLog
from peftlab.training.optimizers import build_optimizer
from peftlab.training.steps import Step, StepPlan
from tests.small_methods import DISTINCT

pytestmark = pytest.mark.slow

LABELS = ("a", "b")


def job_of(model_path: Path, method_name: str, total_steps: int = 10) -> TrainingJob:
    values = {
        "model": {"path": str(model_path)},
        "task": {"type": "text_classification", "max_length": 24},
        "data": {"source": "none.csv"},
        "method": {"type": method_name},
        "training": {"batch_size": 4},
    }
    document = Document(source="test", values=values)
    checked = check_model(build_recipe(document, default_name="test"), document, offline=True, need_weights=False)
    recipe = checked.recipe
    torch.manual_seed(0)
    base = load_base_model(
        str(model_path), recipe.model, recipe.task.head(LABELS), dtype=torch.float32, dropout=0.0, pad_token_id=0,
        offline=True,
    )  # fmt: skip
    context = MethodContext("SEQ_CLS", total_steps, head_modules=base.head_modules, family=checked.facts.family)
    model = recipe.method.apply(base.model, context)
    accelerator = build_accelerator(computation=None, tracking=[], folder=Path())
    optimizer = accelerator.prepare(build_optimizer(model, recipe.training, 1e-3))
    batch = placeholder_batch(recipe.task, LABELS, size=4, length=8)
    return bare_job(recipe, batch, model=model, optimizer=optimizer, accelerator=accelerator, task=recipe.task)


def state_of(job: TrainingJob) -> dict[str, Any]:
    model = job.accelerator.unwrap_model(job.model)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers()), **generator_states()}
    tensors |= {f"hooks/{name}": value for name, value in job.hooks.state(model).items()}
    state = {name: value.detach().clone() for name, value in tensors.items()}
    gradients = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    optimizers = list(job.accelerator._optimizers)
    return {"tensors": state, "gradients": gradients, "optimizers": optimizers, "moments": dict(job.optimizer.state)}


@pytest.mark.parametrize("longest", [1, 2, 7, 10], ids=lambda number: f"step {number} of 10 is the longest")
@pytest.mark.parametrize("method_name", DISTINCT)
def test_the_rehearsal_leaves_no_trace(method_name: str, longest: int, tiny_bert: Path) -> None:
    """The first step after it is the one that would have been without it, wherever the longest texts come."""
    try:
        job, other = job_of(tiny_bert, method_name), job_of(tiny_bert, method_name)
    except UserError as error:
        pytest.skip(str(error))
    batches = [[0]] * 10
    batches[longest - 1] = [0, 1, 2, 3]
    job = replace(job, plan=StepPlan(lambda _epoch: batches, 1, 1, None))
    before = state_of(job)
    assert rehearse_memory(job).optimizer_bytes > 0
    rehearse_flops(job)
    after = state_of(job)
    assert before["tensors"].keys() == after["tensors"].keys()
    for name, value in before["tensors"].items():
        assert torch.equal(value, after["tensors"][name]), name
    assert before["gradients"] == after["gradients"] == []
    assert before["optimizers"] == after["optimizers"]
    assert not after["moments"]
    first = Step(1, 0, [[0, 1]], ends_epoch=False)
    for each in (job, other):
        each.model.train()
        torch.manual_seed(1)
        optimizer_step(each, first)
    for (name, one), two in zip(job.model.named_parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, two), name


def test_every_step_of_a_run_needs_the_same_memory_however_long_it_is(tiny_bert: Path) -> None:
    """AdaLoRA does other work in each phase; what is measured does not hang on where the longest texts come."""
    peaks = set()
    for longest in range(1, 11):
        batches = [[0]] * 10
        batches[longest - 1] = [0, 1, 2, 3]
        job = replace(job_of(tiny_bert, "adalora"), plan=StepPlan(lambda _epoch, own=batches: own, 1, 1, None))
        peaks.add(rehearse_memory(job).peak_bytes)
    assert len(peaks) == 1


def with_scaler(job: TrainingJob) -> torch.amp.GradScaler:
    """Give a job what accelerate gives it under float16 on a GPU."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=3)
    accelerator = job.accelerator
    accelerator.scaler, accelerator.native_amp = scaler, True
    accelerator.state._mixed_precision = "fp16"
    own = job.optimizer.optimizer
    accelerator._optimizers.clear()
    object.__setattr__(job, "optimizer", accelerator.prepare(own))
    return scaler


def test_a_scaler_under_float16_is_as_it_was(tiny_bert: Path) -> None:
    """At its first scale it would skip both steps: no optimizer's state, and another scale afterwards."""
    job = job_of(tiny_bert, "lora")
    scaler = with_scaler(job)
    before = scaler.state_dict()
    assert rehearse_memory(job).optimizer_bytes > 0
    assert scaler.state_dict() == before


def test_gradients_are_unscaled_once(tiny_bert: Path) -> None:
    """A second optimizer in accelerate's list would unscale them once more."""
    plain, scaled = job_of(tiny_bert, "lora"), job_of(tiny_bert, "lora")
    with_scaler(scaled).load_state_dict({**torch.amp.GradScaler("cpu").state_dict(), "scale": 1024.0})
    norms = []
    for job in (plain, scaled):
        rehearse_memory(job)
        job.model.train()
        norms.append(float(optimizer_step(job, Step(1, 0, [[0, 1, 2, 3]], ends_epoch=False))[1]))
    assert norms[0] == pytest.approx(norms[1], rel=1e-2)  # float16 rounds


def test_a_skipped_step_tells_a_method_nothing(tiny_bert: Path) -> None:
    """An infinite gradient would stay in AdaLoRA's importances for good."""
    job = job_of(tiny_bert, "adalora")
    with_scaler(job).load_state_dict({**torch.amp.GradScaler("cpu").state_dict(), "scale": 3e38})
    job.model.train()
    optimizer_step(job, Step(1, 0, [[0, 1, 2, 3]], ends_epoch=False))
    assert job.accelerator.scaler.get_scale() < 3e38  # the step was skipped
    state = job.hooks.state(job.model)
    assert state
    assert all(torch.isfinite(value).all() for value in state.values())


def test_the_log_of_a_skipped_step_is_json(tiny_bert: Path, tmp_path: Path) -> None:
    """Its gradient's norm is infinite, which JSON cannot say: browsers would read no line of the log."""
    job = job_of(tiny_bert, "lora")
    with_scaler(job).load_state_dict({**torch.amp.GradScaler("cpu").state_dict(), "scale": 3e38})
    job = replace(job, plan=StepPlan(lambda _epoch: [[0, 1]], 1, 1, None), log=MetricsLog(tmp_path / "metrics.jsonl"))
    train(replace(job, checkpoints=CheckpointFolder(tmp_path / "checkpoints")))
    (line,) = job.log.path.read_text().splitlines()
    values = json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert values["step"] == 1
    assert "gradient_norm" not in values


def test_a_resumed_run_goes_on_with_its_scale(tiny_bert: Path, tmp_path: Path) -> None:
    """The scale grows with the steps without an overflow; one that starts anew skips other steps."""

    def job(name: str, stop_after: int | None = None) -> tuple[TrainingJob, torch.amp.GradScaler]:
        new = job_of(tiny_bert, "lora")
        scaler = with_scaler(new)
        scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**20})
        interrupts = Interrupts()

        def on_step(step: int, _loss: float, _rate: float) -> None:
            interrupts.requested = step == stop_after

        changes = {"plan": StepPlan(lambda _epoch: [[0, 1]] * 8, 1, 1, None), "on_step": on_step}
        changes |= {"config": new.config.model_copy(update={"log_every_steps": 1}), "interrupts": interrupts}
        changes |= {"checkpoints": CheckpointFolder(tmp_path / name), "log": MetricsLog(tmp_path / f"{name}.jsonl")}
        return replace(new, **changes), scaler

    whole, scaler = job("whole")
    train(whole)
    cut, _ = job("cut", stop_after=4)
    with pytest.raises(CancelledError):
        train(cut)
    resumed, other = job("cut")
    train(resumed, resumed.checkpoints.read_latest())
    assert scaler.state_dict() == other.state_dict()
    assert scaler.get_scale() != 2.0**20
    for (name, one), two in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(one, two), name
