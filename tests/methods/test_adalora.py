"""AdaLoRA prunes in runs of any length as its paper says, and says so where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from peftlab.core.errors import UnsupportedError
from peftlab.core.method import METHODS
from peftlab.testing.method_training import optimizer_of, step
from peftlab.testing.tiny_models import KINDS, toy_batch

pytestmark = pytest.mark.slow

BERT = KINDS[0]
ADALORA = METHODS.get("adalora")


def trainer(total: int, **settings: Any) -> tuple[Any, Any, Any]:
    method = ADALORA(initial_rank=6, target_rank=2, **settings)
    torch.manual_seed(0)
    model = method.apply(BERT.build(), BERT.context(total))
    return method, model, optimizer_of(method, model)


def train(method: Any, model: Any, optimizer: Any, numbers: range) -> None:
    for number in numbers:
        step(method, model, BERT, optimizer, toy_batch(BERT), number)


def pattern_of(model: Any) -> dict[str, list[bool]]:
    return dict(model.peft_config["default"].rank_pattern or {})


def ranks_left(model: Any) -> int:
    return sum(int(value.count_nonzero()) for name, value in model.named_parameters() if "lora_E" in name)


class Paper:
    """AdaLoRA's allocation written down from the paper, without a thought for speed.

    Sensitivity (equation 8) is |w · ∂L/∂w|, smoothed (9), times its smoothed uncertainty (10); a rank's importance is
    that of its singular value and the means over its two vectors (7). The budget falls along a cubic (12). As in the
    authors' own code, w is the parameter after the optimizer's step.
    """

    def __init__(self, total: int, warmup: int, final: int, first: int, last: int) -> None:
        self.total, self.warmup, self.final, self.first, self.last = total, warmup, final, first, last
        self.smooth: dict[str, torch.Tensor] = {}
        self.unsure: dict[str, torch.Tensor] = {}

    def budget(self, step: int) -> int:
        if step <= self.warmup:
            return self.first
        left = max(0.0, 1 - (step - self.warmup) / (self.total - self.final - self.warmup))
        return int(self.last + (self.first - self.last) * left**3)

    def look(self, values: dict[str, torch.Tensor], gradients: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            sensitivity = (value * gradients[name]).abs()
            old = self.smooth.get(name, torch.zeros_like(value)), self.unsure.get(name, torch.zeros_like(value))
            self.smooth[name] = 0.85 * old[0] + 0.15 * sensitivity
            self.unsure[name] = 0.85 * old[1] + 0.15 * (sensitivity - self.smooth[name]).abs()

    def kept(self, budget: int) -> set[tuple[str, int]]:
        importance = {}
        score = {name: self.smooth[name] * self.unsure[name] for name in self.smooth}
        for name, of_values in score.items():
            if "lora_E" in name:
                right, left = (score[name.replace("lora_E", part)] for part in ("lora_A", "lora_B"))
                for rank in range(len(of_values)):
                    importance[name, rank] = float(of_values[rank, 0] + right[rank].mean() + left[:, rank].mean())
        return set(sorted(importance, key=importance.__getitem__, reverse=True)[:budget])


@pytest.mark.parametrize(("total", "warmup", "final"), [(2, 0, 0), (3, 0, 0), (10, 1, 3), (37, 3, 11), (60, 6, 18)])
def test_ranks_are_allocated_as_in_the_paper(total: int, warmup: int, final: int) -> None:
    method, model, optimizer = trainer(total)
    matrices = len(model.base_model.targeted_module_names)
    paper = Paper(total, warmup, final, 6 * matrices, 2 * matrices)
    lora = {name: parameter for name, parameter in model.base_model.model.named_parameters() if "lora_" in name}
    gradients: dict[str, torch.Tensor] = {}
    optimizer.register_step_pre_hook(lambda *_: gradients.update({n: p.grad.clone() for n, p in lora.items()}))
    update, seen, budgets = method.after_step, {}, []
    every = model.peft_config["default"].deltaT
    for number in range(1, total + 1):
        object.__setattr__(
            method, "after_step", lambda *_: seen.update({n: p.detach().clone() for n, p in lora.items()})
        )
        step(method, model, BERT, optimizer, toy_batch(BERT), number)
        for name, parameter in lora.items():
            parameter.grad = gradients[name]
        update(model, number)
        optimizer.zero_grad(set_to_none=True)
        if number < total - final:
            paper.look(seen, gradients)
        if number > warmup and (number % every == 0 or number == total - final) and number <= total - final:
            kept = {(name, rank) for name, own in pattern_of(model).items() for rank, stays in enumerate(own) if stays}
            assert kept == paper.kept(paper.budget(number)), number
            budgets.append(len(kept))
            assert ranks_left(model) == len(kept)
    assert budgets[-1] == 2 * matrices
    assert budgets == sorted(budgets, reverse=True)
    assert len(budgets) >= min(6, total - warmup - final)
    guard = method.guards(model, BERT.context(total))["ranks_changed"]
    assert (guard.status, guard.detail.split(",")[0]) == ("passed", f"{2 * matrices} of {6 * matrices} ranks remain")


def test_the_final_phase_keeps_the_mask() -> None:
    method, model, optimizer = trainer(20)
    train(method, model, optimizer, range(1, 15))
    decided = pattern_of(model)
    matrices = len(model.base_model.targeted_module_names)
    for number in range(15, 21):
        train(method, model, optimizer, range(number, number + 1))
        assert pattern_of(model) == decided
        assert ranks_left(model) == 2 * matrices
        assert method.can_be_best(model, number)


def test_the_same_ranks_go_as_by_pefts_own_allocator() -> None:
    from peft.tuners.adalora.layer import RankAllocator

    patterns = []
    for own in (True, False):
        method, model, optimizer = trainer(20)
        if not own:
            allocator = RankAllocator(model.base_model.model, model.peft_config["default"], "default")
            model.base_model.rankallocator = allocator
        train(method, model, optimizer, range(1, 21))
        patterns.append(pattern_of(model))
    assert patterns[0] == patterns[1]


def test_ranks_of_equal_importance_do_not_all_go() -> None:
    """A matrix without any gradient has importances of zero; peft would prune all of it, and miss the budget."""
    method, model, optimizer = trainer(10, orthogonality_weight=0.0)
    matrices = len(model.base_model.targeted_module_names)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name and "layer.0" in name:
                parameter.zero_()
    train(method, model, optimizer, range(1, 11))
    assert sum(sum(own) for own in pattern_of(model).values()) == 2 * matrices
    assert method.guards(model, BERT.context(10))["ranks_changed"].status == "passed"


def test_a_matrix_that_the_forward_leaves_out_is_no_crash() -> None:
    method, model, optimizer = trainer(10)
    layer = model.base_model.model.bert.encoder.layer[1].output.dense
    layer.forward = layer.base_layer.forward
    object.__setattr__(method, "penalty", lambda _: None)
    train(method, model, optimizer, range(1, 11))
    assert method.guards(model, BERT.context(10))["ranks_changed"].status == "passed"


@pytest.mark.parametrize("cut", [2, 7, 14, 17], ids=["warm-up", "pruning", "last pruning", "final"])
def test_resumed_in_every_phase(cut: int) -> None:
    method, model, optimizer = trainer(20)
    train(method, model, optimizer, range(1, cut + 1))
    parameters = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    state = {name: value.clone() for name, value in method.state(model).items()}
    moments = {k: {n: v.clone() for n, v in s.items()} for k, s in optimizer.state_dict()["state"].items()}
    train(method, model, optimizer, range(cut + 1, 21))
    _, other, fresh = trainer(20)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(parameters[name])
    method.restore(other, state)
    fresh.load_state_dict({"state": moments, "param_groups": fresh.state_dict()["param_groups"]})
    train(method, other, fresh, range(cut + 1, 21))
    assert pattern_of(other) == pattern_of(model)
    for (name, one), (_, two) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(one, two), name


@pytest.mark.parametrize("stop", [1, 5, 14, 20], ids=["warm-up", "pruning", "last pruning", "end"])
def test_whatever_the_phase_nothing_is_lost_by_saving(stop: int, tmp_path: Path) -> None:
    from peftlab.artifact.load_artifact import load_artifact
    from peftlab.artifact.save import save_artifact
    from peftlab.testing.method_training import logits_of
    from peftlab.testing.tiny_models import NoTokenizer

    method, model, optimizer = trainer(20)
    train(method, model, optimizer, range(1, stop + 1))
    before = logits_of(model.eval(), BERT)
    context = BERT.context(20)
    save_artifact(model, method, folder=tmp_path, tokenizer=NoTokenizer(), context=context, base_path="some/base")
    assert torch.allclose(logits_of(load_artifact(BERT.build, tmp_path), BERT), before, atol=1e-5)


def test_unpruned_ranks_fail_the_guard() -> None:
    method = ADALORA()
    model = method.apply(BERT.build(), BERT.context(100))
    for name, parameter in model.named_parameters():
        if "lora_E" in name:
            parameter.data.fill_(1.0)
    assert method.guards(model, BERT.context(100))["ranks_changed"].status == "failed"


def test_runs_and_settings_without_time_to_prune_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="1 steps leave no time"):
        ADALORA().apply(BERT.build(), BERT.context(1))
    with pytest.raises(ValueError, match="no step to prune"):
        ADALORA(warmup_fraction=0.5, final_fraction=0.5)
    with pytest.raises(ValueError, match="below `initial_rank`"):
        ADALORA(initial_rank=4, target_rank=4)


def test_the_penalty_is_pefts_own() -> None:
    """peft adds it to the loss that the model computes from labels."""
    method = ADALORA(orthogonality_weight=0.3)
    torch.manual_seed(0)
    model = method.apply(BERT.build(), BERT.context())
    batch = {key: value for key, value in toy_batch(BERT).items() if key != "labels"}
    labels = toy_batch(BERT)["labels"]
    loss = torch.nn.functional.cross_entropy(model(**batch).logits, labels)
    penalty = method.penalty(model)
    assert penalty is not None
    assert float(model(**batch, labels=labels).loss) == pytest.approx(float(loss + penalty), rel=1e-5)
    assert ADALORA(orthogonality_weight=0.0).penalty(model) is None


def test_a_matrix_whose_every_rank_is_pruned_is_no_defect() -> None:
    """Singular values begin at zero, and are back there; a direction that never moved is still found."""
    from peftlab.training.checkpoints import trainable_parameters
    from peftlab.training.guards import check_adapter_changed, hash_tensors

    method = ADALORA()
    torch.manual_seed(0)
    model = method.apply(BERT.build(), BERT.context())
    trained = trainable_parameters(model)
    before = hash_tensors(trained)
    pruned = next(name for name in trained if "lora_E" in name)
    stuck = next(name for name in trained if "lora_A" in name)
    with torch.no_grad():
        for name, parameter in trained.items():
            if name not in (pruned, stuck):
                parameter.add_(1.0)

    def guard() -> tuple[str, str]:
        may_end_unchanged = {name for name, parameter in trained.items() if method.may_end_unchanged(name, parameter)}
        result = check_adapter_changed(before, hash_tensors(trained), steps=100, may_end_unchanged=may_end_unchanged)
        return result.status, result.detail

    assert guard()[0] == "failed"
    assert stuck in guard()[1]
    assert pruned not in guard()[1]
    with torch.no_grad():
        trained[stuck].add_(1.0)
    assert guard()[0] == "passed"


def test_the_numbers_of_ranks_do_not_train_under_a_base_in_half_precision() -> None:
    """peft made parameters of them where it cast them, and a saved adapter came back with another scaling."""
    method = ADALORA(initial_rank=6, target_rank=2)
    model = method.apply(BERT.build().to(torch.bfloat16), BERT.context(40))
    counts = [count for module in model.modules() for count in getattr(module, "ranknum", {}).values()]
    assert counts
    assert not any(count.requires_grad for count in counts)
    assert not any("ranknum" in name for name, own in model.named_parameters() if own.requires_grad)
