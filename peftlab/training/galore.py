"""GaLore: AdamW whose states of a matrix live in a subspace of its gradient (https://arxiv.org/abs/2403.03507).

The gradient G (m × n) is projected by its first r singular vectors, P; the moments are kept of Pᵀ G alone, and the step
goes back through P. So AdamW's two states take r · n instead of m · n numbers each, and P takes m · r.

pytorch-optimizer does it. It keeps P in an object of its own and counts steps in the parameter group; checkpoints, and
what measures memory, want all of that as tensors and numbers of the parameter's state, which is where it is put here
between steps.
"""

from __future__ import annotations

from typing import Any

from pytorch_optimizer.optimizer.galore import GaLore
from pytorch_optimizer.optimizer.utils.galore import GaLoreProjector


class CheckpointedGaLore(GaLore):  # type: ignore[misc] # the library is untyped here
    """GaLore whose whole state is tensors and numbers, parameter by parameter."""

    def step(self, closure: Any = None) -> Any:
        """One step."""
        for group in self.param_groups:
            group["step"] = max((self.state[p].get("step", 0) for p in group["params"]), default=0)
            for parameter in group["params"] if "rank" in group else ():
                state = self.state[parameter]
                if "projection" in state:
                    state["projector"] = _projector(group, state.pop("projection"), state.pop("projected_at"))
        loss = super().step(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["step"] = group["step"]
                if "projector" in state:
                    projector = state.pop("projector")
                    state |= {"projection": projector.ortho_matrix, "projected_at": projector.last_svd_step}
        return loss


def build_galore(
    groups: list[dict[str, Any]],
    learning_rate: float,
    *,
    rank: int,
    update_proj_gap: int,
    scale: float,
) -> CheckpointedGaLore:
    """GaLore for the matrices of groups that say ``low_rank``.

    Args:
        groups: Of parameters.
        learning_rate: The peak.
        rank: r; for matrices whose smaller side is larger. Others, and embeddings, have AdamW's own states.
        update_proj_gap: Steps between projections, as in the paper.
        scale: What projected steps are multiplied by.
    """
    settings = {
        "rank": rank,
        "update_proj_gap": update_proj_gap,
        "scale": scale,
        "projection_type": "std",
    }
    split: list[dict[str, Any]] = []
    for group in groups:
        large = [p for p in group["params"] if group["low_rank"] and min(p.shape) > rank]
        known = {id(parameter) for parameter in large}
        rest = [p for p in group["params"] if id(p) not in known]
        split += [{**group, "params": large, **settings}, {**group, "params": rest}]
    return CheckpointedGaLore([group for group in split if group["params"]], lr=learning_rate)


def _projector(group: dict[str, Any], projection: Any, projected_at: int) -> GaLoreProjector:
    keys = ("rank", "update_proj_gap", "scale", "projection_type")
    projector = GaLoreProjector(**{key: group[key] for key in keys})
    projector.ortho_matrix, projector.last_svd_step = projection, projected_at
    return projector
