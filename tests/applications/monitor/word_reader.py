"""A reader that knows words, and no model."""

from __future__ import annotations

from collections.abc import Sequence

from peftlab.applications.monitor.reader import Reading


class WordReader:
    """Texts with `bad` are negative, and the last word is the topic; keeps what it has read."""

    def __init__(self) -> None:
        self.read_texts: list[str] = []

    def labels(self, part: str) -> tuple[str, ...]:
        return ("negative", "neutral") if part == "sentiment" else ("delay", "thing")

    def read(self, texts: Sequence[str]) -> list[Reading]:
        self.read_texts += texts
        return [Reading("negative" if "bad" in text else "neutral", 0.9, text.split()[-1], 0.8) for text in texts]
