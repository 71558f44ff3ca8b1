"""Low memory through the real command: quantised bases, estimates, and runs that go on after memory ran out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from peftlab.tasks.text_classification import TextClassification

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_questions")]


@pytest.fixture
def only_three_fit(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Training on more than three texts at once runs out of memory."""
    real, sizes = TextClassification.logits, []

    def logits(self, model, batch):
        if torch.is_grad_enabled():
            sizes.append(len(batch["labels"]))
            if len(batch["labels"]) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(self, model, batch)

    monkeypatch.setattr(TextClassification, "logits", logits)
    return sizes


SET = ["--set", "training.epochs=1", "--set", "method.dropout=0.2"]


def test_a_run_goes_on_from_the_same_step(command, recipe: Path, tmp_path: Path, only_three_fit: list[int]) -> None:
    done = command("run", recipe, "--output-dir", "auto", *SET, "--set", "training.micro_batch_size=auto")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "auto" / "record.json").read_text())
    assert record["micro_batch_size"] == 2
    assert max(only_three_fit) == 8
    fixed = command("run", recipe, "--output-dir", "fixed", *SET, "--set", "training.micro_batch_size=2")
    assert fixed.returncode == 0, fixed.stderr
    # Dropout drew the same numbers, since the failed attempts gave the generators back.
    assert record["scores"] == json.loads((tmp_path / "fixed" / "record.json").read_text())["scores"]
    weights = [(tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("auto", "fixed")]
    assert weights[0] == weights[1]


def test_without_auto_the_record_says_it(command, recipe: Path, tmp_path: Path, only_three_fit: list[int]) -> None:
    done = command("run", recipe, "--output-dir", "out", *SET)
    assert done.returncode == 1
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["status"] == "out_of_memory"
    assert "micro_batch_size" in record["error"]


def test_what_is_set_already_is_not_advised(
    command, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def logits(self, model, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(TextClassification, "logits", logits)
    tried, settings = [], ["--set", "measure=false"]
    for setting in ("training.micro_batch_size=auto", "training.gradient_checkpointing=true", "model.quantization=nf4"):
        settings += ["--set", setting]
        done = command("run", recipe, "--output-dir", setting, *settings)
        assert done.returncode == 1
        tried.append(json.loads((tmp_path / setting / "record.json").read_text())["error"])
    assert [error.partition("GiB. ")[2].partition(";")[0] for error in tried] == [
        "Set training.gradient_checkpointing to true",
        "Set model.quantization to nf4",
        "Nothing cheap is left to set: choose shorter texts (task.max_length) or a smaller base",
    ]


def test_other_verbs_say_that_memory_ran_out(command, tiny_run, monkeypatch: pytest.MonkeyPatch, reviews: Path) -> None:
    run = tiny_run()

    def logits(self, model, batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(TextClassification, "logits", logits)
    for words in (("predict", run, "a text"), ("evaluate", run, "--data", reviews)):
        done = command(*words)
        assert done.returncode == 1
        assert "Error: memory ran out: CUDA out of memory. Tried to allocate 2.00 GiB." in done.stderr
        assert "--device cpu" in done.stderr
        assert "Traceback" not in done.stderr


def test_auto_begins_with_what_fits_by_estimate(
    command, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = command("estimate", recipe, "--json", *SET)
    peak = json.loads(told.stdout)["peak_bytes"]
    monkeypatch.setenv("PEFTLAB_MEMORY", f"{int(peak * 0.7)}B")
    done = command("run", recipe, "--output-dir", "out", *SET, "--set", "training.micro_batch_size=auto")
    assert done.returncode == 0, done.stderr
    assert "examples are computed at once" in done.stderr
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert 1 <= record["micro_batch_size"] < 8
    assert record["memory"]["peak_bytes"] <= peak * 0.7


# --- quantised bases --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2"])
@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantised_run_is_whole(
    quantization: str, model: str, command, recipe: Path, tiny_bert: Path, tmp_path: Path, request
) -> None:
    base = request.getfixturevalue(model)
    recipe.write_text(recipe.read_text().replace(str(tiny_bert), str(base)))
    done = command(
        "run", recipe, "--output-dir", "out", "--set", f"model.quantization={quantization}",
        "--set", "training.gradient_checkpointing=true", "--set", "training.optimizer=adamw_8bit",
        "--set", "training.learning_rate=5e-3",  # at 2e-2, 8-bit moments may end in one class for every text
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert record["recipe"]["model"]["quantization"] == quantization
    assert record["memory"]["quantization_bytes"] > 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    for name in ("trainable_parameters", "gradients", "adapter_changed", "base_unchanged", "reload_agrees"):
        assert record["guards"][name]["status"] == "passed", (name, record["guards"][name])
    # The head learned and was saved: plain peft loads it onto the base in full precision.
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, pad_token_id=0)
    tuned = peft.PeftModel.from_pretrained(plain, tmp_path / "out" / "adapter")
    assert any("modules_to_save" in name for name, _ in tuned.named_parameters())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["method.type=full", "model.quantization=nf4"], ["no gradient", "lora"]),
        (["method.type=bitfit", "model.quantization=int8"], ["biases", "no usable gradient"]),
        (["method.initialization=pissa", "model.quantization=nf4"], ["method.initialization", "cannot be changed"]),
        (["model.quantization=nf5"], ["model.quantization"]),
        (["model.quantization=int8", "model.quantization_compute_dtype=bfloat16"], ["nf4 or fp4"]),
        (["training.optimizer=adafacto"], ["training.optimizer", "adafactor"]),
        (["method.type=prefix_tuning", "training.gradient_checkpointing=true"], ["gradient checkpointing"]),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(settings: list[str], expected: list[str], command, recipe: Path) -> None:
    for verb in ("validate", "run", "estimate"):
        done = command(verb, recipe, *[word for setting in settings for word in ("--set", setting)])
        assert done.returncode == 2, done.stdout
        assert "Traceback" not in done.stderr
        for text in expected:
            assert text in done.stderr, (verb, done.stderr)


def test_without_bitsandbytes(command, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else real(name, *a)
    )
    for setting in ("model.quantization=nf4", "training.optimizer=lion_8bit"):
        done = command("validate", recipe, "--set", setting)
        assert done.returncode == 2
        assert "pip install bitsandbytes" in done.stderr


@pytest.mark.parametrize("kind", ["gptq", "awq"])
def test_a_checkpoint_that_is_quantised_already(kind: str, command, recipe: Path, tiny_bert: Path) -> None:
    copy = recipe.parent / "quantised"
    copy.mkdir()
    for file in tiny_bert.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": kind}}))
    recipe.write_text(recipe.read_text().replace(str(tiny_bert), str(copy)))
    done = command("validate", recipe)
    assert done.returncode == 2
    assert kind in done.stderr
    assert "nf4, fp4 or int8" in done.stderr


# --- estimates --------------------------------------------------------------------------------------------------------


def estimated(command, recipe: Path, *options: str) -> dict[str, Any]:
    done = command("estimate", recipe, "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_estimate_of_a_recipe_is_what_the_run_measures(command, recipe: Path, tmp_path: Path) -> None:
    told = estimated(command, recipe, "--memory", "1GB")
    assert {"peak_bytes", "categories", "phases", "fits"} <= told.keys()
    assert told["fits"] is True
    assert told["length_from"] == "data"
    assert command("run", recipe, "--output-dir", "out", "--set", "training.epochs=1").returncode == 0
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert told["phases"]["train"] == pytest.approx(record["phases"]["train"]["peak_memory_bytes"], rel=0.03)
    assert told["categories"]["parameters"] == record["memory"]["parameters_bytes"]
    assert told["categories"]["optimizer"] == pytest.approx(record["memory"]["optimizer_bytes"], rel=0.01)


def test_without_the_data_the_longest_texts_are_taken(command, recipe: Path, reviews: Path) -> None:
    recipe.write_text(recipe.read_text().replace(str(reviews), "somebody/some-data-set"))
    told = estimated(command, recipe)
    assert told["length_from"] == "task.max_length"
    assert (told["batch_size"], told["length"]) == (8, 32)
    taken = "the data is not here yet: texts as long as task.max_length{} are taken"
    assert taken.format(", and two classes,") in told["notes"]
    without_classes = estimated(command, recipe, "--set", "task={type: masked_lm, max_length: 32}")
    assert taken.format("") in without_classes["notes"]


def test_what_does_not_fit_gets_advice(command, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peak = estimated(command, recipe)["peak_bytes"]
    options = ["--memory", f"{int(peak * 0.8)}B"]
    told = estimated(command, recipe, *options)
    assert told["fits"] is False
    assert any(change["fits"] for change in told["changes"])
    monkeypatch.setattr("peftlab.core.reporter.PLAIN_LINE_SECONDS", 0.0)  # each size of a large model takes seconds
    done = command("estimate", recipe, *options)
    assert "DOES NOT FIT" in done.stdout
    assert "--set training.micro_batch_size=2" in done.stdout
    before, _, _ = done.stderr.partition("looking for what fits: 1/4")
    assert "does not fit into" in before  # the search takes minutes where a model is large: the answer comes first
    assert "looking for what fits: 1/4" in done.stderr
    assert "looking for changes that make it fit: 1/" in done.stderr
    one = ("estimate", recipe, "--device", "cuda", "--memory", "8GB")
    assert "not verified" not in command(*one).stdout
    assert "not verified" in command(*one, "--processes", "2").stdout


def test_an_estimate_knows_that_a_batch_is_cut(command, recipe: Path) -> None:
    few = ["--set", "evaluation.batch_size=1"]
    whole, one = (
        estimated(command, recipe, *few),
        estimated(command, recipe, "--set", "training.micro_batch_size=1", *few),
    )
    auto = [*few, "--set", "training.micro_batch_size=auto"]
    between = (whole["peak_bytes"] + one["peak_bytes"]) // 2
    told = estimated(command, recipe, *auto, "--memory", f"{between}B")
    assert told["fits"] is True
    assert 1 <= told["batch_size"] < whole["batch_size"] == 8
    assert told["peak_bytes"] <= between
    assert f"of 8 examples {told['batch_size']} at once" in told["notes"][0]
    little = estimated(command, recipe, *auto, "--memory", f"{int(one['peak_bytes'] * 0.95)}B")
    assert (little["fits"], little["batch_size"]) == (False, 1)
    assert not any("training.micro_batch_size" in change["set"] for change in little["changes"])


def test_evaluation_is_not_cut(command, recipe: Path, tmp_path: Path) -> None:
    cut = ["--set", "training.micro_batch_size=1", "--set", "training.gradient_checkpointing=true"]
    told = estimated(command, recipe, *cut)
    assert told["phases"]["evaluate"] == told["peak_bytes"] > told["phases"]["train"]
    done = command("estimate", recipe, *cut, "--memory", f"{told['phases']['load'] // 2}B")
    assert "--set evaluation.batch_size=1" in done.stdout
    assert "none of the settings that were tried makes it fit" in done.stdout
    assert "tokens at 1 example\n" in done.stdout
    fewer = estimated(command, recipe, *cut, "--set", "evaluation.batch_size=2")
    assert fewer["phases"]["evaluate"] < told["phases"]["evaluate"]
    assert command("run", recipe, "--output-dir", "out", *cut, "--set", "training.epochs=1").returncode == 0
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    assert told["phases"]["evaluate"] >= 0.97 * record["phases"]["evaluate"]["peak_memory_bytes"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--memory", "8XB"], ["is no size of memory", "8GB"]),
        (["--device", "gpu"], ["--device", "auto, cpu, cuda or cuda:N"]),
    ],
)
def test_bad_options_of_estimate(options: list[str], expected: list[str], command, recipe: Path) -> None:
    done = command("estimate", recipe, *options)
    assert done.returncode == 2
    for text in expected:
        assert text in done.stderr


def test_a_config_that_nobody_knows(command, recipe: Path, tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "unknown"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "hal9000", "hidden_size": 8}))
    recipe.write_text(recipe.read_text().replace(str(tiny_bert), str(folder)))
    done = command("estimate", recipe)
    assert done.returncode == 2
    assert "hal9000" in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_and_run_warn_when_it_cannot_fit(command, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFTLAB_MEMORY", "50KB")
    checked = command("validate", recipe, "--json")
    assert checked.returncode == 0
    (result,) = json.loads(checked.stdout)["recipes"].values()
    assert "it cannot fit" in result["warnings"][0]
    monkeypatch.setenv("PEFTLAB_MEMORY", "50KB")  # `command` puts the environment back
    done = command("run", recipe, "--output-dir", "out", "--set", "training.max_steps=1")
    assert "warning: the training is estimated at" in done.stderr
    monkeypatch.setenv("PEFTLAB_MEMORY", "50GB")
    assert "warning" not in command("validate", recipe).stdout
