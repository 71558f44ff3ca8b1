"""Texts that a language model writes from a few entries, of which only the sentences stay that they support.

Customers who ask at the same time are answered in one batch. Each sees every sentence as soon as it is checked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from peftlab.applications.support.checking import find_support
from peftlab.applications.support.company import Entry
from peftlab.applications.support.prompting import conversation
from peftlab.applications.support.sentences import sentences
from peftlab.inference.generate import generate, generating_task, options_of
from peftlab.inference.tuned_model import TunedModel

MOST_SENTENCES, MOST_TOGETHER = 3, 8
ENDS = tuple(".!?…。！？")


@dataclass(frozen=True)
class Written:
    """What is left of a text.

    Args:
        text: The sentences that are supported, each with the number of its source.
        sources: Positions of the entries, in the order of the numbers.
        dropped: Sentences that nothing supports.
    """

    text: str
    sources: Sequence[int]
    dropped: int


class CheckedText:
    """A text as it comes, sentence by sentence.

    Args:
        entries: That must support it.
        containment: How much of a sentence an entry must have.
        show: Is given each sentence that is supported.
    """

    def __init__(self, entries: Sequence[Entry], containment: float, show: Callable[[str], None]) -> None:
        self._entries, self._containment, self._show = entries, containment, show
        self._text, self._seen = "", 0
        self._said: set[str] = set()
        self._kept: list[str] = []
        self._sources: list[int] = []
        self._dropped = 0
        self._repeats = False

    @property
    def is_enough(self) -> bool:
        """Whether nothing more is wanted: there is enough, or the model says the same again."""
        return len(self._kept) >= MOST_SENTENCES or self._repeats

    def add(self, piece: str) -> None:
        """More of the text."""
        self._text += piece
        for sentence in sentences(self._text)[self._seen : -1]:
            self._take(sentence)

    def finish(self, *, is_whole: bool) -> Written:
        """The text has ended; a last sentence that was cut is left out."""
        for sentence in sentences(self._text)[self._seen :]:
            if is_whole or sentence.endswith(ENDS):
                self._take(sentence)
        return Written(" ".join(self._kept), self._sources, self._dropped)

    def _take(self, sentence: str) -> None:
        self._seen += 1
        if self.is_enough:
            return
        key = sentence.casefold()
        if key in self._said:
            self._repeats = True
            return
        self._said.add(key)
        found = find_support(sentence, self._entries, self._containment)
        if found is None:
            self._dropped += 1
            return
        if found.entry not in self._sources:
            self._sources.append(found.entry)
        shown = f"{sentence} [{self._sources.index(found.entry) + 1}]"
        self._kept.append(shown)
        self._show(shown)


@dataclass(frozen=True, eq=False)
class _Wanted:
    prompt: Sequence[int]
    checked: CheckedText
    answer: Future[Written]


class Writer:
    """Writes by a tuned language model; may be asked by several threads.

    Args:
        model: The part.
        containment: How much of a sentence an entry must have.
        max_new_tokens: Where a text is cut.
    """

    def __init__(self, model: TunedModel, containment: float, max_new_tokens: int) -> None:
        self._model, self._containment = model, containment
        self._options = options_of(model, max_new_tokens=max_new_tokens)
        self._waiting: list[_Wanted] = []
        self._change, self._turn = threading.Lock(), threading.Lock()

    def write(self, question: str, entries: Sequence[Entry], show: Callable[[str], None]) -> Written:
        """Write, and show each sentence as soon as it is checked."""
        task = generating_task(self._model)
        prompt = task.conversation_prompt(conversation(question, entries), self._model.tokenizer)["input_ids"]
        own = _Wanted(prompt, CheckedText(entries, self._containment, show), Future())
        with self._change:
            self._waiting.append(own)
        with self._turn:
            # Whoever has the turn writes for all that wait; the others find their answers ready.
            if not own.answer.done():
                with self._change:
                    batch, self._waiting = self._waiting[:MOST_TOGETHER], self._waiting[MOST_TOGETHER:]
                    if own not in batch:
                        self._waiting = [each for each in self._waiting if each is not own]
                        batch = [*batch, own]
                self._write_together(batch)
        return own.answer.result()

    def _write_together(self, batch: Sequence[_Wanted]) -> None:
        try:
            made = generate(
                self._model,
                [each.prompt for each in batch],
                self._options,
                show_row=lambda place, piece: batch[place].checked.add(piece),
                is_wanted=lambda place: not batch[place].checked.is_enough,
            )
        except Exception as error:  # noqa: BLE001 - everybody who waits must hear of it
            for each in batch:
                each.answer.set_exception(error)
            return
        for each, text in zip(batch, made, strict=True):
            each.answer.set_result(each.checked.finish(is_whole=text.finish_reason == "stop"))
