"""``peftlab.load``: a finished run, or an export of one, in the hands of a program."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.core.capabilities import GeneratesText
from peftlab.core.devices import AUTO, choose_device
from peftlab.core.errors import ConfigError, UnsupportedError
from peftlab.core.files import path_of
from peftlab.core.record import RunRecord
from peftlab.core.reporter import Reporter, Silent
from peftlab.data.data_config import DataConfig
from peftlab.data.given import KINDS, GivenRows, given_rows
from peftlab.data.streaming import RowStream, stream_file, stream_given
from peftlab.inference.evaluate_rows import Evaluation, evaluate_rows
from peftlab.inference.files import options_in_hints, reading_config
from peftlab.inference.load_tuned import load_tuned
from peftlab.inference.predict import answer_rows, check_answers, input_columns, text_row
from peftlab.inference.tuned_model import TunedModel
from peftlab.recipe.schema import Recipe

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, repr=False)
class LoadedRun:
    """A tuned model with its weights in memory; :func:`load` makes it.

    Args:
        tuned: What it is made of.
        reporter: Is told what goes on.
        offline: Allow no network.
    """

    tuned: TunedModel
    reporter: Reporter
    offline: bool

    def __repr__(self) -> str:
        return f"<LoadedRun {self.tuned.name}: {self.recipe.task.registered_name}, {self.tuned.folder}>"

    @property
    def model(self) -> nn.Module:
        """The tuned model, in eval mode; a ``PeftModel`` where the method is one of peft's.

        Raises:
            UnsupportedError: It is an ONNX export.
        """
        if self.tuned.model is None:
            raise UnsupportedError("onnxruntime runs this export; there is no module", where=str(self.tuned.folder))
        return self.tuned.model

    @property
    def tokenizer(self) -> Any:
        """The tokenizer that the run used."""
        return self.tuned.tokenizer

    @property
    def recipe(self) -> Recipe:
        """What ran, every open value filled in."""
        return self.tuned.recipe

    @property
    def record(self) -> RunRecord | None:
        """What the run found; None for an export, which leaves it behind."""
        return self.tuned.record

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; empty where the task has none."""
        return self.tuned.labels

    def predict(self, inputs: Any, *, max_new_tokens: int | None = None) -> list[dict[str, Any]]:
        """An answer for each text or row: what is predicted, with calibrated scores, or what is written.

        Args:
            inputs: A list of texts (of tuples of texts, where the task takes several), or rows with the columns of the
                recipe's task: a list of dicts, a frame, a Dataset, or the :class:`~pathlib.Path` of a table.
            max_new_tokens: Where a text that is written is cut, if it does not end by itself; None: as the recipe says.

        Returns:
            For each of them ``index``, its texts, and the answer as ``peftlab predict --json`` gives it.

        Raises:
            UserError: They are something else, a column is missing, or the run says nothing of new texts.
        """
        check_answers(self.tuned)
        if max_new_tokens is not None and not isinstance(self.recipe.task, GeneratesText):
            raise ConfigError(f"a run of {self.recipe.task.registered_name} writes no text", where="max_new_tokens")
        if isinstance(inputs, list) and not inputs:
            return []
        rows = _rows_of_texts(inputs, self.tuned)
        with options_in_hints(has_options=False):
            stream = self._stream(inputs if rows is None else rows, input_columns(self.tuned), "inputs")
            return list(answer_rows(self.tuned, stream, self.reporter, max_new_tokens=max_new_tokens))

    def evaluate(self, data: Any) -> Evaluation:
        """The scores on rows with what is to be predicted, by the metrics of the run's own evaluation.

        Args:
            data: A list of dicts, a frame, a Dataset, or the path of a table.

        Raises:
            UserError: It is something else, a column is missing, or a label was not seen in training.
        """
        data = Path(data) if isinstance(data, str) else data
        with options_in_hints(has_options=False):
            stream = self._stream(data, self.recipe.task.source_columns(), "data")
            return evaluate_rows(self.tuned, stream, self.reporter, offline=self.offline)

    def _stream(self, data: Any, columns: Sequence[str], where: str) -> RowStream:
        numbers = [column for column in self.recipe.task.number_columns() if column in columns]
        images = self.recipe.task.image_columns()
        if isinstance(data, Path):
            config = reading_config(self.recipe, None, "utf-8")
            return stream_file(data, config, keep=columns, number_columns=numbers, image_columns=images)
        else_wanted = "texts" if where == "inputs" else "a path"
        given = data if isinstance(data, GivenRows) else given_rows(data, where=where, else_wanted=else_wanted)
        if len(given.tables) > 1:
            raise ConfigError(
                f"the {given.kind} holds several splits: {', '.join(given.tables)}", where=where, hint="Give one."
            )
        config = DataConfig(source=given)
        return stream_given(given, config, keep=columns, number_columns=numbers, image_columns=images)


def load(
    folder: Path | str, *, offline: bool = False, device: str = AUTO, reporter: Reporter | None = None
) -> LoadedRun:
    """Load what a run left, or what ``peftlab export`` made of it, ready to answer.

    Args:
        folder: Of the run or the export.
        offline: Allow no network.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        reporter: Tells a person what is going on; None: nothing is told.

    Raises:
        UserError: There is no finished run in the folder, or its base model cannot be loaded.
    """
    folder = path_of(folder, "the folder of a run", where="folder")
    reporter = reporter or Silent()
    tuned = load_tuned(folder, offline=offline, device=choose_device(device), report=reporter.say)
    return LoadedRun(tuned, reporter, offline)


def _rows_of_texts(inputs: Any, tuned: TunedModel) -> GivenRows | None:
    """The rows of a list of texts, or of tuples of texts; None where these are rows already.

    Raises:
        ConfigError: It is a single text, or texts and rows are mixed.
    """
    if isinstance(inputs, str):
        raise ConfigError("a list is needed, not a text", where="inputs", hint="Write predict([text]).")
    if not isinstance(inputs, list) or not any(isinstance(item, str | tuple) for item in inputs):
        return None
    columns, rows = tuned.task.input_columns(), []
    for position, item in enumerate(inputs):
        if isinstance(item, tuple) and len(item) == len(columns):
            rows.append(dict(zip(columns, item, strict=True)))
        elif isinstance(item, str):
            rows.append(text_row(item, tuned))
        else:
            wanted = "a text" if len(columns) == 1 else f"a tuple ({', '.join(columns)})"
            raise ConfigError(
                f"{wanted} is needed, not {reprlib.repr(item)}",
                where=f"inputs.{position}",
                hint=f"Rows are {KINDS}.",
            )
    return GivenRows("list of texts", {"": {name: [row[name] for row in rows] for name in rows[0]}})
