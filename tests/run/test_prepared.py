"""What a task computes with the untouched base: once, kept in the run's folder, and put into the examples."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file

import peftlab
from peftlab.core.splits import EncodedSplit, Example
from peftlab.core.task import TASKS, UntouchedBase
from peftlab.run.prepared import PREPARED
from peftlab.tasks.text_classification import TextClassification
from peftlab.tasks.text_inputs import sequence_logits


class Reminded(TextClassification):
    """Keeps near what the untouched base said."""

    calls: ClassVar[list[str]] = []
    seen: ClassVar[list[list[float]]] = []
    spoils: ClassVar[bool] = False

    def prepare(self, splits: Mapping[str, EncodedSplit], base: UntouchedBase) -> dict[str, dict[str, torch.Tensor]]:
        def logits(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
            assert not torch.is_grad_enabled()
            assert not model.training
            if self.spoils:
                next(model.parameters()).data.add_(1)
            return sequence_logits(model, batch)

        self.calls.append("prepare")
        return {name: {"reference": base.values(split, logits)} for name, split in splits.items()}

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, torch.Tensor]:
        self.seen.extend(example["reference"] for example in examples if "reference" in example)
        return super().collate(examples, pad_token_id)

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        return {**super().placeholder(length, labels), "reference": [0.0] * len(labels)}


@pytest.fixture
def reminded() -> Iterator[type[Reminded]]:
    TASKS.register("reminded")(Reminded)
    Reminded.calls.clear()
    Reminded.seen.clear()
    yield Reminded
    del TASKS._classes["reminded"]
    Reminded.spoils = False


def values(model: Path, data: Path) -> dict[str, Any]:
    return {
        "name": "reminded",
        "model": {"path": str(model)},
        "task": {"type": "reminded", "max_length": 32},
        "data": {"source": str(data), "max_train_examples": 24, "test_fraction": 0.1, "validation_fraction": 0.1},
        "method": {"type": "lora"},
        "training": {"max_steps": 3, "batch_size": 8},
        "measure": False,
    }


def test_it_is_computed_once_and_read_by_a_run_that_goes_on(
    tiny_bert: Path, reviews: Path, tmp_path: Path, reminded: type[Reminded]
) -> None:
    recipe = peftlab.Recipe.from_dict(values(tiny_bert, reviews))
    first = peftlab.run_recipe(recipe, output_dir=tmp_path / "run")
    assert first.record.status == "success", first.record.error
    kept = load_file(tmp_path / "run" / PREPARED)
    assert set(kept) == {"train/reference", "validation/reference", "test/reference"}
    assert {name: len(value) for name, value in kept.items()} == {
        f"{split}/reference": count for split, count in first.record.data.rows.items()
    }
    assert {tuple(row) for row in reminded.seen} <= {tuple(row) for value in kept.values() for row in value.tolist()}
    (tmp_path / "run" / "record.json").unlink()
    again = peftlab.run_recipe(recipe, output_dir=tmp_path / "run", resume=True)
    assert again.record.scores == first.record.scores
    assert reminded.calls == ["prepare"]


def test_a_base_that_is_changed_fails_the_run(
    tiny_bert: Path, reviews: Path, tmp_path: Path, reminded: type[Reminded]
) -> None:
    reminded.spoils = True
    done = peftlab.run_recipe(peftlab.Recipe.from_dict(values(tiny_bert, reviews)), output_dir=tmp_path / "run")
    assert done.record.status == "failed"
    assert "has changed the base model" in (done.record.error or "")
    assert not (tmp_path / "run" / PREPARED).exists()


def test_values_of_another_base_are_computed_anew(
    tiny_bert: Path, reviews: Path, tmp_path: Path, reminded: type[Reminded]
) -> None:
    folder = shutil.copytree(tiny_bert, tmp_path / "bert")
    recipe = peftlab.Recipe.from_dict(values(folder, reviews))
    peftlab.run_recipe(recipe, output_dir=tmp_path / "run")
    before = load_file(tmp_path / "run" / PREPARED)["test/reference"]
    (tmp_path / "run" / "record.json").unlink()
    weights = {name: value * 1.5 for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    peftlab.run_recipe(recipe, output_dir=tmp_path / "run", resume=True)
    assert reminded.calls == ["prepare"] * 2
    assert not torch.equal(load_file(tmp_path / "run" / PREPARED)["test/reference"], before)
