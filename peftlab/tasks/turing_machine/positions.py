"""Position ids for machines: what decides whether a model goes beyond the tapes that it was trained on.

- ``absolute``: from 0, as ever. Positions beyond the longest training text were never seen.
- ``none``: all 0; order shows through the causal mask alone (Kazemnejad et al. 2023, https://arxiv.org/abs/2305.19466).
- ``random_offset``: from a random start in training, so that no position is unseen.
- ``cells``: the address of the cell that was written last, as in Abacus embeddings (McLeish et al. 2024,
  https://arxiv.org/abs/2405.17399): a cell has the same position before and after a step. It follows from the text, so
  generated text has its positions too. A mark opens each configuration, at the first cell of the one before, from where
  it is written; the mark of the very first looks ahead to its own first cell, since else nothing would tell which it
  is. The table's words are counted from behind the cells.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal

from peftlab.core.errors import UnsupportedError
from peftlab.tasks.language.user_text import tokens_of
from peftlab.tasks.turing_machine.notation import TABLE_END

Positions = Literal["absolute", "none", "random_offset", "cells"]


class PositionIds:
    """Gives each example its position ids.

    Args:
        kind: Which.
        tokenizer: Of the model.
        addresses: How many cells can be told apart.
        max_length: Positions of the model that may be used.

    Raises:
        UnsupportedError: ``cells``, and an address has more than one token.
    """

    def __init__(self, kind: Positions, tokenizer: Any, *, addresses: int, max_length: int) -> None:
        self._kind, self._addresses, self._max_length = kind, addresses, max_length
        if kind == "cells":
            self._numbers = {_single_token(tokenizer, f"@{number}"): number + 1 for number in range(addresses)}
            self._mark = _single_token(tokenizer, TABLE_END)

    def of(self, ids: Sequence[int], generator: random.Random, *, training: bool) -> list[int] | None:
        """The position of each token; None: the model's own.

        Args:
            ids: The example's tokens.
            generator: For random starts.
            training: Whether starts are random at all.
        """
        length = len(ids)
        if self._kind == "none":
            return [0] * length
        if self._kind == "random_offset":
            start = int(generator.random() * (self._max_length - length + 1)) if training else 0
            return list(range(start, start + length))
        return self._cells(ids) if self._kind == "cells" else None

    def _cells(self, ids: Sequence[int]) -> list[int]:
        table, behind = ids.index(self._mark), self._addresses + 1
        last = next(self._numbers[token] for token in ids[table:] if token in self._numbers)
        first: int | None = None
        places = []
        for token in ids[table:]:
            if token in self._numbers:
                last = self._numbers[token]
                first = last if first is None else first
            elif token == self._mark and first is not None:
                last, first = first, None
            places.append(last)
        return [*range(behind, behind + table), *places]


def _single_token(tokenizer: Any, word: str) -> int:
    ids = tokens_of(tokenizer, word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise UnsupportedError(
            "`positions: cells` needs a tokenizer with one token for each address",
            where="task.positions",
            hint="Start from nothing with model.from_config, or choose `absolute`.",
        )
    return int(ids[0])
