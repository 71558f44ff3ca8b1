"""The first part of a task, *rows*: which columns it takes, what it checks of them, and how rows become examples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.model_facts import Family, ModelFacts, TokenizerFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.core.task_guess import Guesser, no_guess

if TYPE_CHECKING:
    from peftlab.core.task import Task


class TaskRows(ABC):
    """Rows into examples. A new task writes ``text_columns`` and ``encode``; the rest where its rows need more."""

    registered_name: ClassVar[str]
    labels_are_texts: ClassVar[bool] = False
    """Whether what is to be predicted is free text, of which several may be right for one text: then rows with equal
    texts are duplicates only where their labels are equal too, and such labels are no conflict."""
    compared_by: ClassVar[str] = "text"
    """What two rows have in common that ``compared_texts`` makes equal, in a word for people."""
    guess: ClassVar[Guesser] = staticmethod(no_guess)
    """What the task could learn from a table's columns, for ``peftlab init``; by default nothing."""
    takes_augmentation: ClassVar[bool] = False
    """Whether a row stays right when ``data.augmentation`` changes its texts a little."""
    why_not_augmented: ClassVar[str] = "it does not say whether a row stays right when its texts are changed a little"
    """Why it does not; completes ``the task … takes no augmentation: …``."""
    why_not_rewritten: ClassVar[str] = ""
    """Why an audit cannot ask about a row with other texts, as a sentence; empty: it can."""
    train_rows_key: ClassVar[str | None] = None
    """Of a task that makes its own data where a recipe has no section ``data``: the key that says how many rows for
    training. None: it makes none."""

    families: ClassVar[Collection[Family]] = frozenset({"encoder", "decoder", "encoder_decoder", "unknown"})
    """The models that it is for; a task may refuse more of them in ``check``."""

    @abstractmethod
    def text_columns(self) -> tuple[str, ...]:
        """The columns that hold text, or images; also what makes two rows duplicates."""

    def image_columns(self) -> tuple[str, ...]:
        """Those of the text columns that hold images; their values are :class:`~peftlab.core.image_file.ImageFile`."""
        return ()

    def label_columns(self) -> tuple[str, ...]:
        """The columns that hold what is to be predicted; by default none."""
        return ()

    def told_apart_by(self) -> tuple[str, ...]:
        """Columns that must be equal too for one of two training rows with equal texts to be a duplicate."""
        return self.label_columns() if self.labels_are_texts else ()

    def source_columns(self) -> tuple[str, ...]:
        """The columns to read from the source, of which ``arrange`` makes the text and label columns."""
        return (*self.text_columns(), *self.label_columns())

    def optional_columns(self) -> tuple[str, ...]:
        """Those of the source's columns that may be missing; ``arrange`` gets them as None in every row."""
        return ()

    def arrange(self, split: Split) -> Split:
        """Make a split with the text and label columns of the source's rows, before anything is removed or cut.

        Raises:
            DataError: Naming the row.
        """
        return split

    def nullable_columns(self) -> tuple[str, ...]:
        """Those of the source's columns in which an empty value says something, such as that no label applies."""
        return ()

    def tidy_rows(self, split: Split) -> Split:
        """Write in one way what tables write in several, such as blanks around a label; empty values are None.

        Called when a split is arranged, and for every part of a table that is predicted or scored; label columns may
        be missing then.
        """
        return split

    def classes(self, split: Split) -> Collection[str]:
        """The classes that occur in a split; empty where there are none."""
        return set(self.strata(split) or ())

    def number_columns(self) -> tuple[str, ...]:
        """Those of the source's columns that hold numbers, which tables write in several ways."""
        return ()

    def compared_texts(self, split: Split) -> list[Sequence[Any]]:
        """For each row the texts that make it equal to another one: strings, or lists of strings."""
        return list(zip(*(split.columns[column] for column in self.text_columns()), strict=True))

    def shown_texts(self, split: Split) -> list[str]:
        """Each row's text as people read it; those of several columns with a blank line between them."""
        columns = [split.columns[column] for column in self.text_columns()]
        return [
            "\n\n".join(value if isinstance(value, str) else " ".join(map(str, value)) for value in row)
            for row in zip(*columns, strict=True)
        ]

    def make_splits(self, seed: int) -> dict[str, Split]:
        """The data that the task makes itself: ``train``, and others of any name, of which all but train are scored.

        Raises:
            ConfigError: The task makes no data.
        """
        raise ConfigError(f"the task {self.registered_name} needs the section `data`", where="task")

    def build_tokenizer(self, train: Split, vocabulary_size: int) -> Any:
        """A new tokenizer for a model that starts from nothing.

        Args:
            train: The training split; nothing else may be looked at.
            vocabulary_size: Tokens at most.

        Raises:
            UnsupportedError: The task's models start from a checkpoint.
        """
        raise UnsupportedError(
            f"the task {self.registered_name} has no tokenizer of its own for a model that starts from nothing",
            hint="Name one with model.tokenizer.",
        )

    def strata(self, split: Split) -> list[str] | None:
        """The class of each row, by which splits are stratified; None where there are no classes."""
        return None

    def check(self, facts: ModelFacts) -> None:  # noqa: B027 - a task may have nothing to refuse
        """Refuse a model that the task cannot use.

        Raises:
            UnsupportedError: With the reason.
        """

    def learn_model(self, facts: ModelFacts) -> dict[str, Any]:
        """What the task must know of the base model later on, as plain JSON; it becomes a part of ``learned``."""
        return {}

    def learn_labels(self, train: Split) -> tuple[str, ...]:
        """The names of the classes, from the training split; empty, as by default, where there are none.

        Raises:
            DataError: The labels cannot be used, such as a split with one class.
        """
        return ()

    def learn(self, train: Split) -> dict[str, Any]:
        """What the task must know of the training split beside the classes, as plain JSON; the record holds it.

        Raises:
            DataError: The split cannot be learned from.
        """
        return {}

    def notices(self, splits: Mapping[str, Split], labels: tuple[str, ...]) -> dict[str, str]:
        """How the labels were understood, where a person could think otherwise: a sentence each, for the record."""
        return {}

    def check_split(self, split: Split, labels: tuple[str, ...]) -> None:  # noqa: B027
        """Check every row of a split against the labels; by default any row will do.

        Raises:
            DataError: Naming the row.
        """

    def check_tokenizer(self, split: Split, tokenizer: TokenizerFacts) -> None:  # noqa: B027
        """Refuse rows of a split that the model's tokenizer, or its chat template, cannot show to the model.

        Raises:
            DataError: Naming the row.
            UnsupportedError: No row can be shown.
        """

    def at_time(self, now: datetime, tokenizer: TokenizerFacts | None, earlier: Task | None) -> Self:
        """The same task; where the model reads the time, it is one for good.

        Args:
            now: In UTC.
            tokenizer: Of the model, where it is known.
            earlier: The task of the run that is resumed, if one is; its time goes on.
        """
        return self

    @abstractmethod
    def encode(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Tokenise the rows of a split.

        An example is a dictionary of the task's own, which only its ``collate`` reads. By convention ``input_ids``
        holds all its tokens; a task whose examples hold something else says how long they are by ``length``.
        """

    def placeholder(self, length: int, labels: tuple[str, ...]) -> Example:
        """An encoded example of so many tokens that says nothing: for estimates, where no text is at hand.

        Where tokens carry labels, as many do as can.
        """
        return {"input_ids": [0] * length, "label": 0}

    # --- rows of others, when the model is used ---------------------------------------------------------------------

    def input_columns(self) -> tuple[str, ...]:
        """The columns that an answer is made from, when a tuned model is used; by default the columns of text."""
        return self.text_columns()

    @property
    def labels_by_row(self) -> bool:
        """Whether a row of a table, as it is written there, is what gets a label: its own columns are what is read."""
        return set(self.input_columns()) <= set(self.source_columns())

    def input_choices(self) -> tuple[tuple[str, ...], ...]:
        """Several sets of columns, of each of which an answer can be made; the first that a table has whole is taken.

        By default ``input_columns`` alone, which are also those of a text that stands alone.
        """
        return (self.input_columns(),)

    def encode_inputs(self, split: Split, tokenizer: Any, labels: tuple[str, ...]) -> EncodedSplit:
        """Tokenise rows of which only ``input_columns`` are known; by default with labels that say nothing.

        Raises:
            UnsupportedError: The task predicts nothing for rows without a label.
        """
        columns = {**split.columns, **(self.placeholder_labels(split, labels) if self.label_columns() else {})}
        return self.encode(replace(split, columns=columns), tokenizer, labels)

    def placeholder_labels(self, split: Split, labels: tuple[str, ...]) -> Mapping[str, Sequence[Any]]:
        """Values for the label columns of rows that have no label, so that they can be encoded like others.

        Raises:
            UnsupportedError: The task predicts nothing for rows without a label.
        """
        raise UnsupportedError(f"the task {self.registered_name} does not predict on texts without labels")
