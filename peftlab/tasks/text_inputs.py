"""Texts as a model takes them, and what it makes of them: tokens, batches, one vector of logits or of states per text.

Tasks of other packages may use all of it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from peftlab.core.errors import ConfigError, DataError, UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import EncodedSplit, Example, Split
from peftlab.tasks._labels import is_blank as is_blank
from peftlab.tasks._pairs import encode_pairs, separator_of
from peftlab.tasks.language.user_text import encode_as_text

if TYPE_CHECKING:
    from torch import Tensor, nn

IGNORED = -100
"""The label of a position that has none, as in ``torch.nn.functional.cross_entropy``."""


def check_length(max_length: int, facts: ModelFacts) -> None:
    """Refuse texts longer than the model's positions.

    Raises:
        ConfigError: ``max_length`` is beyond the model.
    """
    if facts.max_length is not None and max_length > facts.max_length:
        raise ConfigError(
            f"it is {max_length}, but {facts.path} has positions for {facts.max_length} tokens",
            where="task.max_length",
            hint=f"Set it to {facts.max_length} or less.",
        )


def check_family(facts: ModelFacts) -> None:
    """Refuse encoder-decoder models, whose classification heads need a decoder's input.

    Raises:
        UnsupportedError: The model is an encoder-decoder.
    """
    if facts.family == "encoder_decoder":
        raise UnsupportedError(
            f"{facts.path} ({facts.model_type}) is an encoder-decoder model; peftlab takes encoders and decoders",
            hint="Choose a BERT-like or a GPT-like model.",
        )


def check_text_columns(texts: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse more than a pair of texts, one text twice, and a label that is read as the text: that is its own answer.

    Raises:
        ValueError: For pydantic, which names the place.
    """
    if len(texts) not in (1, 2):
        raise ValueError("`text` takes one column, or two for pairs")
    if len(set(texts)) < len(texts) or not set(texts).isdisjoint(labels):
        raise ValueError("`text` and `label` must name different columns")


def with_columns(split: Split, columns: Sequence[str], change: Callable[[Any], Any]) -> Split:
    """A split whose values in some columns are changed; columns that it does not have are left out."""
    changed: dict[str, Sequence[Any]] = {}
    for column in columns:
        values = split.columns.get(column)
        if values is not None:
            changed[column] = [change(value) for value in values]
    return replace(split, columns={**split.columns, **changed})


def refuse_lists(split: Split, columns: Sequence[str]) -> None:
    """Refuse lists where texts are needed: a tokenizer takes a list of two for a pair of texts.

    Raises:
        DataError: Naming the first row.
    """
    for column in columns:
        for row, value in enumerate(split.columns.get(column, ())):
            if isinstance(value, list):
                raise DataError(
                    f"the column `{column}` is no text: {value!r:.60}",
                    where=split.where(row),
                    hint=f"Join what is in the lists, or name one text of them, such as `{column}.0`.",
                )


def without_blank_texts(split: Split, columns: Sequence[str]) -> Split:
    """The same split; texts that show nothing are None, as empty fields of a CSV file are.

    A tokenizer may make something of them, or nothing at all. They are judged here, so that no base model decides
    whether a row can be used.

    Raises:
        DataError: A row holds a list in the place of a text.
    """
    refuse_lists(split, columns)
    return with_columns(split, columns, lambda value: None if isinstance(value, str) and is_blank(value) else value)


def encode_texts(
    split: Split,
    columns: Sequence[str],
    targets: Sequence[Any],
    *,
    tokenizer: Any,
    max_length: int,
    separator: str | None = None,
) -> EncodedSplit:
    """Tokenise one text column, or two as a pair, and put each row's target beside its tokens as ``label``.

    The longer text of a pair is cut first; the notes name what stands between the two. The texts that fill
    ``max_length`` are counted in the notes; each example says in ``truncated`` whether something was cut.

    Args:
        split: The rows.
        columns: One or two.
        targets: One a row.
        tokenizer: Of the model.
        max_length: Tokens of an example.
        separator: What stands between the texts of a pair; None: what the tokenizer puts there, or should.

    Raises:
        DataError: A text has no tokens.
    """
    texts = [list(split.columns[column]) for column in columns]
    notes: dict[str, Any] = {}
    if len(columns) == 2:
        notes["separator"], between = separator_of(tokenizer, separator)
        if between is not None:
            pairs = encode_pairs(tokenizer, texts[0], texts[1], between, max_length)
            examples: list[Example] = [
                {"input_ids": ids, "label": target, "truncated": is_cut}
                for (ids, is_cut), target in zip(pairs, targets, strict=True)
            ]
            return _counted(split, examples, max_length, notes)
    encoded = encode_as_text(
        tokenizer, *texts, truncation=True, max_length=max_length, padding=False, return_attention_mask=False
    )
    keys = [key for key in ("input_ids", "token_type_ids") if key in encoded]
    examples = [
        {
            **{key: encoded[key][row] for key in keys},
            "label": target,
            "truncated": is_truncated(encoded, row, max_length),
        }
        for row, target in enumerate(targets)
    ]
    return _counted(split, examples, max_length, notes)


def tokens_of(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[Example]:
    """Each text alone: ``input_ids`` with the tokenizer's special tokens, and ``truncated`` where it was cut."""
    encoded = encode_as_text(
        tokenizer, list(texts), truncation=True, max_length=max_length, padding=False, return_attention_mask=False
    )
    return [
        {"input_ids": ids, "truncated": is_truncated(encoded, row, max_length)}
        for row, ids in enumerate(encoded["input_ids"])
    ]


def _counted(split: Split, examples: list[Example], max_length: int, notes: Mapping[str, Any]) -> EncodedSplit:
    for row, example in enumerate(examples):
        if not example["input_ids"]:
            raise DataError("the text has no tokens", where=split.where(row), hint="Leave it out.")
    full = sum(len(example["input_ids"]) == max_length for example in examples)
    cut = sum(bool(example["truncated"]) for example in examples)
    counts = {"texts_at_max_length": full, "texts_cut": cut, **notes}
    return EncodedSplit(split.name, split.index, examples, notes=counts)


def is_truncated(encoded: Any, row: int, max_length: int) -> bool:
    """Whether a tokenizer has cut a text; of a slow one it is only known whether the text fills the length."""
    if len(encoded["input_ids"][row]) < max_length:
        return False
    return not encoded.is_fast or bool(encoded.encodings[row].overflowing)


PADDING: Mapping[str, int] = {"attention_mask": 0, "token_type_ids": 0}
"""What `pad` fills beside ``input_ids``, and what with."""


def pad(examples: Sequence[Example], pad_token_id: int) -> dict[str, Tensor]:
    """Pad on the right to the longest: ``input_ids``, ``attention_mask``, ``token_type_ids`` (batch × length)."""
    import torch

    longest = max(len(example["input_ids"]) for example in examples)
    filler = {"input_ids": pad_token_id, "token_type_ids": 0}
    batch = {
        key: torch.tensor([[*example[key], *[value] * (longest - len(example[key]))] for example in examples])
        for key, value in filler.items()
        if key in examples[0]
    }
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])
    batch["attention_mask"] = (torch.arange(longest) < lengths[:, None]).long()
    return batch


def one_token(example: Example, row: int) -> Example:
    """An encoded text whose one token is a row's number; see ``Task.by_row``."""
    kinds = {"token_type_ids": [0]} if "token_type_ids" in example else {}
    return {**example, "input_ids": [row], **kinds}


def model_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a batch that the model takes."""
    return {key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in batch}


Pooling = Literal["mean", "cls", "last"]
"""How the states of a text's tokens become one vector: their mean, the first one's, or the last one's."""


def text_vectors(model: nn.Module, batch: Mapping[str, Tensor], pooling: Pooling = "mean") -> Tensor:
    """One vector per text (batch × hidden size, float32), of a model without a head.

    Args:
        model: Gives ``last_hidden_state``; virtual tokens that a method puts before the text are left out.
        batch: Padded on the right.
        pooling: ``last`` for decoders, in which only the last token has seen the whole text.
    """
    import torch

    mask = batch["attention_mask"]
    states: Tensor = model(**model_inputs(batch)).last_hidden_state[:, -mask.shape[1] :].float()
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(states.shape[0], device=states.device), mask.sum(dim=1) - 1]
    return token_mean(states, batch)


def token_mean(states: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """The mean over a text's tokens (texts × last size, float32); virtual tokens before the text are left out."""
    mask = batch["attention_mask"]
    weights = mask.unsqueeze(-1).float()
    own = states[:, -mask.shape[1] :].float()
    return (own * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def sequence_logits(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """One vector of logits per text (batch × classes).

    A decoder's head reads the last token. transformers finds it by looking for padding ids in ``input_ids``, which it
    does not see under prompt methods (they pass embeddings): it then reads a padding position without a word. So the
    head's output is taken for every token, and the right position is chosen here, from the attention mask.
    """
    import torch

    score = _token_level_head(model)
    if score is None:
        output: Tensor = model(**model_inputs(batch)).logits
        return output
    with _outputs_of(score) as outputs:
        pooled = model(**model_inputs(batch)).logits
    per_token = outputs[-1]
    if per_token.ndim != 3:
        return pooled  # type: ignore[no-any-return]
    mask = batch["attention_mask"]
    virtual_tokens = per_token.shape[1] - mask.shape[1]
    last = mask.sum(dim=1) - 1 + virtual_tokens
    # `len` would be a plain number, to which torch's exporter fixes the batch.
    return per_token[torch.arange(last.shape[0], device=per_token.device), last]


def _token_level_head(model: nn.Module) -> nn.Module | None:
    """The module ``score`` of transformers' decoders for classification, under whatever wraps the model.

    It stands beside the base. The base's layers are not searched: this is asked in every step.
    """
    from torch import nn

    level = [model]
    while level:
        for module in level:
            if (score := module._modules.get("score")) is not None:
                return score
        level = [child for module in level for child in module.children() if not isinstance(child, nn.ModuleList)]
    return None


class _Asked(threading.local):
    """What a watched module has computed in this thread; None where nobody asks."""

    outputs: list[Tensor] | None = None


_asked = _Asked()
_watching = threading.Lock()


@contextlib.contextmanager
def _outputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Keep what a module computes in this thread.

    Its hook stays: other threads may compute by the same model, and must neither see a hook come and go nor each
    other's outputs.
    """
    with _watching:
        if _keep_output not in module._forward_hooks.values():
            module.register_forward_hook(_keep_output)
    outputs: list[Tensor] = []
    _asked.outputs = outputs
    try:
        yield outputs
    finally:
        _asked.outputs = None


def _keep_output(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
    if _asked.outputs is not None:
        _asked.outputs.append(output)
