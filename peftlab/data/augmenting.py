"""Changed copies of rows. Labels and all other rows stay as they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random

from peftlab.core.augmentation import Augmentation
from peftlab.core.errors import PluginError
from peftlab.core.given_values import check_kind
from peftlab.core.splits import Split
from peftlab.data.columns import take

Keys = Callable[[Split], list[bytes]]
"""A digest of every row's text."""
Change = Callable[[Augmentation, Sequence[str], Sequence[Random]], list[str]]
"""Lets an augmentation change texts, each with a generator of its own."""
Agrees = Callable[[Split, Split], list[bool]]
"""Of rows and their copies, whether both are given the same class."""

ADDED, UNCHANGED, DROPPED, DISAGREED = "added", "unchanged", "dropped", "disagreed"


def change_each(augmentation: Augmentation, texts: Sequence[str], randoms: Sequence[Random]) -> list[str]:
    """The texts, changed one by one."""
    return [augmentation.change(text, random) for text, random in zip(texts, randoms, strict=True)]


def changed_copies(
    rows: Split,
    others: Sequence[Split],
    augmentations: Mapping[int, Augmentation],
    columns: Sequence[str],
    keys: Keys,
    *,
    seed: int,
    change: Change = change_each,
    agrees: Agrees | None = None,
) -> tuple[Split, dict[str, int]]:
    """Make changed copies of rows; each augmentation works on the original rows.

    What is drawn for a row depends on the seed, the row's place in the source, the augmentation and the copy alone.
    A copy in which nothing has changed is left out. Nor is one whose text is blank, or equals that of a row that is
    there already, in whichever split: it could have another label, or give away a test row.

    Args:
        rows: To change.
        others: All other rows that there are.
        augmentations: By their place in the recipe's list.
        columns: Those whose texts are changed.
        keys: A digest of every row's text.
        seed: Of the recipe.
        change: Lets an augmentation change texts.
        agrees: Says which copies are kept of an augmentation that asks; see ``Augmentation.keep_if``.

    Returns:
        The copies, which carry their rows' places in the source, and counts.
    """
    seen = {key for split in (rows, *others) for key in keys(split)}
    counts = Counter({ADDED: 0, UNCHANGED: 0, DROPPED: 0})
    kept: list[Split] = [take(rows, [])]
    for number, augmentation in augmentations.items():
        for copy in range(augmentation.copies):
            changed = _changed(rows, augmentation, columns, (seed, number, augmentation.registered_name, copy), change)
            new = []
            for at, key in enumerate(keys(changed)):
                texts = [(rows.columns[column][at], changed.columns[column][at]) for column in columns]
                if all(before == after for before, after in texts):
                    counts[UNCHANGED] += 1
                elif key in seen or not all(after.strip() for _, after in texts):
                    counts[DROPPED] += 1
                else:
                    seen.add(key)
                    new.append(at)
            if augmentation.keep_if is not None and agrees is not None:
                before = new
                agreed = agrees(take(rows, before), take(changed, before)) if before else []
                new = [at for at, is_kept in zip(before, agreed, strict=True) if is_kept]
                counts[DISAGREED] += len(before) - len(new)
            counts[ADDED] += len(new)
            kept.append(take(changed, new))
    return join_rows(kept), dict(counts)


def _changed(
    rows: Split, augmentation: Augmentation, columns: Sequence[str], draw: tuple[object, ...], change: Change
) -> Split:
    """The rows with changed texts; every text has a generator of its own."""
    changed = {
        column: change(
            augmentation,
            rows.columns[column],
            [Random(f"{draw} {index} {column}") for index in rows.index],  # noqa: S311 - no secret
        )
        for column in columns
    }
    for column, texts in changed.items():
        wanted = len(rows.columns[column])
        if len(texts) != wanted:
            raise PluginError(f"the augmentation `{augmentation.registered_name}` gave {len(texts)} texts for {wanted}")
        for text in texts:
            check_kind(text, str, what=f"the augmentation `{augmentation.registered_name}`", hint="Return a text.")
    return replace(rows, columns={**rows.columns, **changed})


def join_rows(parts: Sequence[Split]) -> Split:
    """The rows of all parts, in their order."""
    columns = {name: [value for part in parts for value in part.columns[name]] for name in parts[0].columns}
    return replace(parts[0], index=[at for part in parts for at in part.index], columns=columns)
