"""AdaLoRA prunes in runs of any length, and says so where it cannot."""

from __future__ import annotations

import pytest
import torch
from models import KINDS, toy_batch
from test_contract import optimizer_of, step

from peftlab.errors import UnsupportedError
from peftlab.interfaces import METHODS

BERT = KINDS[0]
ADALORA = METHODS.get("adalora")


@pytest.mark.parametrize("total", [3, 10, 60])
def test_the_budget_is_reached(total: int) -> None:
    method = ADALORA(initial_rank=6, target_rank=2)
    torch.manual_seed(0)
    model = method.apply(BERT.build(), BERT.context(total))
    optimizer = optimizer_of(method, model)
    for number in range(1, total + 1):
        step(method, model, BERT, optimizer, toy_batch(BERT), number)
    guard = method.guards(model, BERT.context(total))["ranks_changed"]
    assert guard.status == "passed", guard.detail
    if total == 60:
        matrices = len(model.base_model.targeted_module_names)
        assert guard.detail.startswith(f"{2 * matrices} of {6 * matrices} ranks remain")


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
    penalty = method.training_penalty(model)
    assert penalty is not None
    assert float(model(**batch, labels=labels).loss) == pytest.approx(float(loss + penalty), rel=1e-5)
    assert ADALORA(orthogonality_weight=0.0).training_penalty(model) is None


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
        may_stay = {name for name, parameter in trained.items() if method.may_stay(name, parameter)}
        result = check_adapter_changed(before, hash_tensors(trained), steps=100, may_stay=may_stay)
        return result.status, result.detail

    assert guard()[0] == "failed"
    assert stuck in guard()[1]
    assert pruned not in guard()[1]
    with torch.no_grad():
        trained[stuck].add_(1.0)
    assert guard()[0] == "passed"
