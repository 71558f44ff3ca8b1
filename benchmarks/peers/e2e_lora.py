"""LoRA of SmolLM2 on E2E text, side by side: transformers' Trainer with peft, and peftlab.

    python benchmarks/peers/e2e_lora.py --data FOLDER [--rows 640] [--output FILE.json]

FOLDER holds E2E NLG's ``valid.txt`` and ``test.txt`` with lines of ``MR||text``. Both get the same base, the same rows
and tokens, LoRA of rank 8 on every linear layer, batches of 16, one epoch, the same learning rate, and learn the
responses only; all else is each one's default. Each runs alone in a fresh process. Before that, both compute the loss
of the same batches with the same adapter: it must be equal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
RECIPE = HERE.parents[1] / "recipes" / "e2e_nlg" / "smollm2_lora.yaml"
BATCH_SIZE, WARMUP_STEPS, LEARNING_RATE = 16, 5, 5e-4
IGNORED = -100


def overrides(data: Path, rows: int) -> list[str]:
    """The recipe on local files, for so many rows."""
    return [
        f"data.source={{train: {data / 'valid.txt'}, test: {data / 'test.txt'}}}",
        "data.format=csv",
        'data.delimiter="||"',
        "data.quoting=false",
        "data.column_names=[meaning_representation, human_reference]",
        "data.validation_fraction=0",
        f"data.max_train_examples={rows}",
        "data.max_test_examples=16",
        "evaluation.test=false",
        "training.epochs=1",
        f"training.batch_size={BATCH_SIZE}",
        f"training.learning_rate={LEARNING_RATE}",
    ]


def load(options: dict[str, Any]) -> Any:
    """Peftlab's loader: the rows as tokens, and the base model."""
    from peftlab.check import check_recipe
    from peftlab.loading import Loader
    from peftlab.recipe import load_recipe

    recipe, document = load_recipe(RECIPE, overrides(Path(options["data"]), options["rows"]))
    return Loader(check_recipe(recipe, document, offline=False), dtype=torch.float32, offline=False), recipe


def unshifted(example: dict[str, Any]) -> dict[str, list[int]]:
    """The same example with labels as transformers wants them: each at its own token."""
    return {"input_ids": example["input_ids"], "labels": [IGNORED, *example["labels"][:-1]]}


def with_lora(source: str) -> Any:
    """SmolLM2 with peft's LoRA, as for the Trainer."""
    import peft
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear")
    return peft.get_peft_model(model, config)


def collator(loader: Any) -> Any:
    """Pads to the longest of a batch."""
    from transformers import DataCollatorForSeq2Seq

    return DataCollatorForSeq2Seq(loader.tokenizer, label_pad_token_id=IGNORED)


def check_losses(options: dict[str, Any]) -> dict[str, Any]:
    """The loss of the same two batches, by transformers and by peftlab, on one model."""
    loader, recipe = load(options)
    model, differences = with_lora(loader.source).eval(), []
    for start in range(0, 2 * BATCH_SIZE, BATCH_SIZE):
        examples = list(loader.splits["train"].examples[start : start + BATCH_SIZE])
        batch = collator(loader)([unshifted(example) for example in examples])
        ours = recipe.task.collate(examples, loader.tokenizer.pad_token_id)
        with torch.no_grad():
            theirs = float(model(**batch).loss)
            own = float(recipe.task.training_loss(model, ours)) / recipe.task.loss_terms(ours)
        differences.append(abs(theirs - own))
    return {"greatest_difference_of_loss": max(differences)}


def run_trainer(options: dict[str, Any]) -> dict[str, Any]:
    """Transformers' Trainer with its defaults."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from peftlab.measurement.memory import measure_training_memory

    loader, _ = load(options)
    rows = [unshifted(example) for example in loader.splits["train"].examples]
    model = with_lora(loader.source)
    counts = {"tokens": 0, "seconds": 0.0, "step": 0}

    class Counting(Trainer):
        """Counts the tokens of each step that are not padding."""

        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self.tokens_now = int(inputs["attention_mask"].sum())
            return super().training_step(model, inputs, *args, **kwargs)

    class Clock(TrainerCallback):
        """Times a step from its begin to its end, the optimizer included."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begin = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            counts["step"] += 1
            if counts["step"] > WARMUP_STEPS:
                counts["seconds"] += time.perf_counter() - self.begin
                counts["tokens"] += trainer.tokens_now

    arguments = TrainingArguments(
        output_dir=options["folder"],
        per_device_train_batch_size=BATCH_SIZE,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        seed=0,
    )
    collate = collator(loader)
    trainer = Counting(model=model, args=arguments, train_dataset=rows, data_collator=collate, callbacks=[Clock()])
    trainer.train()
    batch = collate(sorted(rows, key=lambda row: -len(row["input_ids"]))[:BATCH_SIZE])

    def step() -> None:
        model.train()
        model(**batch).loss.backward()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()

    memory = measure_training_memory(
        step, model=model, optimizer=trainer.optimizer.optimizer, device=torch.device("cpu")
    )
    return {"tokens_per_second": counts["tokens"] / counts["seconds"], "peak_bytes": memory.peak_bytes}


def run_peftlab(options: dict[str, Any]) -> dict[str, Any]:
    """Peftlab with its defaults."""
    from peftlab.recipe import load_recipe
    from peftlab.run import run_recipe

    recipe, document = load_recipe(RECIPE, overrides(Path(options["data"]), options["rows"]))
    record = run_recipe(recipe, document, output_dir=Path(options["folder"]) / "peftlab").record
    assert record.throughput is not None
    assert record.memory is not None
    return {
        "tokens_per_second": record.throughput.tokens_per_second,
        "peak_bytes": record.memory.peak_bytes,
        "flops_utilization": record.throughput.flops_utilization,
        "padding_fraction": record.throughput.padding_fraction,
    }


CONTESTANTS = {"losses": check_losses, "trainer": run_trainer, "peftlab": run_peftlab}


def run(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """One contestant in a fresh process."""
    command = [sys.executable, __file__, "--contestant", name, "--options", json.dumps(options)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise SystemExit(f"{name} failed:\n{finished.stderr[-3000:]}")
    line = next(line for line in finished.stdout.splitlines() if line.startswith("RESULT "))
    outcome: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    print(name, outcome, flush=True)
    return outcome


def main() -> None:
    """Run all contestants and write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder with valid.txt and test.txt.")
    parser.add_argument("--rows", type=int, default=640, help="Different tables in the training split.")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "e2e_lora.json")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--options", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contestant:
        print("RESULT " + json.dumps(CONTESTANTS[chosen.contestant](json.loads(chosen.options))))
        return
    if chosen.data is None:
        parser.error("--data is required")
    with tempfile.TemporaryDirectory() as folder:
        options = {"data": str(chosen.data.resolve()), "rows": chosen.rows, "folder": folder}
        outcomes = {name: run(name, options) for name in CONTESTANTS}
    from peftlab.measurement.environment import describe_environment

    trainer, ours = outcomes["trainer"], outcomes["peftlab"]
    result = {
        "setting": {"rows": chosen.rows, "batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE},
        "contestants": outcomes,
        "peftlab_over_trainer": {key: ours[key] / trainer[key] for key in ("tokens_per_second", "peak_bytes")},
        "environment": describe_environment(torch.device("cpu")),
    }
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result["peftlab_over_trainer"], indent=2))


if __name__ == "__main__":
    main()
