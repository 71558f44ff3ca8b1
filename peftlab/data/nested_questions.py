"""SQuAD's nested file as rows: articles hold paragraphs, paragraphs hold questions (https://arxiv.org/abs/1606.05250)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def rows_of_articles(value: Any) -> list[dict[str, Any]] | None:
    """A row for each question, in the order of the file; None: the document has another layout.

    Args:
        value: ``{"data": [{"title": …, "paragraphs": [{"context": …, "qas": [{"question": …, "answers": […]}]}]}]}``,
            or what ``data`` holds.
    """
    articles = value.get("data") if isinstance(value, Mapping) else value
    if not isinstance(articles, list) or not articles or not all(map(_is_article, articles)):
        return None
    rows: list[dict[str, Any]] = []
    for article in articles:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answers = [] if question.get("is_impossible") else list(question.get("answers") or [])
                rows.append(
                    {
                        "id": str(question.get("id", len(rows))),
                        "title": str(article.get("title", "")),
                        "context": paragraph.get("context"),
                        "question": question.get("question"),
                        "answers": {
                            "text": [answer.get("text") for answer in answers],
                            "answer_start": [answer.get("answer_start") for answer in answers],
                        },
                    }
                )
    return rows


def _is_article(item: Any) -> bool:
    paragraphs = item.get("paragraphs") if isinstance(item, Mapping) else None
    return isinstance(paragraphs, list) and all(
        isinstance(each, Mapping) and isinstance(each.get("qas"), list) and "context" in each for each in paragraphs
    )
