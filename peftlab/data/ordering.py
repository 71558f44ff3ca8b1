"""Orders that depend on the seed and the texts alone, and what is drawn by them.

A row's place comes from a hash of the seed and its text, not from a library's random generator: the same rows are
drawn on every platform, with every version of every library, and whether or not other rows were there.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence


def random_order(keys: Sequence[bytes], seed: int) -> list[bytes]:
    """A sort key for every row, which is as good as random.

    Args:
        keys: A digest of each row's text. Rows with equal keys are told apart by their occurrence.
        seed: Another seed gives another order.
    """
    seen: Counter[bytes] = Counter()
    order = []
    for key in keys:
        order.append(hashlib.blake2b(b"%d/%d/%b" % (seed, seen[key], key), digest_size=16).digest())
        seen[key] += 1
    return order


def draw_share(order: Sequence[bytes], strata: Sequence[str] | None, fraction: float, seed: int) -> list[int]:
    """Draw a share of the rows, the same share of every class as far as whole rows allow.

    Sizes are given out by largest remainder. Of a class with two rows or more, one at least is not drawn; a class with
    one row is never drawn, unless all classes are so small.

    Args:
        order: A sort key for every row.
        strata: The class of each row; None: there are no classes.
        fraction: The share, from 0 to less than 1.
        seed: Decides between classes with equal remainders.

    Returns:
        Positions, ascending; at least one where ``fraction`` is more than 0 and there are two rows.
    """
    count = len(order)
    wanted = min(max(1, int(count * fraction + 0.5)), count - 1) if fraction > 0 and count > 1 else 0
    if wanted == 0:
        return []
    groups = _groups(strata or [""] * count)
    quotas = _quotas({name: len(rows) for name, rows in groups.items()}, wanted, seed)
    if not any(quotas.values()):
        groups, quotas = {"": list(range(count))}, {"": wanted}
    return sorted(row for name, rows in groups.items() for row in sorted(rows, key=order.__getitem__)[: quotas[name]])


def draw_first(order: Sequence[bytes], strata: Sequence[str] | None, count: int, seed: int) -> list[int]:
    """Draw some rows so that smaller draws are always within larger ones, and each has about the classes' shares.

    Every class spreads its rows evenly over the line from 0 to 1, from a random start; the draw is what comes first on
    that line. (Largest remainders would be no more exact, and a class can lose a row when the whole draw grows.)

    Args:
        order: A sort key for every row.
        strata: The class of each row; None: there are no classes.
        count: How many rows to draw at most.
        seed: Decides where each class starts.

    Returns:
        Positions, ascending.
    """
    if count >= len(order):
        return list(range(len(order)))
    places: list[tuple[float, bytes, int]] = []
    for name, rows in _groups(strata or [""] * len(order)).items():
        start = int.from_bytes(_tie_break(name, seed)[:4], "big") / 2**32
        for rank, row in enumerate(sorted(rows, key=order.__getitem__)):
            places.append(((rank + start) / len(rows), order[row], row))
    return sorted(row for _, _, row in sorted(places)[:count])


def _groups(strata: Sequence[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(strata):
        groups.setdefault(name, []).append(row)
    return groups


def _quotas(sizes: Mapping[str, int], wanted: int, seed: int) -> dict[str, int]:
    """How many rows each class gives, by largest remainder."""
    total = sum(sizes.values())
    room = {name: size - 1 for name, size in sizes.items()}
    quotas = {name: min(size * wanted // total, room[name]) for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: (-(sizes[name] * wanted % total), _tie_break(name, seed)))
    missing = min(wanted, sum(room.values())) - sum(quotas.values())
    while missing > 0:
        for name in by_remainder:
            if missing > 0 and quotas[name] < room[name]:
                quotas[name] += 1
                missing -= 1
    return quotas


def _tie_break(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{name}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
