"""Text that a tuned language model writes for rows of any number, a window at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from peftlab.artifact.saved_run import SavedRun
from peftlab.core.capabilities import GeneratesText
from peftlab.core.errors import DataError, UnsupportedError
from peftlab.core.reporter import Reporter
from peftlab.core.splits import Example, Split
from peftlab.data.columns import check_columns, take
from peftlab.data.streaming import RowStream, unchecked_splits_of
from peftlab.inference.tuned_model import TunedModel
from peftlab.tasks.language.generation import TextPieces, generate_tokens, prompt_room, response_ends, text_room

WINDOW_BATCHES = 8
"""So many batches of rows are sorted by length together; their answers come together too."""


@dataclass(frozen=True)
class GenerationOptions:
    """How text is written.

    Args:
        max_new_tokens: Where a text is cut that does not end by itself.
        temperature: 0: always the most likely token.
        needs_room: Whether a prompt is refused that leaves no room for so many new tokens; otherwise a text ends where
            the model's positions do, as in evaluation.
    """

    max_new_tokens: int
    temperature: float = 0.0
    needs_room: bool = False


@dataclass(frozen=True)
class GeneratedText:
    """What a model wrote for one prompt.

    Args:
        text: As the task gives it to a user.
        new_tokens: How many, without the end token.
        finish_reason: ``stop`` where the model ended the text, ``length`` where it was cut.
    """

    text: str
    new_tokens: int
    finish_reason: str


def generating_task(run: TunedModel | SavedRun) -> GeneratesText:
    """The task of a run whose model writes text.

    Raises:
        UnsupportedError: It writes none.
    """
    task = run.recipe.task
    if not isinstance(task, GeneratesText):
        raise UnsupportedError(
            f"a run of {task.registered_name} does not write text",
            where=str(run.folder),
            hint="Choose a run of instruction_tuning, text_generation or causal_lm.",
        )
    return task


def options_of(tuned: TunedModel, *, max_new_tokens: int | None = None, temperature: float = 0.0) -> GenerationOptions:
    """Options whose default is the recipe's, and what evaluation does; room for what is asked for must be there.

    Raises:
        UnsupportedError: The model writes no text.
    """
    own = generating_task(tuned).new_tokens()
    return GenerationOptions(max_new_tokens or own, temperature, needs_room=max_new_tokens is not None)


def generate(
    tuned: TunedModel,
    prompts: Sequence[Sequence[int]],
    options: GenerationOptions,
    *,
    show: Callable[[str], None] | None = None,
    show_row: Callable[[int, str], None] | None = None,
    is_wanted: Callable[[int], bool] | None = None,
) -> list[GeneratedText]:
    """What a model writes after each prompt; all of them are one batch.

    Args:
        tuned: The model.
        prompts: Tokens; :func:`check_room` has let them pass.
        options: How text is written.
        show: Is given the text of the only prompt, piece by piece, as it is written.
        show_row: The same for several prompts: is given a prompt's place, and a piece.
        is_wanted: Is asked at each token whether a prompt's text is still wanted.

    Raises:
        UnsupportedError: The model writes no text.
    """
    task, tokenizer = generating_task(tuned), tuned.tokenizer
    model, inference = tuned.module()
    if show is not None:
        show_row = partial(_only, show)
    shown: list[TextPieces] = []
    if show_row is not None:
        tell = [partial(show_row, place) for place in range(len(prompts))]
        shown = [TextPieces(lambda ids: task.written_text(ids, tokenizer), each) for each in tell]
    rows = generate_tokens(
        model,
        prompts,
        inference,
        max_new_tokens=options.max_new_tokens,
        ends=response_ends(task.renderer(tokenizer), model),
        temperature=options.temperature,
        on_row=(lambda place, ids: shown[place].update(ids)) if shown else None,
        is_wanted=is_wanted,
    )
    for pieces, ids in zip(shown, rows, strict=False):
        pieces.finish(ids)
    most = [min(options.max_new_tokens, text_room(model, inference, len(prompt))) for prompt in prompts]
    return [
        GeneratedText(
            text=task.written_text(ids, tokenizer),
            new_tokens=len(ids),
            finish_reason="length" if len(ids) >= own else "stop",
        )
        for ids, own in zip(rows, most, strict=True)
    ]


def _only(show: Callable[[str], None], _: int, piece: str) -> None:
    show(piece)


def generate_rows(
    tuned: TunedModel, stream: RowStream, reporter: Reporter, options: GenerationOptions
) -> Iterator[dict[str, Any]]:
    """A text for each row, in the order of the rows.

    Args:
        tuned: The model.
        stream: The rows; their prompt columns have the names of the recipe's task.
        reporter: Shows the progress, and is told of prompts that were cut.
        options: How text is written.

    Yields:
        ``index`` (from 0), the prompt columns, ``generated``, ``finish_reason`` as in :class:`GeneratedText`, and
        ``truncated``.

    Raises:
        DataError: A row cannot be used; the answers before it have been given.
    """
    task, columns = generating_task(tuned), prompt_columns(tuned)
    needed = task.prompt_columns()
    reporter.start(f"generating ({stream.unit})", stream.total)
    shown = cut = 0
    try:
        for split, done in unchecked_splits_of(stream, columns, optional=set(columns) - set(needed)):
            check_texts(split, needed)
            prompts, first = encode_prompts(tuned, split, options), shown
            for rows in _windows(tuned, len(prompts)):
                answers = _generate_window(tuned, [prompts[row]["input_ids"] for row in rows], options)
                for row, written in zip(rows, answers, strict=True):
                    inputs = {column: split.columns[column][row] for column in columns}
                    answer = {"generated": written.text, "finish_reason": written.finish_reason}
                    truncated = bool(prompts[row].get("truncated", False))
                    cut += truncated
                    yield {"index": split.index[row], **inputs, **answer, "truncated": truncated}
                reached = first + (done - first) * rows.stop // len(prompts)
                reporter.advance(reached - shown)
                shown = reached
    finally:
        reporter.finish()
        if cut:  # said of the answers that were given, too, when a later row cannot be used
            reporter.say(
                f"{cut} of the prompts did not fit into {tuned.max_length} tokens with a response: they were cut, "
                "as in evaluation"
            )


def prompt_columns(tuned: TunedModel) -> tuple[str, ...]:
    """The columns that a prompt is made of, those that may be missing included."""
    return (*generating_task(tuned).prompt_columns(), *tuned.task.optional_columns())


def encode_prompts(tuned: TunedModel, split: Split, options: GenerationOptions) -> list[Example]:
    """Each row's prompt: ``input_ids``, cut as in evaluation, and ``truncated`` where that was needed.

    Raises:
        DataError: A row has no prompt, or too long a one.
    """
    prompts = generating_task(tuned).prompts(split, tuned.tokenizer)
    for row, prompt in enumerate(prompts):
        check_room(tuned, prompt["input_ids"], options, where=split.where(row))
    return prompts


def check_room(tuned: TunedModel, prompt: Sequence[int], options: GenerationOptions, *, where: str) -> None:
    """Refuse a prompt that leaves too little room for what is to be written.

    Raises:
        DataError: The model has too few positions.
        UnsupportedError: torch does not run the model.
    """
    needed = options.max_new_tokens if options.needs_room else 1
    room = prompt_room(*tuned.module(), needed)
    if len(prompt) > room:
        raise DataError(
            f"the prompt has {len(prompt)} tokens; with {needed} new ones, the model has room for {max(0, room)}",
            where=where,
            hint="Shorten the prompt, or ask for fewer new tokens (max_new_tokens).",
        )


def check_texts(split: Split, needed: Sequence[str]) -> None:
    """Refuse rows without a text, and halves of characters, in chats too.

    Args:
        split: Its columns are those of prompts.
        needed: The columns that may not be missing.

    Raises:
        DataError: Naming the row.
    """
    texts = {
        column: [
            value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            for value in values
        ]
        for column, values in split.columns.items()
    }
    shown = replace(split, columns=texts)
    check_columns(shown, needed, ())
    for column in set(texts) - set(needed):
        there = [row for row, value in enumerate(texts[column]) if value is not None]
        check_columns(take(shown, there), [column], ())


def _generate_window(
    tuned: TunedModel, prompts: Sequence[Sequence[int]], options: GenerationOptions
) -> list[GeneratedText]:
    found: dict[int, GeneratedText] = {}
    for positions in tuned.batches([len(prompt) for prompt in prompts]):
        written = generate(tuned, [prompts[at] for at in positions], options)
        found.update(zip(positions, written, strict=True))
    return [found[at] for at in range(len(prompts))]


def _windows(tuned: TunedModel, rows: int) -> Iterator[range]:
    size = WINDOW_BATCHES * tuned.batch_size
    for start in range(0, rows, size):
        yield range(start, min(start + size, rows))
