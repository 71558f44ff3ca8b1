"""Runs of a model that a program holds: what trains comes from a checkpoint with the same weights, or from a copy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertModel

import peftlab
from peftlab import Recipe, run_recipe
from peftlab.core.errors import UserError
from peftlab.data.given import GIVEN_MODEL
from peftlab.preparation.check import check_recipe

ROWS = [
    {"text": f"{start} {word} {end}", "label": label}
    for label, words in (("good", ["good", "great", "lovely", "kind"]), ("bad", ["bad", "awful", "sad", "dark"]))
    for word in words
    for start in ("the film was", "we saw a")
    for end in ("day", "town", "film")
]


def recipe_of(path: Any = GIVEN_MODEL, **model: Any) -> Recipe:
    return Recipe(
        name="given",
        model={"path": path, **model},
        task={"type": "text_classification", "max_length": 32},
        data={"source": ROWS, "validation_fraction": 0.2},
        method={"type": "lora", "rank": 4},
        training={"max_steps": 3, "batch_size": 8, "learning_rate": 2e-2},
        measure=False,
        waive_guards=["answers_vary"],
    )


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture
def changed(tiny_bert: Path) -> Any:
    """A model that no checkpoint holds."""
    model = AutoModel.from_pretrained(tiny_bert)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[7] += 1
    return model


def test_a_model_of_a_checkpoint_is_as_if_the_checkpoint_was_named(
    tiny_bert: Path, tokenizer: Any, tmp_path: Path
) -> None:
    named = run_recipe(recipe_of(tiny_bert), output_dir=tmp_path / "named").record
    # Its head is new, and its classes have no names: a run starts a new one in any case.
    for number, model in enumerate([AutoModel, AutoModelForSequenceClassification]):
        folder = tmp_path / str(number)
        given = run_recipe(recipe_of(), output_dir=folder, model=model.from_pretrained(tiny_bert)).record
        assert given.recipe["model"]["path"] == str(tiny_bert)
        assert given.scores == named.scores
        assert not (folder / "base").exists()
    given = run_recipe(
        recipe_of(tiny_bert),
        output_dir=tmp_path / "both",
        model=AutoModel.from_pretrained(tiny_bert),
        tokenizer=tokenizer,
    ).record
    assert given.scores == named.scores


def test_a_model_that_no_checkpoint_holds_is_copied_and_left_alone(
    changed: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed.train()
    before = {name: tensor.clone() for name, tensor in changed.state_dict().items()}
    config, needs = copy.deepcopy(vars(changed.config)), [p.requires_grad for p in changed.parameters()]
    folder = tmp_path / "run"
    result = run_recipe(recipe_of(), output_dir=folder, model=changed, tokenizer=tokenizer)
    assert result.record.status == "success", result.record.error
    assert result.record.recipe["model"]["path"] == str(folder / "base")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["run"]

    assert changed.training
    assert vars(changed.config) == config
    assert [p.requires_grad for p in changed.parameters()] == needs
    assert all(torch.equal(tensor, before[name]) for name, tensor in changed.state_dict().items())
    assert all(
        torch.equal(tensor, before[name])
        for name, tensor in BertModel.from_pretrained(folder / "base").state_dict().items()
    )

    # Files alone are enough from here on.
    assert len(peftlab.load(folder).predict(["a good film"])) == 1
    assert (
        run_recipe(recipe_of(), output_dir=folder, model=changed, tokenizer=tokenizer, resume=True).record
        == result.record
    )
    with torch.no_grad():
        changed.embeddings.word_embeddings.weight[8] += 1
    with pytest.raises(UserError, match=r"not the one that this run began with: its `embeddings.word_emb"):
        run_recipe(recipe_of(), output_dir=folder, model=changed, tokenizer=tokenizer, resume=True)
    recipe = recipe_of(folder / "base")
    monkeypatch.chdir(tmp_path)
    assert run_recipe(recipe).record.scores == result.record.scores


def test_a_run_that_is_refused_leaves_no_copy(changed: Any, tokenizer: Any, tmp_path: Path) -> None:
    recipe = recipe_of().model_copy(update={"method": peftlab.METHODS["lora"](target_modules=["nothing"])})
    with pytest.raises(UserError, match="nothing"):
        run_recipe(recipe, output_dir=tmp_path / "run", model=changed, tokenizer=tokenizer)
    assert list(tmp_path.iterdir()) == []


def test_the_model_must_be_the_one_that_the_recipe_names(
    changed: Any, tokenizer: Any, tiny_bert: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"model.path: .* is not the one that the recipe names: its `embeddings.*another"
    ):
        run_recipe(recipe_of(tiny_bert), output_dir=tmp_path / "run", model=changed, tokenizer=tokenizer)
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_tokens(["quux"])
    with pytest.raises(UserError, match="its tokenizer is another than that of"):
        run_recipe(recipe_of(tiny_bert), model=AutoModel.from_pretrained(tiny_bert), tokenizer=tokenizer)
    with pytest.raises(UserError, match="a tokenizer is needed, since no checkpoint holds the model"):
        run_recipe(recipe_of(), output_dir=tmp_path / "run", model=changed)
    assert list(tmp_path.iterdir()) == []


class Quantized(BertModel):
    is_quantized = True


SMALL = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)


def on_meta() -> Any:
    with torch.device("meta"):
        return BertModel(SMALL)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(2, 2), r"model: a transformers model is needed, not 'Linear'\n.*peftlab.wrap"),
        (lambda: "bert-base", "model: a transformers model is needed, not 'str'"),
        (lambda: peft.get_peft_model(BertModel(SMALL), peft.LoraConfig(target_modules=["query"])),
         r"model: it has an adapter already\n.*merge_and_unload"),
        (lambda: peft.get_peft_model(BertModel(SMALL), peft.LoraConfig(target_modules=["query"])).base_model.model,
         "model: it has an adapter already"),
        (lambda: Quantized(SMALL), r"model: it is quantised already: .*\n.*model.quantization"),
        (on_meta, r"model: some of its weights are not in memory"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_base_is_refused(make: Callable[[], Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        run_recipe(recipe_of(), output_dir=tmp_path / "run", model=make())


def test_other_mistakes_are_said(changed: Any, tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tokenizer: a tokenizer of transformers is needed, not 'str'"):
        run_recipe(recipe_of(), model=changed, tokenizer="bert")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="tokenizer: a tokenizer is given without a model"):
        run_recipe(recipe_of(), tokenizer=tokenizer)
    with pytest.raises(UserError, match=r"given: model.path: `python:model` stands for a model .*\n.*run_recipe"):
        run_recipe(recipe_of())
    starts_anew = recipe_of("", from_config={"model_type": "bert"})
    with pytest.raises(UserError, match=r"model.from_config: the recipe starts from nothing, and a model is given"):
        run_recipe(starts_anew, model=changed)
    (tmp_path / "recipe.yaml").write_text(recipe_of().to_yaml())
    recipe, document = peftlab.load_recipe(tmp_path / "recipe.yaml")
    with pytest.raises(UserError, match="`python:model` stands for a model that is given in Python"):
        check_recipe(recipe, document, offline=True)
