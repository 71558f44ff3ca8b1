"""The greedy soup of one run's checkpoints: chosen on validation alone, kept as a run leaves it, the same after a stop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import peftlab
from peftlab.core.errors import ConfigError
from peftlab.core.method import MethodContext
from peftlab.regularizers.greedy_soup import GreedySoup
from peftlab.training.best_state import restore_best
from peftlab.training.checkpoints import trainable_parameters
from peftlab.training.loop import train
from tests.regularizers.test_ema import watched_job


class Weights(torch.nn.Module):
    """One trained number."""

    def __init__(self) -> None:
        super().__init__()
        self.at = torch.nn.Parameter(torch.zeros(1))


def soup_of(evaluated: Mapping[float, float], score_of: Any, **settings: Any) -> tuple[GreedySoup, Any]:
    """The soup of some weights with their scores, in the order of their evaluations."""
    soup, model = GreedySoup(**settings), Weights()
    soup.begin(model, MethodContext(None, 10))
    for step, (weight, score) in enumerate(evaluated.items(), start=1):
        with torch.no_grad():
            model.at.fill_(weight)
        soup.after_evaluation(model, step, score)
    return soup, soup.weights_at_end(model, score_of)


def test_it_begins_with_the_best_and_takes_what_does_no_harm() -> None:
    def nearness(values: Mapping[str, torch.Tensor]) -> float:
        return -abs(float(values["at"]) - 2.0)

    evaluated = {weight: nearness({"at": torch.tensor(weight)}) for weight in (9.0, 1.0, 4.0, 2.5)}
    soup, chosen = soup_of(evaluated, nearness)
    # 2.5 is best; the mean with 1.0 is 1.75, which is better; with 4.0 it would be 2.5, and with 9.0 4.17.
    assert float(chosen["at"]) == pytest.approx(1.75)
    assert soup.notices() == {"greedy_soup": "the weights after the steps 2, 4 make the soup"}
    # Of the two that have room the best are kept, whatever their order; a soup of one leaves the best weights alone.
    for order in ((2.5, 9.0, 4.0), (9.0, 4.0, 2.5)):
        soup, chosen = soup_of({weight: evaluated[weight] for weight in order}, nearness, most=2)
        assert chosen == {}
        kept = sorted(float(soup.state(Weights())[f"{place}/at"]) for place in range(2))
        assert kept == [2.5, 4.0]


def test_weights_after_the_best_ones_may_be_in_it(tmp_path: Path, tiny_bert: Path) -> None:
    alone, soups = [0.5, 0.9, 0.8], [0.95, 0.1]  # of 0.9 and 0.8; of all three
    job = watched_job(tmp_path, tiny_bert, alone + soups, regularizer={"type": "greedy_soup"})
    progress = train(job)
    assert progress.best_step == 4
    restore_best(job, progress)
    assert job.hooks.notices() == {"greedy_soup": "the weights after the steps 4, 6 make the soup"}
    for name, value in trainable_parameters(job.model).items():
        wanted = (job.evaluated[1][name] + job.evaluated[2][name]) / 2
        torch.testing.assert_close(value.detach(), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_a_run_leaves_its_soup_and_ends_the_same_after_a_stop(
    tiny_bert: Path, reviews: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(peftlab.Callback):
        def on_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
            if step == 12:
                raise KeyboardInterrupt

    def recipe(**changes: Any) -> peftlab.Recipe:
        return peftlab.Recipe.from_dict(
            {
                "name": "soup",
                "measure": False,
                "model": {"path": str(tiny_bert)},
                "task": {"type": "text_classification", "max_length": 32},
                "data": {"source": str(reviews), "validation_fraction": 0.3, **changes},
                "method": {"type": "lora", "rank": 4},
                "training": {
                    "max_steps": 24,
                    "batch_size": 8,
                    "learning_rate": 2e-2,
                    "regularizers": [{"type": "greedy_soup", "most": 4}],
                },
                "evaluation": {"every": 4},
                "waive_guards": ["answers_vary"],
            }
        )

    tested: list[bool] = []
    real = GreedySoup.weights_at_end

    def spied(self: GreedySoup, model: torch.nn.Module, score_of: Any) -> Any:
        scores = [float(score) for score in self.state(model)["scores"]]

        def kept(values: Mapping[str, torch.Tensor]) -> float:
            tested.append(True)
            return score_of(values)

        chosen = real(self, model, kept)
        if chosen:
            assert score_of(chosen) >= max(scores)
        return chosen

    monkeypatch.setattr(GreedySoup, "weights_at_end", spied)
    done = peftlab.run_recipe(recipe(), output_dir=tmp_path / "whole")
    assert done.record.status == "success", done.record.error
    assert len(tested) == 3
    assert done.record.data.notes["training"]["greedy_soup"]
    stopped = peftlab.run_recipe(recipe(), output_dir=tmp_path / "stopped", callbacks=[Stops()])
    assert stopped.record.status == "cancelled"
    again = peftlab.run_recipe(recipe(), output_dir=tmp_path / "stopped", resume=True)
    assert again.record.scores == done.record.scores
    for file in (tmp_path / "whole/adapter").glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "stopped/adapter" / file.name).read_bytes()
    with pytest.raises(ConfigError, match="greedy_soup chooses by a validation split"):
        peftlab.run_recipe(recipe(validation_fraction=0), output_dir=tmp_path / "bad")
