"""Reward models: the loss against its formula, what a run learns and says, and what rows are refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import transformers

import peftlab
from peftlab.core.errors import DataError
from peftlab.core.reporter import Silent
from peftlab.core.splits import Split
from peftlab.inference.export.export import export_run
from peftlab.tasks.reward_model import RewardModel
from tests.conftest import sentences


def test_the_loss_is_bradley_and_terrys_with_margins() -> None:
    rewards = torch.tensor([[1.5], [-0.2], [0.3], [0.9]])
    batch = {"margins": torch.tensor([0.5, 2.0])}
    expected = 0.0
    for chosen, rejected, margin in ((1.5, 0.3, 0.5), (-0.2, 0.9, 2.0)):
        expected += math.log1p(math.exp(-(chosen - rejected - margin))) + 0.1 * (chosen + rejected) ** 2
    assert float(RewardModel(centering=0.1).loss(rewards, batch)) == pytest.approx(expected, rel=1e-6)


def test_a_run_tells_held_out_pairs_apart_and_judges_responses(tiny_gpt2: Path, tmp_path: Path) -> None:
    rows = [{"prompt": text, "chosen": "good film", "rejected": "bad film"} for text, _ in sentences(60)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = peftlab.Recipe.from_dict(
        {
            "name": "rewards",
            "model": {"path": str(tiny_gpt2)},
            "task": {"type": "reward_model", "max_length": 48},
            "data": {"source": str(tmp_path / "pairs.jsonl"), "validation_fraction": 0.2, "test_fraction": 0.2},
            "method": {"type": "lora"},
            "training": {"max_steps": 12, "batch_size": 6, "learning_rate": 1e-2},
            "measure": False,
        }
    )
    done = peftlab.run_recipe(recipe, output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    assert done.record.scores["test"]["reward_accuracy"] == 1
    assert done.record.data.notes["train"]["mean_tokens_chosen"] > 1
    good, bad = peftlab.load(tmp_path / "run").predict([("any film", "good film"), ("any film", "bad film")])
    assert good["prediction"] > bad["prediction"]
    assert good["response"] == "good film"
    # As the card says, transformers by itself reads the token before the end token, where that pads too.
    export_run(tmp_path / "run", "merged", tmp_path / "model", offline=True, reporter=Silent())
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = torch.tensor([tokenizer("any film\ngood film")["input_ids"] + [tokenizer.eos_token_id]])
    with torch.inference_mode():
        assert plain.config.pad_token_id == tokenizer.eos_token_id
        assert plain(ids).logits.item() == pytest.approx(plain(ids[:, :-1]).logits.item(), abs=1e-6)
        plain.config.pad_token_id = None
        assert plain(ids).logits.item() == pytest.approx(good["prediction"], abs=1e-5)
    assert "set `model.config.pad_token_id = None`" in (tmp_path / "model" / "README.md").read_text()
    # Rows of pairs become contexts and responses when they are scored, as they did in the run.
    found = peftlab.load(tmp_path / "run").evaluate(tmp_path / "pairs.jsonl")
    assert found.scores["reward_accuracy"] > 0.9
    assert (found.rows, found.examples) == (60, 60)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"chosen": "Yes", "rejected": " Yes ", "by": 1}, "`chosen` and `rejected` are the same"),
        ({"chosen": "Yes", "rejected": None, "by": 1}, "the column `rejected` is missing"),
        ({"chosen": "Yes", "rejected": "No", "by": -1}, "is not a number of 0 or more"),
        ({"chosen": "Yes", "rejected": "No", "by": None}, "is not a number of 0 or more"),
        ({"chosen": "Yes", "rejected": "No", "by": 10**400}, "is not a number of 0 or more"),
        (
            {"chosen": [{"role": "user", "content": "Hi"}], "rejected": "No", "by": 1},
            "ends with the user's turn",
        ),
    ],
)
def test_a_row_that_is_no_pair_is_named(row: dict[str, object], message: str) -> None:
    columns = {name: ["fine", value] for name, value in {"prompt": "Is it?", **row}.items()}
    columns["rejected"][0], columns["by"][0] = "not fine", 0
    with pytest.raises(DataError, match=message) as error:
        RewardModel(margin="by").arrange(Split("train", range(2), columns, "pairs.jsonl"))
    assert "row 2" in str(error.value) or "1" in str(error.value.where)
