"""Pre-training on a run's own texts: what it reads, the base that comes out, and that a stopped run ends the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import peftlab
from peftlab.core.config import Document
from peftlab.core.errors import PeftlabError
from peftlab.data.duplicates import text_key
from peftlab.estimate.recipe import estimate_recipe
from peftlab.estimate.target import Target
from peftlab.preparation.check import check_model, check_recipe
from peftlab.preparation.pretraining import check_pretraining, pretraining_texts
from tests.conftest import sentences

pytestmark = pytest.mark.slow

ROWS = sentences(110)
PARTS = {"train": ROWS[:24], "test": ROWS[24:54], "unlabeled": [*ROWS[54:], ROWS[0], ROWS[24]]}


@pytest.fixture
def recipe(tiny_bert: Path, tmp_path: Path) -> Any:
    for name, rows in PARTS.items():
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))

    def make(model: Any = None, *, data: Any = None, without: str = "", **more: Any) -> peftlab.Recipe:
        return peftlab.Recipe.from_dict(
            {
                "name": "adapted",
                "measure": False,
                "model": {"path": str(tiny_bert), "pretrain": {"max_steps": 3, "max_length": 32}, **(model or {})},
                "task": {"type": "text_classification", "max_length": 32},
                "data": {
                    "source": {name: str(tmp_path / f"{name}.csv") for name in PARTS if name != without},
                    "validation_fraction": 0.25,
                    **(data or {}),
                },
                "method": {"type": "lora", "rank": 4},
                "training": {"max_steps": 4, "batch_size": 8, "learning_rate": 2e-2},
                "waive_guards": ["answers_vary"],
                **more,
            }
        )

    return make


def checked(made: peftlab.Recipe) -> Any:
    return check_recipe(made, Document("test", made.model_dump(mode="json")), offline=True)


def test_the_base_reads_training_texts_and_those_without_labels_alone(
    recipe: Any, tmp_path: Path, stop_second_run: Callable[[], list[str]]
) -> None:
    made = recipe()
    data = checked(made).data
    texts = pretraining_texts(data, made)
    read = {text_key([text]) for text in texts}
    held_out = {text_key([text]) for name in ("validation", "test") for text in data.splits[name].columns["text"]}
    assert not read & held_out
    assert len(read) == data.summary.rows["train"] + data.summary.notes["unlabeled_rows"]

    # Stopped when the base was ready, and taken up again: the base is kept.
    calls = stop_second_run()
    folder = tmp_path / "run"
    assert peftlab.run_recipe(made, output_dir=folder, device="cpu").record.status == "cancelled"
    record = peftlab.run_recipe(made, output_dir=folder, resume=True, device="cpu").record
    assert record.status == "success", record.error
    assert calls == ["pretraining", "run", "run"]
    (note,) = record.data.notes["pretraining"]
    assert (note["texts"], note["steps"]) == (len(texts), 3)
    assert record.recipe["model"]["pretrain"]["max_steps"] == 3
    assert record.recipe["model"]["path"] == made.model.path

    # The same by two recipes, one after the other: bit for bit.
    first = peftlab.load(folder / "pretraining")
    assert (first.recipe.task.registered_name, first.recipe.method.registered_name) == ("masked_lm", "full")
    chained = recipe({"path": str(folder / "pretraining"), "pretrain": None}, without="unlabeled")
    by_hand = peftlab.run_recipe(chained, output_dir=tmp_path / "by-hand", device="cpu").record
    assert by_hand.scores == record.scores
    told = [row["scores"] for row in peftlab.load(folder).predict([text for text, _ in PARTS["test"]])]
    assert told == [row["scores"] for row in peftlab.load(tmp_path / "by-hand").predict([t for t, _ in PARTS["test"]])]


def test_the_base_that_comes_out_fills_masks_for_synonyms(recipe: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PEFTLAB_CACHE", str(tmp_path / "cache"))
    entries = [{"type": "synonyms", "probability": 0.4}]
    record = peftlab.run_recipe(recipe(data={"augmentation": entries}), output_dir=tmp_path / "run").record
    assert record.status == "success", record.error
    assert record.data.notes["augmented_rows_added"] > 10
    assert record.data.notes["pretraining"][0]["texts"] == 18 + record.data.notes["unlabeled_rows"]


def test_estimate_counts_it_and_bad_input_gets_a_message(recipe: Any, tiny_gpt2: Path, tmp_path: Path) -> None:
    def model_of(made: peftlab.Recipe) -> Any:
        return check_model(made, Document("test", made.model_dump(mode="json")), offline=True)

    with_it, without = (
        estimate_recipe(model_of(made), Target("cpu", None), advise=False)
        for made in (recipe(), recipe({"pretrain": None}, without="unlabeled"))
    )
    assert with_it.memory.phases["pretrain"] > without.memory.phases["train"]
    assert {key: value for key, value in with_it.memory.phases.items() if key != "pretrain"} == without.memory.phases
    assert model_of(recipe({"path": str(tiny_gpt2)})).facts.family == "decoder"

    def refused(expected: str, *arguments: Any, **options: Any) -> None:
        with pytest.raises(PeftlabError, match=expected) as caught:
            model_of(recipe(*arguments, **options))
        assert "model" in str(caught.value)

    with pytest.raises(PeftlabError, match="makes its own data"):
        check_pretraining(recipe().model_copy(update={"data": None}), model_of(recipe()).facts)
    refused("no quantization", {"quantization": "nf4"})
    refused("has nothing to go on with", {"path": "", "from_config": {"model_type": "bert"}}, method={"type": "full"})
    refused("max_stps", {"pretrain": {"max_stps": 3}})
    refused("nothing learns from these texts", {"pretrain": None})
