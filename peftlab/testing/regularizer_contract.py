"""What every regulariser must keep, on a classification task and on a language task."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from peftlab.core.errors import UnsupportedError
from peftlab.core.generators import generator_states
from peftlab.core.method import MethodContext
from peftlab.core.registry import Registry
from peftlab.core.regularizer import REGULARIZERS
from peftlab.core.splits import EncodedSplit
from peftlab.preparation.check import CheckedModel
from peftlab.preparation.rehearsal import rehearse_flops, rehearse_memory
from peftlab.testing.broken_contract import BrokenContractError, require, require_guard
from peftlab.testing.plugin_contract import PluginContract, Section, told
from peftlab.testing.tiny_bases import tiny_base
from peftlab.testing.training_jobs import TASKS, check_estimate, checked, job_of, longest_batch, shapes_of
from peftlab.testing.waits import Waits, package_of
from peftlab.training.guards import BaseGuard, GradientGuard
from peftlab.training.interrupts import CancelledError
from peftlab.training.job import TrainingJob
from peftlab.training.loop import optimizer_step, train
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.steps import Step

DROPOUT = 0.1
"""Some regularisers are of no use without."""
METHODS: Mapping[str, Section] = {
    "text_classification": {"type": "lora", "rank": 4, "target_modules": ["query", "intermediate.dense"]},
    "instruction_tuning": {"type": "lora", "rank": 4, "target_modules": ["c_attn"]},
}
"""Few layers train: square matrices and others, plain and transposed ones. More take longer, and show no more."""
STEPS = 6
FIRST = Step(1, 0, [[0, 1, 2, 3], [4, 5, 6]], ends_epoch=False)
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Use:
    """A regulariser and a task.

    Args:
        section: The regulariser, as a recipe writes it.
        task: By its name.
    """

    section: Section
    task: str

    def __str__(self) -> str:
        return f"{told(self.section)}-{self.task}"


class RegularizerContract(PluginContract):
    """The tests of a regulariser. Inherit them in a file that pytest collects, and say which regulariser they are of.

    .. code-block:: python

        from peftlab.testing import RegularizerContract


        class TestL2Penalty(RegularizerContract):
            plugin = {"type": "l2_penalty", "strength": 0.1}

    It is tried with LoRA on two tiny bases: choose keys with which six steps show an effect.
    """

    registry: ClassVar[Registry[Any]] = REGULARIZERS
    refuses: ClassVar[Collection[str]] = ()
    """Those of the tasks that it refuses: ``text_classification``, ``instruction_tuning``."""

    def refused_by(self, section: Section) -> Collection[str]:
        """The tasks that a regulariser refuses."""
        return self.refuses

    def parameters(self) -> Mapping[str, Sequence[Any]]:
        """Besides: ``used`` is a regulariser and a task that it is used with."""
        used = [
            Use(section, task) for section in self.sections() for task in TASKS if task not in self.refused_by(section)
        ]
        return {**super().parameters(), "used": used}

    def base_folder(self, base: str, tmp_path_factory: Any) -> Path:
        """Where a tiny base lies."""
        return tiny_base(base, Path(tmp_path_factory.getbasetemp()))

    def ready(self, used: Use, tmp_path_factory: Any, **training: Any) -> CheckedModel:
        """A recipe with the regulariser, as a run checks it.

        Args:
            used: The regulariser and the task.
            tmp_path_factory: Of pytest.
            **training: More keys of the section ``training``.

        Raises:
            BrokenContractError: It refuses the task.
        """
        __tracebackhide__ = True
        self.build(used.section)
        base, task = TASKS[used.task]
        section: dict[str, Any] = {
            "batch_size": 4,
            "log_every_steps": 1,
            "regularizers": [dict(used.section)],
            **training,
        }
        try:
            return checked(
                self.base_folder(base, tmp_path_factory),
                task,
                [],
                dropout=DROPOUT,
                method=dict(METHODS[used.task]),
                training=section,
            )
        except UnsupportedError as error:
            raise BrokenContractError(
                f"{used}: the task is refused: {error}",
                hint=f'If that is meant, write refuses = ("{used.task}",) into the class of the tests.',
            ) from None

    def test_it_refuses_in_words_what_it_cannot_be_used_with(self, section: Section, tmp_path_factory: Any) -> None:
        """With ``UnsupportedError`` in ``check``: whatever else is raised looks like a defect."""
        self.build(section)
        for task in self.refused_by(section):
            try:
                self.ready(Use(section, task), tmp_path_factory)
            except BrokenContractError as error:
                require(len(str(error.__context__)) > 20, f"`{section['type']}` refuses {task} and does not say why")
                continue
            raise BrokenContractError(f"`{section['type']}` is said to refuse {task}, and takes it")

    def test_it_has_an_effect_and_a_resumed_run_is_the_same(
        self, used: Use, tmp_path: Path, tmp_path_factory: Any
    ) -> None:
        """Other weights than without it, finite, from a base that stays as it is; bit for bit after an interruption."""
        ready = self.ready(used, tmp_path_factory)
        regularizer = ready.recipe.training.regularizers[0]
        whole = job_of(ready, folder=tmp_path / "whole")
        base, gradients = BaseGuard(whole.model), GradientGuard(whole.model)
        object.__setattr__(whole, "gradients", gradients)
        torch.manual_seed(5)
        train(whole)
        after = weights_of(whole)
        infinite = [name for name, each in after.items() if each.is_floating_point() and not torch.isfinite(each).all()]
        require(not infinite, f"{used}: after six steps {', '.join(infinite[:3])} is not finite")
        if not regularizer.needs_validation:  # this job evaluates nothing
            left = {**after, **{name.removeprefix("kept/"): after[name] for name in after if name.startswith("kept/")}}
            plain = _trained_plainly(ready, used.task, tmp_path / "plain")
            require(
                any(not torch.equal(value, left[name]) for name, value in plain.items()),
                f"{used}: six steps with it leave the weights that six steps without it leave",
                hint="Its keys may be too weak for a test, or a hook is misspelt and so never called.",
            )
        require_guard(base.result(whole.model), str(used), hint="Hooks put back what they change of the base.")
        require_guard(gradients.result(), str(used), hint="Its loss must be a function of what trains.")
        context = MethodContext(ready.recipe.task.peft_task_type, STEPS, family=ready.facts.family)
        for own, guard in whole.hooks.guards(whole.model, context).items():
            require(
                own in ready.recipe.known_guards,
                f"`{used.section['type']}` has a guard `{own}` that `guard_names` does not list",
                hint="A recipe could not waive it.",
            )
            require_guard(guard, f"{used}: its own guard `{own}`")
        self._check_resumed(used, ready, tmp_path / "cut", after)

    def _check_resumed(self, used: Use, ready: CheckedModel, folder: Path, after: Weights) -> None:
        torch.manual_seed(5)
        cut = job_of(ready, folder=folder, stop_after=STEPS // 2)
        torch.manual_seed(5)
        with suppress(CancelledError):
            train(cut)
        resumed = job_of(ready, folder=folder)
        train(resumed, resumed.checkpoints.read_latest())
        require_same(
            weights_of(resumed),
            after,
            f"{used}: a run that is interrupted after {STEPS // 2} steps goes on otherwise than one that is not",
            hint="What it remembers from step to step belongs into `state`, and `restore` takes it up. What it draws "
            "comes from torch's generators.",
        )

    def test_a_rehearsal_leaves_no_trace_and_the_estimate_agrees(self, used: Use, tmp_path_factory: Any) -> None:
        """A run takes untimed steps first, and must then begin as without them; estimates know what it costs."""
        ready = self.ready(used, tmp_path_factory)
        job = job_of(ready)
        before, model_hooks = weights_of(job), _hooks_on(job)
        measured = rehearse_memory(job).peak_bytes
        lengths = {job.task.length(example): example for example in job.split.examples}
        ends = [lengths[length] for length in sorted({min(lengths), max(lengths)})]
        few = replace(job, split=EncodedSplit("train", range(len(ends)), ends))
        flops = rehearse_flops(few)
        hint = "`around_backward` leaves nothing behind but gradients: no weight, no counter, no hook on a module."
        require_same(weights_of(job), before, f"{used}: steps that are put back have left something", hint=hint)
        require(_hooks_on(job) == model_hooks, f"{used}: steps have left hooks on the model's modules", hint=hint)
        check_estimate(ready, job, measured, str(used))
        pairs = longest_batch(job).pairs
        estimated = shapes_of(ready).step_flops(few.split, pairs)
        for length in map(job.task.length, ends):
            own, real = estimated.of([length], terms=1), flops.of([length], terms=1)
            require(abs(own - real) <= 0.01 * real, f"{used}: a step is said to take {own:,} FLOPs, and takes {real:,}")

    def test_a_step_that_ran_out_of_memory_is_the_step_of_smaller_batches(
        self, used: Use, tmp_path_factory: Any
    ) -> None:
        """Whichever pass fails: nothing of the first try is left, random numbers included."""
        wanted = None
        for failing in (None, 1, 2):
            job = job_of(self.ready(used, tmp_path_factory))
            micro_batches = MicroBatches(size=2) if failing is None else MicroBatches(may_shrink=True)
            object.__setattr__(job, "micro_batches", micro_batches)
            torch.manual_seed(7)
            with _failing_forward(job, failing):
                optimizer_step(job, FIRST)
            wanted = wanted or weights_of(job)
            require_same(
                weights_of(job),
                wanted,
                f"{used}: a step whose pass {failing} ran out of memory is another one than that of smaller batches",
                hint="`around_backward` puts back what it changes also where a pass raises: in a `finally`.",
            )

    def test_gradient_checkpointing_gives_the_same_step(self, used: Use, tmp_path_factory: Any) -> None:
        """Activations that are computed twice must be the same each time."""
        found = []
        for checkpointing in (False, True):
            job = job_of(self.ready(used, tmp_path_factory, gradient_checkpointing=checkpointing))
            torch.manual_seed(7)
            optimizer_step(job, FIRST)
            found.append(weights_of(job))
        require_same(
            found[0],
            found[1],
            f"{used}: gradient checkpointing makes another step",
            hint="What changes the forward pass, such as noise, must still be there when it is computed again.",
            tolerance=1e-4,
        )

    def test_no_step_waits_for_the_card(self, used: Use, tmp_path_factory: Any) -> None:
        """Its own lines ask for no number that a card has yet to compute."""
        ready = self.ready(used, tmp_path_factory)
        job = job_of(ready)
        optimizer_step(job, FIRST)
        with Waits(package_of(ready.recipe.training.regularizers[0])) as waits:
            optimizer_step(job, replace(FIRST, number=2))
        waits.require_none(str(used))


def weights_of(job: TrainingJob) -> Weights:
    """All that a run's future hangs on."""
    model = job.model
    found = {name: value.detach().clone() for name, value in model.named_parameters()}
    found |= {f"hooks/{name}": value.clone() for name, value in job.hooks.state(model).items()}
    found |= {f"kept/{name}": value.clone() for name, value in job.hooks.weights_to_keep(model).items()}
    return found | {f"generators/{name}": value for name, value in generator_states().items()}


def require_same(one: Weights, other: Weights, message: str, *, hint: str, tolerance: float | None = None) -> None:
    """Refuse weights that differ: bit for bit, or numbers by more than a tolerance.

    Raises:
        BrokenContractError: Naming some of them.
    """
    __tracebackhide__ = True
    different = sorted(one.keys() ^ other.keys())
    for key in one.keys() & other.keys():
        a, b = one[key], other[key]
        if tolerance is not None and a.is_floating_point():
            same = a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)
        else:
            same = torch.equal(a, b)
        different += [] if same else [key]
    require(not different, f"{message}, in {', '.join(sorted(different)[:3])}", hint=hint)


PLAIN: dict[str, Weights] = {}


def _trained_plainly(ready: CheckedModel, task: str, folder: Path) -> Weights:
    """The weights without a regulariser, which are trained once for each task."""
    if task not in PLAIN:
        torch.manual_seed(5)
        plain = checked(str(ready.model_location), TASKS[task][1], [], dropout=DROPOUT, method=dict(METHODS[task]))
        job = job_of(plain, folder=folder)
        torch.manual_seed(5)
        train(job)
        PLAIN[task] = weights_of(job)
    return PLAIN[task]


def _hooks_on(job: TrainingJob) -> int:
    """How many hooks all modules have."""
    modules = list(job.model.modules())
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in modules)


@contextmanager
def _failing_forward(job: TrainingJob, number: int | None) -> Iterator[None]:
    """Let one forward pass of the model run out of memory."""
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1
        if passes == number:
            raise MemoryError("can't allocate memory")

    model: Any = job.model
    handle = model.get_input_embeddings().register_forward_pre_hook(count)
    try:
        yield
    finally:
        handle.remove()
