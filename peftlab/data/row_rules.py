"""What a task says of the rows that it reads, as far as the splits of a run depend on it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from peftlab.core.splits import Split
from peftlab.data.duplicates import text_key

Strata = Callable[[Split], list[str] | None]
Arrange = Callable[[Split], Split]
Classes = Callable[[Split], Collection[str]]


@dataclass(frozen=True)
class RowRules:
    """How the rows of a source become those of a run.

    Args:
        text_columns: The columns that hold text, or lists of tokens; two rows that agree in them are duplicates.
        label_columns: The columns that hold what is to be predicted.
        strata: The class of each row of a split, to give every split the same shares of them; None: no classes.
        arrange: Makes the text and label columns of the source's.
        source_columns: The columns to read; None: the text and label columns themselves.
        optional_columns: Those of them that the source may lack.
        nullable_columns: Those of them in which an empty value says something, and is not missing.
        number_columns: Those of them that hold numbers: commas before decimals become points.
        image_columns: Those of them that hold images.
        classes: The classes that occur in a split.
        compared_texts: For each row the texts that make it equal to another; None: its text columns.
        labels_are_texts: Whether rows with equal texts may have different labels.
        told_apart_by: Columns that must be equal too for rows with equal texts to be duplicates; such rows never get
            into two splits in any case.
        beside: Columns that are read for somebody else than the task: the data's fingerprint does without them.
    """

    text_columns: Sequence[str]
    label_columns: Sequence[str]
    strata: Strata = lambda split: None
    arrange: Arrange = lambda split: split
    source_columns: Sequence[str] | None = None
    optional_columns: Sequence[str] = ()
    nullable_columns: Sequence[str] = ()
    number_columns: Sequence[str] = ()
    image_columns: Sequence[str] = ()
    classes: Classes = lambda split: ()
    compared_texts: Callable[[Split], Sequence[Sequence[Any]]] | None = None
    labels_are_texts: bool = False
    told_apart_by: Sequence[str] = ()
    beside: Sequence[str] = ()
    _known: dict[tuple[Any, ...], bytes] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Digests by the texts: those of a row are asked for at each step on the way."""

    @property
    def columns(self) -> list[str]:
        """The columns to read."""
        return list(dict.fromkeys(self.source_columns or [*self.text_columns, *self.label_columns]))

    def keys(self, split: Split) -> list[bytes]:
        """Equal for rows whose texts are equal."""
        if self.compared_texts is None:
            return self.keys_to_draw_by(split)
        return [self._key(tuple(texts)) for texts in self.compared_texts(split)]

    def keys_to_draw_by(self, split: Split) -> list[bytes]:
        """Of all of a row's texts: rows are drawn in an order that these and a seed make."""
        return [self._key(texts) for texts in zip(*(split.columns[name] for name in self.text_columns), strict=True)]

    def _key(self, texts: tuple[Any, ...]) -> bytes:
        try:
            return self._known[texts]
        except KeyError:
            return self._known.setdefault(texts, text_key(texts))
        except TypeError:  # lists of tokens, which no dictionary takes
            return text_key(texts)
