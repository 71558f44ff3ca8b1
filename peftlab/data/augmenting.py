"""Changed copies of training rows. Labels and all other splits stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from peftlab.core.augmentation import Augmentation
from peftlab.core.splits import Split
from peftlab.data.columns import take

Keys = Callable[[Split], list[bytes]]


def changed_copies(
    splits: Mapping[str, Split], augmentations: Sequence[Augmentation], columns: Sequence[str], keys: Keys, *, seed: int
) -> tuple[Split, dict[str, int]]:
    """Make changed copies of the training rows; each augmentation works on the original rows.

    What is drawn for a row depends on the seed, the row's place in the source, the augmentation and the copy alone.
    A copy in which nothing has changed is left out. Nor is one whose text is blank, or equals that of a row that is
    there already, in whichever split: it could have another label, or give away a test row.

    Args:
        splits: ``train`` among them.
        augmentations: Of the recipe.
        columns: Those whose texts are changed.
        keys: A digest of every row's text.
        seed: Of the recipe.

    Returns:
        The copies, which carry their rows' places in the source, and counts for the record.
    """
    train = splits["train"]
    seen = {key for split in splits.values() for key in keys(split)}
    counts = Counter(augmented_rows_added=0, augmented_rows_unchanged=0, augmented_rows_dropped=0)
    kept: list[Split] = []
    for number, augmentation in enumerate(augmentations):
        for copy in range(augmentation.copies):
            changed = _changed(train, augmentation, columns, (seed, number, augmentation.registered_name, copy))
            rows = []
            for at, key in enumerate(keys(changed)):
                texts = [(train.columns[column][at], changed.columns[column][at]) for column in columns]
                if all(before == after for before, after in texts):
                    counts["augmented_rows_unchanged"] += 1
                elif key in seen or not all(after.strip() for _, after in texts):
                    counts["augmented_rows_dropped"] += 1
                else:
                    seen.add(key)
                    rows.append(at)
            counts["augmented_rows_added"] += len(rows)
            kept.append(take(changed, rows))
    return join_rows(kept), dict(counts)


def _changed(train: Split, augmentation: Augmentation, columns: Sequence[str], draw: tuple[object, ...]) -> Split:
    """The rows with changed texts; every text has a generator of its own."""
    changed = {
        column: [
            augmentation.change(text, Random(f"{draw} {index} {column}"))  # noqa: S311 - no secret
            for index, text in zip(train.index, train.columns[column], strict=True)
        ]
        for column in columns
    }
    return replace(train, columns={**train.columns, **changed})


def join_rows(parts: Sequence[Split]) -> Split:
    """The rows of all parts, in their order."""
    columns = {name: [value for part in parts for value in part.columns[name]] for name in parts[0].columns}
    return replace(parts[0], index=[at for part in parts for at in part.index], columns=columns)
