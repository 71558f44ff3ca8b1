"""UDA and FixMatch: the gradient is that of a naive implementation; runs of them resume, and bad input is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import peftlab
from peftlab.core.callback import Callback
from peftlab.core.errors import PeftlabError, UnsupportedError
from peftlab.core.record import RunRecord
from peftlab.testing.training_jobs import TASKS, checked, examples_of, gradients_of, job_of
from peftlab.training.gradients import accumulate_gradients
from peftlab.training.text_pairs import EncodedPairs, pairs_of
from tests.conftest import sentences

pytestmark = pytest.mark.slow


def uda(known: Any, said: Any, temperature: float) -> Any:
    target = (known / temperature).softmax(-1)
    return (target * (target.log() - said.softmax(-1).log())).sum(-1)


def fixmatch(known: Any, said: Any, _: float) -> Any:
    return -said.softmax(-1).log().gather(1, known.softmax(-1).max(-1).indices[:, None])[:, 0]


@pytest.mark.parametrize("naive", [uda, fixmatch])
def test_the_gradient_is_that_of_a_naive_implementation(naive: Any, tiny_bert: Path) -> None:
    """Also where a step is several batches: every text weighs alike, sure or not."""
    task = TASKS["text_classification"][1]
    plain = job_of(checked(tiny_bert, task, []))
    pairs = list(zip(examples_of("text_classification", 20), examples_of("text_classification", 28)[8:], strict=True))
    by_length = sorted(pairs, key=lambda pair: max(len(side["input_ids"]) for side in pair))
    torch.manual_seed(3)
    chosen = [by_length[place] for size in (10, 6) for place in torch.randint(20, (size,)).tolist()]

    def logits(side: int) -> Any:
        return torch.cat([plain.task.logits(plain.model, plain.task.collate([pair[side]], 0)) for pair in chosen])

    with torch.no_grad():
        known = logits(0)
    likeliest = known.softmax(-1).max(-1).values
    confidence = float(likeliest.unique()[4:6].mean())
    entry = {"type": naive.__name__, "weight": 0.7, "ratio": 2, "confidence": confidence}
    ours = job_of(checked(tiny_bert, task, [entry | ({"temperature": 0.5} if naive is uda else {})]))
    ours.hooks.give_pairs(EncodedPairs(ours.task, pairs, 0, torch.device("cpu")))
    examples = list(ours.split.examples)
    torch.manual_seed(3)
    loss = accumulate_gradients(ours, [ours.task.collate(part, 0) for part in (examples[:5], examples[5:])])
    whole = plain.task.collate(examples, 0)
    labelled = functional.cross_entropy(plain.task.logits(plain.model, whole), whole["labels"])
    (labelled + 0.7 * (naive(known, logits(1), 0.5) * (likeliest >= confidence)).mean()).backward()
    torch.testing.assert_close(loss, labelled.detach(), rtol=1e-5, atol=1e-6)
    wanted, found = gradients_of(plain), gradients_of(ours)
    difference = torch.cat([(found[name] - wanted[name]).flatten() for name in wanted])
    assert float(difference.norm() / torch.cat([value.flatten() for value in wanted.values()]).norm()) <= 2e-6


def test_a_copy_belongs_to_the_text_at_its_place() -> None:
    from peftlab.core.splits import EncodedSplit

    texts = EncodedSplit("unlabeled", [7, 3], [{"a": 7}, {"a": 3}])
    copies = EncodedSplit("unlabeled", [3, 7, 3], [{"b": 1}, {"b": 2}, {"b": 3}])
    assert pairs_of(texts, copies) == [({"a": 3}, {"b": 1}), ({"a": 7}, {"b": 2}), ({"a": 3}, {"b": 3})]


ROWS = sentences(120)


@pytest.fixture
def run(tiny_bert: Path, tmp_path: Path) -> Any:
    parts = {"train": ROWS[:24], "test": ROWS[24:44], "unlabeled": ROWS[44:]}
    for name, rows in parts.items():
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    pool = tmp_path / "unlabeled.csv"
    pool.write_text(pool.read_text() + f"{ROWS[30][0].upper()},good\n")  # a test row

    def make(
        regularizers: list[Any],
        folder: str,
        *,
        entries: Any = None,
        task: Any = None,
        unlabeled: bool = True,
        **more: Any,
    ) -> RunRecord:
        source = {name: str(tmp_path / f"{name}.csv") for name in parts if unlabeled or name != "unlabeled"}
        swapped = [{"type": "token_swap", "probability": 0.5, "rows": "unlabeled", "copies": 2}]
        recipe = peftlab.Recipe.from_dict(
            {
                "name": "consistent",
                "measure": False,
                "model": {"path": str(tiny_bert)},
                "task": {"type": "text_classification", "max_length": 32, **(task or {})},
                "data": {
                    "source": source,
                    "validation_fraction": 0.0,
                    "augmentation": swapped if entries is None else entries,
                },
                "method": {"type": "linear_probe"},
                "training": {"max_steps": 4, "batch_size": 8, "regularizers": regularizers, "log_every_steps": 1},
                "waive_guards": ["answers_vary"],
            }
        )
        return peftlab.run_recipe(recipe, output_dir=tmp_path / folder, offline=True, device="cpu", **more).record

    return make


class StopAtTwo(Callback):
    def on_step(self, step: int, loss: float) -> None:
        if step == 2:
            raise RuntimeError("the power is gone")


def test_a_run_counts_its_copies_and_is_resumed_to_the_same(run: Any, tmp_path: Path) -> None:
    """A head alone too, whose base would else be computed once, for labelled rows only."""
    entry = [{"type": "uda", "confidence": 0.0}]
    record = run(entry, "whole")
    assert record.status == "success", record.error
    notes = record.data.notes
    assert (notes["unlabeled_rows"], notes["unlabeled_rows_in_test"]) == (
        76 - notes["unlabeled_rows_near_held_out_rows"],
        1,
    )
    counts = [notes[f"augmented_unlabeled_rows_{what}"] for what in ("added", "unchanged", "dropped")]
    assert sum(counts) == 2 * notes["unlabeled_rows"]
    assert counts[0] > 100
    assert record.data.rows == {"train": 24, "test": 20}
    assert record.data.added_rows_fingerprint
    assert "texts without labels" in record.acceleration["frozen_base"]
    assert run(entry, "cut", callbacks=[StopAtTwo()]).status == "failed"
    resumed = run(entry, "cut", resume=True)
    assert (resumed.resumed, resumed.scores, resumed.data) == (1, record.scores, record.data)
    weights = [next((tmp_path / folder / "adapter").glob("*.safetensors")).read_bytes() for folder in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_bad_input_gets_a_message(run: Any, tiny_bert: Path) -> None:
    def refused(expected: str, *arguments: Any, **options: Any) -> None:
        with pytest.raises(PeftlabError, match=expected):
            run(*arguments, "bad", **options)

    refused("nothing changes them", [{"type": "uda"}], entries=[{"type": "token_swap"}])
    refused("no texts without labels to learn from", [{"type": "fixmatch"}], unlabeled=False, entries=[])
    refused("nothing learns from these texts without labels", [], entries=[])
    refused("there are no texts without labels to change", [], unlabeled=False)
    refused("contradict each other", [{"type": "uda"}, {"type": "fixmatch"}])
    refused("contradict each other", [{"type": "uda"}, {"type": "fgm"}])
    refused("one class", [{"type": "uda"}], task={"multi_label": True})
    refused("few_shot_classification has none", [{"type": "uda"}], task={"type": "few_shot_classification"})
    nothing = [{"type": "counterfactual", "rows": "unlabeled", "words": {"nowhere": "never"}}]
    refused("no text without a label has a changed copy", [{"type": "uda"}], entries=nothing)
    with pytest.raises(UnsupportedError, match="one class"):
        checked(tiny_bert, {"type": "text_regression", "max_length": 24}, [{"type": "fixmatch"}])
