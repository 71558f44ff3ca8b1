"""pytorch-optimizer's optimizers: Muon, schedule-free, Prodigy, Lion, APOLLO, Adam-mini and many more."""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar

from pydantic import Field, PositiveFloat, PositiveInt

from peftlab.core.optimizer import OPTIMIZERS, USUAL_RATE, Group
from peftlab.training.optimizer_types._from_library import LibraryOptimizer, register_library
from peftlab.training.optimizer_types._signatures import Signature, recipe_name, signatures_in

PACKAGE = "pytorch_optimizer"

LOSS = "it computes the loss several times in a step, or reads it, by a function that the loop does not have"
SECOND = "it needs second derivatives, which the loop does not compute"
WRAPS = "it wraps another optimizer, which a recipe cannot name"
PAIRS = "it must be told which matrices belong together"
FUSED = "it changes the weights inside the backward pass, where the loop sums up and clips gradients"
APART = "it keeps a state that a checkpoint does not hold, so a resumed run would not be the same"
PROCESSES = "it sends its steps from process to process; here the gradients are summed up instead"
MATRICES = "it takes matrices alone, and biases or heads train too"

REFUSALS = {
    "AdaHessian": SECOND,
    "SophiaH": SECOND,
    "AliG": LOSS,
    "EmoFact": LOSS,
    "EmoLynx": LOSS,
    "EmoNavi": LOSS,
    "BSAM": LOSS,
    "SAM": LOSS,
    "GSAM": LOSS,
    "WSAM": LOSS,
    "LookSAM": LOSS,
    "FriendlySAM": LOSS,
    "LOMO": FUSED,
    "AdaLOMO": FUSED,
    "DeMo": PROCESSES,
    "DistributedMuon": PROCESSES,
    "LoRARite": PAIRS,
    "MuonClip": PAIRS,
    "SpectralSphere": MATRICES,
    "GaLore": "`galore_adamw` is it, with checkpoints that can be resumed",
}
"""Why the loop cannot use one."""
NOT_THE_SAME = frozenset({"AggMo", "Conda", "DASH", "Kron", "MADGRAD", "SPAM", "SaRA", "ScalableShampoo", "StableSPAM"})
"""Their states are objects, or stand outside the optimizer's state, or they draw from Python's own generator."""
TAKEN = frozenset({"AdaDelta", "AdaFactor", "AdaMax", "RAdam", "ASGD", "CPUOffloadOptimizer"})
"""torch's or transformers' have these names; what is offloaded is the recipe's ``model.offload``."""
BY_THEIR_OWN_RATE = frozenset(
    {
        "A2Grad",
        "AccSGD",
        "AdaMod",
        "ApolloDQN",
        "DAdaptAdaGrad",
        "DAdaptAdan",
        "DAdaptSGD",
        "FTRL",
        "Gravity",
        "Nero",
        "SRMM",
        "ScheduleFreeAdamW",
        "ScheduleFreeSGD",
    }
)
"""Their steps do not follow the rate, or follow it late; ``tests/training/test_every_optimizer.py`` measures it."""
FIND_THEIR_RATE = frozenset({"AdamG", "Prodigy"})


class WithMuon(LibraryOptimizer):
    """Matrices by Muon; embeddings, biases and norms by AdamW with a rate of its own, ``adamw_lr``."""

    def prepared(self, groups: list[Group], learning_rate: float) -> list[Group]:
        """The groups, which say who has Muon."""
        adamw = float(getattr(self, "adamw_lr", learning_rate)) / learning_rate
        return [
            {
                **group,
                "use_muon": group["low_rank"],
                "rate_factor": group["rate_factor"] * (1.0 if group["low_rank"] else adamw),
            }
            for group in groups
        ]


class Projected(LibraryOptimizer):
    """States of some directions of each matrix that has more of them."""

    rank: PositiveInt = Field(8, description="Directions. Matrices with no more of them have AdamW's states.")
    update_proj_gap: PositiveInt = Field(200, description="Steps between projections.")
    scale: PositiveFloat = Field(1.0, description="What projected steps are multiplied by.")

    own: ClassVar[tuple[str, ...]] = ("rank", "update_proj_gap", "scale")

    def prepared(self, groups: list[Group], learning_rate: float) -> list[Group]:
        """The groups, their large matrices apart."""
        settings = {key: getattr(self, key) for key in self.own} | {"projection_type": "std"}
        if self.class_name == "APOLLO":
            settings |= {"projection_type": "random", "scale_type": "channel"}
        split: list[Group] = []
        for group in groups:
            large = [p for p in group["params"] if group["low_rank"] and p.ndim == 2 and min(p.shape) > self.rank]
            known = {id(parameter) for parameter in large}
            rest = [parameter for parameter in group["params"] if id(parameter) not in known]
            split += [{**group, "params": large, **settings}, {**group, "params": rest}]
        return [group for group in split if group["params"]]

    def settings(self) -> dict[str, Any]:
        """Without what stands in the groups."""
        return {key: value for key, value in super().settings().items() if key not in self.own}


class FromModel(LibraryOptimizer):
    """Adam-mini: it makes its groups from the model, a group a parameter; decay and rates are the recipe's."""

    def build(self, groups: list[Group], learning_rate: float, model: Any) -> Any:
        """The optimizer, whose groups have the decay and the factor that the recipe gives them."""
        optimizer = self.constructed(model, learning_rate)
        wanted = {id(p): group for group in groups for p in group["params"]}
        for own in optimizer.param_groups:
            group = wanted[id(own["params"][0])]
            own |= {key: value for key, value in group.items() if key != "params"}
        return optimizer


def _refusal(signature: Signature) -> str:
    name = signature.class_name
    if name in REFUSALS:
        return REFUSALS[name]
    if name in NOT_THE_SAME:
        return APART
    if {"optimizer", "base_optimizer"} & set(signature.required):
        return WRAPS
    missing = [each for each in signature.required if each != "model"]
    return f"it needs {', '.join(missing)}, which a recipe cannot give" if missing else ""


def _base(signature: Signature) -> type[LibraryOptimizer]:
    if signature.class_name in {"APOLLO", "Fira"}:
        return Projected
    if "adamw_lr" in signature.defaults:
        return WithMuon
    return FromModel if "model" in signature.required else LibraryOptimizer


def _rate(signature: Signature) -> float:
    return USUAL_RATE if signature.class_name == "AdamMini" else signature.learning_rate or USUAL_RATE


for _each in signatures_in(PACKAGE, "optimizer"):
    if _each.class_name not in TAKEN:
        register_library(
            _each,
            recipe_name(_each.class_name),
            module=PACKAGE,
            package="pytorch-optimizer",
            base=_base(_each),
            refusal=_refusal(_each),
            more={
                "default_rate": _rate(_each),
                "finds_rate": _each.class_name in FIND_THEIR_RATE or _each.class_name.startswith("DAdapt"),
                "averages": _each.class_name.startswith("ScheduleFree"),
                "follows_rate": _each.class_name not in BY_THEIR_OWN_RATE,
            },
        )

if importlib.util.find_spec(PACKAGE) is None:
    OPTIMIZERS.broken["pytorch-optimizer"] = "it is not installed: pip install 'peftlab[optimizers]'"
