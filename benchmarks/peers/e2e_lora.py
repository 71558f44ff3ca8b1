"""LoRA of SmolLM2 on E2E text, side by side: transformers' Trainer with peft, and peftlab.

    python benchmarks/peers/e2e_lora.py --data FOLDER [--rows 640] [--repeats 1] [--output FILE.json]

FOLDER holds E2E NLG's ``valid.txt`` and ``test.txt`` with lines of ``MR||text``. Both get the same base, the same rows
and tokens, LoRA of rank 8 on every linear layer, batches of 16, one epoch, the same learning rate, and learn the
responses only; all else is each one's default. Each runs alone in a fresh process; with repeats, by turns: shared
machines are not equally fast at all times. The runs of median speed are compared, the others told too. Before that,
both compute the loss of the same batches with the same adapter: it must be equal.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from contest import (
    HERE,
    build_trainer,
    median_run,
    peak_of_training,
    print_outcome,
    run_alone,
    run_peftlab,
    write_result,
)

RECIPE = HERE.parents[1] / "recipes" / "e2e_nlg" / "smollm2_lora.yaml"
BATCH_SIZE, LEARNING_RATE = 16, 5e-4
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
    from peftlab.preparation.check import check_recipe
    from peftlab.preparation.loading import Loader
    from peftlab.recipe.schema import load_recipe

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
    loader, _ = load(options)
    rows, collate = [unshifted(example) for example in loader.splits["train"].examples], collator(loader)
    trainer, times = build_trainer(
        lambda batch: int(batch["attention_mask"].sum()),
        folder=options["folder"],
        batch_size=BATCH_SIZE,
        epochs=1,
        learning_rate=LEARNING_RATE,
        model=with_lora(loader.source),
        train_dataset=rows,
        data_collator=collate,
    )
    trainer.train()
    longest = sorted(rows, key=lambda row: -len(row["input_ids"]))[:BATCH_SIZE]
    return {
        "tokens_per_second": times.tokens_per_second,
        "peak_bytes": peak_of_training(trainer, collate(longest)),
    }


def run_ours(options: dict[str, Any]) -> dict[str, Any]:
    """Peftlab with its defaults."""
    changes = overrides(Path(options["data"]), options["rows"])
    _, figures = run_peftlab(RECIPE, changes, Path(tempfile.mkdtemp(dir=options["folder"])) / "run")
    return figures


CONTESTANTS = {"losses": check_losses, "trainer": run_trainer, "peftlab": run_ours}


def main() -> None:
    """Run all contestants and write the outcome."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="Folder with valid.txt and test.txt.")
    parser.add_argument("--rows", type=int, default=640, help="Different tables in the training split.")
    parser.add_argument("--repeats", type=int, default=1, help="Runs of each, by turns.")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "e2e_lora.json")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--options", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.contestant:
        print_outcome(CONTESTANTS[chosen.contestant](json.loads(chosen.options)))
        return
    if chosen.data is None:
        parser.error("--data is required")
    with tempfile.TemporaryDirectory() as folder:
        options = {"data": str(chosen.data.resolve()), "rows": chosen.rows, "folder": folder}
        words = json.dumps(options)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
        for name in ("losses", *("trainer", "peftlab") * chosen.repeats):
            runs[name].append(run_alone(name, Path(__file__).name, "--contestant", name, "--options", words))
    trainer, ours = median_run(runs["trainer"]), median_run(runs["peftlab"])
    outcomes = {"losses": runs["losses"][0], "trainer": trainer, "peftlab": ours}
    result = {
        "setting": {"rows": chosen.rows, "batch_size": BATCH_SIZE, "learning_rate": LEARNING_RATE},
        "contestants": outcomes,
        "peftlab_over_trainer": {key: ours[key] / trainer[key] for key in ("tokens_per_second", "peak_bytes")},
    }
    write_result(result, chosen.output)


if __name__ == "__main__":
    main()
