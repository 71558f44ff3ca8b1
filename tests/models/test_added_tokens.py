"""Every token of a tokenizer has an embedding: checked before anything is loaded; rows can be added, and train."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import transformers

from peftlab.artifact.saved_run import SavedRun
from peftlab.core.added_rows import drop_rows
from peftlab.core.errors import UserError
from peftlab.core.method import METHODS
from peftlab.core.reporter import Silent
from peftlab.core.splits import Split
from peftlab.inference.export.export import export_run
from peftlab.inference.load_tuned import load_run
from peftlab.preparation.check import check_recipe
from peftlab.recipe.schema import load_recipe
from peftlab.run.run import run_recipe
from tests.conftest import sentences
from tests.small_methods import DISTINCT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def without_rows(tmp_path_factory: pytest.TempPathFactory, tiny_gpt2: Path) -> Path:
    """GPT-2 with a tokenizer that has a padding token and one of its own, and no embeddings for them."""
    folder = tmp_path_factory.mktemp("models") / "without-rows"
    transformers.AutoModelForCausalLM.from_pretrained(tiny_gpt2).save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_gpt2)
    tokenizer.add_special_tokens({"pad_token": "[PAD]", "additional_special_tokens": ["<mention>"]})
    tokenizer.save_pretrained(folder)
    return folder


TASKS = {
    "classes": "{type: text_classification, max_length: 32}",
    "text": "{type: instruction_tuning, prompt: text, response: label, max_length: 48, max_new_tokens: 3}",
}


def recipe_of(folder: Path, base: Path, *, method: str, add: str, task: str = "classes", steps: int = 6) -> Path:
    rows = [{"text": f"{text} <mention>", "label": label} for text, label in sentences(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(
        f"name: mentions\nmodel: {{path: {base}, add_tokens: {add}}}\ntask: {TASKS[task]}\n"
        f"data: {{source: rows.jsonl, validation_fraction: 0.2}}\nmethod: {{type: {method}}}\n"
        f"training: {{max_steps: {steps}, batch_size: 8, learning_rate: 1e-2}}\nmeasure: false\n"
    )
    return path


@pytest.mark.parametrize(
    ("add", "token"), [("[]", "`[PAD]` with the id"), ("['<mention>']", "`[PAD]`"), ("['[PAD]']", "`<mention>`")]
)
def test_a_token_without_an_embedding_is_refused_before_anything_is_loaded(
    without_rows: Path, tmp_path: Path, add: str, token: str
) -> None:
    recipe, document = load_recipe(recipe_of(tmp_path, without_rows, method="lora", add=add))
    with pytest.raises(UserError) as caught:
        check_recipe(recipe, document, offline=True)
    assert token in str(caught.value)
    assert "embedding rows" in str(caught.value)
    assert "model.add_tokens" in str(caught.value)


BOTH = "['<mention>', '[PAD]']"


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("method", DISTINCT)
def test_added_rows_train_with_every_method_and_come_back(
    without_rows: Path, tmp_path: Path, method: str, task: str
) -> None:
    recipe, document = load_recipe(recipe_of(tmp_path, without_rows, method=method, add=BOTH, task=task))
    try:
        result = run_recipe(recipe, document, output_dir=tmp_path / "run", offline=True)
    except UserError as error:
        assert method in ("prefix_tuning", "prompt_tuning", "p_tuning"), error
        assert "embeddings of added tokens" in str(error)
        return
    record = result.record
    assert record.status == "success", record.error
    assert record.guards["reload_agrees"].status == record.guards["adapter_changed"].status == "passed"
    tuned = load_run(tmp_path / "run", offline=True)
    at = tuned.tokenizer.convert_tokens_to_ids("<mention>")
    assert at in tuned.tokenizer("the <mention> film", split_special_tokens=True)["input_ids"]
    model: Any = tuned.model
    embed = model.get_input_embeddings()
    row = embed(torch.tensor([at]))[0]
    if not METHODS[method].trains_base:
        base = SavedRun.open(tmp_path / "run").load_base(offline=True)
        drawn = base.get_input_embeddings()(torch.tensor([at]))[0]
        assert not torch.equal(row, drawn), "the row has left the place where it was drawn"
        drop_rows(base)
        assert len(base.get_input_embeddings().weight) == len(tuned.tokenizer)
    if METHODS.get(method).mergeable:
        export_run(tmp_path / "run", "merged", tmp_path / "merged", offline=True, reporter=Silent())
        plain = transformers.AutoModelForCausalLM if task == "text" else transformers.AutoModelForSequenceClassification
        merged = plain.from_pretrained(tmp_path / "merged")
        assert torch.allclose(merged.get_input_embeddings().weight[at], row, atol=1e-6)
        assert not [name for name, _ in merged.named_parameters() if "added" in name]


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("is_tied", [True, False])
def test_plain_peft_loads_the_rows_of_a_lora_adapter(
    without_rows: Path, tmp_path: Path, task: str, is_tied: bool
) -> None:
    import peft

    plain = transformers.AutoModelForCausalLM if task == "text" else transformers.AutoModelForSequenceClassification
    base = without_rows
    if not is_tied:
        base = tmp_path / "untied"
        untied = transformers.AutoModelForCausalLM.from_pretrained(without_rows, tie_word_embeddings=False)
        with torch.no_grad():
            untied.lm_head.weight.copy_(torch.randn_like(untied.lm_head.weight))
        untied.save_pretrained(base)
        transformers.AutoTokenizer.from_pretrained(without_rows).save_pretrained(base)
    path = recipe_of(tmp_path, base, method="lora", add=BOTH, task=task)
    result = run_recipe(*load_recipe(path), output_dir=tmp_path / "run", offline=True)
    assert result.record.status == "success", result.record.error
    tuned = load_run(tmp_path / "run", offline=True)
    model = plain.from_pretrained(base, **({} if task == "text" else {"num_labels": 2}))
    model.resize_token_embeddings(len(tuned.tokenizer))
    model = peft.PeftModel.from_pretrained(model, tmp_path / "run" / "adapter").eval()
    ids = torch.tensor([tuned.tokenizer("the <mention> film", split_special_tokens=True)["input_ids"]])
    ours: Any = tuned.model
    with torch.inference_mode():
        assert torch.allclose(model(input_ids=ids).logits, ours(input_ids=ids).logits, atol=1e-5)


def test_a_killed_run_goes_on_to_the_same_rows(without_rows: Path, tmp_path: Path, monkeypatch) -> None:
    from peftlab.training import loop

    path = recipe_of(tmp_path, without_rows, method="lora", add=BOTH)
    overrides = ["training.checkpoint_every_steps=2"]
    whole = run_recipe(*load_recipe(path, overrides), output_dir=tmp_path / "whole", offline=True)
    assert whole.record.status == "success", whole.record.error
    real, calls = loop.optimizer_step, []

    def dies(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "optimizer_step", dies)
        stopped = run_recipe(*load_recipe(path, overrides), output_dir=tmp_path / "run", offline=True)
        assert stopped.record.status == "cancelled"
    resumed = run_recipe(*load_recipe(path, overrides), output_dir=tmp_path / "run", resume=True, offline=True)
    assert resumed.record.resumed == 1
    first, second = (
        (tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("whole", "run")
    )
    assert first == second


def test_a_run_with_added_tokens_is_a_base_like_any_other(without_rows: Path, tmp_path: Path) -> None:
    run_recipe(*load_recipe(recipe_of(tmp_path, without_rows, method="lora", add=BOTH)), output_dir=tmp_path / "first")
    path = recipe_of(tmp_path, tmp_path / "first", method="bitfit", add="[]")
    second = run_recipe(*load_recipe(path), output_dir=tmp_path / "second", offline=True)
    assert second.record.status == "success", second.record.error


def test_a_token_that_no_example_holds_is_refused(without_rows: Path, tmp_path: Path) -> None:
    path = recipe_of(tmp_path, without_rows, method="lora", add="['<mention>', '[PAD]', '<never>']")
    with pytest.raises(UserError, match="`<never>` is in no training example"):
        run_recipe(*load_recipe(path), output_dir=tmp_path / "run", offline=True)


def test_predictions_of_a_run_with_added_tokens_are_those_that_it_stored(without_rows: Path, tmp_path: Path) -> None:
    run_recipe(*load_recipe(recipe_of(tmp_path, without_rows, method="ia3", add=BOTH)), output_dir=tmp_path / "run")
    rows = [
        row for row in pq.read_table(tmp_path / "run" / "predictions.parquet").to_pylist() if row["split"] != "train"
    ]
    texts = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    tuned = load_run(tmp_path / "run", offline=True)
    chosen = [texts[row["index"]]["text"] for row in rows]
    split = Split("test", range(len(rows)), {"text": chosen}, "rows")
    answers = tuned.predict(tuned.encode(split).examples)
    assert [each.prediction for each in answers] == [row["prediction"] for row in rows]


@pytest.mark.parametrize(("method", "task"), [("lora", "text"), ("ia3", "classes")])
def test_rows_beside_a_base_in_half_precision_are_float32_and_come_back(
    without_rows: Path, tmp_path: Path, method: str, task: str
) -> None:
    path = recipe_of(tmp_path, without_rows, method=method, add=BOTH, task=task)
    result = run_recipe(*load_recipe(path, ["model.dtype=bfloat16"]), output_dir=tmp_path / "run", offline=True)
    assert result.record.status == "success", result.record.error
    assert result.record.guards["reload_agrees"].status == result.record.guards["adapter_changed"].status == "passed"
    tuned = load_run(tmp_path / "run", offline=True)
    model: Any = tuned.model
    at = tuned.tokenizer.convert_tokens_to_ids("<mention>")
    row = model.get_input_embeddings()(torch.tensor([at]))[0]
    assert row.dtype == torch.bfloat16
    rows = [
        parameter for name, parameter in model.named_parameters() if "added_rows" in name or "trainable_tokens" in name
    ]
    assert rows
    assert all(parameter.dtype == torch.float32 for parameter in rows)
    drawn = SavedRun.open(tmp_path / "run").load_base(offline=True).get_input_embeddings()(torch.tensor([at]))[0]
    assert not torch.equal(row, drawn)
    export_run(tmp_path / "run", "merged", tmp_path / "merged", offline=True, reporter=Silent())
    plain = transformers.AutoModelForCausalLM if task == "text" else transformers.AutoModelForSequenceClassification
    merged = plain.from_pretrained(tmp_path / "merged").get_input_embeddings().weight[at]
    assert torch.allclose(merged.float(), row.float(), atol=1e-2)
