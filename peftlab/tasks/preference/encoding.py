"""Rows of preferences as tokens: a prompt with one response, and the same prompt with another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from peftlab.core.errors import DataError
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.tasks.language.conversations import CONTEXT, read_context
from peftlab.tasks.language.decoder import shifted
from peftlab.tasks.language.rendering import Renderer, TooLongError, too_long
from peftlab.tasks.preference.rows import CHOSEN, LABEL, MARGIN, REJECTED, RESPONSE, with_response


@dataclass(frozen=True)
class _Row:
    """A row's tokens.

    Args:
        place: In the split.
        prompt: Before each response.
        is_cut: Whether the prompt lost its beginning.
        responses: One or two, each with its end token.
    """

    place: int
    prompt: list[int]
    is_cut: bool
    responses: list[list[int]]


def encode_preferences(
    split: Split, renderer: Renderer, *, max_length: int, drop_too_long: bool, with_others: bool = True
) -> EncodedSplit:
    """Two texts a row: of a pair, either response; of a lone response, it and one to another prompt.

    Args:
        split: Arranged rows.
        renderer: Of the model.
        max_length: Tokens of a text.
        drop_too_long: Whether rows whose response does not fit are left out.
        with_others: Whether a lone response has one to another prompt beside it, that of the nearest row before; else
            its row has one text.

    Raises:
        DataError: A response does not fit, or none does.
    """
    rows, dropped = list[_Row](), 0
    for place in range(len(split)):
        try:
            rows.append(_row(split, place, renderer, max_length))
        except TooLongError:
            if not drop_too_long:
                raise
            dropped += 1
    if not rows:
        raise DataError("no row is left: no response fits into max_length", where=split.source)
    examples = []
    others = _of_other_prompts([split.columns[CONTEXT][row.place] for row in rows]) if with_others else []
    for at, row in enumerate(rows):
        responses = row.responses
        if len(responses) == 1 and with_others:
            responses = [*responses, rows[others[at]].responses[0]]
        texts = [[*row.prompt, *each][:max_length] for each in responses]
        example: Example = {
            "input_ids": [token for text in texts for token in text],
            "lengths": [len(text) for text in texts],
            "prompt_length": len(row.prompt),
            "truncated": row.is_cut,
        }
        for column in (LABEL, MARGIN):
            if column in split.columns:
                example[column] = split.columns[column][row.place]
        examples.append(example)
    counts = Counter(prompts_cut=sum(row.is_cut for row in rows), rows_dropped_response_too_long=dropped)
    index = [split.index[row.place] for row in rows]
    return EncodedSplit(split.name, index, examples, {**counts, **_mean_lengths(split, rows)})


def _of_other_prompts(contexts: Sequence[str]) -> list[int]:
    """For each row the nearest before it with another prompt, from the end on where there is none; else the one before.

    Pairs that were taken apart stand as two rows of one prompt, behind one another.
    """
    others: list[int] = []
    for at, own in enumerate(contexts):
        if contexts[at - 1] != own:
            others.append(at - 1)
        elif at:
            others.append(others[-1])
        else:
            others.append(next((place for place in range(-2, -len(contexts), -1) if contexts[place] != own), -1))
    return others if len(set(contexts)) > 1 else [at - 1 for at in range(len(contexts))]


def _row(split: Split, place: int, renderer: Renderer, max_length: int) -> _Row:
    context, where = read_context(split.columns[CONTEXT][place]), split.where(place)
    messages = [split.columns[name][place] for name in (CHOSEN, REJECTED, RESPONSE) if name in split.columns]
    responses = [renderer.turns(with_response(context, each), where=where)[-1].response for each in messages]
    longest = max(map(len, responses))
    if longest >= max_length:
        raise too_long(longest, max_length, where=where)
    prompt, is_cut = renderer.fit_prompt(context, max_length - longest, where=where)
    return _Row(place, prompt, is_cut, responses)


def _mean_lengths(split: Split, rows: Sequence[_Row]) -> dict[str, float]:
    """Mean tokens of preferred and of other responses: where they differ, a model can win by length alone."""
    lengths: dict[str, list[int]] = {}
    for row in rows:
        if LABEL in split.columns:
            names = ["desirable" if split.columns[LABEL][row.place] else "undesirable"]
        else:
            names = [CHOSEN, REJECTED] if CHOSEN in split.columns else [RESPONSE]
        for name, response in zip(names, row.responses, strict=True):
            lengths.setdefault(name, []).append(len(response))
    return {f"mean_tokens_{name}": round(sum(own) / len(own), 3) for name, own in sorted(lengths.items())}


def text_of(example: Example, side: int) -> Example:
    """One of an example's texts, with labels on its response."""
    start = sum(example["lengths"][:side])
    ids = example["input_ids"][start : start + example["lengths"][side]]
    return {"input_ids": ids, "labels": shifted(ids, example["prompt_length"])[: len(ids)]}
