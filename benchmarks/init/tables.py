"""Which of a list of tables `peftlab init` reads right; the answers were written by hand, from the tables alone.

python benchmarks/init/tables.py DATA CASES
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

from peftlab.core.errors import PeftlabError
from peftlab.proposal.propose import propose

CLASSES, TAGS, CHAT, NUMBER = "text_classification", "token_classification", "instruction_tuning", "text_regression"

DATA: dict[str, tuple[str, dict[str, Any]]] = {
    "airline_tweets/tweets.csv": (CLASSES, {"text": "text", "label": "sentiment"}),
    "banking77": (CLASSES, {"text": "text", "label": "category"}),
    "trec": (CLASSES, {"text": "question", "label": "coarse"}),
    "sst2": (CLASSES, {"text": "sentence", "label": "label"}),
    "cad_imdb": (CLASSES, {"text": "Text", "label": "Sentiment"}),
    "clinc150/data_small.json": (CLASSES, {"text": "text", "label": "label"}),
    "wnut17": (TAGS, {"tokens": "tokens", "tags": "tags"}),
    "wnut17/emerging.test.annotated": (TAGS, {"tokens": "tokens", "tags": "tags"}),
    "e2e_nlg": ("text_generation", {"prompt": "source", "response": "target"}),
    "eec/eec.csv": (CLASSES, {"text": "Sentence", "label": "Emotion"}),
    "crows_pairs/crows_pairs.csv": ("text_pair_classification", {"text": ["sent_more", "sent_less"]}),
    "waimai/waimai_10k.csv": (CLASSES, {"text": "review", "label": "label"}),
    "faq_stack/queries.jsonl": (CLASSES, {"text": "query", "label": "doc_id"}),
    "faq_stack/docs.jsonl": (CHAT, {"prompt": "question", "response": "answers.0"}),
    "movielens_small/movies.csv": (CLASSES, {"text": "title", "label": "genres", "label_separator": "|"}),
    "movielens_small/ratings.csv": ("no text", {}),
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "newcomer/03-mac-roman-kept/utf.csv": (CLASSES, {"text": "text", "label": "sentiment"}),
    "newcomer/06-gzip/plain.csv.gz": (CLASSES, {"text": "text", "label": "label"}),
    "newcomer/07-save_to_disk/hfdict": (CLASSES, {"text": "text", "label": "label"}),
    "newcomer/14-excel-semicolons/excel.csv": (CLASSES, {"text": "Review Text", "label": "Stars"}),
    "newcomer/01-gguf-first-use/openai.jsonl": (CHAT, {"messages": "messages"}),
    "02-ner-integer-tags/data.jsonl": (TAGS, {"tokens": "tokens", "tags": "tags"}),
    "04-llama-eos-as-pad/data.jsonl": ("causal_lm", {"text": "text"}),
    "09-plain-template-no-bos/data.jsonl": (CHAT, {"prompt": "prompt", "response": "response"}),
    "12-multi-label-none/data.csv": (CLASSES, {"text": "text", "label": "labels", "multi_label": True}),
    "13-regression-large-targets/data.csv": (NUMBER, {"text": "text", "label": "price"}),
    "17-pair-on-gpt2/data.csv": ("text_pair_classification", {"text": ["text_1", "text_2"], "label": "label"}),
}
REWRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "german.csv": (CLASSES, {"text": "Nachricht", "label": "Kategorie"}),
    "no_header.csv": (CLASSES, {"text": "column_2", "label": "column_1"}),
    "windows.csv": (CLASSES, {"text": "t", "label": "c"}),
    "utf16.tsv": (CLASSES, {"text": "text", "label": "label"}),
    "pipes.txt": (CLASSES, {"text": "text", "label": "label"}),
    "upper.CSV": (CLASSES, {"text": "CUSTOMER_MESSAGE", "label": "DEPT_CODE"}),
}


def rewrite(banking: Path, folder: Path) -> None:
    """Some rows of banking77, written in odd ways."""
    with (banking / "train.csv").open(encoding="utf-8", newline="") as stream:
        rows = [(row["text"].replace("\n", " "), row["category"]) for row in csv.DictReader(stream)][::10]

    def write(name: str, header: list[str], lines: list[tuple[str, ...]], mark: str, encoding: str) -> None:
        with (folder / name).open("w", encoding=encoding, newline="") as stream:
            csv.writer(stream, delimiter=mark).writerows([*([header] if header else []), *lines])

    write(
        "german.csv", ["Kategorie", "Nr", "Nachricht"], [(c, str(i), t) for i, (t, c) in enumerate(rows)], ";", "utf-8"
    )
    write("no_header.csv", [], [(c, t) for t, c in rows], ",", "utf-8")
    write("windows.csv", ["t", "c"], [(f"{t} – déjà vu, über’s", c) for t, c in rows], ",", "cp1252")
    write("utf16.tsv", ["text", "label"], [(t, c) for t, c in rows], "\t", "utf-16")
    (folder / "pipes.txt").write_text("".join(f"{t}||{c}\n" for t, c in rows), encoding="utf-8")
    numbered = [(str(100000 + i), c, t, "2024-01-0" + str(i % 9 + 1)) for i, (t, c) in enumerate(rows)]
    write("upper.CSV", ["ROW_ID", "DEPT_CODE", "CUSTOMER_MESSAGE", "CREATED_AT"], numbered, ",", "utf-8")


def main() -> None:
    """Compare guesses with answers."""
    data, cases = Path(sys.argv[1]), Path(sys.argv[2])
    right = tried = 0
    with tempfile.TemporaryDirectory() as made:
        tables = [(data, DATA), (cases, CASES)]
        if (data / "banking77").is_dir():
            rewrite(data / "banking77", Path(made))
            tables.append((Path(made), REWRITTEN))
        for folder, answers in tables:
            for name, (task, keys) in answers.items():
                if not (folder / name).exists():
                    print(f"left out, not there: {name}")
                    continue
                found = guess(folder / name)
                good = found.get("type") == task and all(found.get(key) == value for key, value in keys.items())
                tried, right = tried + 1, right + good
                print(f"{'right' if good else 'WRONG'}  {name}" + ("" if good else f": {found}"))
    print(f"{right} of {tried}")


def guess(path: Path) -> dict[str, Any]:
    """The section ``task`` that is proposed."""
    try:
        return dict(propose(str(path), name="x", offline=True).values["task"])
    except PeftlabError as error:
        return {"type": "no text" if "no column looks like a text" in str(error) else str(error)}


if __name__ == "__main__":
    main()
