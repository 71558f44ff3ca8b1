"""torch's optimizers."""

from __future__ import annotations

from peftlab.training.optimizer_types._from_library import register_library
from peftlab.training.optimizer_types._signatures import recipe_name, signatures_in

OWN_FILES = frozenset({"AdamW", "SGD", "Adafactor", "Muon"})
"""Named elsewhere. torch's Muon takes matrices alone, so pytorch-optimizer's has the name."""
PARTS = frozenset({"Optimizer", "AveragedModel"})
CLOSURE = "it computes the loss several times in a step, by a function that the loop does not have"
BY_ITS_OWN_RATE = frozenset({"Rprop"})
"""Their steps do not follow the rate; ``tests/training/test_every_optimizer.py`` measures it."""
REFUSALS = {
    "LBFGS": CLOSURE,
    "SparseAdam": "it is for sparse gradients, which no method here has",
}

for _each in signatures_in("torch", "optim"):
    _is_one = not _each.class_name.endswith("LR") and _each.learning_rate is not None
    if _is_one and _each.class_name not in OWN_FILES | PARTS:
        register_library(
            _each,
            recipe_name(_each.class_name),
            module="torch.optim",
            package="torch",
            refusal=REFUSALS.get(_each.class_name, ""),
            more={"follows_rate": _each.class_name not in BY_ITS_OWN_RATE},
        )
