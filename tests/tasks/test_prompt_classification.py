"""Prompts as classifiers: what the model is asked, what it says without training, and what bad input gets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import peftlab
from peftlab.cli.run import summary
from peftlab.core.config import Document, replace_config
from peftlab.core.errors import ConfigError, DataError, UnsupportedError, UserError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import Split
from peftlab.core.task import TASKS, Prediction
from peftlab.estimate.data import look_at_data
from peftlab.estimate.recipe import estimate_recipe
from peftlab.estimate.target import find_target
from peftlab.measurement.calibration import LogitCollector, fit_temperature
from peftlab.preparation.check import check_recipe
from peftlab.tasks.prompt_classification import PromptClassification
from tests.conftest import sentences

pytestmark = pytest.mark.slow

LABELS = ("bad", "good")
TEXTS = ["the film was lovely", "a dark and cruel day in town", "it was [MASK] then"]


@pytest.fixture(scope="module")
def filler(made_once, tiny_bert: Path) -> Path:
    """A BERT that fills masks."""

    def write(folder: Path) -> None:
        torch.manual_seed(0)
        config = transformers.AutoConfig.from_pretrained(tiny_bert)
        transformers.BertForMaskedLM(config).save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)

    return made_once("tiny-bert-filler", write)


def recipe_of(model: Path, **changes: Any) -> peftlab.Recipe:
    task = {"type": "prompt_classification", "max_length": 32, "words": {"good": "great", "bad": "awful"}}
    values = {
        "measure": False,
        "model": {"path": str(model)},
        "task": task | changes.pop("task", {}),
        "data": {"source": [{"text": text, "label": label} for text, label in sentences(80)]},
        "method": {"type": "lora", "rank": 4},
        "training": {"max_steps": 0} | changes.pop("training", {}),
        "waive_guards": ["answers_vary"],
        **changes,
    }
    return peftlab.Recipe.from_dict({"name": "prompt", **values})


def answers(folder: Path) -> np.ndarray:
    said = peftlab.load(folder).predict(TEXTS)
    return np.array([[row["scores"][name] for name in LABELS] for row in said])


def test_a_mask_is_filled_without_training(filler: Path, tmp_path: Path) -> None:
    done = peftlab.run_recipe(recipe_of(filler), output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    assert done.record.steps == 0
    assert "trained     nothing: no step was taken" in (told := summary(done))
    assert " parameters (" not in told
    card = (done.folder / "adapter/README.md").read_text()
    assert "No training step was taken." in card
    assert "parameters were trained" not in card
    tokenizer = transformers.AutoTokenizer.from_pretrained(filler)
    model = transformers.AutoModelForMaskedLM.from_pretrained(filler).eval()
    words = tokenizer.convert_tokens_to_ids(["awful", "great"])
    # What somebody typed is text: its [MASK] is no mask.
    safe = [text.replace("[MASK]", "[ MASK ]") for text in TEXTS[:2]]
    temperature = done.record.calibration.temperature
    for text, row in zip(safe, answers(done.folder)[:2], strict=True):
        batch = tokenizer(f"{text} It was [MASK].", return_tensors="pt")
        at = batch["input_ids"][0].tolist().index(tokenizer.mask_token_id)
        with torch.no_grad():
            logits = model(**batch).logits[0, at, words]
        np.testing.assert_allclose(row, (logits / temperature).softmax(-1).numpy(), atol=1e-4)


def test_nothing_of_training_is_measured_where_no_step_is_taken(tiny_gpt2: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tiny_gpt2, measure=True, evaluation={"batch_size": 8})
    done = peftlab.run_recipe(recipe, output_dir=tmp_path / "run")
    assert (memory := done.record.memory) is not None
    assert (memory.gradients_bytes, memory.optimizer_bytes) == (0, 0)
    assert done.record.phases["train"].peak_memory_bytes is None
    assert done.record.phases["evaluate"].peak_memory_bytes == memory.peak_bytes
    assert "in evaluation" in summary(done)
    assert "Peak memory of evaluation" in (done.folder / "adapter/README.md").read_text()
    checked = check_recipe(recipe, Document(source="prompt", values={}), offline=True)
    checked, batch = look_at_data(checked)
    found = estimate_recipe(checked, find_target("cpu"), batch=batch, advise=False)
    assert "train" not in found.memory.phases
    assert sum(found.categories.values()) == found.memory.phases["evaluate"]
    assert found.categories["gradients"] == 0
    assert abs(found.memory.phases["evaluate"] / memory.peak_bytes - 1) < 0.02


def test_a_word_may_have_several_tokens_where_the_model_writes(tiny_gpt2: Path, tmp_path: Path) -> None:
    words = {"good": "great", "bad": "xylophone"}
    done = peftlab.run_recipe(recipe_of(tiny_gpt2, task={"words": words}), output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_gpt2).eval()
    assert len(tokenizer(" xylophone")["input_ids"]) > 1
    temperature = done.record.calibration.temperature
    for text, row in zip(TEXTS, answers(done.folder), strict=True):
        means = []
        for word in (words["bad"], words["good"]):
            start = tokenizer(f"{text} It was")["input_ids"]
            ids = torch.tensor([start + tokenizer(f" {word}")["input_ids"]])
            with torch.no_grad():
                likely = model(ids).logits[0].log_softmax(-1)
            own = [likely[at - 1, ids[0, at]].item() for at in range(len(start), ids.shape[1])]
            means.append(np.mean(own) / temperature)
        np.testing.assert_allclose(row, torch.tensor(means).softmax(-1).numpy(), atol=1e-4)


def test_no_temperature_changes_an_answer_where_a_prior_is_taken_out() -> None:
    task = PromptClassification(word_prior="validation").fitted({"word_prior": [math.log(0.9), math.log(0.1)]})
    torch.manual_seed(0)
    logits, batch = torch.randn(50, 2, dtype=torch.float64) * 2, {"labels": torch.randint(2, (50,))}
    plain = [each.prediction for each in task.predict(logits, batch, LABELS)]
    assert len(set(plain)) == 2
    for temperature in (0.3, 3.0):
        said = task.tempered(temperature).predict(logits / temperature, batch, LABELS)
        assert [each.prediction for each in said] == plain
    # The temperature is fitted to just these probabilities.
    without = logits - torch.tensor(task.learned["word_prior"])
    kept, plainly = LogitCollector(), LogitCollector()
    kept(logits, batch)
    plainly(without, batch)
    assert fit_temperature(task, kept) == pytest.approx(fit_temperature(PromptClassification(), plainly), rel=1e-4)


@pytest.mark.parametrize(
    "task",
    [
        {"type": "prompt_classification", "word_prior": "validation"},
        {"type": "text_classification", "multi_label": True, "thresholds": "validation"},
    ],
)
def test_what_is_chosen_on_validation_rows_needs_some(filler: Path, task: dict[str, Any]) -> None:
    values = recipe_of(filler).model_dump(mode="json", exclude={"data", "task"})
    rows = [{"text": text, "label": label} for text, label in sentences(20)]
    recipe = peftlab.Recipe.from_dict({**values, "task": task, "data": {"source": rows, "validation_fraction": 0}})
    with pytest.raises(ConfigError, match=f"task.{[*task][-1]}.*chosen on a validation split, and there is none"):
        peftlab.run_recipe(recipe)


def test_a_model_that_reads_from_left_to_right_must_be_given_every_text() -> None:
    task = PromptClassification(text=["first", "second"], prompt="{first} {label} {second}")
    task.check(ModelFacts(path="x", model_type="bert", config={}, family="encoder"))
    with pytest.raises(UnsupportedError, match=r"would not see \{second\}.*task.prompt|task.prompt.*\{second\}"):
        task.check(ModelFacts(path="x", model_type="gpt2", config={}, family="decoder"))


@pytest.mark.parametrize("method", ["lora", "prompt_tuning"])
def test_a_few_steps_teach_it(filler: Path, tmp_path: Path, method: str) -> None:
    recipe = recipe_of(
        filler,
        method={"type": method},
        training={"max_steps": 24, "batch_size": 16, "learning_rate": 2e-2, "log_every_steps": 1},
        task={"word_prior": "validation"},
    )
    done = peftlab.run_recipe(recipe, output_dir=tmp_path / "run")
    assert done.record.status == "success", done.record.error
    assert len(done.record.learned["word_prior"]) == 2
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-6:]) < np.mean(losses[:6])


def test_what_a_word_gets_anyway_is_divided_out() -> None:
    task = PromptClassification(word_prior="validation")
    said = [Prediction("bad", "bad", [0.8, 0.2]), Prediction("good", "bad", [0.6, 0.4])]
    prior = task.learn_answers(said, LABELS)
    assert prior == {"word_prior": pytest.approx([math.log(0.7), math.log(0.3)])}
    logits = torch.tensor([[0.8, 0.2], [0.6, 0.4]]).log()
    found = task.fitted(prior).predict(logits, {"labels": torch.tensor([0, 1])}, LABELS)
    shares = np.array([[0.8 / 0.7, 0.2 / 0.3], [0.6 / 0.7, 0.4 / 0.3]])
    np.testing.assert_allclose([row.scores for row in found], shares / shares.sum(1, keepdims=True), atol=1e-6)
    assert [row.prediction for row in found] == ["bad", "good"]


def test_long_texts_are_cut_and_the_prompt_is_not(filler: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(filler)
    task = PromptClassification(
        text=["text", "other"], prompt="{text} ? {label} , {other} .", max_length=16, words=None
    )
    long, short = " ".join(["film"] * 30), "a day"
    split = Split("test", [0, 1], {"text": [long, short], "other": [short, long], "label": list(LABELS)})
    for example in task.encode(split, tokenizer, LABELS).examples:
        ids = example["input_ids"]
        assert len(ids) <= 16
        assert example["truncated"]
        assert ids[example["place"]] == tokenizer.mask_token_id
        assert ids.count(tokenizer.convert_tokens_to_ids("day")) == 1
        assert ids[-1] == tokenizer.sep_token_id
    with pytest.raises(DataError, match="the prompt alone has"):
        replace_config(task, max_length=6).encode(split, tokenizer, LABELS)


def test_bad_input_gets_a_message(filler: Path, tiny_bert: Path, tmp_path: Path) -> None:
    for keys, expected in (
        ({"prompt": "{text} It was great."}, "needs {label} once"),
        ({"prompt": "It was {label}."}, "needs {text} once"),
        ({"prompt": "{text} {film} {label}"}, "a place {film}"),
        ({"prompt": "{text} {label"}, "expected '}'"),
        ({"multi_label": True}, "one class"),
    ):
        with pytest.raises(ConfigError) as caught:
            recipe_of(filler, task=keys)
        assert expected in str(caught.value), keys
    for keys, kind, expected in (
        ({"words": {"good": "great", "bad": "terrible"}}, UnsupportedError, "is [0-9]+ tokens for this model"),
        ({"words": {"good": "great", "bad": "great"}}, DataError, "have the same word"),
        ({"words": {"good": "great", "bad": "Great"}}, UnsupportedError, "have the same word"),
        ({"words": {"good": "great"}}, DataError, "the class 'bad' has no word"),
        ({"words": {"good": "great", "bad": "awful", "fair": "kind"}}, DataError, "`fair` is no class"),
    ):
        with pytest.raises(kind, match=expected):
            peftlab.run_recipe(recipe_of(filler, task=keys), output_dir=tmp_path / "bad")
        assert not (tmp_path / "bad").exists()
    with pytest.raises(UserError, match="lacks weights that the task needs") as caught:
        peftlab.run_recipe(recipe_of(tiny_bert), output_dir=tmp_path / "bad")
    assert "model.path" in str(caught.value)
    assert "Choose one with its head" in str(caught.value)
    new_head = replace_config(recipe_of(filler), task=TASKS["text_classification"](max_length=32))
    with pytest.raises(ConfigError, match="says nothing before it has learned"):
        peftlab.run_recipe(new_head, output_dir=tmp_path / "bad")
