"""Several examples in one row, none of which sees another.

Position ids start anew with each example. transformers draws the borders of attention from them where it is given no
attention mask and no cache: as a block-diagonal mask for eager attention and SDPA, as cumulative lengths for
FlashAttention. Models whose code does not do so are refused.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from peftlab.core.errors import UnsupportedError
from peftlab.core.model_facts import ModelFacts
from peftlab.core.splits import Example

PACKABLE = frozenset(
    {"gemma", "gemma2", "gpt2", "gpt_neox", "llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"}
)
"""Model types for which a test shows that packed and unpacked logits are equal."""


def check_packing(facts: ModelFacts) -> None:
    """Refuse models that might look across the borders.

    Raises:
        UnsupportedError: With the types that do not.
    """
    if facts.model_type not in PACKABLE:
        raise UnsupportedError(
            f"no test shows that {facts.model_type} keeps packed examples apart",
            where="task.packing",
            hint=f"Set it to false. Known to do so: {', '.join(sorted(PACKABLE))}.",
        )


def pack(examples: Sequence[Example], max_length: int) -> list[list[int]]:
    """Which examples share a row: the longest first, each into the fullest row that still takes it.

    Returns:
        Positions of examples, for each row.
    """
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    rooms: list[int] = []  # that some row has, the least first
    for position in sorted(range(len(examples)), key=lambda at: (-len(examples[at]["input_ids"]), at)):
        length = len(examples[position]["input_ids"])
        at = bisect_left(rooms, length)
        if at == len(rooms):
            rows.append([])
            row, room = len(rows) - 1, max_length
        else:
            room = rooms[at]
            row = by_room[room].pop()
            if not by_room[room]:
                del rooms[at]
        rows[row].append(position)
        if not by_room.setdefault(room - length, []):
            insort(rooms, room - length)
        by_room[room - length].append(row)
    return rows


def packed(examples: Sequence[Example]) -> Example:
    """One row of several examples."""
    return {
        "input_ids": [token for example in examples for token in example["input_ids"]],
        "labels": [label for example in examples for label in example["labels"]],
        "position_ids": [place for example in examples for place in range(len(example["input_ids"]))],
        "packed": True,
    }
