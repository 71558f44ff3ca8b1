"""What every regulariser must keep, on a classification task and on a language task; a new one is covered as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from peftlab.core.errors import UnsupportedError
from peftlab.core.generators import generator_states
from peftlab.core.regularizer import REGULARIZERS
from peftlab.core.splits import EncodedSplit
from peftlab.estimate.bare_job import Batch
from peftlab.estimate.target import Target
from peftlab.estimate.training import ShapesOfRecipe
from peftlab.preparation.check import CheckedModel
from peftlab.preparation.rehearsal import rehearse_flops, rehearse_memory
from peftlab.testing.training_jobs import LABELS, TASKS, checked, job_of
from peftlab.training.guards import BaseGuard, GradientGuard
from peftlab.training.interrupts import CancelledError
from peftlab.training.loop import TrainingJob, optimizer_step, train
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.steps import Step

pytestmark = pytest.mark.slow

DROPOUT = 0.1
"""Some regularisers are of no use without."""
FIRST = Step(1, 0, [[0, 1, 2, 3], [4, 5, 6]], ends_epoch=False)


@pytest.fixture(params=REGULARIZERS.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=TASKS)
def ready(name: str, request: pytest.FixtureRequest) -> CheckedModel:
    model, task = TASKS[request.param]
    try:
        return checked(request.getfixturevalue(model), task, [{"type": name}], dropout=DROPOUT)
    except UnsupportedError as error:
        assert len(str(error)) > 20
        pytest.skip(f"refused: {error.message}")


def weights_of(job: TrainingJob) -> dict[str, torch.Tensor]:
    """All that a run's future hangs on."""
    model = job.model
    found = {name: value.detach().clone() for name, value in model.named_parameters()}
    found |= {f"hooks/{name}": value.clone() for name, value in job.hooks.state(model).items()}
    found |= {f"kept/{name}": value.clone() for name, value in job.hooks.weights_to_keep(model).items()}
    return found | {f"generators/{name}": value for name, value in generator_states().items()}


def assert_same(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], *, tolerance: float | None = None
) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        if tolerance is None or not value.is_floating_point():
            assert torch.equal(value, other[key]), key
        else:
            torch.testing.assert_close(
                value, other[key], rtol=tolerance, atol=tolerance, msg=lambda m, k=key: f"{k}: {m}"
            )


PLAIN: dict[str, dict[str, torch.Tensor]] = {}


def trained_plainly(ready: CheckedModel, folder: Path) -> dict[str, torch.Tensor]:
    """The weights without a regulariser, which are trained once for each task."""
    task = ready.recipe.task.model_dump()
    if task["type"] not in PLAIN:
        torch.manual_seed(5)
        job = job_of(checked(ready.model_location, task, [], dropout=DROPOUT), folder=folder)
        torch.manual_seed(5)
        train(job)
        PLAIN[task["type"]] = weights_of(job)
    return PLAIN[task["type"]]


def test_it_trains_what_it_should_and_can_be_resumed_bit_for_bit(ready: CheckedModel, tmp_path: Path) -> None:
    whole = job_of(ready, folder=tmp_path / "whole")
    base, gradients = BaseGuard(whole.model), GradientGuard(whole.model)
    object.__setattr__(whole, "gradients", gradients)
    torch.manual_seed(5)
    train(whole)
    after = weights_of(whole)
    assert all(torch.isfinite(value).all() for value in after.values() if value.is_floating_point())
    left = {**after, **{key.removeprefix("kept/"): value for key, value in after.items() if key.startswith("kept/")}}
    if not ready.recipe.training.regularizers[0].needs_validation:  # this job evaluates nothing
        plain = trained_plainly(ready, tmp_path / "plain")
        differ = any(not torch.equal(value, left[key]) for key, value in plain.items())
        assert differ, "it has no effect at all"
    assert base.result(whole.model).status == "passed", base.result(whole.model).detail
    assert gradients.result().status == "passed", gradients.result().detail
    for own, guard in whole.hooks.guards(whole.model, None).items():
        assert own in ready.recipe.known_guards, "a recipe cannot waive what `guard_names` does not list"
        assert guard.status == "passed", (own, guard.detail)

    torch.manual_seed(5)
    cut = job_of(ready, folder=tmp_path / "cut", stop_after=3)
    torch.manual_seed(5)
    with pytest.raises(CancelledError):
        train(cut)
    resumed = job_of(ready, folder=tmp_path / "cut")
    train(resumed, resumed.checkpoints.read_latest())
    assert_same(weights_of(resumed), after)


def test_rehearsals_leave_no_trace_and_estimates_agree_with_them(ready: CheckedModel) -> None:
    job = job_of(ready)
    before, model_hooks = weights_of(job), hooks_on(job)
    measured = rehearse_memory(job).peak_bytes
    lengths = {job.task.length(example): example for example in job.split.examples}
    three = [lengths[length] for length in sorted(lengths)[:: max(1, len(lengths) // 2)]][:3]
    few = replace(job, split=EncodedSplit("train", range(len(three)), three))
    flops = rehearse_flops(few)
    assert_same(weights_of(job), before)
    assert hooks_on(job) == model_hooks
    all_lengths = job.task.lengths(job.split.examples)
    pairs = list(zip(job.split.examples, job.split.examples[::-1], strict=True))
    batch = Batch(job.split.examples, all_lengths, job.plan.longest_step(all_lengths).batches, pairs)
    shapes = ShapesOfRecipe(ready, LABELS, Target("cpu", None))
    assert shapes.memory(batch).memory.peak_bytes == pytest.approx(measured, rel=0.03)
    estimated = shapes.step_flops(few.split, pairs)
    for length in map(job.task.length, three):
        assert estimated.of([length], terms=1) == pytest.approx(flops.of([length], terms=1), rel=0.01)


def hooks_on(job: TrainingJob) -> int:
    """How many hooks all modules have."""
    modules = list(job.model.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules)


def test_a_step_that_ran_out_of_memory_is_the_step_of_smaller_batches(ready: CheckedModel) -> None:
    """Whichever pass fails: nothing of the first try is left, random numbers included."""
    wanted = None
    for failing in (None, 1, 2):
        job = job_of(ready)
        micro_batches = MicroBatches(size=2) if failing is None else MicroBatches(may_shrink=True)
        object.__setattr__(job, "micro_batches", micro_batches)
        torch.manual_seed(7)
        with failing_forward(job, failing):
            optimizer_step(job, FIRST)
        wanted = wanted or weights_of(job)
        assert_same(weights_of(job), wanted)


def failing_forward(job: TrainingJob, number: int | None) -> Any:
    """Let one forward pass of the model run out of memory."""
    import contextlib

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        passes = 0

        def count(*_: Any) -> None:
            nonlocal passes
            passes += 1
            if passes == number:
                raise MemoryError("can't allocate memory")

        handle = job.model.get_input_embeddings().register_forward_pre_hook(count)
        try:
            yield
        finally:
            handle.remove()

    return context()


def test_gradient_checkpointing_gives_the_same_step(ready: CheckedModel) -> None:
    recipe = ready.recipe
    regularizers = [each.model_dump() for each in recipe.training.regularizers]
    training = {"batch_size": 4, "regularizers": regularizers, "gradient_checkpointing": True}
    other = checked(ready.model_location, recipe.task.model_dump(), [], dropout=DROPOUT, training=training)
    found = []
    for each in (ready, other):
        job = job_of(each)
        torch.manual_seed(7)
        optimizer_step(job, FIRST)
        found.append(weights_of(job))
    assert_same(found[0], found[1], tolerance=1e-4)
