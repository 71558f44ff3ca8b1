"""Texts that are longer than a model reads at once, in windows that overlap. Tasks of other packages may use all of it.

An example is then a text with all its windows, each a row of the batch; what the model says of the windows becomes one
answer in the task's loss and predictions, so that whatever computes the logits needs to know nothing of windows.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt

from peftlab.core.config import Config
from peftlab.core.errors import UnsupportedError
from peftlab.core.products import product
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.tasks.language.user_text import encode_as_text

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "window_weights"
ROWS = "windows"


class Windows(Config):
    """How texts longer than ``max_length`` are read."""

    stride: int = Field(32, ge=0, description="Tokens that two neighbouring windows share.")
    most: PositiveInt = Field(16, description="Windows of a text at most; what comes behind the last one is cut.")


def check_stride(windows: Windows | None, max_length: int) -> None:
    """Refuse windows that hardly move on.

    Raises:
        ValueError: They share more than half of their tokens.
    """
    if windows is not None and windows.stride > max_length // 2:
        raise ValueError(
            f"`windows.stride` is {windows.stride}, more than half of a window of {max_length} tokens (max_length): "
            f"set it to {max_length // 2} or less"
        )


def cut_into_windows(tokenizer: Any, *texts: Any, max_length: int, stride: int, **options: Any) -> Any:
    """What a fast tokenizer makes of texts, a row for each window; neighbours share ``stride`` tokens.

    ``overflow_to_sample_mapping`` tells the text of each row.

    Args:
        tokenizer: Of the model.
        *texts: As the tokenizer takes them.
        max_length: Tokens of a window, special ones included.
        stride: Fewer than a window has room for.
        **options: Of the tokenizer's call.

    Raises:
        UnsupportedError: The tokenizer is a slow one, or of a version that loses what is behind the first window.
    """
    if not tokenizer.is_fast:
        raise UnsupportedError(
            "windows need a fast tokenizer, which tells the text of each token; this model has none",
            hint="Leave `task.windows` out: then longer texts are cut.",
        )
    check_overflow()
    return encode_as_text(
        tokenizer,
        *texts,
        **{"truncation": True, **options},
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        padding=False,
    )


@functools.cache
def check_overflow() -> None:
    """See that what a cut leaves over is whole: some versions stop reading where the first window ends.

    Raises:
        UnsupportedError: It is not.
    """
    import tokenizers

    probe = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))  # noqa: S106 - a word
    probe.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    probe.enable_truncation(max_length=2)
    encoded = probe.encode("a a a a a a")
    if sum(len(each.ids) for each in (encoded, *encoded.overflowing)) != 6:
        raise UnsupportedError(
            f"tokenizers {tokenizers.__version__} loses the end of texts that are longer than a window",
            where="the package tokenizers",
            hint="Install another version: pip install 'tokenizers>=0.23.3,<0.24'.",
        )


def encode_in_windows(
    split: Split, column: str, targets: Sequence[Any], tokenizer: Any, *, max_length: int, windows: Windows
) -> EncodedSplit:
    """A text and its target an example, with all windows; the notes count texts in windows, and those that were cut.

    Args:
        split: The rows.
        column: Of the text.
        targets: One a row; ``label`` of the example.
        tokenizer: A fast one.
        max_length: Tokens of a window.
        windows: How many, and how they overlap.
    """
    encoded = cut_into_windows(
        tokenizer,
        list(split.columns[column]),
        max_length=max_length,
        stride=windows.stride,
        return_attention_mask=False,
    )
    keys = [key for key in ("input_ids", "token_type_ids") if key in encoded]
    rows: list[list[Example]] = [[] for _ in targets]
    for at, text in enumerate(encoded["overflow_to_sample_mapping"]):
        rows[text].append({key: encoded[key][at] for key in keys})
    examples = [{**as_example(own, windows), "label": target} for own, target in zip(rows, targets, strict=True)]
    return EncodedSplit(split.name, split.index, examples, notes=count_windows(rows, windows))


def as_example(rows: Sequence[Example], windows: Windows) -> Example:
    """An example of a text's windows; ``input_ids`` has the tokens of all, by which batches are planned."""
    kept = list(rows[: windows.most])
    ids = [token for row in kept for token in row["input_ids"]]
    return {"input_ids": ids, ROWS: kept, "truncated": len(rows) > windows.most}


def count_windows(rows: Sequence[Sequence[Example]], windows: Windows) -> dict[str, int]:
    """What the record says of the windows of a split's texts."""
    return {
        "texts_in_windows": sum(len(own) > 1 for own in rows),
        "texts_cut_behind_windows": sum(len(own) > windows.most for own in rows),
        "windows_cut": sum(max(0, len(own) - windows.most) for own in rows),
    }


def placeholder_rows(length: int, max_length: int) -> list[Example]:
    """Windows of so many tokens together that say nothing."""
    return [{"input_ids": [0] * min(max_length, length - at)} for at in range(0, length, max_length)]


def rows_of(examples: Sequence[Example]) -> list[Example]:
    """The windows of all examples, one after the other."""
    return [row for example in examples for row in example[ROWS]]


def window_weights(examples: Sequence[Example]) -> Tensor:
    """Examples × windows of all of them: by what each window's logits count in the mean of its text."""
    import torch

    counts = [len(example[ROWS]) for example in examples]
    weights = torch.zeros(len(counts), sum(counts))
    at = 0
    for row, count in enumerate(counts):
        weights[row, at : at + count] = 1 / count
        at += count
    return weights


def pooled(logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits of texts (examples × …): the mean of their windows'; those of a batch without windows as they are."""
    return logits if WEIGHTS not in batch else product(batch[WEIGHTS].to(logits.dtype), logits)


def describe_windows(windows: Windows, max_length: int, end: str = "the mean of the windows' logits decides.") -> str:
    """For a model card.

    Args:
        windows: Of the task.
        max_length: Tokens of one.
        end: How they become one answer.
    """
    return (
        f"Texts of more than {max_length} tokens are read in windows that share {windows.stride}, {windows.most} at "
        f"most; {end}"
    )
