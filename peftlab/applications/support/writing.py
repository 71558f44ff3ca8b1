"""A text that a language model writes from a few entries, of which only the sentences stay that they support."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peftlab.applications.support.checking import find_support
from peftlab.applications.support.company import Entry
from peftlab.applications.support.prompting import conversation
from peftlab.applications.support.sentences import sentences
from peftlab.inference.generate import generate, generating_task, options_of
from peftlab.inference.tuned_model import TunedModel

MOST_SENTENCES = 3
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


class Writer:
    """Writes by a tuned language model.

    Args:
        model: The part.
        containment: How much of a sentence an entry must have.
        max_new_tokens: Where a text is cut.
    """

    def __init__(self, model: TunedModel, containment: float, max_new_tokens: int) -> None:
        self._model, self._containment = model, containment
        self._options = options_of(model, max_new_tokens=max_new_tokens)

    def write(self, question: str, entries: Sequence[Entry], show: Callable[[str], None]) -> Written:
        """Write, and show each sentence as soon as it is checked."""
        task = generating_task(self._model)
        prompt = task.conversation_prompt(conversation(question, entries), self._model.tokenizer)
        checked = _Checked(entries, self._containment, show)
        (made,) = generate(
            self._model,
            [prompt["input_ids"]],
            self._options,
            show=checked.add,
            is_wanted=lambda _: not checked.is_enough,
        )
        checked.finish(is_whole=made.finish_reason == "stop")
        return Written(" ".join(checked.kept), checked.sources, checked.dropped)


class _Checked:
    """Sentences as they come."""

    def __init__(self, entries: Sequence[Entry], containment: float, show: Callable[[str], None]) -> None:
        self._entries, self._containment, self._show = entries, containment, show
        self._text, self._seen = "", 0
        self._said: set[str] = set()
        self.kept: list[str] = []
        self.sources: list[int] = []
        self.dropped = 0
        self._repeats = False

    @property
    def is_enough(self) -> bool:
        """Whether nothing more is wanted: there is enough, or the model says the same again."""
        return len(self.kept) >= MOST_SENTENCES or self._repeats

    def add(self, piece: str) -> None:
        """More of the text."""
        self._text += piece
        for sentence in sentences(self._text)[self._seen : -1]:
            self._take(sentence)

    def finish(self, *, is_whole: bool) -> None:
        """The text has ended; a last sentence that was cut is left out."""
        for sentence in sentences(self._text)[self._seen :]:
            if is_whole or sentence.endswith(ENDS):
                self._take(sentence)

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
            self.dropped += 1
            return
        if found.entry not in self.sources:
            self.sources.append(found.entry)
        shown = f"{sentence} [{self.sources.index(found.entry) + 1}]"
        self.kept.append(shown)
        self._show(shown)
