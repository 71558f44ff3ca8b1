"""The same work done three ways: one contestant in one fresh process, which prints a JSON object.

Not called by hand: see ``tweet_lora.py``. All contestants get the same base model, the same rows, LoRA of rank 8 on
query and value, batches of 32, the same learning rate and number of epochs. All else is the contestant's default.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from contest import build_trainer, peak_of_training, print_outcome, run_peftlab

BATCH_SIZE = 32
LABELS = ["negative", "neutral", "positive"]


def read_rows(folder: Path, split: str) -> tuple[list[str], list[int]]:
    """Texts and label numbers of a split."""
    table = pq.read_table(folder / f"{split}.parquet").to_pydict()
    return table["text"], [LABELS.index(label) for label in table["label"]]


def build_peft_model(source: str) -> Any:
    """MiniLM with peft's LoRA on query and value; all else at peft's defaults."""
    import peft
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=len(LABELS))
    config = peft.LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
    return peft.get_peft_model(model, config)


def accuracy(model: Any, tokenizer: Any, texts: list[str], labels: list[int]) -> float:
    """Share of right predictions, in batches of 64."""
    model.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            batch = tokenizer(
                texts[start : start + 64], truncation=True, max_length=128, padding=True, return_tensors="pt"
            )
            predicted = model(**batch).logits.argmax(-1)
            right += int((predicted == torch.tensor(labels[start : start + 64])).sum())
    return right / len(texts)


def longest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The batch of the longest texts: the worst that a shuffled batch can be."""
    return sorted(rows, key=lambda row: -len(row["input_ids"]))[:BATCH_SIZE]


def run_trainer(source: str, data: Path, rate: float, epochs: int) -> dict[str, Any]:
    """Transformers' Trainer, with its defaults: padding to the longest of a shuffled batch, dropout on."""
    from transformers import AutoTokenizer, DataCollatorWithPadding

    tokenizer = AutoTokenizer.from_pretrained(source)
    texts, labels = read_rows(data, "train")
    encoded = tokenizer(texts, truncation=True, max_length=128)
    rows = [{"input_ids": ids, "labels": label} for ids, label in zip(encoded["input_ids"], labels, strict=True)]
    collate = DataCollatorWithPadding(tokenizer)
    trainer, times = build_trainer(
        lambda batch: int((batch["input_ids"] != 0).sum()),  # padding has id 0
        folder=str(data / "trainer"),
        batch_size=BATCH_SIZE,
        epochs=epochs,
        learning_rate=rate,
        model=build_peft_model(source),
        train_dataset=rows,
        data_collator=collate,
    )
    trainer.train()
    return {
        "tokens_per_second": times.tokens_per_second,
        "accuracy": accuracy(trainer.model, tokenizer, *read_rows(data, "test")),
        "peak_bytes": peak_of_training(trainer, collate(longest(rows))),
    }


def run_padded_loop(source: str, data: Path, rate: float, steps: int = 8) -> dict[str, Any]:
    """The loop of many a tutorial: every text padded to 512 tokens. Only eight steps: an epoch would take an hour."""
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    texts, labels = read_rows(data, "train")
    encoded = tokenizer(texts, truncation=True, max_length=512, padding="max_length", return_tensors="pt")
    rows = [
        {key: encoded[key][row] for key in encoded} | {"labels": torch.tensor(label)}
        for row, label in enumerate(labels)
    ]
    model = build_peft_model(source)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    loader = DataLoader(rows, batch_size=BATCH_SIZE, shuffle=True, generator=torch.Generator().manual_seed(0))
    model.train()
    tokens, seconds = 0, 0.0
    for number, batch in enumerate(loader, start=1):
        begin = time.perf_counter()
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if number > 2:
            seconds += time.perf_counter() - begin
            tokens += int(batch["attention_mask"].sum())
        if number >= steps:
            break
    return {"tokens_per_second": tokens / seconds, "accuracy": None, "peak_bytes": None}


def run_ours(recipe: Path, folder: Path, rate: float, epochs: int, overrides: list[str]) -> dict[str, Any]:
    """peftlab, with its defaults."""
    changes = [f"training.learning_rate={rate}", f"training.epochs={epochs}", *overrides]
    record, figures = run_peftlab(recipe, changes, folder)
    return {**figures, "accuracy": record.scores["test"]["accuracy"]}


if __name__ == "__main__":
    name, options = sys.argv[1], json.loads(sys.argv[2])
    source, data, rate, epochs = options["source"], Path(options["data"]), options["learning_rate"], options["epochs"]
    if name == "trainer":
        outcome = run_trainer(source, data, rate, epochs)
    elif name == "padded_loop":
        outcome = run_padded_loop(source, data, rate)
    else:
        outcome = run_ours(Path(options["recipe"]), data / "peftlab", rate, epochs, options["overrides"])
    print_outcome(outcome)
