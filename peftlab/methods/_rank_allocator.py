"""Which ranks AdaLoRA keeps: peft's allocator in fewer operations, exact where ranks are alike or have no gradient.

peft prunes every rank whose importance is not above that of the last one to go. Ranks of equal importance, such as
those of a matrix that gets no gradient (all zero), would all go at once, and the budget would not be met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

PARTS = ("lora_E", "lora_A", "lora_B")


def build_rank_allocator(model: Any) -> Any:
    """An allocator to take the place of peft's.

    Args:
        model: An ``AdaLoraModel``.
    """
    import torch
    from peft.tuners.adalora.layer import RankAllocator

    class ExactRankAllocator(RankAllocator):  # type: ignore[misc] # peft is untyped
        @torch.no_grad()
        def update_ipt(self, model: nn.Module) -> None:
            """Equations 8 to 10 of the paper, as peft computes them, for all weights at once."""
            weights = {name: p for name, p in model.named_parameters() if "lora_" in name and self.adapter_name in name}
            gradients = []
            for name, weight in weights.items():
                gradients.append(torch.zeros_like(weight) if weight.grad is None else weight.grad)
                if name not in self.exp_avg_ipt:
                    self.exp_avg_ipt[name], self.exp_avg_unc[name] = torch.zeros_like(weight), torch.zeros_like(weight)
            sensitivity = torch._foreach_mul([*weights.values()], gradients)
            torch._foreach_abs_(sensitivity)
            smooth = [self.exp_avg_ipt[name] for name in weights]
            uncertain = [self.exp_avg_unc[name] for name in weights]
            torch._foreach_mul_(smooth, self.beta1)
            torch._foreach_add_(smooth, sensitivity, alpha=1 - self.beta1)
            away = torch._foreach_sub(sensitivity, smooth)
            torch._foreach_abs_(away)
            torch._foreach_mul_(uncertain, self.beta2)
            torch._foreach_add_(uncertain, away, alpha=1 - self.beta2)
            self.ipt = dict(zip(weights, sensitivity, strict=True))

        @torch.no_grad()
        def mask_to_budget(self, model: nn.Module, budget: int) -> dict[str, list[bool]]:
            parameters = dict(model.named_parameters())
            values = [name % "lora_E" for name in self.name_set]
            scores = [self._importance_of_ranks(name) for name in self.name_set]
            kept = torch.zeros(sum(len(score) for score in scores), dtype=torch.bool, device=scores[0].device)
            kept[torch.argsort(torch.cat(scores), descending=True, stable=True)[:budget]] = True
            pattern = {}
            for name, own in zip(values, torch.split(kept, [len(score) for score in scores]), strict=True):
                parameters[name].masked_fill_(~own[:, None], 0.0)
                pattern[name] = own.tolist()
            return pattern

        def _importance_of_ranks(self, name: str) -> Tensor:
            """Equation 7 of the paper: a singular value's importance, and the means over its two vectors."""
            value, right, left = (self._element_score(name % part) for part in PARTS)
            importance: Tensor = value.flatten() + right.mean(dim=1) + left.mean(dim=0)
            return importance

    return ExactRankAllocator(model.model, model.peft_config["default"], "default")
