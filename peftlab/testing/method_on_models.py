"""What a method must keep on every kind of model, step by step on one batch."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from peftlab.artifact.load_artifact import load_artifact
from peftlab.artifact.merge import merge
from peftlab.artifact.save import save_artifact
from peftlab.core.errors import UnsupportedError, UserError
from peftlab.core.method import METHODS, Method
from peftlab.core.registry import Registry
from peftlab.testing.broken_contract import BrokenContractError, require, require_guard
from peftlab.testing.method_training import Paused, begin, logits_of, step, wrap
from peftlab.testing.plugin_contract import PluginContract, Section
from peftlab.testing.tiny_models import KIND_OF, Kind, NoTokenizer, toy_batch
from peftlab.testing.waits import Waits, package_of
from peftlab.training.guards import BaseGuard, GradientGuard, check_trainable_parameters
from peftlab.training.training_config import GUARDS

STEPS = 30
"""That a method is told its run will have."""
LEARNED = 16
"""Steps in which the loss has to fall, and of a model that is saved."""


@dataclass(frozen=True)
class Case:
    """A method and a kind of model.

    Args:
        section: The method, as a recipe writes it.
        kind: The model's.
    """

    section: Section
    kind: Kind

    def __str__(self) -> str:
        return f"{self.section.get('type', 'unnamed')}-{self.kind}"


@dataclass(frozen=True)
class Learned:
    """A model that has been trained.

    Args:
        method: That has wrapped it.
        model: In eval mode.
        losses: Of each step.
        base: Knows what was frozen as it was before.
        gradients: Has seen those of each step.
    """

    method: Method
    model: Any
    losses: Sequence[float]
    base: BaseGuard
    gradients: GradientGuard


_LEARNED: dict[tuple[object, ...], Learned] = {}


class MethodOnModels(PluginContract):
    """Tests of a method on tiny random models of all kinds."""

    registry: ClassVar[Registry[Any]] = METHODS
    shared: ClassVar[Collection[str]] = ("case",)
    models: ClassVar[Sequence[str]] = tuple(KIND_OF)
    """The kinds of models that it is tried on."""
    refuses: ClassVar[Collection[str]] = ()
    """Those of them that it refuses, which it says with ``UnsupportedError``."""

    def models_of(self, section: Section) -> Sequence[str]:
        """The kinds of models that a method is tried on."""
        return self.models

    def refused_by(self, section: Section) -> Collection[str]:
        """Those of them that it refuses."""
        return self.refuses

    def half_of(self, section: Section) -> int:
        """How many steps a run takes before it is interrupted."""
        return 10

    def parameters(self) -> Mapping[str, Sequence[Any]]:
        """Besides: ``case`` is a method and a model that it takes, ``resumed`` one of two kinds, which are enough."""
        cases = [
            Case(section, KIND_OF[name])
            for section in self.sections()
            for name in self.models_of(section)
            if name not in self.refused_by(section)
        ]
        resumed = [case for case in cases if case.kind.name in ("bert", "gpt2")] or cases[:1]
        return {**super().parameters(), "case": cases, "resumed": resumed}

    def method(self, case: Case) -> Method:
        """The method of a case, made anew."""
        return self.build(case.section)  # type: ignore[no-any-return]

    def learned(self, case: Case) -> Learned:
        """A model of a case that has been trained, which is made once."""
        key = (type(self), json.dumps(dict(case.section), default=str), case.kind.name)
        if key not in _LEARNED:
            _LEARNED.clear()  # tests of one case come one after the other
            method, kind = self.method(case), case.kind
            model, optimizer = begin(method, kind, steps=LEARNED)
            batch, base, gradients = toy_batch(kind), BaseGuard(model), GradientGuard(model)
            # Prefix tuning's cache can only be used in one mode, and dropout is zero: eval mode is as good here.
            numbers = range(1, LEARNED + 1)
            losses = [step(method, model, kind, optimizer, batch, number, gradients) for number in numbers]
            _LEARNED[key] = Learned(method, model.eval(), losses, base, gradients)
        return _LEARNED[key]

    def test_it_refuses_in_words_what_it_cannot_take(self, section: Section) -> None:
        """With ``UnsupportedError`` in ``check`` or ``apply``: whatever else is raised looks like a defect."""
        require(
            set(self.refused_by(section)) < set(self.models_of(section)) or not self.refused_by(section),
            f"`{section['type']}` takes none of the models that it is tried on",
        )
        for name in self.refused_by(section):
            if name not in self.models_of(section):
                continue
            method, kind = self.build(section), KIND_OF[name]
            base = kind.build()
            try:
                method.check(kind.facts(base))
                method.apply(base, kind.context(STEPS))
            except UnsupportedError as error:
                require(
                    len(str(error)) > 20,
                    f"`{section['type']}` refuses {kind} with {str(error)!r} alone",
                    hint="Say what the model lacks.",
                )
                continue
            raise BrokenContractError(f"`{section['type']}` is said to refuse {kind}, and takes it")

    def test_only_what_is_meant_to_train_does(self, case: Case) -> None:
        """Of the base what ``trains`` names, and the head; nothing else."""
        method, kind = self.method(case), case.kind
        base = kind.build()
        names = {id(parameter): name for name, parameter in base.named_parameters()}
        model = wrap(method, kind, base, steps=STEPS)
        guard = check_trainable_parameters(model, method, base_names=names, head_modules=kind.head)
        require_guard(
            guard,
            str(case),
            hint="`apply` sets requires_grad of every parameter: True for what it adds, for the modules in "
            "context.head_modules and for what `trains(name)` names; False for the rest.",
        )

    def test_it_starts_as_the_base_where_it_says_so(self, resumed: Case) -> None:
        """``starts_as_base = True``: guards and references of tasks rely on it."""
        method, kind = self.method(resumed), resumed.kind
        if method.starts_as_base:
            model = wrap(method, kind, steps=STEPS).eval()
            first, base = logits_of(model, kind), logits_of(kind.build(), kind)
            require(
                torch.allclose(first, base, atol=1e-5),
                f"{resumed}: starts_as_base = True, and at first its logits are {_apart(first, base)} off the base's",
                hint="Begin with an update of zero, or leave starts_as_base out.",
            )

    def test_it_learns_and_leaves_the_base_alone(self, case: Case) -> None:
        """The loss falls, each tensor that trains gets a gradient, and what is frozen stays bit for bit."""
        own, kind = self.learned(case), case.kind
        method, model, losses = own.method, own.model, own.losses
        require(
            all(map(math.isfinite, losses)),
            f"{case}: the loss is not finite: {_short(losses)}",
            hint="default_learning_rate may be too high.",
        )
        require_guard(
            own.gradients.result(),
            str(case),
            hint="What trains must take part in the forward pass, and not behind `.detach()`, "
            "`torch.no_grad()` or `.data`.",
        )
        require(
            min(losses[-3:]) < losses[0] - 0.02,
            f"{case}: {LEARNED} steps do not lower the loss: {_short(losses)}",
            hint="default_learning_rate is what a recipe without a rate gets. It may be too low, or too high.",
        )
        require_guard(
            own.base.result(model),
            str(case),
            hint="Hooks may change what trains, and nothing else. A buffer that changes "
            "while training belongs into `state`.",
        )
        for name, guard in method.guards(model, kind.context(LEARNED)).items():
            require(
                name in {*GUARDS, *method.guard_names},
                f"`{method.registered_name}` has a guard `{name}` that `guard_names` does not list",
                hint="A recipe could not waive it.",
            )
            require_guard(guard, f"{case}: its own guard `{name}`")

    def test_what_is_saved_says_the_same_and_merged_too(self, case: Case, tmp_path: Path) -> None:
        """The artifact alone, on a new base, gives the same logits; ``mergeable`` says whether a plain model does."""
        own, kind = self.learned(case), case.kind
        _LEARNED.clear()  # to save and to merge it may change it
        method, model = own.method, own.model
        before = logits_of(model, kind)
        differs = not torch.allclose(logits_of(kind.build(), kind), before, atol=1e-3)
        require(differs, f"{case}: after {LEARNED} steps it says what the base says")
        context = kind.context(LEARNED)
        saved = save_artifact(
            model, method, folder=tmp_path, tokenizer=NoTokenizer(), context=context, base_path="some/base"
        )
        require(saved.name == ("model" if method.trains_base else "adapter"), f"{case}: it is saved as {saved.name}/")
        require((saved / "config.json").is_file(), f"{case}: the model's config is not among what is saved")
        pickled = [path.name for path in saved.rglob("*") if path.suffix in (".bin", ".pt", ".pkl", ".pth")]
        require(not pickled, f"{case}: {', '.join(pickled)} can hold code; tensors are saved as safetensors alone")
        require(
            torch.equal(logits_of(model, kind), before),
            f"{case}: to save the model changes what it says",
            hint="`before_save` and `after_save` may change files, and not the model.",
        )
        self._check_reloaded(case, tmp_path, before)
        if method.mergeable:
            _check_merged(model, method, case, before)

    def _check_reloaded(self, case: Case, folder: Path, before: torch.Tensor) -> None:
        torch.manual_seed(5)  # nothing may depend on the state of the generator
        try:
            again = load_artifact(case.kind.build, folder)
        except UserError as error:
            raise BrokenContractError(f"{case}: what it has saved cannot be loaded: {error.message}") from None
        after = logits_of(again, case.kind)
        require(
            torch.allclose(after, before, atol=1e-5),
            f"{case}: saved and loaded again, its logits are up to {_apart(after, before)} off",
            hint="Only what trains is saved, and `apply` makes the rest anew. What it draws at random must come from a "
            "seed in the method's keys, and what training changes must be a parameter that trains.",
        )

    def test_a_resumed_run_goes_on_alike(self, resumed: Case) -> None:
        """Parameters, optimizer and ``state`` are all that a run needs, bit for bit."""
        kind, half = resumed.kind, self.half_of(resumed.section)
        batch, method, other = toy_batch(kind), self.method(resumed), self.method(resumed)
        model, optimizer = begin(method, kind, steps=STEPS)
        paused = None
        for number in range(1, 2 * half + 1):
            if number == half + 1:
                paused = Paused.of(method, model, optimizer)
            step(method, model, kind, optimizer, batch, number)
        again, fresh = begin(other, kind, steps=STEPS)
        if paused is not None:
            paused.restore(other, again, fresh)
        for number in range(half + 1, 2 * half + 1):
            step(other, again, kind, fresh, batch, number)
        require(
            torch.equal(logits_of(model, kind), logits_of(again, kind)),
            f"{resumed}: a run that is interrupted after {half} steps goes on otherwise than one that is not",
            hint="What the method remembers from step to step, in attributes or buffers, belongs into `state`, and "
            "`restore` takes it up. What it draws comes from torch's generators.",
        )

    def test_no_step_waits_for_the_card(self, section: Section) -> None:
        """Its own lines ask for no number that a card has yet to compute."""
        names = [name for name in self.models_of(section) if name not in self.refused_by(section)]
        method, kind = self.build(section), KIND_OF[names[0]]
        model, optimizer = begin(method, kind, steps=STEPS)
        batch = toy_batch(kind)
        step(method, model, kind, optimizer, batch, 1)
        with Waits(package_of(method)) as waits:
            for number in (2, 3):
                step(method, model, kind, optimizer, batch, number)
        waits.require_none(f"{section['type']} on {kind}")


def _check_merged(model: Any, method: Method, case: Case, before: torch.Tensor) -> None:
    """What is left of it without the method's code says the same in a plain model; the model is spent."""
    kind, plain = case.kind, case.kind.build()
    hint = "mergeable = True says that what it trains can be folded into the base's weights. Leave it out if it cannot."
    merged = merge(model, method)
    was_merged = merged is model  # the method has changed the base's own weights
    lacks, adds = plain.load_state_dict(merged.state_dict(), strict=False)
    require(
        not lacks and not adds,
        f"{case}: merged, it holds other tensors than a plain model: {', '.join([*adds, *lacks][:3])}",
        hint=hint,
    )
    after = logits_of(plain, kind)
    require(
        torch.allclose(after, before, atol=1e-5 if was_merged else 1e-4),
        f"{case}: merged, its logits are up to {_apart(after, before)} off",
        hint=hint,
    )


def _apart(one: torch.Tensor, other: torch.Tensor) -> str:
    return f"{float((one - other).abs().max()):.2g}"


def _short(losses: Sequence[float]) -> str:
    return " → ".join(f"{losses[at]:.3g}" for at in sorted({0, len(losses) // 2, len(losses) - 1}))
