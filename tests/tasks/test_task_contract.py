"""What every task must keep, on a tiny model. A new task is covered by an entry that says what its data look like.

Rows are encoded and collated, the loss falls, and what was saved, and loaded again, predicts the same.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import peftlab
from peftlab.core.config import Document
from peftlab.core.splits import EncodedSplit
from peftlab.core.task import TASKS
from peftlab.core.tensors import output_layer
from peftlab.estimate.data import look_at_data
from peftlab.estimate.recipe import estimate_recipe
from peftlab.estimate.target import find_target
from peftlab.inference.loaded import LoadedRun
from peftlab.inference.prepared_rows import with_prepared
from peftlab.preparation.check import CheckedRecipe, check_recipe
from peftlab.recipe.schema import Recipe
from peftlab.training.evaluation import PredictionWriter, evaluate
from tests.conftest import sentences
from tests.tasks.test_task_plugin import WORDS

STEPS = 16
TINY_T5 = {
    "model_type": "t5",
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
}
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """How a task is tried: on which tiny model, with which keys, on which rows (None: it makes its own)."""

    model: str | dict[str, Any]
    keys: dict[str, Any]
    rows: Callable[[], Rows] | None
    method: str = "lora"


def labelled() -> Rows:
    return [{"text": text, "label": label} for text, label in sentences(64)]


def twin(text: str) -> str:
    return " ".join(WORDS.get(word, word) for word in text.split())


def of_words() -> Rows:
    tags = {"good": "B-GOOD", "bad": "B-BAD"}
    return [
        {"tokens": text.split(), "tags": [tags[label] if word in WORDS else "O" for word in text.split()]}
        for text, label in sentences(64)
    ]


def questions() -> Rows:
    """Which word of the text is good or bad? Of every fourth text that is another one: it has no answer."""
    rows = []
    for at, (text, label) in enumerate(sentences(64)):
        word = next((word for word in text.split() if word in WORDS), None) if at % 4 else None
        answers = {"text": [word], "answer_start": [text.index(word)]} if word else {"text": [], "answer_start": []}
        rows.append({"question": label if word else "film", "context": text, "answers": answers})
    return rows


def digits() -> Rows:
    """Zeros and ones of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    images, classes = load_digits(n_class=2, return_X_y=True)
    names = ["zero", "one"]
    rows = zip(images[:64].reshape(-1, 8, 8), classes[:64], strict=True)
    return [{"image": Image.fromarray((image * 15).astype("uint8")), "label": names[label]} for image, label in rows]


def named_digits() -> Rows:
    """Digits with what they are, in words that the tokenizer knows letter by letter."""
    return [{"image": row["image"], "text": f"{row['label']} {at}"} for at, row in enumerate(digits())]


CASES = {
    "text_classification": Case("tiny_bert", {}, labelled),
    "few_shot_classification": Case("tiny_bert", {}, labelled),
    "prompt_classification": Case("tiny_gpt2", {"words": {"good": "great", "bad": "dark and cruel"}}, labelled),
    "text_pair_classification": Case(
        "tiny_bert",
        {"text": ["text", "other"]},
        lambda: [{**row, "other": twin(row["text"])} for row in labelled()],
    ),
    "image_classification": Case("tiny_vit", {"max_length": None}, digits),
    "image_text_embedding": Case("tiny_clip", {}, named_digits),
    "ordinal_classification": Case(
        "tiny_bert",
        {"order": ["bad", "good"], "max_length": 16, "windows": {"stride": 4, "most": 4}},
        lambda: [{**row, "text": f"{row['text']} {row['text']}"} for row in labelled()],
    ),
    "text_regression": Case("tiny_bert", {}, lambda: [{**row, "label": len(row["text"])} for row in labelled()]),
    "token_classification": Case("tiny_bert", {}, of_words),
    "text_embedding": Case(
        "tiny_bert",
        {"query": "text", "document": "other"},
        lambda: [{"text": row["text"], "other": twin(row["text"])} for row in labelled()],
    ),
    "reranking": Case(
        "tiny_bert",
        {"query": "text", "document": "other", "negatives": ["no"]},
        lambda: [{"text": row["text"], "other": twin(row["text"]), "no": row["text"][::-1]} for row in labelled()],
    ),
    "masked_lm": Case("tiny_bert", {"max_length": 16}, labelled),
    "causal_lm": Case("tiny_gpt2", {"max_length": 16}, labelled),
    "text_generation": Case(
        "tiny_gpt2",
        {"max_new_tokens": 4},
        lambda: [{"prompt": row["text"], "response": row["label"]} for row in labelled()],
    ),
    "text_generation-t5": Case(
        {"from_config": TINY_T5},
        {"max_target_length": 16, "max_new_tokens": 4},
        lambda: [{"prompt": row["text"], "response": row["label"]} for row in labelled()],
        method="full",
    ),
    "instruction_tuning": Case(
        "tiny_gpt2",
        {"max_new_tokens": 4},
        lambda: [{"prompt": row["text"], "response": row["label"]} for row in labelled()],
    ),
    "preference_tuning": Case(
        "tiny_gpt2",
        {},
        lambda: [
            {"prompt": row["text"], "chosen": row["label"], "rejected": "bad" if row["label"] == "good" else "good"}
            for row in labelled()
        ],
    ),
    "reward_model": Case(
        "tiny_gpt2",
        {"margin": "by"},
        lambda: [
            {
                "prompt": row["text"],
                "chosen": row["label"],
                "rejected": "bad" if row["label"] == "good" else "good",
                "by": len(row["text"]) % 3,
            }
            for row in labelled()
        ],
    ),
    "question_answering": Case("tiny_bert", {"max_length": 24, "stride": 4, "max_answer_tokens": 2}, questions),
    "reinforcement": Case(
        "tiny_gpt2",
        {
            "max_response_tokens": 4,
            "group_size": 4,
            "rewards": [{"type": "regular_expression", "pattern": "[gd]"}],
        },
        lambda: [{"prompt": row["text"], "response": row["label"]} for row in labelled()],
    ),
    "turing_machine_reinforcement": Case(
        {"from_config": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}},
        {
            "machines": ["binary_increment"],
            "train_runs": 24,
            "validation_runs": 8,
            "test_runs": 8,
            "max_length": 128,
            "max_response_tokens": 4,
            "group_size": 4,
            "rewards": [{"type": "regular_expression", "pattern": "[01]"}],
        },
        None,
        method="full",
    ),
    "turing_machine": Case(
        {"from_config": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}},
        {"machines": ["binary_increment"], "train_runs": 24, "validation_runs": 8, "test_runs": 8, "max_length": 128},
        None,
        method="full",
    ),
}


@dataclass(frozen=True)
class Done:
    """A run of a task, and what it was made of."""

    recipe: Recipe
    folder: Path
    record: Any
    checked: CheckedRecipe
    loaded: LoadedRun


@pytest.fixture(scope="module", params=sorted(CASES))
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    case, folder = CASES[request.param], tmp_path_factory.mktemp(request.param)
    values: dict[str, Any] = {
        "name": request.param,
        "model": case.model if isinstance(case.model, dict) else {"path": str(request.getfixturevalue(case.model))},
        "task": {
            "type": request.param.partition("-")[0],
            **{key: value for key, value in {"max_length": 48, **case.keys}.items() if value is not None},
        },
        "method": {"type": case.method},
        "training": {"max_steps": STEPS, "batch_size": 8, "learning_rate": 1e-2, "log_every_steps": 1},
    }
    if case.rows is not None:
        values["data"] = {"source": write_rows(case.rows(), folder), "validation_fraction": 0.2, "test_fraction": 0.2}
    recipe = Recipe.from_dict(values)
    result = peftlab.run_recipe(recipe, output_dir=folder / "run")
    checked = check_recipe(recipe, Document(source=recipe.name, values={}), offline=True)
    return Done(recipe, folder / "run", result.record, checked, peftlab.load(folder / "run"))


def write_rows(rows: Rows, folder: Path) -> str:
    """A file of JSON Lines; images lie beside it."""
    for at, row in enumerate(rows):
        for key, value in row.items():
            if isinstance(value, Image.Image):
                row[key] = f"{at}.png"
                value.save(folder / row[key])
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def split_of_test(done: Done) -> EncodedSplit:
    """The encoded test split, as the run saw it."""
    tuned = done.loaded.tuned
    split = tuned.task.encode(done.checked.data.splits["test"], tuned.tokenizer, done.checked.labels)
    return with_prepared(tuned, split, offline=True)


def test_there_is_a_case_for_every_task() -> None:
    assert {case.partition("-")[0] for case in CASES} == {
        name for name, task in TASKS.items() if task.__module__.startswith("peftlab.")
    }


def test_the_loss_falls_and_every_guard_holds(done: Done) -> None:
    assert done.record.status == "success", done.record.error
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [-line.get("reward", -line["loss"]) for line in lines if "loss" in line]  # or the reward rises
    assert sum(losses[-4:]) < sum(losses[:4])
    assert {guard.status for guard in done.record.guards.values()} <= {"passed", "not_applicable"}
    task = TASKS[done.recipe.task.registered_name]
    for scores in done.record.scores.values():
        assert set(scores) <= {*task.metrics, "loss"}


def test_the_reloaded_run_predicts_the_same(done: Done, tmp_path: Path) -> None:
    tuned, split = done.loaded.tuned, split_of_test(done)
    model, inference = tuned.module()
    with PredictionWriter(tmp_path / "again.parquet") as writer:
        scores = evaluate(
            model,
            tuned.task,
            split,
            tuned.batches(tuned.task.lengths(split.examples)),
            pad_token_id=tuned.tokenizer.pad_token_id,
            inference=inference,
            writer=writer,
        )
    assert scores == pytest.approx(done.record.scores["test"], rel=1e-5)
    again = pq.read_table(tmp_path / "again.parquet").to_pylist()
    stored = [row for row in pq.read_table(done.folder / "predictions.parquet").to_pylist() if row["split"] == "test"]
    for key in ("index", "label", "prediction"):
        assert [alike(row[key]) for row in stored] == [alike(row[key]) for row in again]


def alike(value: Any) -> Any:
    """Numbers to five digits; a model may compute the last ones in another order."""
    return f"{value:.5g}" if isinstance(value, float) else value


def test_the_loss_of_a_batch_is_that_of_its_parts(done: Done) -> None:
    tuned, examples = done.loaded.tuned, list(split_of_test(done).examples[:6])
    task, (model, _) = tuned.task, tuned.module()

    def loss_of(part: list[Any]) -> tuple[float, int]:
        torch.manual_seed(0)
        batch = task.collate(part, tuned.tokenizer.pad_token_id)
        with torch.no_grad():
            return float(task.training_loss(model, batch)), task.loss_terms(batch)

    (whole, terms), parts = loss_of(examples), [loss_of([example]) for example in examples]
    assert terms == sum(own for _, own in parts)
    is_sum = whole == pytest.approx(sum(loss for loss, _ in parts), rel=1e-4)
    assert is_sum == task.divisible
    random.Random(0).shuffle(examples)
    assert loss_of(examples)[0] == pytest.approx(whole, rel=1e-4)


def test_the_bias_of_a_head_trains_where_the_loss_depends_on_it(done: Done) -> None:
    tuned, examples = done.loaded.tuned, list(split_of_test(done).examples[:6])
    task, head = tuned.task, tuned.task.head(done.checked.labels)
    if not head.is_new or (layer := output_layer(tuned.module()[0], int(head.config["num_labels"]))) is None:
        return
    batch = task.collate(examples, tuned.tokenizer.pad_token_id)

    def loss_where(first_output_is_more_by: float) -> float:
        shift = torch.eye(layer.out_features)[0] * first_output_is_more_by
        handle = layer.register_forward_hook(lambda module, inputs, output: output + shift.to(output.device))
        with torch.no_grad():
            loss = float(task.loss(task.logits(tuned.module()[0], batch), batch))
        handle.remove()
        return loss

    stays = loss_where(first_output_is_more_by=1.0) == pytest.approx(loss_where(first_output_is_more_by=0.0), abs=1e-3)
    assert head.bias_trains != stays


def test_the_estimate_agrees_with_the_measurement(done: Done) -> None:
    checked, batch = look_at_data(done.checked)
    assert batch is not None
    estimate = estimate_recipe(checked, find_target("cpu"), batch=batch, advise=False)
    assert estimate.memory.phases["train"] == pytest.approx(done.record.memory.peak_bytes, rel=0.1)
    placeholder = done.recipe.task.placeholder(12, done.checked.labels)
    assert done.recipe.task.length(placeholder) == 12
    longest = max(done.recipe.task.lengths(split_of_test(done).examples))
    assert longest <= done.recipe.task.longest()
