"""The contract of a part of an audit: what it may look at, and the figures that it gives.

A figure says how sure it is: ``n``, what was sampled, and a 95 % interval that is corrected for how many figures of its
kind the part has looked at. Where a part *tests* for a fault, the p-value is corrected in the same way; the audit
corrects once more for the number of parts that test, so that a model without a fault raises an alarm in at most one
audit of twenty.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from peftlab.core.config import RegisteredConfig
from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.registry import Registry
from peftlab.core.reporter import Reporter, Silent
from peftlab.core.splits import Split
from peftlab.core.task import Prediction, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Unit = Literal["share", "difference", "number", "count"]
"""``share``: 0 to 1, shown in percent; ``difference``: of two shares, shown in points."""
Need = Literal["labels", "texts", "columns"]
"""What of a further table is read."""


@dataclass(frozen=True)
class Sample:
    """The values that a figure comes from, so that two runs on the same rows can be compared in pairs.

    Args:
        units: What each value is of, such as rows or names; equal in two runs where the same was sampled.
        values: One for each.
        is_first: Of each unit, whether it is of the first of two groups, the difference of whose means the figure is;
            None: the figure is the mean of all.
    """

    units: Sequence[Any]
    values: NDArray[np.float64]
    is_first: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Figure:
    """One thing that an audit has measured.

    Args:
        name: ``<part>.<what>``; threshold files use it.
        value: In the unit.
        n: How many were sampled.
        sentence: What it means, for people who know nothing of statistics.
        sampled: What ``n`` counts: texts, names, words, …
        low: Lower end of the corrected 95 % interval; None: there is none.
        high: Upper end.
        unit: How the value is shown.
        higher_is_better: None: neither.
        p_value: Of the assumption that there is no fault, corrected for all that the part has tested. None: not tested.
        is_fault: A fact that needs no test, such as a test row that was trained on.
        examples: Rows that show it: plain JSON values by column.
        sample: What it is the mean of, where it is one.
    """

    name: str
    value: float
    n: int
    sentence: str
    sampled: str = "texts"
    low: float | None = None
    high: float | None = None
    unit: Unit = "share"
    higher_is_better: bool | None = False
    p_value: float | None = None
    is_fault: bool = False
    examples: Sequence[Mapping[str, Any]] = ()
    sample: Sample | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Findings:
    """What a part gives: figures, and sentences on what could not be looked at."""

    figures: Sequence[Figure]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class AttributedWord:
    """A word of a text, and what it adds to a score.

    Args:
        text: As it is written.
        after_blank: Whether a blank stands before it.
        value: Positive: towards the class.
    """

    text: str
    after_blank: bool
    value: float


class AuditedModel(Protocol):
    """A tuned model as an audit asks it."""

    @property
    def name(self) -> str:
        """The run's."""

    @property
    def task(self) -> Task:
        """What it does."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""

    def predict(self, rows: Split) -> list[Prediction]:
        """What it says of each row, with calibrated scores."""

    def logits(self, rows: Split) -> NDArray[np.float64] | None:
        """Rows × classes, not calibrated; None where a row has no such vector."""

    def log_likelihoods(self, texts: Sequence[str]) -> NDArray[np.float64] | None:
        """Of each text, the log-probability (natural) of its tokens; None where the model is no language model."""

    def pair_log_likelihoods(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64] | None:
        """How likely both are (pairs × 2), by a masked model what they share; None where the model does not say."""

    def write(self, prompts: Sequence[str]) -> list[str] | None:
        """What it writes after each prompt; None where it writes no text."""

    def attributions(self, text: str, target: str) -> list[AttributedWord] | None:
        """What each word of a text adds to the score of a class; None where the model cannot be explained."""

    def randomized(self) -> AuditedModel | None:
        """The same model with the numbers of each of its weights in another order; None where there is no such copy."""

    def embed(self, rows: Split) -> NDArray[np.float64]:
        """Rows × size: a vector for each text; of the model where it has one, else of the text's words."""


class ReadTable(Protocol):
    """Reads another table for a part, in the way that the audited rows are read."""

    def __call__(self, path: Path, *, need: Need, columns: Sequence[str] = ()) -> Split:
        """The rows of a file.

        Args:
            path: The file.
            need: The texts and what is right, the texts, or the columns alone that are named.
            columns: To read beside these.

        Raises:
            DataError: There is no such file, or a column is missing.
        """


@dataclass(frozen=True)
class Audited:
    """What a part may look at.

    Args:
        model: That is audited.
        rows: With what is right; columns for slices are among theirs.
        predictions: What the model says of the rows.
        train: What it was trained on, where that can still be read.
        slices: Columns of the rows by which errors are parted.
        reporter: Is told what a part does.
        seed: Of all that is drawn.
        read_table: Reads further tables that a part is told of; None: there are none to read.
    """

    model: AuditedModel
    rows: Split
    predictions: Sequence[Prediction]
    train: Split | None = None
    slices: Sequence[str] = ()
    reporter: Reporter = field(default_factory=Silent)
    seed: int = 0
    read_table: ReadTable | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def task(self) -> Task:
        """What the model does."""
        return self.model.task

    @cached_property
    def texts(self) -> list[str]:
        """Each row's text; those of several columns with a blank line between them."""
        return texts_of(self.rows, self.task)

    @cached_property
    def embeddings(self) -> NDArray[np.float64]:
        """The vector of each row."""
        return self.model.embed(self.rows)

    @cached_property
    def errors(self) -> NDArray[np.float64]:
        """How wrong the model is on each row: see :func:`errors_of`."""
        return errors_of(self.task, self.predictions)

    @cached_property
    def classes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """The right class of each row and the model's, as positions in ``labels``; None where a row has not one."""
        return classes_of(self.predictions, self.model.labels)

    @cached_property
    def probabilities(self) -> NDArray[np.float64] | None:
        """Rows × classes; None where the task gives none."""
        import numpy as np

        count = len(self.model.labels)
        fits = all(len(prediction.scores) == count for prediction in self.predictions)
        if self.classes is None or not self.task.has_probabilities or not fits:
            return None
        return np.array([prediction.scores for prediction in self.predictions], dtype=np.float64)

    @property
    def why_not_rewritten(self) -> str:
        """Why the model cannot be asked about the rows with other texts, as a sentence; empty: it can."""
        return "its rows hold images, and only texts are changed" if self.has_images else self.task.why_not_rewritten

    @property
    def has_images(self) -> bool:
        """Whether what stands in the place of texts are images, of which ``texts`` has the names."""
        return bool(self.task.image_columns())

    @cached_property
    def counts_errors(self) -> bool:
        """Whether an error is a share of wrong decisions; else it is a distance."""
        decided = (right for prediction in self.predictions for right, _ in self.task.decisions(prediction))
        return not any(isinstance(right, float) for right in decided)

    def table(self, path: Path, *, need: Need, columns: Sequence[str] = ()) -> Split:
        """The rows of another file: see :class:`ReadTable`.

        Raises:
            UserError: It cannot be read, or not here.
        """
        if self.read_table is None:
            raise UnsupportedError("no further tables can be read here", where=str(path))
        return self.read_table(path, need=need, columns=columns)

    def random(self, purpose: str) -> np.random.Generator:
        """Random numbers that are the same in each audit of the same rows."""
        import numpy as np

        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])

    def sample(self, purpose: str, most: int) -> list[int]:
        """Positions of at most so many rows, drawn at random, in order."""
        if len(self) <= most:
            return list(range(len(self)))
        return sorted(self.random(purpose).choice(len(self), size=most, replace=False).tolist())

    def rewritten(self, positions: Sequence[int], rewrite: Callable[[Any], Any]) -> Split:
        """The rows at some positions, with each of their texts rewritten."""
        columns = {name: [values[at] for at in positions] for name, values in self.rows.columns.items()}
        for name in self.task.text_columns():
            columns[name] = [rewrite(value) for value in columns[name]]
        return Split(self.rows.name, [self.rows.index[at] for at in positions], columns, self.rows.source)

    def ask(self, positions: Sequence[int], texts: Sequence[str]) -> list[Prediction]:
        """What the model says of the rows at some positions, each with another text; for tasks of one text a row.

        A text without anything becomes a full stop, as models need a token to look at.
        """
        (_,) = self.task.text_columns()
        given = iter([text if text.strip() else "." for text in texts])
        return self.model.predict(self.rewritten(positions, lambda _: next(given)))

    def example(self, position: int, **more: Any) -> dict[str, Any]:
        """A row as a page shows it: its place in the table, its text, what is right, and what the model says."""
        prediction = self.predictions[position]
        said = {"label": prediction.label, "prediction": prediction.prediction}
        has_answer = prediction.prediction is not None
        return {**self.rows.place(position), "text": self.texts[position], **(said if has_answer else {}), **more}


def texts_of(rows: Split, task: Task) -> list[str]:
    """Each row's text as people read it."""
    return task.shown_texts(rows)


def errors_of(task: Task, predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    """For each row the share of its decisions that are wrong, or how far its numbers are off on average."""
    import numpy as np

    found = []
    for prediction in predictions:
        pairs = task.decisions(prediction)
        apart = [abs(right - said) if isinstance(right, float) else float(right != said) for right, said in pairs]
        found.append(sum(apart) / len(apart) if apart else 0.0)
    return np.array(found, dtype=np.float64)


def changes_of(task: Task, before: Sequence[Prediction], after: Sequence[Prediction]) -> NDArray[np.float64]:
    """For each row the share of its decisions that have changed; of numbers, how far they have moved on average."""
    import numpy as np

    found = []
    for first, second in zip(before, after, strict=True):
        said = [answer for _, answer in task.decisions(first)]
        now = [answer for _, answer in task.decisions(second)]
        if len(said) != len(now):
            found.append(1.0)
            continue
        moved = [abs(a - b) if isinstance(a, float) else float(a != b) for a, b in zip(said, now, strict=True)]
        found.append(sum(moved) / len(moved) if moved else 0.0)
    return np.array(found, dtype=np.float64)


def classes_of(
    predictions: Sequence[Prediction], labels: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """The right class of each row and the model's, as positions in ``labels``; None where a row has not just one."""
    import numpy as np

    positions = {name: at for at, name in enumerate(labels)}
    try:
        pairs = [(positions[each.label], positions[each.prediction]) for each in predictions]
    except (KeyError, TypeError):  # no class of these, or a list of several
        return None
    right, said = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return right, said


class Audit(RegisteredConfig, ABC):
    """A part of an audit. The docstring's first line is what ``peftlab ls audits`` shows.

    Its fields are set by ``peftlab audit --set <part>.<key>=<value>``.
    """

    if TYPE_CHECKING:  # a class that was looked up by its name takes its own keys

        def __init__(self, **keys: Any) -> None: ...

    required_attributes: ClassVar[tuple[str, ...]] = ("title",)
    title: ClassVar[str]
    """Its heading on the page."""
    order: ClassVar[int] = 100
    """Where it stands on the page; the least first."""
    asks_likelihoods: ClassVar[bool] = False
    """Whether it asks how likely the texts of its ``tables`` are, which a run says too that answers nothing."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Refuse a part that cannot do without settings: an audit runs all parts that are installed.

        Raises:
            ConfigError: Naming the key.
        """
        super().__pydantic_init_subclass__(**options)
        needed = [name for name, key in cls.model_fields.items() if key.is_required()]
        if needed:
            raise ConfigError(
                f"the part {cls.__name__} has no default for {', '.join(needed)}, and an audit runs all parts",
                where=f"{cls.__module__}.{cls.__qualname__}",
                hint="Give it one, such as None, and let `why_not` say what is missing.",
            )

    def why_not(self, audited: Audited) -> str | None:
        """Why it says nothing of this model and these rows, as a sentence; None: it can."""
        return None

    def columns(self) -> tuple[str, ...]:
        """Columns of the rows that it needs beside the task's."""
        return ()

    def tables(self) -> tuple[str, ...]:
        """Files that it reads: whether they are there is looked at before anything is read."""
        return ()

    def texts_read(self, audited: Audited) -> int:
        """About how many texts the model will read for it: what the progress bar goes by."""
        return 0

    @abstractmethod
    def run(self, audited: Audited) -> Findings:
        """Look.

        Raises:
            UserError: What it was told to look at cannot be used.
        """


AUDITS: Registry[Audit] = Registry(
    "audit", package="peftlab.audit.parts", entry_point_group="peftlab.audits", base=Audit
)
