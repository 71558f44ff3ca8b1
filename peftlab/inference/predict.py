"""Predictions on rows of any number, a chunk at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from peftlab.core.amounts import plural
from peftlab.core.capabilities import GeneratesText
from peftlab.core.errors import UnsupportedError, UserError
from peftlab.core.reporter import Reporter, progress_bar
from peftlab.core.splits import EncodedSplit, Split
from peftlab.core.task import Task
from peftlab.data.columns import check_columns
from peftlab.data.streaming import RowStream, splits_of, unchecked_splits_of
from peftlab.inference.generate import generate_rows, options_of, prompt_columns
from peftlab.inference.tuned_model import TunedModel

DIGITS = 6
"""Of the scores that are written: float32 has no more."""


def predict_rows(tuned: TunedModel, stream: RowStream, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """An answer for each row, in the order of the rows.

    Args:
        tuned: The model.
        stream: The rows; their text columns have the names of the recipe's task.
        reporter: Shows the progress, and is told of texts that were cut.

    Yields:
        ``index`` (from 0), the text columns, what the task answers, and ``truncated``.

    Raises:
        DataError: A row cannot be used; the answers before it have been given.
    """
    cut = 0
    for split, encoded in encoded_chunks(tuned, stream, reporter):
        columns, predictions = tuple(split.columns), tuned.predict(encoded.examples)
        for row, (example, prediction) in enumerate(zip(encoded.examples, predictions, strict=True)):
            inputs = {column: split.columns[column][row] for column in columns}
            truncated = bool(example.get("truncated", False))
            cut += truncated
            answer = rounded(tuned.task.answer(prediction, inputs, tuned.labels))
            yield {"index": split.index[row], **inputs, **answer, "truncated": truncated}
    if cut and getattr(tuned.task, "windows", None) is None:
        reporter.say(f"{plural(cut, 'text')} longer than {tuned.max_length} tokens: cut to that length")
    elif cut:
        reporter.say(f"{cut} of the texts have more windows than this run reads, and lost their end")


def answer_rows(
    tuned: TunedModel, stream: RowStream, reporter: Reporter, *, max_new_tokens: int | None = None
) -> Iterator[dict[str, Any]]:
    """An answer for each row, whatever the task: what is predicted, or what is written.

    Args:
        tuned: The model.
        stream: The rows, with :func:`input_columns`.
        reporter: Shows the progress.
        max_new_tokens: Where a text is cut that does not end by itself; None: as the recipe says.

    Raises:
        UserError: The model says nothing of new texts, or writes none.
    """
    check_answers(tuned)
    if isinstance(tuned.task, GeneratesText):
        return generate_rows(tuned, stream, reporter, options_of(tuned, max_new_tokens=max_new_tokens))
    if max_new_tokens is not None:
        raise UserError(f"a run of {tuned.task.registered_name} writes no text", where="--max-new-tokens")
    return predict_rows(tuned, stream, reporter)


def input_columns(tuned: TunedModel) -> tuple[str, ...]:
    """The columns that an answer is made from, or can be made from."""
    if isinstance(tuned.task, GeneratesText):
        return prompt_columns(tuned)
    return tuple(dict.fromkeys(itertools.chain(*tuned.task.input_choices())))


def chosen_columns(tuned: TunedModel, stream: RowStream) -> tuple[tuple[str, ...], RowStream]:
    """Those of the task's choices of columns that a stream's rows have, and the stream with all of its rows.

    Where they have none, it is the columns of a text that stands alone: the checks then say that they are missing.
    """
    choices = tuned.task.input_choices()
    if len(choices) == 1:
        return choices[0], stream
    first = next(stream.chunks, None)
    if first is None:
        return tuned.task.input_columns(), stream
    found = {name for name, values in first[0].columns.items() if any(value is not None for value in values)}
    own = next((columns for columns in choices if found.issuperset(columns)), tuned.task.input_columns())
    return own, replace(stream, chunks=itertools.chain([first], stream.chunks))


def check_answers(tuned: TunedModel) -> None:
    """Refuse a model that is only a beginning for others.

    Raises:
        UnsupportedError: It neither predicts nor writes.
    """
    if tuned.task.why_no_answers:
        raise UnsupportedError(
            f"a run of {tuned.task.registered_name} {tuned.task.why_no_answers}",
            where=tuned.name,
            hint="Start a run of another task from it: model.path names this run's folder.",
        )


def text_row(text: str, tuned: TunedModel) -> dict[str, Any]:
    """The row of a text that stands alone, as an argument or a line; the two texts of a pair have a tab between them.

    Raises:
        UserError: The task takes two texts, and there are not two.
    """
    if isinstance(tuned.task, GeneratesText):
        return tuned.task.prompt_row(text)
    columns = tuned.task.input_columns()
    parts = text.split("\t") if len(columns) > 1 else [text]
    if len(parts) != len(columns):
        raise UserError(
            f"the task takes {len(columns)} texts ({', '.join(columns)}) with a tab between them, not {len(parts)}",
            hint="Or give a file with these columns: --input FILE.",
        )
    return dict(zip(columns, parts, strict=True))


def rounded(value: Any) -> Any:
    """The same value with every float cut to the digits that mean something, however small it is."""
    if isinstance(value, float):
        return round(value, DIGITS) if abs(value) >= 1 or value == 0 else float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


def encoded_chunks(
    tuned: TunedModel, stream: RowStream, reporter: Reporter, *, labelled: bool = False
) -> Iterator[tuple[Split, EncodedSplit]]:
    """The chunks of a stream, checked and tokenised, with progress.

    Args:
        tuned: Its task names the columns.
        stream: The rows.
        reporter: Shows the progress.
        labelled: Whether the label columns are needed too: then the rows are read as a run reads its own.
    """
    task, shown = tuned.task, 0
    with progress_bar(reporter, f"predicting ({stream.unit})", stream.total):
        for split, done in _labelled_splits(task, stream) if labelled else _open_splits(tuned, stream):
            if labelled:
                tuned.task.check_split(split, tuned.labels)
            yield split, tuned.encode(split)
            reporter.advance(done - shown)
            shown = done


def _open_splits(tuned: TunedModel, stream: RowStream) -> Iterator[tuple[Split, int]]:
    columns, stream = chosen_columns(tuned, stream)
    return splits_of(stream, columns, (), tuned.task.tidy_rows)


def _labelled_splits(task: Task, stream: RowStream) -> Iterator[tuple[Split, int]]:
    for chunk, done in unchecked_splits_of(stream, task.source_columns(), optional=task.optional_columns()):
        split = task.tidy_rows(task.arrange(chunk))
        check_columns(split, task.text_columns(), task.label_columns())
        yield split, done
