"""AdaLoRA: LoRA whose ranks are pruned by importance while training (Zhang et al. 2023, https://arxiv.org/abs/2303.10512)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt, model_validator

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS, Method, MethodContext, TargetModules
from peftlab.core.model_facts import ModelFacts
from peftlab.core.record import Guard
from peftlab.methods._rank_allocator import build_rank_allocator
from peftlab.methods._targets import are_transposed, check_targets, guard_targets, resolve_targets

if TYPE_CHECKING:
    from torch import Tensor, nn

PRUNINGS = 20
"""How many times the ranks are pruned in a run, where it has so many steps between warm-up and final phase."""


@METHODS.register("adalora")
class AdaLora(Method):
    """AdaLoRA: LoRA whose ranks are pruned by importance while training."""

    works_sharded: ClassVar[bool] = True
    paper: ClassVar[str] = "https://arxiv.org/abs/2303.10512"
    default_learning_rate: ClassVar[float] = 1.5e-2
    mergeable: ClassVar[bool] = True
    starts_as_base: ClassVar[bool] = True
    can_be_averaged: ClassVar[bool] = False
    replayable: ClassVar[bool] = True

    initial_rank: PositiveInt = Field(12, description="Rank of every adapted matrix before pruning.")
    target_rank: PositiveInt = Field(8, description="Average rank after pruning.")
    alpha: PositiveInt = Field(16, description="Numerator of the LoRA scaling.")
    target_modules: TargetModules = "all-linear"
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="Share of the steps before the first pruning.")
    final_fraction: float = Field(0.3, ge=0, lt=1, description="Share of the steps after the last pruning.")
    orthogonality_weight: float = Field(0.5, ge=0, description="Weight of the penalty that keeps A and B orthogonal.")

    @model_validator(mode="after")
    def _check(self) -> AdaLora:
        if self.target_rank >= self.initial_rank:
            raise ValueError("`target_rank` must be below `initial_rank`; otherwise nothing is pruned")
        if self.warmup_fraction + self.final_fraction >= 1:
            raise ValueError("`warmup_fraction` and `final_fraction` leave no step to prune in")
        return self

    def check(self, facts: ModelFacts) -> None:
        """Refuse target modules that match nothing."""
        check_targets(facts, self.target_modules)

    def apply(self, model: Any, context: MethodContext) -> Any:
        """Put an update P Λ Q beside each target, whose singular values Λ can be pruned.

        Raises:
            UnsupportedError: The run has too few steps to prune in.
        """
        import peft

        warmup = int(self.warmup_fraction * context.total_steps)
        final = int(self.final_fraction * context.total_steps)
        pruning_steps = context.total_steps - warmup - final
        if pruning_steps < 2:
            raise UnsupportedError(
                f"AdaLoRA prunes between warm-up and final phase; {context.total_steps} steps leave no time for it",
                hint="Train for more steps.",
            )
        targets = resolve_targets(model, self.target_modules, context)
        config = peft.AdaLoraConfig(
            task_type=context.peft_task_type,
            init_r=self.initial_rank,
            target_r=self.target_rank,
            lora_alpha=self.alpha,
            target_modules=targets,
            fan_in_fan_out=are_transposed(model, targets),
            modules_to_save=list(context.head_modules),
            total_step=context.total_steps,
            tinit=warmup,
            tfinal=final,
            deltaT=max(1, pruning_steps // PRUNINGS),
            orth_reg_weight=self.orthogonality_weight,
        )
        wrapped = peft.get_peft_model(model, config)
        _freeze_rank_counts(wrapped)
        wrapped.base_model.rankallocator = build_rank_allocator(wrapped.base_model)
        return wrapped

    def after_step(self, model: Any, step: int) -> None:
        """Update the importances, and prune where it is time; needs the step's gradients."""
        model.base_model.update_and_allocate(step)

    def can_be_best(self, model: Any, step: int) -> bool:
        """Only with the ranks that the recipe asks for: from the last pruning on."""
        config = model.peft_config["default"]
        return bool(step >= config.total_step - config.tfinal)

    def penalty(self, model: nn.Module) -> Tensor | None:
        """‖A Aᵀ − I‖ + ‖Bᵀ B − I‖, averaged over the matrices (equation 4 of the paper, as peft computes it).

        peft adds it to the loss that the model computes, in evaluation too; peftlab's loss comes from the task.
        """
        import torch

        if self.orthogonality_weight == 0:
            return None
        alike: defaultdict[tuple[Any, ...], list[Tensor]] = defaultdict(list)
        for name, parameter in model.named_parameters():
            kind = "lora_A" if "lora_A" in name else "lora_B" if "lora_B" in name else None
            if kind is not None:
                alike[kind, parameter.shape, parameter.dtype, parameter.device].append(parameter)
        distances = []
        for (kind, *_), parameters in alike.items():
            matrices = torch.stack(parameters)  # products of many small matrices take longer to ask for than to compute
            grams = matrices @ matrices.mT if kind == "lora_A" else matrices.mT @ matrices
            identity = torch.eye(grams.shape[-1], device=grams.device, dtype=grams.dtype)
            distances.append(torch.linalg.matrix_norm(grams - identity))
        return self.orthogonality_weight * torch.cat(distances).mean()

    def state(self, model: Any) -> dict[str, Tensor]:
        """The importances so far, and which ranks are kept."""
        import torch

        allocator = model.base_model.rankallocator
        state = {f"{kind}/{name}": tensor for kind in _IMPORTANCES for name, tensor in getattr(allocator, kind).items()}
        pattern = model.peft_config["default"].rank_pattern or {}
        return {**state, **{f"rank_pattern/{name}": torch.tensor(kept) for name, kept in pattern.items()}}

    def restore(self, model: Any, state: Mapping[str, Tensor]) -> None:
        """Put importances and ranks back."""
        device = next(model.parameters()).device
        for kind in _IMPORTANCES:
            own = {name: tensor for name, tensor in state.items() if name.startswith(f"{kind}/")}
            restored = {name.removeprefix(f"{kind}/"): tensor.to(device).clone() for name, tensor in own.items()}
            setattr(model.base_model.rankallocator, kind, restored)
        kept = {name.partition("/")[2]: t.tolist() for name, t in state.items() if name.startswith("rank_pattern/")}
        model.peft_config["default"].rank_pattern = kept or None

    def may_end_unchanged(self, name: str, parameter: Tensor) -> bool:
        """Singular values begin at zero and are there again where every rank of the matrix is pruned."""
        return "lora_E" in name and not parameter.any()

    def guards(self, model: nn.Module, context: MethodContext) -> dict[str, Guard]:
        """Every target got an update, and the ranks were pruned to what the recipe asks for."""
        wrapped: Any = model
        pattern = wrapped.peft_config["default"].rank_pattern
        matrices = len(_singular_values(model))
        initial, target = self.initial_rank * matrices, self.target_rank * matrices
        remaining = sum(sum(kept) for kept in pattern.values()) if pattern else initial
        detail = f"{remaining} of {initial} ranks remain, {remaining / max(1, matrices):.1f} a matrix on average"
        # After the last pruning the allocator forgets its importances; before it the budget is still falling.
        is_settled = not wrapped.base_model.rankallocator.exp_avg_ipt
        if is_settled and remaining != target:
            detail += f", where the recipe asks for {self.target_rank}"
        return {
            "target_modules_matched": guard_targets(model, self.target_modules),
            "ranks_changed": Guard.check(remaining == target if is_settled else remaining < initial, detail),
        }

    def before_save(self, model: Any) -> None:
        """Peft saves only the ranks of its pattern: so the pattern must hold all that are not zero.

        In the final phase it does. Between two prunings the optimizer moves pruned singular values away from zero.
        """
        config, values = model.peft_config["default"], _singular_values(model)
        kept = {name.removesuffix(".default"): ranks for name, ranks in (config.rank_pattern or {}).items()}
        pattern = {}
        for name, value in values.items():
            own = name.removeprefix("base_model.model.")
            moved = (value != 0).flatten().tolist()
            pruned = kept.get(own.removesuffix(".default"), moved)
            pattern[own] = [one or other for one, other in zip(moved, pruned, strict=True)]
        config.rank_pattern = pattern


def _freeze_rank_counts(model: nn.Module) -> None:
    """Keep the numbers of ranks as they are: they divide the scaling, and no adapter's file holds them.

    Where peft moves them to a base on another device, or of another type, it makes parameters of them that train.
    """
    for module in model.modules():
        for count in getattr(module, "ranknum", {}).values():
            count.requires_grad_(False)


_IMPORTANCES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def _singular_values(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if "lora_E" in name}
