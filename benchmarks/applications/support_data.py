"""Make the tables of the public customer-service recipe: a bank with a help desk for web applications.

Intents are those of BANKING77 (Casanueva et al., 2020), questions out of scope CLINC150's (Larson et al., 2019), the
FAQ is 125 questions of Stack Exchange with paraphrases. The bank's answers (``banking_answers.csv``) were made up.

    python benchmarks/applications/support_data.py ../shared/data support_data
"""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ANSWER_CHARACTERS = 600
OUT_OF_SCOPE = "out_of_scope"
FAQ_PARTS = ("validation", "calibration", "test", "test", "test")
"""Of ten paraphrases of a question: half are held out."""


def main(data: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    answers = {row["intent"]: row for row in read(HERE / "banking_answers.csv")}
    documents = [json.loads(line) for line in (data / "faq_stack/docs.jsonl").read_text().splitlines()]
    with (target / "faq.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "question", "answer", "intent"])
        for intent, row in answers.items():
            writer.writerow([f"bank-{intent}", row["question"], row["answer"], intent])
        for document in documents:
            answer = " ".join(document["answers"][0].split())[:ANSWER_CHARACTERS]
            writer.writerow([f"web-{document['doc_id']}", document["question"], answer, ""])
    rows = [*bank(data, answers), *web(data, documents), *strange(data)]
    with (target / "dialogues.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["dialogue", "role", "text", "intent", "faq", "split"])
        for number, (text, intent, entry, reply, split) in enumerate(rows, 1):
            writer.writerow([number, "customer", text, intent, entry, split])
            writer.writerow([number, "agent", reply, "", "", split])
    print(f"{len(rows)} dialogues, {len(answers) + len(documents)} entries: {target}")


def bank(data: Path, answers: dict[str, dict[str, str]]) -> list[tuple[str, str, str, str, str]]:
    """BANKING77: its test rows are test; of its training rows a tenth each is validation and calibration."""
    found = []
    for name in ("train", "test"):
        for row in read(data / f"banking77/{name}.csv"):
            split = name if name == "test" else drawn(row["text"], (("validation", 0.1), ("calibration", 0.2)))
            found.append(
                (" ".join(row["text"].split()), row["category"], "", answers[row["category"]]["answer"], split)
            )
    return found


def web(data: Path, documents: list[dict[str, object]]) -> list[tuple[str, str, str, str, str]]:
    """Each document's paraphrases, in an order of their own, one after the other into the splits."""
    groups: dict[int, list[str]] = {}
    for line in (data / "faq_stack/queries.jsonl").read_text().splitlines():
        row = json.loads(line)
        groups.setdefault(row["doc_id"], []).append(" ".join(row["query"].split()))
    found = []
    for number, texts in groups.items():
        answers = documents[number]["answers"]
        assert isinstance(answers, list)
        reply = " ".join(str(answers[0]).split())[:ANSWER_CHARACTERS]
        texts.sort(key=digest)
        for at, text in enumerate(texts):
            split = FAQ_PARTS[at] if at < len(FAQ_PARTS) else "train"
            found.append((text, "", f"web-{number}", reply, split))
    return found


def strange(data: Path) -> list[tuple[str, str, str, str, str]]:
    """CLINC150's rows out of scope: training ones are validation, validation ones are calibration."""
    clinc = json.loads((data / "clinc150/data_small.json").read_text())
    reply = "That is nothing that we can help with."
    named = (("oos_train", "validation"), ("oos_val", "calibration"), ("oos_test", "test"))
    return [(text, OUT_OF_SCOPE, "", reply, split) for part, split in named for text, _ in clinc[part]]


def drawn(text: str, ends: tuple[tuple[str, float], ...]) -> str:
    at = digest(text) / 2**64
    return next((name for name, end in ends if at < end), "train")


def digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
