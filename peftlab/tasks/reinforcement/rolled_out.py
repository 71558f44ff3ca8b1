"""What a rolled-out example holds: responses, and how good each is within its group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from peftlab.core.splits import Example
from peftlab.tasks.text_inputs import IGNORED

RESPONSES, ADVANTAGES, OLD, REFERENCE = "responses", "advantages", "old", "reference"
"""What a rolled-out example holds beside the rest: lists of one entry a response."""
COUNTS = "counts"
"""How many responses each of them stands for; 0: it does not count."""
HAS_NO_ANSWER = "has_no_answer"
"""Marks examples whose rows hold a prompt alone; what stands for their answer is read by nobody."""
TOKENS = "tokens"
"""Of all responses of the group that count."""


def prompt_of(example: Example) -> list[int]:
    """The prompt that leaves room for a response, where there is one; else the tokens before the last answer."""
    return list(
        example["prompt_ids"] if "prompt_ids" in example else example["input_ids"][: _answer_bounds(example)[0]]
    )


def answer_of(example: Example) -> list[int]:
    """The tokens of an example's last answer, its end token included."""
    start, end = _answer_bounds(example)
    return list(example["input_ids"][start:end])


def once(example: Example, *, whole: bool) -> Example:
    """The example with each response once, however often it was drawn: the loss weighs it by that number.

    Of a group whose responses are all just as good nothing can be learned but the divergence: without that, one of them
    stands for all. A response that does not count is left out, but for the last one.

    Args:
        example: Rolled out.
        whole: Whether such a group is kept.
    """
    found = list(zip(map(tuple, example[RESPONSES]), example[ADVANTAGES], strict=True))
    counts = Counter[tuple[tuple[int, ...], float]]()
    for each, count in zip(found, example[COUNTS], strict=True):
        if count:
            counts[each if whole or any(example[ADVANTAGES]) else found[0]] += count
    counts = counts or Counter({found[0]: 0})
    return {
        **example,
        RESPONSES: [list(ids) for ids, _ in counts],
        ADVANTAGES: [gain for _, gain in counts],
        COUNTS: list(counts.values()),
    }


def teaches(example: Example) -> bool:
    """Whether any response is better or worse than its group; examples that are not rolled out count as such."""
    return COUNTS not in example or any(example[ADVANTAGES])


def mean_divergence(
    rolled: Sequence[Example], own: Sequence[Sequence[Sequence[float]]], theirs: Sequence[Sequence[Sequence[float]]]
) -> float:
    """The mean over responses of log π(y|x) − log π_ref(y|x): an unbiased estimate of the divergence, in nats."""
    counts = [count for example in rolled for count in example[COUNTS]]
    pairs = [(sum(a), sum(b)) for one, other in zip(own, theirs, strict=True) for a, b in zip(one, other, strict=True)]
    return float(sum(count * (a - b) for count, (a, b) in zip(counts, pairs, strict=True)) / max(1, sum(counts)))


def mean_entropy(rolled: Sequence[Example], own: Sequence[Sequence[Sequence[float]]]) -> float:
    """The mean of −log π over the drawn tokens: an unbiased estimate of a token's entropy, in nats."""
    weighed = [
        (count, response)
        for example, values in zip(rolled, own, strict=True)
        for count, response in zip(example[COUNTS], values, strict=True)
    ]
    tokens = sum(count * len(response) for count, response in weighed)
    return float(-sum(count * sum(response) for count, response in weighed) / max(1, tokens))


def _answer_bounds(example: Example) -> tuple[int, int]:
    labels = example["labels"]
    last = next(at for at in range(len(labels) - 1, -1, -1) if labels[at] != IGNORED)
    first = last
    while first > 0 and labels[first - 1] != IGNORED:
        first -= 1
    return first + 1, last + 2
