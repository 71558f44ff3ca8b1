"""Texts that one tuned model writes at the same time: whoever asks while others are answered joins them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from peftlab.inference.generate import GeneratedText, GenerationOptions, generate, generating_task
from peftlab.inference.tuned_model import TunedModel
from peftlab.tasks.language.generation import TextPieces, response_ends
from peftlab.tasks.language.running_batch import RunningBatch, RunningText, can_be_joined
from peftlab.training.evaluation import NOT_FINITE, DivergedError

SHARE_OF_TEXT = 0.5
"""Of a batch that nobody can join: at least so much of it are tokens of prompts, and not padding."""


def _always() -> bool:
    return True


@dataclass(frozen=True, eq=False)
class WantedText:
    """What is asked of a model.

    Args:
        prompt: Tokens; :func:`peftlab.inference.generate.check_room` has let them pass.
        options: How text is written.
        show: Is given the text piece by piece, as it is written.
        is_wanted: Is asked at each token whether the text is still wanted.
    """

    prompt: Sequence[int]
    options: GenerationOptions
    show: Callable[[str], None] | None = None
    is_wanted: Callable[[], bool] = _always


class JointWriting:
    """The texts that a model is writing; not for several threads at once.

    A model that cannot be joined (:func:`peftlab.tasks.language.running_batch.can_be_joined`) writes batches of those
    who wait, each to its end.

    Args:
        tuned: The model.
    """

    def __init__(self, tuned: TunedModel) -> None:
        self._tuned = tuned
        self._waiting: list[WantedText] = []
        self._running: dict[RunningText, tuple[WantedText, TextPieces | None]] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    def add(self, wanted: WantedText) -> None:
        """Ask for a text."""
        self._waiting.append(wanted)

    def advance(self) -> list[tuple[WantedText, GeneratedText | DivergedError]]:
        """Write a token of each text; or, where nobody can join, a whole batch.

        Returns:
            The texts that are whole, or why one cannot be written while the others go on; what nobody wants any more is
            given back as far as it is written.

        Raises:
            DivergedError: A logit of a batch that nobody can join is not finite.
        """
        if self._batch is None:
            return list(self._write_whole())
        for wanted in self._waiting:
            self._begin(self._batch, wanted)
        self._waiting = []
        return [self._finished(text) for text in self._batch.step()]

    @cached_property
    def _batch(self) -> RunningBatch | None:
        model, inference = self._tuned.module()
        if not can_be_joined(model, inference):
            return None
        ends = response_ends(generating_task(self._tuned).renderer(self._tuned.tokenizer), model)
        return RunningBatch(model, inference, ends)

    def _begin(self, batch: RunningBatch, wanted: WantedText) -> None:
        pieces = None if wanted.show is None else TextPieces(self._text, wanted.show)
        text = RunningText(
            wanted.prompt,
            wanted.options.max_new_tokens,
            wanted.options.temperature,
            None if pieces is None else pieces.update,
            wanted.is_wanted,
        )
        self._running[text] = (wanted, pieces)
        batch.add(text)

    def _finished(self, text: RunningText) -> tuple[WantedText, GeneratedText | DivergedError]:
        wanted, pieces = self._running.pop(text)
        if text.has_failed:
            return wanted, DivergedError(NOT_FINITE)
        if pieces is not None:
            pieces.finish(text.ids)
        reason = "length" if len(text.ids) >= text.max_new_tokens else "stop"
        return wanted, GeneratedText(self._text(text.ids), len(text.ids), reason)

    def _text(self, ids: Sequence[int]) -> str:
        return generating_task(self._tuned).written_text(ids, self._tuned.tokenizer)

    def _write_whole(self) -> list[tuple[WantedText, GeneratedText]]:
        batch: list[WantedText] = []
        left = [wanted for wanted in self._waiting if not wanted.is_wanted()]
        self._waiting = [wanted for wanted in self._waiting if wanted not in left]
        for wanted in self._waiting:
            lengths = [len(each.prompt) for each in (*batch, wanted)]
            is_alike = not batch or wanted.options == batch[0].options
            if is_alike and sum(lengths) >= SHARE_OF_TEXT * max(lengths) * len(lengths):
                batch.append(wanted)
        self._waiting = [wanted for wanted in self._waiting if wanted not in batch]
        gone = [(wanted, GeneratedText("", 0, "stop")) for wanted in left]
        if not batch:
            return gone
        made = generate(
            self._tuned,
            [wanted.prompt for wanted in batch],
            batch[0].options,
            show_row=partial(_show, batch),
            is_wanted=lambda place: batch[place].is_wanted(),
        )
        return [*gone, *zip(batch, made, strict=True)]


def _show(batch: Sequence[WantedText], place: int, piece: str) -> None:
    show = batch[place].show
    if show is not None:
        show(piece)
