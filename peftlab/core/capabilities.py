"""What some tasks can do beside predicting: inference and serving ask for these, and for no task by its class.

A task has a capability when it has the methods; ``isinstance(task, EmbedsText)`` tells. A task that names one in its
``capabilities`` is checked when it is registered, so that a method that was forgotten is an error with its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from peftlab.core.errors import ConfigError
from peftlab.core.splits import Example, Split

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class GeneratesText(Protocol):
    """A task whose model writes text after a prompt: ``predict`` prints it, ``chat`` and ``/v1/generate`` ask it."""

    def prompt_columns(self) -> tuple[str, ...]:
        """The columns that a text is to be written for."""

    def prompt_row(self, text: str) -> dict[str, Any]:
        """The row of a text that stands alone.

        Raises:
            DataError: It cannot be one.
        """

    def prompts(self, split: Split, tokenizer: Any) -> list[Example]:
        """Each row's prompt: ``input_ids``, and ``truncated`` where it was cut.

        Raises:
            DataError: A row has no prompt.
            UnsupportedError: The task's settings allow no generation.
        """

    def conversation_prompt(
        self, messages: Sequence[Any], tokenizer: Any, tools: Sequence[Any] | None = None
    ) -> Example:
        """The prompt of a conversation whose next message is to be written; a message has ``role`` and ``content``.

        Raises:
            UnsupportedError: The task has not learned from conversations.
        """

    def renderer(self, tokenizer: Any) -> Any:
        """How what a user says becomes tokens; ``peftlab.tasks.language.rendering.Renderer``."""

    def new_tokens(self) -> int:
        """Where a generated text is cut that does not end by itself."""

    def written_text(self, ids: Sequence[int], tokenizer: Any) -> str:
        """The text of generated tokens."""


@runtime_checkable
class EmbedsText(Protocol):
    """A task whose model gives a vector for a text. Its ``logits`` of a batch of such examples are the vectors."""

    def embedding_examples(self, texts: Sequence[str], tokenizer: Any) -> list[Example]:
        """An example for each text; together they can be collated."""

    def embeddings(self, logits: Tensor) -> Tensor:
        """The vectors (texts × size) that a user gets, from the logits of a batch of these examples."""


@runtime_checkable
class ScoresPairs(Protocol):
    """A task whose model says how well a document answers a query, or how alike two texts are."""

    def pair_examples(self, pairs: Sequence[tuple[str, str]], tokenizer: Any) -> list[Example]:
        """An example for each pair; together they can be collated."""

    def pair_scores(self, logits: Tensor) -> Tensor:
        """One score a pair (pairs), the higher the better, from the logits of a batch of these examples."""


@runtime_checkable
class JudgesResponses(Protocol):
    """A task whose model says how good a response to a prompt is: reinforcement can learn from its runs."""

    def response_examples(self, texts: Sequence[Sequence[int]]) -> list[Example]:
        """An example for each prompt with its response, given as tokens; together they can be collated."""

    def response_rewards(self, logits: Tensor) -> Tensor:
        """One reward a response (responses), the higher the better, from the logits of a batch of these examples."""


CAPABILITIES: tuple[type, ...] = (GeneratesText, EmbedsText, ScoresPairs, JudgesResponses)


def check_capabilities(cls: type, declared: Sequence[type]) -> None:
    """Refuse a task that declares what it does not have.

    Raises:
        ConfigError: Naming the methods that are missing.
    """
    for capability in declared:
        if capability not in CAPABILITIES:
            raise ConfigError(
                f"the task {cls.__name__} declares the capability {getattr(capability, '__name__', capability)!r}, "
                "which is unknown",
                where=f"{cls.__module__}.{cls.__qualname__}",
                hint=f"Known: {', '.join(known.__name__ for known in CAPABILITIES)} of peftlab.core.capabilities.",
            )
        methods = [name for name, value in vars(capability).items() if callable(value) and not name.startswith("_")]
        missing = [name for name in methods if not callable(getattr(cls, name, None))]
        if missing:
            raise ConfigError(
                f"the task {cls.__name__} declares {capability.__name__}, but has no {', '.join(missing)}",
                where=f"{cls.__module__}.{cls.__qualname__}",
                hint="Write the methods, or take the capability out of `capabilities`.",
            )
