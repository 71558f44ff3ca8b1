"""A run asked on its page: one model is in memory at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftlab.core.capabilities import GeneratesText
from peftlab.core.errors import UserError
from peftlab.core.installed import CAPTUM, check_installed
from peftlab.core.record import RECORD_NAME
from peftlab.recipe.schema import Recipe

WAIT_SECONDS = 120.0
MOST_CHARACTERS = 20_000
NEW_TOKENS = 128
"""Most that a language model writes here."""


@dataclass(frozen=True)
class Token:
    """A token as the page shows it."""

    text: str
    after_blank: bool
    value: float
    strength: int


@dataclass(frozen=True)
class Answer:
    """What a run says.

    Args:
        texts: What it was asked.
        rows: Name and value each.
        tokens: What each token added, where the decision was explained.
        target: The class that is explained.
    """

    texts: Sequence[str]
    rows: Sequence[tuple[str, str]] = ()
    tokens: Sequence[Token] = ()
    target: str = ""


def questions_of(recipe: Recipe) -> tuple[str, ...]:
    """The texts that a run is asked with; none where it cannot be asked on a page."""
    task = recipe.task
    if task.why_no_answers or task.image_columns():
        return ()
    return ("text",) if isinstance(task, GeneratesText) else tuple(task.input_columns())


def writes_text(recipe: Recipe) -> bool:
    """Whether the run's model writes, so that there is no decision to explain."""
    return isinstance(recipe.task, GeneratesText)


class Trial:
    """Loads the run that is asked, and lets the one before go.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: How many it may use; None: as many as are free.
        offline: Allow no network.
    """

    def __init__(self, device: str = "auto", threads: int | None = None, *, offline: bool = False) -> None:
        self._device, self._threads, self._offline = device, threads, offline
        self._lock = threading.Lock()
        self._loaded: tuple[tuple[Path, float], Any] | None = None

    def ask(self, folder: Path, texts: Sequence[str], *, explained: bool = False) -> Answer:
        """What a run says of a text.

        Args:
            folder: The run's.
            texts: One a question.
            explained: Whether the tokens are shown that carried the decision, instead.

        Raises:
            UserError: The text is empty or too long, the run cannot be loaded, or another answer takes too long.
        """
        if not any(text.strip() for text in texts):
            raise UserError("there is no text", hint="Write one, and ask again.")
        if sum(map(len, texts)) > MOST_CHARACTERS:
            raise UserError(
                f"the text has more than {MOST_CHARACTERS:,} characters", hint="`peftlab predict --input` takes files."
            )
        if explained:
            check_installed(CAPTUM, "explanations need", extra="explain")
        if not self._lock.acquire(timeout=WAIT_SECONDS):
            raise UserError("another answer is still being computed", hint="Ask again later.")
        try:
            run = self._load(folder)
            return _explained(run, texts) if explained else _answered(run, texts)
        finally:
            self._lock.release()

    def _load(self, folder: Path) -> Any:
        from peftlab.core.threads import use_threads
        from peftlab.inference.loaded import load

        sign = (folder, (folder / RECORD_NAME).stat().st_mtime)
        if self._loaded is None or self._loaded[0] != sign:
            self._loaded = None  # its memory is free before the next takes some
            use_threads(self._threads)
            self._loaded = (sign, load(folder, offline=self._offline, device=self._device))
        return self._loaded[1]


def _answered(run: Any, texts: Sequence[str]) -> Answer:
    from peftlab.inference.predict import input_columns

    item = texts[0] if len(texts) == 1 else tuple(texts)
    most = NEW_TOKENS if writes_text(run.recipe) else None
    answer: Mapping[str, Any] = run.predict([item], max_new_tokens=most)[0]
    asked = {*input_columns(run.tuned), "index"}
    return Answer(texts, [(name, _shown(value)) for name, value in answer.items() if name not in asked])


def _explained(run: Any, texts: Sequence[str]) -> Answer:
    from peftlab.inference.explanation.attributions import explain

    found = explain(run.tuned, "\t".join(" ".join(text.split()) for text in texts))
    largest = max(map(abs, found.attributions), default=0.0) or 1.0
    tokens = [
        Token(token, blank, value, round(9 * abs(value) / largest))
        for token, blank, value in zip(found.tokens, found.after_blank, found.attributions, strict=True)
    ]
    return Answer(texts, [("prediction", _shown(found.prediction))], tokens, found.target)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
