"""Texts that a language model writes from a few entries, of which only the sentences stay that they support.

Texts are written together: a customer who asks while others are answered joins them. Each sees every sentence as soon
as it is checked.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from peftlab.applications.support.belonging import Belonging
from peftlab.applications.support.checking import find_support
from peftlab.applications.support.company import Entry
from peftlab.applications.support.prompting import conversation
from peftlab.applications.support.sentences import sentences
from peftlab.core.threads import join_threads
from peftlab.inference.generate import GeneratedText, generating_task, options_of
from peftlab.inference.joint_writing import JointWriting, WantedText
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


class Writer:
    """Writes by a tuned language model; may be asked by several threads, whose texts are written together.

    A thread of its own writes, and ends when there is nothing to write.

    Args:
        model: The part.
        containment: How much of a sentence an entry must have.
        max_new_tokens: Where a text is cut.
        belonging: Tells which sentences of an entry it reads, and may say.
    """

    def __init__(self, model: TunedModel, containment: float, max_new_tokens: int, belonging: Belonging) -> None:
        self._model, self._containment, self._belonging = model, containment, belonging
        self._options = options_of(model, max_new_tokens=max_new_tokens)
        self._texts = JointWriting(model)
        self._waiting: deque[WantedText] = deque()
        self._answers: dict[WantedText, Future[GeneratedText]] = {}
        self._change, self._is_writing = threading.Lock(), False

    def write(
        self,
        question: str,
        entries: Sequence[Entry],
        show: Callable[[str], None],
        begin: Callable[[], None] = lambda: None,
    ) -> Written:
        """Write, and show each sentence as soon as it is checked; ``begin`` is called at the first token."""
        entries = [self._belonging.quotable(entry) for entry in entries]
        task = generating_task(self._model)
        prompt = task.conversation_prompt(conversation(question, entries), self._model.tokenizer)["input_ids"]
        checked = CheckedText(entries, self._containment, show)
        wanted = WantedText(prompt, self._options, _Begun(begin, checked.add), lambda: not checked.is_enough)
        answer: Future[GeneratedText] = Future()
        with self._change:
            if not self._is_writing:  # first of all: where there is no room for a thread, nobody waits for it
                threading.Thread(target=self._write_all, name="writer", daemon=True).start()
                self._is_writing = True
            self._waiting.append(wanted)
            self._answers[wanted] = answer
        return checked.finish(is_whole=answer.result().finish_reason == "stop")

    def _write_all(self) -> None:
        join_threads()
        while True:
            with self._change:
                while self._waiting and len(self._texts) < MOST_TOGETHER:
                    self._texts.add(self._waiting.popleft())
                self._is_writing = bool(self._answers)
                if not self._is_writing:
                    return
            try:
                for wanted, text in self._texts.advance():
                    answer = self._answers.pop(wanted)
                    if isinstance(text, GeneratedText):
                        answer.set_result(text)
                    else:
                        answer.set_exception(text)
            except Exception as error:  # noqa: BLE001 - everybody who waits must hear of it
                with self._change:
                    failed, self._answers, self._waiting = self._answers, {}, deque()
                    self._texts = JointWriting(self._model)
                for answer in failed.values():
                    answer.set_exception(error)


class _Begun:
    """Passes pieces on, and tells of the first."""

    def __init__(self, begin: Callable[[], None], show: Callable[[str], None]) -> None:
        self._begin, self._show, self._has_begun = begin, show, False

    def __call__(self, piece: str) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._begin()
        self._show(piece)
