"""Writes the small tables of suites and recipes that try new tasks.

``python benchmarks/new_tasks/write_tables.py SHARED_DATA FOLDER``; nothing is downloaded. SHARED_DATA holds
``faq_stack``, ``airline_tweets`` and ``e2e_nlg``.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from sklearn.datasets import load_digits

NEGATIVES = 4


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_questions(data: Path, folder: Path) -> None:
    """Questions with the document that answers them, and with documents that do not, drawn at random."""
    read = {name: (data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines() for name in ("docs", "queries")}
    documents = {row["doc_id"]: row["question"] for row in map(json.loads, read["docs"])}
    draw = random.Random(0)  # noqa: S311
    rows = []
    for query in map(json.loads, read["queries"]):
        others = draw.sample([text for at, text in documents.items() if at != query["doc_id"]], NEGATIVES)
        negatives = {f"negative_{at}": text for at, text in enumerate(others)}
        rows.append({"query": query["query"], "document": documents[query["doc_id"]], **negatives})
    write_rows(folder / "faq.jsonl", rows)


def write_tweets(data: Path, folder: Path) -> None:
    """Tweets with their mood: negative, neutral or positive."""
    with (data / "tweets.csv").open(encoding="utf-8", newline="") as file:
        rows = [{"text": row["text"], "mood": row["sentiment"]} for row in csv.DictReader(file)]
    write_rows(folder / "moods.jsonl", rows)


def write_summaries(data: Path, folder: Path) -> None:
    """Three people's descriptions of a restaurant, and the shortest that anybody wrote of it: their summary.

    A fifth of the restaurants are for testing, a row each. Their names occur in training too, since a model that starts
    from nothing cannot write a name that it has never seen. The others have four rows each, with other descriptions.
    """
    draw = random.Random(0)  # noqa: S311
    said: dict[str, list[str]] = {}
    for line in (data / "valid.txt").read_text(encoding="utf-8").splitlines():
        meaning, _, text = line.partition("||")
        said.setdefault(meaning, []).append(text.strip())
    restaurants = [texts for texts in (sorted({*own}, key=len) for own in said.values()) if len(texts) >= 4]
    draw.shuffle(restaurants)
    held_out = len(restaurants) // 5
    for name, part, rows in (("test", restaurants[:held_out], 1), ("train", restaurants[held_out:], 4)):
        write_rows(
            folder / f"summaries_{name}.jsonl",
            (
                {"document": " ".join(draw.sample(texts[1:], 3)), "summary": texts[0]}
                for texts in part
                for _ in range(rows)
            ),
        )


def write_digits(folder: Path) -> None:
    """Digits of 8 × 8 pixels in folders by class: 0 to 4 for a base, 5 to 9 to adapt it to."""
    images, digits = load_digits(return_X_y=True)
    for at, (image, digit) in enumerate(zip(images.reshape(-1, 8, 8), digits, strict=True)):
        path = folder / ("digits_low" if digit < 5 else "digits_high") / str(digit) / f"{at:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).round().astype("uint8")).save(path)


def main(data: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_questions(data / "faq_stack", folder)
    write_tweets(data / "airline_tweets", folder)
    write_summaries(data / "e2e_nlg", folder)
    write_digits(folder)
    print(f"faq.jsonl, moods.jsonl, summaries_train.jsonl, summaries_test.jsonl, digits_low, digits_high: {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
