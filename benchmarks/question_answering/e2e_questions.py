"""Questions with answers in a text, in SQuAD's nested layout, from E2E NLG's tables and their sentences.

``python benchmarks/question_answering/e2e_questions.py valid.txt e2e_questions_train.json``

A table names what its sentences say, such as the area. A question asks for one attribute; the answer is the table's
value, where the sentences hold it letter by letter once; values that are worded otherwise are left out. Attributes that
the table lacks become questions without an answer, as in Levy et al. 2017 (https://arxiv.org/abs/1706.04115).
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path
from typing import Any

QUESTIONS = {
    "name": "What is the place called?",
    "eattype": "What kind of place is it?",
    "food": "Which food does it serve?",
    "pricerange": "What is the price range?",
    "customerrating": "What do customers rate it?",
    "area": "In which area is it?",
    "near": "What is it near?",
}
_ATTRIBUTE = re.compile(r"([\w ]+)\[([^\]]*)\]|([\w ]+?) : ([^|]+?) *(?:\||$)")
"""As the authors wrote tables, ``area[city centre], …``, or as GPT-2's experiments did, ``area : city centre | …``."""


def articles_of(lines: list[str], seed: int = 0) -> list[dict[str, Any]]:
    """An article for each line ``MR||text``, with two questions at most: one with an answer, one without.

    Args:
        lines: Of E2E NLG.
        seed: Chooses the attributes.
    """
    draw, articles = random.Random(seed), []  # noqa: S311 - nothing is kept secret by it
    for number, line in enumerate(lines):
        table, _, text = line.strip().partition("||")
        found = _ATTRIBUTE.findall(table)
        values = {_key(name or other): value or own for name, value, other, own in found}
        questions = []
        there = [name for name, value in values.items() if name in QUESTIONS and text.count(value) == 1]
        missing = [name for name in QUESTIONS if name not in values]
        if there:
            name = draw.choice(there)
            questions.append(
                _question(f"{number}-0", name, [{"text": values[name], "answer_start": text.index(values[name])}])
            )
        if missing and draw.random() < 0.5:
            questions.append(_question(f"{number}-1", draw.choice(missing), []))
        if questions:
            articles.append({"title": str(number), "paragraphs": [{"context": text, "qas": questions}]})
    return articles


def _key(name: str) -> str:
    name = name.strip().replace(" ", "").lower()
    return {"type": "eattype", "price": "pricerange"}.get(name, name)


def _question(number: str, attribute: str, answers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": number, "question": QUESTIONS[attribute], "answers": answers, "is_impossible": not answers}


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    made = articles_of(source.read_text(encoding="utf-8").splitlines())
    target.write_text(json.dumps({"version": "v2.0", "data": made}), encoding="utf-8")
