"""A merge of several runs is the weighted sum of their updates, and its scores are measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from peftlab.artifact.compose import _function, compose
from peftlab.core.errors import UnsupportedError, UserError
from peftlab.core.reporter import Silent
from peftlab.inference.export.compose import Composition, export_composition
from peftlab.inference.load_tuned import load_run, load_tuned

pytestmark = pytest.mark.slow

LAYER = "bert.encoder.layer.0.attention.self.query"


def update_of(model: torch.nn.Module) -> torch.Tensor:
    return model.get_submodule(f"base_model.model.{LAYER}").get_delta_weight("default").detach().clone()


def merged_update(runs: list[Path], weights: list[float], combination: str, density: float = 0.5):
    models = [load_run(run, offline=True).model for run in runs]
    updates = [update_of(model) for model in models]
    before = models[0].get_submodule(f"base_model.model.{LAYER}").get_base_layer().weight.detach().clone()
    model = compose(models, weights, combination, density=density, seed=0)
    return updates, model.get_submodule(LAYER).weight.detach() - before, model


def test_linear_is_the_exact_sum_of_the_updates(tiny_run: Callable[..., Path]) -> None:
    # Of different ranks: what is added are updates, not factors.
    runs = [tiny_run(seed=0), tiny_run("{type: lora, rank: 2}", seed=1)]
    updates, merged, model = merged_update(runs, [0.7, 0.6], "linear")
    assert torch.allclose(merged, 0.7 * updates[0] + 0.6 * updates[1], atol=1e-5)
    assert not any("lora" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("combination", ["ties", "dare"])
def test_all_of_one_run_alone_is_that_run(combination: str, tiny_run: Callable[..., Path]) -> None:
    updates, merged, _ = merged_update([tiny_run()], [1.0], combination, density=1.0)
    assert torch.allclose(merged, updates[0], atol=1e-5)


def test_updates_are_weighed_where_they_are() -> None:
    updates = [torch.ones(2, 2, device="meta") for _ in range(2)]  # as on a card
    assert _function("linear", torch.tensor([0.7, 0.3]), 0.5)(updates).device.type == "meta"


def test_ties_drops_the_small_values(tiny_run: Callable[..., Path]) -> None:
    updates, merged, _ = merged_update([tiny_run()], [1.0], "ties", density=0.25)
    kept = merged.abs() > 1e-6
    assert 0.2 < kept.float().mean() < 0.3
    assert updates[0].abs()[kept].min() >= updates[0].abs()[~kept].max() - 1e-5


def test_the_scores_of_a_merge_are_measured(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [tiny_run(seed=0), tiny_run(seed=1)]
    done = export_composition(
        runs, Composition("linear", (1.0, 0.0)), "merged", tmp_path / "out", offline=True, reporter=Silent()
    )
    first, second = done.composed_of
    assert first.scores["accuracy"] == first.run_scores["accuracy"]  # all of the first, nothing of the second
    assert second.weight == 0.0
    assert second.run_scores.keys() == second.scores.keys()
    assert done.check.equal_predictions == 1.0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "A linear merge of 2 runs" in card
    assert load_tuned(tmp_path / "out").name.endswith("-linear")


def test_what_does_not_go_together(
    tiny_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def combine(runs: list[Path], weights: tuple[float, ...] = ()) -> None:
        composition = Composition("linear", weights)
        export_composition(runs, composition, "merged", tmp_path / "out", offline=True, reporter=Silent())

    with pytest.raises(UserError, match="named twice"):
        combine([tiny_run(), tiny_run() / "." / ".." / tiny_run().name])
    with pytest.raises(UserError, match="another base"):
        combine([tiny_run(), tiny_run(base="gpt2")])
    for weights in ((1.0,), (1.0, -1.0), (math.nan, 1.0), (math.inf, 1.0)):
        with pytest.raises(UserError, match="weights"):
            combine([tiny_run(), tiny_run(seed=1)], weights)
    monkeypatch.setattr("peftlab.inference.export.compose.load_held_out", pytest.fail)  # told before data is read
    other = tiny_run("{type: houlsby_adapter}")
    with pytest.raises(UnsupportedError, match=f"{other}: only LoRA"):
        combine([tiny_run(), other])
    assert not list(tmp_path.iterdir())


def test_runs_on_a_base_in_half_precision_are_combined(tiny_run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [tiny_run(seed=seed, dtype="bfloat16") for seed in (0, 1)]
    made = export_composition(
        runs, Composition("linear"), "merged", tmp_path / "both", offline=True, reporter=Silent(), max_score_loss=0.1
    )
    assert made.check is not None
    assert made.check.equal_predictions >= 0.95
